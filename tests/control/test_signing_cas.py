"""Signing CAs from request or import to their end; the CA above is openssl. Nothing is saved of what is refused."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    pkcs12,
)

from certs.request import Subject
from config.settings import Settings, Signing
from control import audit_log, signing_cas
from control.actor import Actor
from control.errors import Refused
from control.installation import Installation, publish_root, root_pem
from control.signing_cas import Upload
from store import signing_cas as stored
from tests.control.conftest import kinds_since, last_change
from tests.harness.pki import DAY, NOW, Authority
from tests.harness.signing_cas import Racer

SUBJECT = Subject("Example Gateway CA", organization="Example, Inc.", country="CH")
EXTENSIONS = """
basicConstraints = critical, CA:TRUE, pathlen:0
keyUsage = critical, keyCertSign, cRLSign
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
"""


def openssl(folder: Path, *arguments: str) -> bytes:
    done = subprocess.run(["openssl", *arguments], cwd=folder, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


def root_above(folder: Path) -> bytes:
    """A root of openssl's own, in ``root.pem`` and ``root.key``."""
    openssl(folder, "req", "-x509", "-newkey", "rsa:2048", "-noenc", "-keyout", "root.key", "-out", "root.pem",
            "-days", "3650", "-subj", "/CN=Example Root",
            "-addext", "keyUsage=critical,keyCertSign,cRLSign")  # fmt: skip
    return (folder / "root.pem").read_bytes()


def signed(folder: Path, request: bytes) -> bytes:
    """The request, signed by that root."""
    (folder / "request.pem").write_bytes(x509.load_der_x509_csr(request).public_bytes(Encoding.PEM))
    (folder / "extensions").write_text(EXTENSIONS)
    return openssl(folder, "x509", "-req", "-in", "request.pem", "-CA", "root.pem", "-CAkey", "root.key",
                   "-CAcreateserial", "-days", "365", "-extfile", "extensions")  # fmt: skip


def requested(inst: Installation, name: str = "gateway") -> bytes:
    made = signing_cas.request(inst, "default", name, SUBJECT, NOW)
    assert made.request is not None
    return made.request


def imported(inst: Installation, name: str, *, active: bool = False) -> Authority:
    authority = Authority.root(f"{name} root").intermediate(f"{name} issuing")
    upload = Upload((authority.chain_pem(with_root=True),), authority.key_pem())
    signing_cas.import_(inst, "default", name, upload, NOW, activated=active)
    return authority


def status(inst: Installation) -> dict[str, str]:
    return {ca.name: ca.status for ca in signing_cas.listing(inst, "default")}


def unchanged(inst: Installation, attempt: Callable[[], object], match: str) -> Refused:
    """It is refused with that text, and nothing is saved or announced."""
    before, listed = last_change(inst), signing_cas.listing(inst, "default")
    entries = audit_log.newest(inst)
    with pytest.raises(Refused, match=match) as caught:
        attempt()
    assert last_change(inst) == before
    assert signing_cas.listing(inst, "default") == listed
    assert audit_log.newest(inst) == entries
    return caught.value


# --- requests ---


@pytest.mark.parametrize("several", [False, True], ids=["one file", "several files"])
def test_a_request_is_signed_by_another_ca_and_completed(inst: Installation, tmp_path: Path, several: bool) -> None:
    root = root_above(tmp_path)
    certificate = signed(tmp_path, requested(inst))
    assert status(inst) == {"built-in": "active", "gateway": "requested"}
    files = [root, certificate] if several else [root + certificate]
    assert signing_cas.validate_completion(inst, "default", "gateway", files, NOW + DAY).ok
    last = last_change(inst)
    completed, _ = signing_cas.complete(inst, "default", "gateway", files, NOW + DAY)
    assert completed.status == "inactive"
    assert [x509.load_der_x509_certificate(der).subject.rfc4514_string() for der in completed.chain] == [
        r"CN=Example Gateway CA,O=Example\, Inc.,C=CH", "CN=Example Root",
    ]  # fmt: skip
    signing_cas.activate(inst, "default", "gateway", NOW + DAY)
    assert status(inst) == {"built-in": "inactive", "gateway": "active"}
    assert kinds_since(inst, last) == ["signing_ca_changed", "signing_ca_activated"]
    assert root_pem(inst, "default").encode() == x509.load_pem_x509_certificate(root).public_bytes(Encoding.PEM)


