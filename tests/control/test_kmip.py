"""KMIP forwarding, and signing CAs on premises: what is refused, and that nothing is saved that could not sign.

Against PyKMIP's server over mutual TLS. What that cannot be made to do is in tests/kms/kmip.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from kmip import enums

from certs.request import Subject
from config.settings import Kmip, Settings
from control import kmip_forwarding, on_premises, signing_cas
from control.errors import Refused
from control.installation import Installation
from control.kmip_forwarding import Credentials
from control.on_premises import Connection, Enrolment, key_at
from kms.kmip.validation import Step
from store import audit_log, kmip
from store import signing_cas as stored
from store.records import SigningCa
from tests.control.conftest import kinds_since, last_change
from tests.control.test_signing_cas import root_above, signed
from tests.harness.kmip_server import KmipServer, client_certificate
from tests.harness.pki import DAY, NOW, Authority, kept_key
from tests.kms.kmip.rig import HOST, SIGNING_KEY, client, root, server_identity

ABOVE = Authority.root("Organisation Root")
ISSUING = ABOVE.intermediate("Organisation Proxy", key=SIGNING_KEY)
_SPKI = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
CHAIN = ISSUING.chain_pem(with_root=True)


@pytest.fixture(scope="module")
def manager(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KmipServer]:
    with KmipServer(tmp_path_factory.mktemp("kmip"), server_identity(), root()) as server:
        server.register("signing", SIGNING_KEY)
        server.register("another", kept_key("rsa2048", 8))  # type: ignore[arg-type]
        server.register("sleeping", SIGNING_KEY, active=False)
        server.register("deciphering", SIGNING_KEY, usage=(enums.CryptographicUsageMask.DECRYPT,))
        server.register("twice", SIGNING_KEY)
        server.register("twice", SIGNING_KEY)
        yield server


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    hosts = dict.fromkeys((HOST, "wrong.example", "other.example"), "127.0.0.1")
    kmip_settings = Kmip(allow_private_addresses=True, timeout=5)
    return Settings(state_dir=tmp_path / "var", kmip=kmip_settings, resolver={"hosts": hosts})  # type: ignore[arg-type]


def credentials(**more: Any) -> Credentials:
    given: dict[str, Any] = {
        "client_certificate": client().chain_pem(),
        "server_ca": root().pem(),
        "key": client().key_pem(),
    }
    return Credentials(**(given | more))


@pytest.fixture
def known(inst: Installation) -> Installation:
    """The installation with its KMIP forwarding set."""
    kmip_forwarding.set_(inst, "default", credentials(), NOW)
    return inst


def wanted(
    manager: KmipServer, name: str = "signing", host: str = HOST, files: bytes = CHAIN, **more: Any
) -> Connection:
    return Connection((files,), key_at(name, f"{host}:{manager.port}", **more))


class TestForwarding:
    def test_is_saved_sealed_and_announced(self, inst: Installation) -> None:
        last = last_change(inst)
        made = kmip_forwarding.set_(inst, "default", credentials(username="proxy", password="made up"), NOW)
        assert kmip_forwarding.show(inst, "default") == made
        assert made.chain == (client().raw,)
        assert kinds_since(inst, last) == ["kmip_forwarding_changed"]
        with inst.store.reading() as connection:
            secrets = kmip.secrets_of(connection, 1)
            (entry,) = audit_log.newest(connection, 1)
        assert secrets.key is not None
        assert b"made up" not in (secrets.password or b"")
        assert "made up" not in repr(credentials(password="made up"))
        assert "made up" not in str(entry)

    @pytest.mark.parametrize(
        ("given", "said"),
        [
            ({"client_certificate": b"nothing"}, "the client certificate cannot be used"),
            ({"server_ca": b""}, "the server CA cannot be used"),
            ({"key": b"nothing"}, "the client key cannot be used"),
            ({"key": root().key_pem()}, "does not belong to the key that is given"),
            ({"key": None}, "no client key is given, and none was made here"),
            ({"username": "proxy"}, "given together or not at all"),
            (
                {"client_certificate": client_certificate(root(), not_before=NOW - 9 * DAY, not_after=NOW - DAY).pem()},
                "expired on",
            ),
            ({"client_certificate": client_certificate(root(), not_before=NOW + DAY).pem()}, "is not valid before"),
            ({"client_certificate": client_certificate(root(), eku=["server"]).pem()}, "lacks clientAuth"),
            ({"server_ca": Authority.root("Old", not_after=NOW - DAY).pem()}, "the server CA (CN=Old) expired on"),
        ],
    )
    def test_what_cannot_be_used_is_refused_by_what_is_wrong(
        self, inst: Installation, given: dict[str, Any], said: str
    ) -> None:
        last = last_change(inst)
        with pytest.raises(Refused) as caught:
            kmip_forwarding.set_(inst, "default", credentials(**given), NOW)
        assert said in str(caught.value)
        assert "\n" not in str(caught.value)
        assert last_change(inst) == last
        assert kmip_forwarding.show(inst, "default") is None

    def test_a_key_that_was_made_here_needs_only_its_certificate(
        self, known: Installation, manager: KmipServer
    ) -> None:
        made = x509.load_der_x509_csr(kmip_forwarding.request(known, "default", Subject("sallyport"), NOW))
        waiting = kmip_forwarding.show(known, "default")
        assert waiting is not None
        assert waiting.request is not None
        assert waiting.chain, "what is used now stays until the certificate comes"
        signed = client_certificate(root(), spki=made.public_key().public_bytes(*_SPKI))
        with pytest.raises(Refused, match="does not belong to the key of the request"):
            kmip_forwarding.set_(known, "default", credentials(key=None), NOW)
        after = kmip_forwarding.set_(known, "default", credentials(client_certificate=signed.pem(), key=None), NOW)
        assert after.request is None
        assert on_premises.examine(known, "default", wanted(manager), NOW).problems == []


class TestConnecting:
    def test_what_signs_is_saved_and_nothing_of_its_key(self, known: Installation, manager: KmipServer) -> None:
        ca, bundle = signing_cas.connect(known, "default", "hsm", wanted(manager), NOW, activated=True)
        assert (ca.kind, ca.status) == ("on_premises", "active")
        assert bundle.ok
        with known.store.reading() as connection:
            assert kmip.key_of(connection, ca.id) == key_at("signing", f"{HOST}:{manager.port}")
            with pytest.raises(KeyError):
                stored.sealed_key(connection, ca.id)
        assert signing_cas.key_problem(known, "default", "hsm") is None

    def test_each_step_is_told_in_order(self, known: Installation, manager: KmipServer) -> None:
        told: list[tuple[str, Step, bool]] = []
        on_premises.examine(
            known, "default", wanted(manager), NOW, lambda at, one: told.append((str(at), one.step, one.passed))
        )
        assert told == [(f"{HOST}:{manager.port}", step, True) for step in Step]

    @pytest.mark.parametrize(
        ("name", "step", "said"),
        [
            ("nowhere", Step.KEY, "the key manager has no private key of the name 'nowhere'"),
            ("twice", Step.KEY, "the key manager has 2 private keys of the name 'twice'"),
            ("sleeping", Step.STATE, "the key is pre active, and only an active one signs"),
            ("deciphering", Step.USAGE, "the key may decrypt, but not sign"),
            ("another", Step.SIGNATURE, "does not verify with the signing certificate's key"),
        ],
    )
    def test_a_key_that_cannot_sign_is_refused_by_the_step_that_fails(
        self, known: Installation, manager: KmipServer, name: str, step: Step, said: str
    ) -> None:
        examined = on_premises.examine(known, "default", wanted(manager, name), NOW)
        _, last = examined.steps[-1]
        assert (last.step, last.passed) == (step, False)
        assert said in last.text
        before = last_change(known)
        with pytest.raises(Refused) as caught:
            signing_cas.connect(known, "default", "hsm", wanted(manager, name), NOW)
        assert said in str(caught.value)
        assert last_change(known) == before

    def test_a_certificate_of_another_kind_of_key_is_refused(self, known: Installation, manager: KmipServer) -> None:
        for key, told in (("ec256", "the certificate's EC 256"), ("rsa3072", "the certificate's RSA 3072")):
            other = ABOVE.intermediate("Another", key=kept_key(key, 9)).chain_pem(with_root=True)
            examined = on_premises.examine(known, "default", wanted(manager, files=other), NOW)
            assert [told in problem for problem in examined.problems] == [True]
            assert examined.steps[-1][1].step is Step.ALGORITHM

    def test_a_chain_that_is_not_fit_to_sign_is_refused_with_its_findings(
        self, known: Installation, manager: KmipServer
    ) -> None:
        leaf = ABOVE.leaf("www.example", key=SIGNING_KEY).chain_pem()
        with pytest.raises(Refused) as caught:
            signing_cas.connect(known, "default", "hsm", wanted(manager, files=leaf), NOW)
        assert "not_a_ca" in [finding.code for finding in caught.value.findings]

    def test_wrong_hosts_are_refused_by_what_is_wrong(self, known: Installation, manager: KmipServer) -> None:
        for host, step, said in (
            ("wrong.example", Step.TLS, "hostname mismatch"),
            ("nowhere.invalid", Step.ADDRESS, "has no address"),
            ("127.0.0.2", Step.CONNECTION, "connection refused"),
        ):
            (problem,) = on_premises.examine(known, "default", wanted(manager, host=host), NOW).problems
            assert said in problem.lower()
            assert on_premises.examine(known, "default", wanted(manager, host=host), NOW).steps[-1][1].step is step

    def test_a_private_address_is_refused_unless_the_operator_allows_it(
        self, known: Installation, manager: KmipServer
    ) -> None:
        strict = known.settings.model_copy(update={"kmip": Kmip(allow_private_addresses=False)})
        (problem,) = on_premises.examine(replace(known, settings=strict), "default", wanted(manager), NOW).problems
        assert "is a private, loopback or link-local address" in problem

    def test_a_port_that_says_nothing_costs_the_time_out_and_is_said_to_be_that(
        self, known: Installation, manager: KmipServer
    ) -> None:
        quick = known.settings.model_copy(update={"kmip": Kmip(allow_private_addresses=True, timeout=0.3)})
        with socket.create_server(("127.0.0.1", 0)) as silent:
            connection = Connection((CHAIN,), key_at("signing", f"{HOST}:{silent.getsockname()[1]}"))
            (problem,) = on_premises.examine(replace(known, settings=quick), "default", connection, NOW).problems
        assert problem.endswith("within 0.3 s")

    def test_who_asks_while_too_many_do_is_told_so_and_waits_for_nobody(
        self, known: Installation, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        turn = threading.BoundedSemaphore(1)
        monkeypatch.setattr(on_premises, "_turn", turn)
        with socket.create_server(("127.0.0.1", 0)) as closed:
            connection = Connection((CHAIN,), key_at("signing", f"{HOST}:{closed.getsockname()[1]}"))
        for _ in range(2):  # a turn is given back
            assert "refused" in on_premises.examine(known, "default", connection, NOW).problems[0].lower()
        with turn, pytest.raises(Refused, match="try again in a moment"):
            on_premises.examine(known, "default", connection, NOW)

    def test_both_hosts_are_looked_at_before_it_is_saved(self, known: Installation, manager: KmipServer) -> None:
        both = wanted(manager, alternate="other.example")
        assert both.key.alternate_port == manager.port
        assert len(on_premises.examine(known, "default", both, NOW).steps) == 2 * len(Step)
        with pytest.raises(Refused, match=r"127\.0\.0\.2:.*connection refused"):
            signing_cas.connect(known, "default", "hsm", wanted(manager, alternate="127.0.0.2"), NOW)

    def test_without_forwarding_there_is_nothing_to_look_at(self, inst: Installation, manager: KmipServer) -> None:
        with pytest.raises(Refused, match="has no client certificate for its key manager"):
            signing_cas.connect(inst, "default", "hsm", wanted(manager), NOW)

    @pytest.mark.parametrize(
        ("arguments", "said"),
        [
            (("", "kms.example"), "1 to 255 printable characters"),
            (("k" * 256, "kms.example"), "1 to 255 printable characters"),
            (("schlüssel", "kms.example"), "of ASCII"),
            (("key", "kms example"), "the primary host 'kms example'"),
            (("key", "kms.example", "kms.example:70000"), "the alternate host 'kms.example:70000'"),
            (("key", "kms.example", "KMS.example:5696"), "the alternate host is the primary one"),
        ],
    )
    def test_what_is_no_place_of_a_key_is_refused(self, arguments: tuple[str, ...], said: str) -> None:
        with pytest.raises(Refused, match=said):
            key_at(*arguments)

    def test_ports_are_kmips_or_the_primarys(self) -> None:
        assert key_at("key", "kms.example").primary_port == 5696
        assert key_at("key", "kms.example:5697", "other.example").alternate_port == 5697

    def test_one_with_the_same_key_is_not_saved_twice(self, known: Installation, manager: KmipServer) -> None:
        signing_cas.connect(known, "default", "hsm", wanted(manager), NOW)
        with pytest.raises(Refused, match="hsm"):
            signing_cas.connect(known, "default", "again", wanted(manager), NOW)

    def test_it_is_activated_only_where_its_key_manager_would_sign_now(
        self, known: Installation, manager: KmipServer
    ) -> None:
        signing_cas.connect(known, "default", "hsm", wanted(manager), NOW)
        with known.store.transaction() as connection:
            ca = stored.by_name(connection, 1, "hsm")
            assert ca is not None
            kmip.set_key(connection, ca.id, key_at("gone", f"{HOST}:{manager.port}"))
        with pytest.raises(Refused, match="its key manager would not sign"):
            signing_cas.activate(known, "default", "hsm", NOW)
        with known.store.transaction() as connection:
            kmip.set_key(connection, ca.id, key_at("signing", f"{HOST}:{manager.port}"))
        assert signing_cas.activate(known, "default", "hsm", NOW).status == "active"

    def test_revoked_it_is_asked_for_nothing_more(self, known: Installation, manager: KmipServer) -> None:
        signing_cas.connect(known, "default", "hsm", wanted(manager), NOW, activated=True)
        done = signing_cas.revoke(known, "default", "hsm", NOW)
        assert done.successor is not None
        assert done.successor.kind == "built_in"
        with pytest.raises(Refused, match="revoked"):
            signing_cas.activate(known, "default", "hsm", NOW)


class TestRequests:
    """A certificate for a key that stays in the key manager: asked for, signed by openssl's root, and brought."""

    def test_a_key_that_is_made_there_signs_its_request_and_then_leaves(
        self, known: Installation, manager: KmipServer, tmp_path: Path
    ) -> None:
        last = last_change(known)
        asked, remarks = requested(known, manager, "made", create=True, bits=2048)
        assert (asked.kind, asked.status) == ("on_premises", "requested")
        assert remarks == (f"the key pair made was made at {HOST}:{manager.port}, and is active",)
        assert kinds_since(known, last) == ["signing_ca_added"]
        assert asked.request is not None
        request = x509.load_der_x509_csr(asked.request)
        assert request.is_signature_valid
        assert request.subject.rfc4514_string() == "CN=Organisation Proxy,O=Organisation"
        with known.store.reading() as connection, pytest.raises(KeyError):
            stored.sealed_key(connection, asked.id)
        root_pem = root_above(tmp_path)
        files = [signed(tmp_path, asked.request), root_pem]
        told: list[tuple[Step, bool]] = []
        ca, bundle = signing_cas.complete(
            known, "default", "hsm", files, NOW + DAY, True, lambda _, one: told.append((one.step, one.passed))
        )
        assert bundle.ok
        assert (ca.kind, ca.status) == ("on_premises", "active")
        assert told == [(step, True) for step in Step]
        assert [one.passed for _, one in on_premises.examine_saved(known, "default", "hsm")] == [True] * len(Step)

    def test_a_key_of_that_name_is_refused_and_no_other_made(self, known: Installation, manager: KmipServer) -> None:
        last = last_change(known)
        with pytest.raises(Refused, match="has something of the name 'signing' already, so nothing is made"):
            requested(known, manager, "signing", create=True)
        assert last_change(known) == last

    def test_a_key_that_exists_is_asked_for_by_its_public_half(self, known: Installation, manager: KmipServer) -> None:
        public = SIGNING_KEY.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        with pytest.raises(Refused, match="--public-key FILE"):
            requested(known, manager, "signing")
        for file in (public, ISSUING.pem()):
            asked, remarks = requested(known, manager, "signing", public_key=file)
            assert asked.request is not None
            assert x509.load_der_x509_csr(asked.request).public_key() == SIGNING_KEY.public_key()
            assert remarks == ()
            signing_cas.delete(known, "default", "hsm", NOW)

    @pytest.mark.parametrize(
        ("name", "file", "said"),
        [
            ("another", ISSUING.pem(), "does not verify.*; the public key that was given may be of another key"),
            ("signing", kept_key("rsa3072", 9).public_key().public_bytes(*_SPKI), "the key is RSA 2048.*was given may"),
            ("sleeping", ISSUING.pem(), "only an active one signs; activate it there$"),
            ("signing", b"nothing", "the public key cannot be used"),
            ("signing", client().key_pem(), "the file holds a private key"),
        ],
    )
    def test_what_would_not_sign_is_asked_for_nothing(
        self, known: Installation, manager: KmipServer, name: str, file: bytes, said: str
    ) -> None:
        last = last_change(known)
        with pytest.raises(Refused, match=said):
            requested(known, manager, name, public_key=file)
        assert last_change(known) == last

    def test_what_is_wrong_here_is_said_before_anything_is_made_there(
        self, known: Installation, manager: KmipServer
    ) -> None:
        signing_cas.connect(known, "default", "hsm", wanted(manager), NOW)
        for subject, said in ((SUBJECT, "has a signing CA 'hsm' already"), (Subject(""), "common name")):
            with pytest.raises(Refused, match=said):
                requested(known, manager, "unmade", subject=subject, create=True)
        with pytest.raises(Refused, match="a signing CA with this key is there already"):
            requested(known, manager, "signing", ca="second", public_key=ISSUING.pem())
        asked, _ = requested(known, manager, "unmade", ca="third", create=True, bits=2048)
        assert asked.status == "requested", "nothing of that name was there"

    def test_a_private_address_is_refused_before_anything_is_made(
        self, known: Installation, manager: KmipServer
    ) -> None:
        strict = replace(known, settings=known.settings.model_copy(update={"kmip": Kmip()}))
        for create, file in ((True, None), (False, ISSUING.pem())):
            with pytest.raises(Refused, match="is a private, loopback or link-local address"):
                requested(strict, manager, "private", create=create, public_key=file)
        with pytest.raises(Refused, match="has no private key"):
            requested(known, manager, "private")

    def test_a_request_is_completed_only_where_all_hosts_sign_now(
        self, known: Installation, manager: KmipServer, tmp_path: Path
    ) -> None:
        asked, _ = requested(known, manager, "signing", public_key=ISSUING.pem())
        files = [ISSUING.chain_pem(with_root=True)]
        with known.store.transaction() as connection:
            kmip.set_key(connection, asked.id, key_at("gone", f"{HOST}:{manager.port}"))
        with pytest.raises(Refused, match="has no private key of the name 'gone'"):
            signing_cas.complete(known, "default", "hsm", files, NOW)
        assert signing_cas.show(known, "default", "hsm").status == "requested"
        with pytest.raises(Refused, match="no certificate yet"):
            signing_cas.activate(known, "default", "hsm", NOW)
        other = ABOVE.intermediate("Another", key=kept_key("rsa2048", 9)).chain_pem(with_root=True)
        with pytest.raises(Refused) as caught:
            signing_cas.complete(known, "default", "hsm", [other], NOW)
        assert [finding.level for finding in caught.value.findings] == ["error"]

    def test_a_request_can_be_revoked_and_its_key_is_then_refused_for_good(
        self, known: Installation, manager: KmipServer
    ) -> None:
        requested(known, manager, "signing", public_key=ISSUING.pem())
        assert [one.name for one in signing_cas.listing(known, "default") if one.status == "requested"] == ["hsm"]
        assert signing_cas.revoke(known, "default", "hsm", NOW).successor is None
        with pytest.raises(Refused, match="or was revoked"):
            requested(known, manager, "signing", ca="again", public_key=ISSUING.pem())


SUBJECT = Subject("Organisation Proxy", organization="Organisation")


def requested(
    inst: Installation, manager: KmipServer, name: str, *, ca: str = "hsm", subject: Subject = SUBJECT,
    create: bool = False, bits: int | None = None, public_key: bytes | None = None, **where: Any,
) -> tuple[SigningCa, tuple[str, ...]]:  # fmt: skip
    asked = Enrolment(key_at(name, f"{HOST}:{manager.port}", **where), create, bits, public_key)
    return signing_cas.request_on_premises(inst, "default", ca, subject, asked, NOW)
