from __future__ import annotations

import plistlib
import ssl
import subprocess
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding, pkcs7

from certs.download import FORMATS, DownloadError, encode, extension, media_type
from certs.formats import read_certificates
from tests.harness.pki import Authority, Raw, common_name

Need = Callable[[str], str]

ROOT = Authority.root("Download Root")
ISSUING = ROOT.intermediate("Download Issuing")
BOTH = [ISSUING.certificate, ROOT.certificate]


def sha256(certificate: x509.Certificate) -> str:
    """As programs print it, in capitals with colons."""
    return certificate.fingerprint(hashes.SHA256()).hex(":").upper()


def run(*command: str | Path, data: bytes | None = None) -> bytes:
    done = subprocess.run(command, input=data, capture_output=True, timeout=120, check=False)
    assert done.returncode == 0, (command, done.stdout, done.stderr)
    return done.stdout


def keytool(program: str, *args: str | Path) -> str:
    return run(program, "-J-Xshare:auto", "-J-XX:TieredStopAtLevel=1", *args).decode()


def written(folder: Path, form: str, chosen: list[x509.Certificate]) -> Path:
    path = folder / f"file{extension(form)}"
    path.write_bytes(encode(chosen, form, "Example Ltd"))
    return path


# What is in each


def test_pem_keeps_the_order() -> None:
    data = encode(BOTH, "pem", "x")
    assert read_certificates(data) == BOTH
    assert data.decode() == "".join(ssl.DER_cert_to_PEM_cert(one.public_bytes(Encoding.DER)) for one in BOTH)


def test_der_and_the_file_for_android_are_the_certificate_byte_for_byte() -> None:
    assert encode(BOTH[1:], "der", "x") == encode(BOTH[1:], "android", "x") == ROOT.raw


def test_pkcs7_carries_all_of_them() -> None:
    assert set(pkcs7.load_der_pkcs7_certificates(encode(BOTH, "p7b", "x"))) == set(BOTH)


def test_a_profile_installs_the_root_and_says_what_that_means() -> None:
    data = encode([ROOT.certificate], "mobileconfig", "Example Ltd")
    assert data.startswith(b"<?xml ")
    profile = plistlib.loads(data)
    assert profile["PayloadType"] == "Configuration"
    assert profile["PayloadVersion"] == 1
    assert profile["PayloadDisplayName"] == "Download Root"
    assert profile["PayloadOrganization"] == "Example Ltd"
    assert profile["PayloadScope"] == "System"
    assert profile["PayloadRemovalDisallowed"] is False
    assert "read and change" in profile["PayloadDescription"]
    assert sha256(ROOT.certificate).replace(":", "").lower() in profile["PayloadDescription"]
    (payload,) = profile["PayloadContent"]
    assert payload["PayloadType"] == "com.apple.security.root"
    assert payload["PayloadContent"] == ROOT.raw
    assert payload["PayloadIdentifier"].startswith(profile["PayloadIdentifier"] + ".")
    assert uuid.UUID(profile["PayloadUUID"]).version == uuid.UUID(payload["PayloadUUID"]).version == 5
    assert profile["PayloadUUID"] != payload["PayloadUUID"]


def test_a_profile_replaces_the_one_before_and_no_other() -> None:
    def identity(certificate: x509.Certificate, name: str) -> tuple[str, ...]:
        profile = plistlib.loads(encode([certificate], "mobileconfig", name))
        return tuple(
            at[key] for at in (profile, *profile["PayloadContent"]) for key in ("PayloadIdentifier", "PayloadUUID")
        )

    first = identity(ROOT.certificate, "Example Ltd")
    assert identity(ROOT.certificate, "Renamed Ltd") == first
    assert not set(identity(Authority.root("Download Root").certificate, "Example Ltd")) & set(first)


@pytest.mark.parametrize("text", ["\x1b[2J", "a\u202eb", "\x00", "<&>\"'", "\ufffe", "名前"])
def test_a_profile_is_xml_whatever_the_names_hold(text: str) -> None:
    root = Authority.root(subject=common_name(text)).certificate
    profile = plistlib.loads(encode([root], "mobileconfig", text))
    shown = "".join(c if c.isprintable() else "?" for c in text)
    assert profile["PayloadDisplayName"] == profile["PayloadOrganization"] == shown


def test_a_profile_from_nobody_is_from_the_ca() -> None:
    assert plistlib.loads(encode([ROOT.certificate], "mobileconfig", " "))["PayloadOrganization"] == "Download Root"


# What is refused


@pytest.mark.parametrize("form", ["der", "mobileconfig", "android"])
def test_one_certificate_where_the_format_holds_one(form: str) -> None:
    with pytest.raises(DownloadError, match=r"holds one certificate and these are 2; use pem or p7b"):
        encode(BOTH, form, "x")


@pytest.mark.parametrize("form", FORMATS)
def test_a_file_of_nothing_is_none(form: str) -> None:
    with pytest.raises(DownloadError, match="there is no certificate to write"):
        encode([], form, "x")