@pytest.mark.parametrize("kind", ["rsa-2048", "rsa-3072", "ecdsa-p256", "ecdsa-p384"])
def test_the_key_of_a_request_is_what_the_operator_says(tmp_path: Path, kind: str) -> None:
    settings = Settings(state_dir=tmp_path / "var", signing=Signing(csr_key=kind))  # type: ignore[arg-type] # a parameter
    with Installation.open(settings, NOW) as inst:
        text = openssl(
            tmp_path, "req", "-inform", "DER", "-noout", "-text", "-verify", "-in", str(_file(inst, tmp_path))
        )
    algorithm, size = kind.split("-")
    assert f"Public-Key: ({size.removeprefix('p')} bit)" in text.decode()
    assert ("rsaEncryption" in text.decode()) is (algorithm == "rsa")
    assert "CA:TRUE" in text.decode()


def _file(inst: Installation, folder: Path) -> Path:
    path = folder / "request.der"
    path.write_bytes(requested(inst))
    return path


def test_a_certificate_of_another_key_completes_nothing(inst: Installation, tmp_path: Path) -> None:
    root = root_above(tmp_path)
    other = signed(tmp_path, requested(inst, "other"))
    requested(inst)
    refused = unchanged(
        inst, lambda: signing_cas.complete(inst, "default", "gateway", [other, root], NOW + DAY), "another key"
    )
    assert [finding.code for finding in refused.findings if finding.level == "error"] == ["key_mismatch"]


def test_a_request_signs_nothing_before_it_is_completed(inst: Installation) -> None:
    requested(inst)
    unchanged(inst, lambda: signing_cas.activate(inst, "default", "gateway", NOW), "has no certificate yet")
    unchanged(inst, lambda: signing_cas.part(inst, "default", "gateway", "root"), "has no certificate yet")
    unchanged(inst, lambda: signing_cas.complete(inst, "default", "built-in", [b""], NOW), "waits for no certificate")


@pytest.mark.parametrize(
    ("subject", "match"),
    [
        (Subject(""), "common name"),
        (Subject("x" * 65), "64"),
        (Subject("ok", country="CHE"), "two letters"),
        (Subject("a\u202eb"), "common name"),
    ],
)
def test_a_subject_that_cannot_be_is_refused(inst: Installation, subject: Subject, match: str) -> None:
    unchanged(inst, lambda: signing_cas.request(inst, "default", "gateway", subject, NOW), match)


# --- imports ---


def p12(authority: Authority, passphrase: bytes | None) -> bytes:
    encryption = BestAvailableEncryption(passphrase) if passphrase else NoEncryption()
    return pkcs12.serialize_key_and_certificates(
        b"ca",
        authority.key,
        authority.certificate,
        [*authority.chain(with_root=True)[1:]],
        encryption,  # type: ignore[arg-type]
    )


def pkcs8(authority: Authority, passphrase: bytes | None) -> bytes:
    encryption = BestAvailableEncryption(passphrase) if passphrase else NoEncryption()
    return authority.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption)


@pytest.mark.parametrize("passphrase", [None, b"correct horse"], ids=["plain", "passphrase"])
@pytest.mark.parametrize("form", ["pem", "pkcs12"])
@pytest.mark.parametrize("key", ["rsa2048", "ec256"])
def test_what_was_made_elsewhere_is_imported(inst: Installation, form: str, key: str, passphrase: bytes | None) -> None:
    authority = Authority.root("Theirs", key=key).intermediate("Issuing", key=key)
    if form == "pem":
        upload = Upload(
            tuple(one.pem() for one in authority.line(with_root=True)), pkcs8(authority, passphrase), passphrase
        )
    else:
        upload = Upload((p12(authority, passphrase),), None, passphrase)
    assert signing_cas.validate_import(inst, "default", upload, NOW).ok
    assert status(inst) == {"built-in": "active"}
    added, _ = signing_cas.import_(inst, "default", "theirs", upload, NOW, activated=True)
    assert added.status == "active"
    assert [x509.load_der_x509_certificate(der) for der in added.chain] == [*authority.chain(with_root=True)]
    unchanged(inst, lambda: signing_cas.import_(inst, "default", "again", upload, NOW), "theirs")


def test_a_wrong_passphrase_and_a_wrong_key_are_told_apart(inst: Installation) -> None:
    authority = Authority.root("Theirs").intermediate("Issuing")
    files = tuple(one.pem() for one in authority.line(with_root=True))
    for key, passphrase, code in (
        (pkcs8(authority, b"right"), b"wrong", "passphrase_wrong"),
        (pkcs8(authority, b"right"), None, "passphrase_missing"),
        (pkcs8(Authority.root("Other"), None), None, "key_mismatch"),
        (None, None, "no_key"),
    ):
        upload = Upload(files, key, passphrase)
        refused = unchanged(inst, lambda u=upload: signing_cas.import_(inst, "default", "x", u, NOW), "x: ")  # type: ignore[misc]
        assert [finding.code for finding in refused.findings if finding.level == "error"] == [code]
        assert b"right".decode() not in str(refused)


# --- activation, and the end ---


def test_activating_another_one_is_one_change_and_once_more_is_none(inst: Installation) -> None:
    imported(inst, "a")
    last = last_change(inst)
    signing_cas.activate(inst, "default", "a", NOW)
    signing_cas.activate(inst, "default", "a", NOW)
    assert kinds_since(inst, last) == ["signing_ca_activated"]
    assert status(inst) == {"built-in": "inactive", "a": "active"}


def test_who_activates_without_having_seen_the_last_activation_is_told_of_it(inst: Installation) -> None:
    imported(inst, "a")
    imported(inst, "b")
    with inst.reading("default") as (_, tenant):
        second = inst.having_seen(tenant.generation)
    signing_cas.activate(inst.acting(Actor("ann", "here")), "default", "a", NOW)
    unchanged(inst, lambda: signing_cas.activate(second, "default", "b", NOW), "'a' was activated by ann")
    unchanged(inst, lambda: signing_cas.delete(second, "default", "built-in", NOW), "takes over")
    unchanged(inst, lambda: signing_cas.rename(second, "default", "built-in", "x", NOW), "'a' was activated by ann")
    assert signing_cas.rename(second, "default", "b", "c", NOW).name == "c"


def test_what_one_change_does_itself_is_no_conflict(inst: Installation) -> None:
    with inst.reading("default") as (_, tenant):
        knowing = inst.having_seen(tenant.generation)
    authority = Authority.root("Theirs").intermediate("Issuing")
    upload = Upload((authority.chain_pem(with_root=True),), authority.key_pem())
    signing_cas.import_(knowing, "default", "a", upload, NOW, activated=True)
    with inst.reading("default") as (_, tenant):
        knowing = inst.having_seen(tenant.generation)
    done = signing_cas.revoke(knowing, "default", "a", NOW)
    assert done.successor is not None


def test_one_that_is_not_valid_now_is_not_activated(inst: Installation) -> None:
    imported(inst, "a")
    later = NOW + timedelta(days=365 * 30)
    unchanged(inst, lambda: signing_cas.activate(inst, "default", "a", later), "no leaf of it would verify now")


def test_one_whose_key_is_damaged_is_not_activated(inst: Installation) -> None:
    imported(inst, "a")
    with inst.store.transaction() as c:
        c.exec_driver_sql("UPDATE signing_cas SET sealed_key = x'00' WHERE name = 'a'")
    unchanged(inst, lambda: signing_cas.activate(inst, "default", "a", NOW), "its key cannot be used")


def test_where_the_active_one_is_revoked_the_built_in_one_takes_over(inst: Installation) -> None:
    imported(inst, "a", active=True)
    done = signing_cas.revoke(inst, "default", "a", NOW)
    assert (done.ca.status, done.successor and done.successor.name) == ("revoked", "built-in")
    assert status(inst) == {"a": "revoked", "built-in": "active"}
    unchanged(inst, lambda: signing_cas.activate(inst, "default", "a", NOW), "was revoked, which is for good")
    unchanged(inst, lambda: signing_cas.revoke(inst, "default", "a", NOW), "is revoked already")
    with inst.reading("default") as (c, _), pytest.raises(KeyError):
        stored.sealed_key(c, done.ca.id)


def test_it_is_said_where_a_destroyed_key_may_still_be(inst: Installation) -> None:
    imported(inst, "a")
    imported(inst, "b")
    copy = inst.store.path.with_name(f"{inst.store.path.name}.revision-0001")
    assert signing_cas.revoke(inst, "default", "a", NOW).remains == ()
    copy.touch()
    assert signing_cas.delete(inst, "default", "b", NOW) == (str(copy),)


def test_a_revoked_key_never_comes_back(inst: Installation) -> None:
    authority = imported(inst, "a", active=True)
    signing_cas.revoke(inst, "default", "a", NOW)
    upload = Upload((authority.chain_pem(with_root=True),), authority.key_pem())
    unchanged(inst, lambda: signing_cas.import_(inst, "default", "b", upload, NOW), "was revoked here")
    signing_cas.delete(inst, "default", "a", NOW)
    unchanged(inst, lambda: signing_cas.import_(inst, "default", "b", upload, NOW), "was revoked here")
    assert status(inst) == {"built-in": "active"}


def test_activating_an_active_one_puts_its_published_root_right(inst: Installation) -> None:
    path = publish_root(inst, "default")
    path.write_text("stale")
    signing_cas.activate(inst, "default", "built-in", NOW)
    assert path.read_text() == root_pem(inst, "default")


def test_where_no_built_in_one_is_valid_another_is_made_to_take_over(inst: Installation) -> None:
    later = NOW + timedelta(days=365 * 11)
    end = later + 400 * DAY
    authority = Authority.root("Long", not_after=end).intermediate("Issuing", not_after=end)
    upload = Upload((authority.chain_pem(with_root=True),), authority.key_pem())
    signing_cas.import_(inst, "default", "a", upload, NOW, activated=True)
    done = signing_cas.revoke(inst, "default", "a", later)
    assert done.successor is not None
    assert status(inst) == {"a": "revoked", "built-in": "inactive", "built-in-2": "active"}