def test_a_profile_is_for_a_root() -> None:
    with pytest.raises(DownloadError, match="Download Issuing is not a root"):
        encode([ISSUING.certificate], "mobileconfig", "x")


@pytest.mark.parametrize("ca", [False, None])
def test_android_takes_cas_only(ca: bool | None) -> None:
    with pytest.raises(DownloadError, match="Plain is no CA by its basicConstraints"):
        encode([Authority.root("Plain", ca=ca).certificate], "android", "x")
    assert encode([ISSUING.certificate], "android", "x") == ISSUING.raw


def test_extensions_that_cannot_be_read_make_no_ca() -> None:
    twice = Authority.root("Odd", duplicate=[x509.BasicConstraints.oid])
    unknown = Authority.root("Odd", extra=[Raw(x509.TLSFeature.oid.dotted_string, b"\x30\x03\x02\x01\x63")])
    for odd in (twice, unknown):
        with pytest.raises(DownloadError, match="Odd is no CA"):
            encode([odd.certificate], "android", "x")


@pytest.mark.parametrize("ask", [lambda: encode(BOTH, "zip", "x"), lambda: extension("zip"), lambda: media_type("zip")])
def test_an_unknown_format_is_answered_with_the_known_ones(ask: Callable[[], object]) -> None:
    with pytest.raises(DownloadError, match="no format 'zip'; use one of pem, der, p7b, mobileconfig, android"):
        ask()


def test_each_format_has_an_extension_and_a_type_of_its_own() -> None:
    assert [extension(form) for form in FORMATS] == [".pem", ".cer", ".p7b", ".mobileconfig", ".crt"]
    assert [media_type(form) for form in FORMATS] == [
        "application/x-pem-file",
        "application/pkix-cert",
        "application/pkcs7-mime",
        "application/x-apple-aspen-config",
        "application/x-x509-ca-cert",
    ]


# Read by other programs


@pytest.mark.parametrize(("form", "encoding"), [("pem", "PEM"), ("der", "DER"), ("android", "DER")])
def test_openssl_reads_a_certificate(need: Need, tmp_path: Path, form: str, encoding: str) -> None:
    path = written(tmp_path, form, [ROOT.certificate])
    told = run(need("openssl"), "x509", "-inform", encoding, "-in", path, "-noout", "-fingerprint", "-sha256")
    assert sha256(ROOT.certificate) in told.decode()


def test_openssl_reads_pkcs7(need: Need, tmp_path: Path) -> None:
    told = run(need("openssl"), "pkcs7", "-inform", "DER", "-in", written(tmp_path, "p7b", BOTH), "-print_certs")
    assert set(read_certificates(told)) == set(BOTH)


def test_openssl_trusts_the_chain_that_is_in_the_file(need: Need, tmp_path: Path) -> None:
    leaf = tmp_path / "leaf.pem"
    leaf.write_bytes(ISSUING.leaf("a.example").pem())
    assert b"OK" in run(need("openssl"), "verify", "-CAfile", written(tmp_path, "pem", BOTH), leaf)


@pytest.mark.parametrize(("form", "options"), [("pem", ["-a"]), ("der", []), ("android", [])])
def test_nss_installs_the_root_and_trusts_it(need: Need, tmp_path: Path, form: str, options: list[str]) -> None:
    program, store = need("certutil"), f"sql:{tmp_path}"
    run(program, "-N", "-d", store, "--empty-password")
    run(program, "-A", "-d", store, "-n", "root", "-t", "C,,", *options, "-i", written(tmp_path, form, BOTH[1:]))
    assert run(program, "-L", "-d", store, "-n", "root", "-r") == ROOT.raw
    assert b"certificate is valid" in run(program, "-V", "-d", store, "-n", "root", "-u", "L")


@pytest.mark.parametrize("form", ["pem", "der", "android"])
def test_java_imports_the_root(need: Need, tmp_path: Path, form: str) -> None:
    program, path = need("keytool"), written(tmp_path, form, BOTH[1:])
    store: list[str | Path] = ["-keystore", tmp_path / "store.p12", "-storepass", "changeit"]
    keytool(program, "-importcert", "-noprompt", "-alias", "root", "-file", path, *store)
    assert sha256(ROOT.certificate) in keytool(program, "-list", "-alias", "root", *store)


@pytest.mark.parametrize("form", ["pem", "p7b"])
def test_java_reads_every_certificate(need: Need, tmp_path: Path, form: str) -> None:
    told = keytool(need("keytool"), "-printcert", "-file", written(tmp_path, form, BOTH))
    assert all(sha256(one) in told for one in BOTH)


def test_the_certificate_of_a_profile_is_one_to_other_programs(need: Need) -> None:
    (payload,) = plistlib.loads(encode([ROOT.certificate], "mobileconfig", "x"))["PayloadContent"]
    told = run(
        need("openssl"), "x509", "-inform", "DER", "-noout", "-fingerprint", "-sha256", data=payload["PayloadContent"]
    )
    assert sha256(ROOT.certificate) in told.decode()