def test_a_name_that_is_no_text_is_one_that_nothing_has(inst: Installation) -> None:
    unchanged(inst, lambda: signing_cas.show(inst, "default", "\udcff"), "has no signing CA")
    unchanged(inst, lambda: signing_cas.show(inst, "\udcff", "a"), "there is no tenant")


def test_where_the_built_in_one_is_revoked_another_is_made(inst: Installation) -> None:
    done = signing_cas.revoke(inst, "default", "built-in", NOW)
    assert done.successor is not None
    assert status(inst) == {"built-in": "revoked", "built-in-2": "active"}
    assert done.successor.chain[-1] != done.ca.chain[-1]


def test_the_active_one_and_what_takes_over_are_not_deleted(inst: Installation) -> None:
    unchanged(inst, lambda: signing_cas.delete(inst, "default", "built-in", NOW), "is the active one")
    imported(inst, "a", active=True)
    unchanged(inst, lambda: signing_cas.delete(inst, "default", "built-in", NOW), "takes over")
    signing_cas.activate(inst, "default", "built-in", NOW)
    signing_cas.delete(inst, "default", "a", NOW)
    assert status(inst) == {"built-in": "active"}
    imported(inst, "a")  # its name is free again


def test_a_deleted_or_renamed_one_is_told_of(inst: Installation) -> None:
    ann = inst.acting(Actor("ann", "here"))
    imported(inst, "a")
    signing_cas.rename(ann, "default", "a", "b", NOW)
    unchanged(inst, lambda: signing_cas.activate(inst, "default", "a", NOW), "renamed to 'b' by ann on ")
    signing_cas.delete(ann, "default", "b", NOW)
    unchanged(inst, lambda: signing_cas.activate(inst, "default", "b", NOW), "deleted by ann on ")


@pytest.mark.parametrize("name", ["", " a", "a\n", "x" * 129, "a\u202eb", "a\u200bb"])
def test_names_that_cannot_be_are_refused(inst: Installation, name: str) -> None:
    unchanged(inst, lambda: signing_cas.request(inst, "default", name, SUBJECT, NOW), "cannot name a signing CA")
    unchanged(inst, lambda: signing_cas.rename(inst, "default", "built-in", name, NOW), "cannot name a signing CA")


def test_a_name_is_had_once(inst: Installation) -> None:
    imported(inst, "a")
    unchanged(inst, lambda: signing_cas.request(inst, "default", "a", SUBJECT, NOW), "already")
    unchanged(inst, lambda: signing_cas.rename(inst, "default", "built-in", "a", NOW), "already")


def test_every_change_is_in_the_audit_log_with_who_and_what(inst: Installation) -> None:
    ann = inst.acting(Actor("ann", "command line on host"))
    imported(ann, "a")
    signing_cas.activate(ann, "default", "a", NOW)
    signing_cas.rename(ann, "default", "a", "b", NOW)
    signing_cas.revoke(ann, "default", "b", NOW)
    signing_cas.delete(ann, "default", "b", NOW)
    entries = audit_log.newest(inst, tenant="default")
    assert [entry.action for entry in entries][::-1] == [
        "tenant.create", "signing_ca.import", "signing_ca.activate", "signing_ca.rename", "signing_ca.activate",
        "signing_ca.revoke", "signing_ca.delete",
    ]  # fmt: skip
    assert {(entry.actor, entry.origin) for entry in entries[:-1]} == {("ann", "command line on host")}
    renamed = entries[3]
    assert renamed.before is not None
    assert renamed.after is not None
    assert (json.loads(renamed.before)["name"], json.loads(renamed.after)["name"]) == ("a", "b")


# --- whatever crashes or races ---


def test_however_activations_race_and_die_just_one_is_active(inst: Installation) -> None:
    for name in "abc":
        imported(inst, name)
    with ExitStack() as started:
        racers = [
            started.enter_context(Racer(inst.state_dir, seed, ("built-in", "a", "b", "c"), count, killed=count < 25))
            for seed, count in enumerate((25, 3, 25, 10, 25, 17, 25, 24))
        ]
        for racer in racers:
            racer.ready()
        for racer in racers:
            racer.go()
        seen = set()
        while any(racer.process.poll() is None for racer in racers):
            statuses = status(inst)
            assert sorted(statuses.values()) == ["active", "inactive", "inactive", "inactive"], statuses
            seen.add(next(name for name, each in statuses.items() if each == "active"))
        for racer in racers:
            assert list(racer.attempts())
        assert len(seen) > 1
        assert list(status(inst).values()).count("active") == 1
