import itertools
import ssl
import subprocess
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    pkcs7,
    pkcs12,
)
from cryptography.x509.oid import ExtensionOID
from hypothesis import example, given
from hypothesis import strategies as st

from certs.bundle import Bundle, BundleError, BundleFinding, examine_trusted, read_certificates, to_pem
from certs.formats import kind_of
from tests.harness import pki
from tests.harness.pki import NOW, Authority
from tests.harness.programs import need

DAY = timedelta(days=1)
ROOT = Authority.root("Example Root")
POLICY = ROOT.intermediate("Example Policy")
ISSUING = POLICY.intermediate("Example Issuing")
OTHER = Authority.root("Other Root")
LEAF = ISSUING.leaf("good.example")
KEY = ec.generate_private_key(ec.SECP256R1())
RSA = pki.kept_key("rsa2048")


def file_of(*issued: pki.Issued) -> bytes:
    return b"".join(one.pem() for one in issued)


def certificates(*issued: pki.Issued) -> tuple[x509.Certificate, ...]:
    return tuple(one.certificate for one in issued)


def refused(data: bytes) -> BundleError:
    with pytest.raises(BundleError) as caught:
        read_certificates(data)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300
    return caught.value


def errors(bundle: Bundle) -> list[tuple[str, int | None]]:
    return [(found.code, found.certificate) for found in bundle.findings if found.level == "error"]


def codes(bundle: Bundle) -> list[str]:
    return [found.code for found in bundle.findings]


def only(bundle: Bundle) -> BundleFinding:
    (found,) = bundle.findings
    return found


# Reading


@pytest.mark.parametrize(
    "change",
    [
        lambda pem: pem,
        lambda pem: pem.replace(b"\n", b"\r\n"),
        lambda pem: pem.replace(b"\n", b"\r"),
        lambda pem: b"\xef\xbb\xbf" + pem,
        lambda pem: pem.decode().encode("utf-16"),
        lambda pem: pem.decode().encode("utf-16-be"),
        lambda pem: pem.decode().encode("utf-16-le"),
        lambda pem: b"subject=CN = B\xc3\xbccher\n" + pem.replace(b"-----END", b"\n-----END") + b"\x00\xff trailing",
        lambda pem: b"0 s:CN = as openssl s_client prints it\n" + pem,
        lambda pem: b"\n".join(b"    " + line for line in pem.splitlines()),  # indented, out of a YAML file
        lambda pem: pem.replace(b"CERTIFICATE", b"X509 CERTIFICATE"),
        lambda pem: pem + b"-----BEGIN DH PARAMETERS-----\nAAAA\n-----END DH PARAMETERS-----\n",
        lambda pem: pem.rstrip(b"\n"),
    ],
    ids=itertools.count(),
)
def test_pem_is_read_however_it_was_saved(change: Callable[[bytes], bytes]) -> None:
    assert tuple(read_certificates(change(file_of(ISSUING, ROOT)))) == certificates(ISSUING, ROOT)


def test_der_is_read() -> None:
    assert read_certificates(ROOT.raw) == [ROOT.certificate]
    assert read_certificates(ROOT.raw + b"\r\n") == [ROOT.certificate]


@pytest.mark.parametrize("encoding", [Encoding.DER, Encoding.PEM])
def test_pkcs7_is_read(encoding: Encoding) -> None:
    made = pkcs7.serialize_certificates(list(certificates(ISSUING, POLICY, ROOT)), encoding)
    assert set(read_certificates(made)) == set(certificates(ISSUING, POLICY, ROOT))


def test_pkcs7_of_openssl_and_with_indefinite_lengths_is_read(tmp_path: Path) -> None:
    (tmp_path / "in.pem").write_bytes(file_of(ROOT))
    made = subprocess.run(
        [need("openssl"), "crl2pkcs7", "-nocrl", "-certfile", "in.pem", "-outform", "DER"],
        cwd=tmp_path,
        capture_output=True,
        check=True,
    ).stdout
    assert read_certificates(made) == [ROOT.certificate]
    oid = bytes.fromhex("06092a864886f70d010702")
    start = made.index(oid)
    explicit = made[start + len(oid) :]
    inner = explicit[4:] if explicit[1] == 0x82 else explicit[3:]
    indefinite = b"\x30\x80" + oid + b"\xa0\x80" + inner + b"\0\0\0\0"
    assert kind_of(indefinite) == "PKCS #7"
    assert read_certificates(indefinite) == [ROOT.certificate]


def test_a_trusted_certificate_of_openssl_is_read_without_its_settings(tmp_path: Path) -> None:
    (tmp_path / "in.pem").write_bytes(ROOT.pem())
    made = subprocess.run(
        [need("openssl"), "x509", "-in", "in.pem", "-trustout", "-addtrust", "serverAuth"],
        cwd=tmp_path,
        capture_output=True,
        check=True,
    ).stdout
    assert b"TRUSTED CERTIFICATE" in made
    assert read_certificates(made) == [ROOT.certificate]


def test_pem_written_is_pem_read() -> None:
    written = to_pem(certificates(ISSUING, POLICY, ROOT))
    assert tuple(read_certificates(written.encode())) == certificates(ISSUING, POLICY, ROOT)


def secret(
    encoding: Encoding, form: PrivateFormat, passphrase: bytes | None = None, key: pki.PrivateKey = KEY
) -> bytes:
    protection = BestAvailableEncryption(passphrase) if passphrase else NoEncryption()
    return key.private_bytes(encoding, form, protection)


def p12(passphrase: bytes | None) -> bytes:
    protection = BestAvailableEncryption(passphrase) if passphrase else NoEncryption()
    return pkcs12.serialize_key_and_certificates(b"x", KEY, None, [ROOT.certificate], protection)


@pytest.mark.parametrize(
    ("data", "label"),
    [
        (secret(Encoding.PEM, PrivateFormat.PKCS8), "PRIVATE KEY, line 1"),
        (ROOT.pem() + secret(Encoding.PEM, PrivateFormat.PKCS8), "PRIVATE KEY, line "),
        (secret(Encoding.PEM, PrivateFormat.TraditionalOpenSSL) + ROOT.pem(), "EC PRIVATE KEY"),
        (ROOT.pem() + secret(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, key=RSA), "RSA PRIVATE KEY"),
        (secret(Encoding.PEM, PrivateFormat.PKCS8, b"secret"), "ENCRYPTED PRIVATE KEY"),
        (secret(Encoding.PEM, PrivateFormat.OpenSSH), "OPENSSH PRIVATE KEY"),
        (b"-----BEGIN CERTIFICATE-----\n!\n" + secret(Encoding.PEM, PrivateFormat.PKCS8), "PRIVATE KEY, line 3"),
        (secret(Encoding.PEM, PrivateFormat.PKCS8).decode().encode("utf-16"), "PRIVATE KEY, line 1"),
        (secret(Encoding.DER, PrivateFormat.PKCS8), "a private key"),
        (secret(Encoding.DER, PrivateFormat.TraditionalOpenSSL), "a private key"),
        (secret(Encoding.DER, PrivateFormat.TraditionalOpenSSL, key=RSA), "a private key"),
        (secret(Encoding.DER, PrivateFormat.PKCS8, key=pki.kept_key("ed25519")), "a private key"),
        (secret(Encoding.DER, PrivateFormat.PKCS8, b"secret"), "an encrypted private key"),
        (p12(None), "PKCS #12"),
        (p12(b"secret"), "PKCS #12"),
        (
            secret(Encoding.PEM, PrivateFormat.PKCS8).replace(b"PRIVATE KEY", b"CERTIFICATE"),
            "a private key",
        ),
    ],
    ids=itertools.count(),
)
def test_a_private_key_is_refused_as_such(data: bytes, label: str) -> None:
    error = refused(data)
    assert error.code == "private_key"
    assert label in str(error)
    assert errors(examine_trusted(data, NOW)) == [("private_key", None)]


REQUEST = (
    x509.CertificateSigningRequestBuilder()
    .subject_name(pki.common_name("x"))
    .sign(KEY, hashes.SHA256())
    .public_bytes(Encoding.PEM)
)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "the file is empty"),
        (b" \r\n", "the file is empty"),
        (b"\xef\xbb\xbf", "the file is empty"),
        (b"hello", "neither PEM nor DER nor PKCS #7"),
        (REQUEST, "only: CERTIFICATE REQUEST"),
        (
            KEY.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo),
            "a public key",
        ),
        (b"".join(ROOT.pem().splitlines()[1:-1]), "lost its BEGIN and END lines"),
        (ROOT.raw[:-10], "cut off"),
        (ROOT.raw + ROOT.raw, "something behind it"),
        (b"\x30\x00", "no DER"),
        (bytes.fromhex("30140609 2a864886f70d010702 a007 3005020101 3100"), "PKCS #7 without a certificate"),
        (bytes.fromhex("300506010105 00"), "nothing known"),
    ],
    ids=itertools.count(),
)
def test_a_file_without_a_certificate_says_what_it_holds(data: bytes, message: str) -> None:
    error = refused(data)
    assert error.code == "no_certificate"
    assert message in str(error)


def broken(pem: bytes) -> bytes:
    lines = pem.splitlines(keepends=True)
    return b"".join([*lines[:3], b"!!!!\n", *lines[4:]])


def flipped(raw: bytes) -> bytes:
    return ssl.DER_cert_to_PEM_cert(raw[:4] + b"\x31" + raw[5:]).encode()


@pytest.mark.parametrize(
    ("second", "message"),
    [
        (broken(ROOT.pem()), "certificate 2 in the file is broken"),
        (ROOT.pem().replace(b"-----END CERTIFICATE-----", b""), "certificate 2 in the file has no END line"),
        (flipped(ROOT.raw), "certificate 2 in the file is broken: what it holds is nothing known"),
        (REQUEST.replace(b"CERTIFICATE REQUEST", b"CERTIFICATE"), "what it holds is a certificate request"),
        (Authority.root("Minus", serial=-1).pem(), "certificate 2 in the file (Minus) has a serial number below 1"),
        (Authority.root("Nought", serial=0).pem(), "certificate 2 in the file (Nought) has a serial number below 1"),
        (Authority.root("Four", version=4).pem(), "certificate 2 in the file (Four) cannot be parsed"),
        (ssl.DER_cert_to_PEM_cert(ROOT.raw + b"\0").encode(), "certificate 2 in the file (Example Root) cannot be"),
    ],
    ids=itertools.count(),
)
def test_a_broken_certificate_is_named_by_its_place(second: bytes, message: str) -> None:
    data = ISSUING.pem() + second
    error = refused(data + OTHER.pem() if b"END" in second else data)
    assert (error.code, error.certificate) == ("malformed", 2)
    assert message in str(error)


@pytest.mark.parametrize("encoding", [Encoding.DER, Encoding.PEM])
def test_a_bad_serial_number_in_pkcs7_is_an_error_and_no_warning(encoding: Encoding) -> None:
    minus = Authority.root("Minus", serial=-1)
    made = pkcs7.serialize_certificates([ROOT.certificate, minus.certificate], encoding)
    assert "serial number below 1" in str(refused(made))


def test_files_that_are_too_large_are_refused_before_they_cost_anything() -> None:
    assert refused(b" " * (1024 * 1024 + 1)).code == "too_large"
    assert len(read_certificates(ROOT.pem() * 100)) == 100
    assert refused(ROOT.pem() * 101).code == "too_large"
    assert refused(pkcs7.serialize_certificates([ROOT.certificate] * 101, Encoding.DER)).code == "too_large"
    begun = time.process_time()
    refused(b"-----BEGIN CERTIFICATE-----" * 38000)
    refused(b"-----BEGIN X-----" * 60000)
    refused(b"\x30\x82" * 500000)
    refused(b"-" * 1024 * 1024)
    assert time.process_time() - begun < 5


@given(
    st.one_of(
        st.binary(max_size=300),
        st.binary(max_size=60).map(
            lambda data: b"-----BEGIN CERTIFICATE-----\n" + data + b"\n-----END CERTIFICATE-----"
        ),
        st.binary(max_size=60).map(lambda data: ssl.DER_cert_to_PEM_cert(data).encode()),
        st.tuples(st.integers(0, len(ROOT.raw) - 1), st.binary(max_size=3)).map(
            lambda cut: ROOT.raw[: cut[0]] + cut[1] + ROOT.raw[cut[0] + len(cut[1]) :]
        ),
        st.integers(0, len(ROOT.raw)).map(lambda cut: ROOT.raw[:cut]),
    )
)
@example(b"\xff\xfe\x00")
@example(b"-\0-\0-\0-")
@example(b"0\x80\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x07\x02\xa0\x80\x00\x00\x00\x00")
def test_reading_garbage_ends_with_certificates_or_a_bundle_error(data: bytes) -> None:
    try:
        found = read_certificates(data)
    except BundleError:
        assert not examine_trusted(data, NOW).ok
        return
    assert found
    examine_trusted(data, NOW)


# Examining


def test_a_good_file_is_kept_as_it_is() -> None:
    bundle = examine_trusted(file_of(ISSUING, POLICY, ROOT), NOW)
    assert bundle.findings == ()
    assert bundle.ok
    assert bundle.chain == certificates(ISSUING, POLICY, ROOT)
    assert bundle.positions == (1, 2, 3)
    assert bundle.anchor == ROOT.certificate


def test_a_root_alone_is_a_bundle() -> None:
    assert examine_trusted(ROOT.raw, NOW) == Bundle((ROOT.certificate,), (), (1,))


@pytest.mark.parametrize("order", list(itertools.permutations((ISSUING, POLICY, ROOT)))[1:], ids=itertools.count())
def test_another_order_is_put_right_and_told(order: tuple[Authority, ...]) -> None:
    bundle = examine_trusted(file_of(*order), NOW)
    assert bundle.chain == certificates(ISSUING, POLICY, ROOT)
    assert [order[position - 1] for position in bundle.positions] == [ISSUING, POLICY, ROOT]
    assert bundle.ok
    assert (only(bundle).level, only(bundle).code) == ("info", "reordered")


def test_repeated_certificates_are_dropped_and_told() -> None:
    bundle = examine_trusted(file_of(POLICY, POLICY, ROOT, ROOT), NOW)
    assert bundle.chain == certificates(POLICY, ROOT)
    assert bundle.ok
    assert [(found.level, found.code, found.certificate) for found in bundle.findings] == [
        ("info", "repeated", 2),
        ("info", "repeated", 4),
    ]
    assert bundle.findings[0].message == "certificate 2 (Example Policy) is certificate 1 once more; it was dropped"


def test_several_branches_below_one_root_are_one_bundle() -> None:
    second = ROOT.intermediate("Second")
    bundle = examine_trusted(file_of(second, ISSUING, POLICY, ROOT), NOW)
    assert bundle.findings == ()
    assert bundle.anchor == ROOT.certificate
    bundle = examine_trusted(file_of(ROOT, second, POLICY, ISSUING), NOW)
    assert codes(bundle) == ["reordered"]
    assert bundle.chain == certificates(ISSUING, second, POLICY, ROOT)


def test_a_topmost_that_is_no_root_becomes_the_anchor_and_that_is_told() -> None:
    bundle = examine_trusted(file_of(ISSUING, POLICY), NOW)
    assert bundle.ok
    assert bundle.anchor == POLICY.certificate
    assert (only(bundle).level, only(bundle).code, only(bundle).certificate) == ("warning", "no_root", 2)
    assert "certificate 2 (Example Policy)" in only(bundle).message


def test_an_anchor_near_its_end_is_a_warning_with_the_date_and_an_intermediate_is_none() -> None:
    old = Authority.root("Old", not_before=NOW - 900 * DAY, not_after=NOW + 9 * DAY)
    bundle = examine_trusted(file_of(old.intermediate("Below"), old), NOW)
    assert bundle.ok
    assert (only(bundle).level, only(bundle).code, only(bundle).certificate) == ("warning", "near_end", 2)
    assert only(bundle).message == (
        f"certificate 2 (Old) ends on {NOW + 9 * DAY:%Y-%m-%d %H:%M} UTC: less than a tenth of its life is left"
    )
    late = ROOT.intermediate("Late", not_before=NOW - 900 * DAY, not_after=NOW + 9 * DAY)
    assert examine_trusted(file_of(late, ROOT), NOW).findings == ()


def test_a_leaf_is_no_ca() -> None:
    bundle = examine_trusted(file_of(LEAF, ISSUING, POLICY, ROOT), NOW)
    assert errors(bundle) == [("not_a_ca", 1)]
    assert (
        only(bundle).message == "certificate 1 (good.example) is no CA certificate: its basicConstraints says CA:FALSE"
    )


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"ca": None}, "it has no basicConstraints"),
        ({"key_usage": ["digital_signature", "crl_sign"]}, "its keyUsage does not allow"),
        ({"version": 1, "bare": True}, "version 1"),
    ],
)
def test_what_does_not_say_that_it_is_a_ca_is_none(overrides: pki.Overrides, message: str) -> None:
    bundle = examine_trusted(file_of(Authority.root(**overrides)), NOW)
    assert errors(bundle) == [("not_a_ca", 1)]
    assert message in only(bundle).message


def test_a_ca_without_key_usage_is_one() -> None:
    assert examine_trusted(file_of(Authority.root(key_usage=None)), NOW).findings == ()


def test_extensions_that_cannot_be_parsed_are_told() -> None:
    twice = Authority.root(duplicate=[ExtensionOID.BASIC_CONSTRAINTS])
    assert errors(examine_trusted(file_of(twice), NOW)) == [("malformed", 1)]
    nonsense = Authority.root(extra=[pki.Raw(ExtensionOID.SUBJECT_ALTERNATIVE_NAME.dotted_string, b"\x04")])
    assert errors(examine_trusted(file_of(nonsense), NOW)) == [("malformed", 1)]


def test_expired_and_not_yet_valid_are_told_with_the_date() -> None:
    old = ROOT.intermediate("Old", not_before=NOW - 9 * DAY, not_after=NOW - DAY)
    bundle = examine_trusted(file_of(old, ROOT), NOW)
    assert errors(bundle) == [("expired", 1)]
    assert only(bundle).message == f"certificate 1 (Old) expired on {NOW - DAY:%Y-%m-%d %H:%M} UTC"
    bundle = examine_trusted(file_of(ROOT), ROOT.certificate.not_valid_before_utc - DAY)
    assert errors(bundle) == [("not_yet_valid", 1)]
    assert examine_trusted(file_of(ROOT), ROOT.certificate.not_valid_after_utc).ok
    assert not examine_trusted(file_of(ROOT), ROOT.certificate.not_valid_after_utc + timedelta(seconds=1)).ok


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("rsa1024", "RSA of 1024 bits; at least 2048 is needed"),
        ("ec224", "curve secp224r1 of 224 bits; at least 256 is needed"),
        ("dsa", "a key of kind DSA"),
    ],
)
def test_a_weak_key_is_told(key: str, message: str) -> None:
    bundle = examine_trusted(file_of(Authority.root(key=pki.kept_key(key))), NOW)
    assert errors(bundle) == [("weak_key", 1)]
    assert message in only(bundle).message


@pytest.mark.parametrize("weak", ["md5", "sha1"])
def test_a_weak_signature_is_told_on_anything_but_a_self_signed_root(weak: str) -> None:
    root = Authority.root("Old Root", key=RSA, hash=weak)
    assert examine_trusted(file_of(root), NOW).findings == ()
    below = root.intermediate("Below", hash=weak)
    bundle = examine_trusted(file_of(below, root), NOW)
    assert errors(bundle) == [("weak_signature", 1)]
    assert weak.upper() in only(bundle).message
    alone = examine_trusted(file_of(below), NOW)
    assert errors(alone) == [("weak_signature", 1)]


def test_certificates_of_two_trees_do_not_link() -> None:
    bundle = examine_trusted(file_of(ISSUING, POLICY, ROOT, OTHER), NOW)
    assert errors(bundle) == [("does_not_link", 4)]
    assert only(bundle).message.startswith("certificate 4 (Other Root) does not link to certificate 3 (Example Root)")
    assert bundle.chain == certificates(ISSUING, POLICY, ROOT, OTHER)
    gap = examine_trusted(file_of(ISSUING, ROOT), NOW)
    assert errors(gap) in ([("does_not_link", 1)], [("does_not_link", 2)])


def test_a_certificate_whose_issuer_is_missing_is_told_so() -> None:
    bundle = examine_trusted(file_of(OTHER.intermediate("Lost"), POLICY, ROOT), NOW)
    assert errors(bundle) == [("does_not_link", 1)]
    assert "its issuer is not in the file" in only(bundle).message


def test_cas_that_sign_each_other_in_a_circle_do_not_link() -> None:
    one, two = Authority.root("One"), Authority.root("Two")
    bundle = examine_trusted(file_of(one.cross_sign(two), two.cross_sign(one)), NOW)
    assert errors(bundle) == [("does_not_link", 1), ("does_not_link", 2)]


def test_a_signature_that_does_not_verify_is_told() -> None:
    bundle = examine_trusted(file_of(POLICY.intermediate("Bad", tamper=True), POLICY, ROOT), NOW)
    assert errors(bundle) == [("bad_signature", 1)]
    assert only(bundle).message.startswith("certificate 1 (Bad) names certificate 2 as its issuer")
    assert errors(examine_trusted(file_of(Authority.root("Bad", tamper=True)), NOW)) == [("bad_signature", 1)]
    imposter = Authority.root("Example Root", ski=False)
    assert errors(examine_trusted(file_of(POLICY, imposter), NOW)) == [("bad_signature", 1)]


def test_an_issuer_of_the_same_name_and_another_key_identifier_does_not_link() -> None:
    namesake = Authority.root("Example Root")
    bundle = examine_trusted(file_of(POLICY, namesake), NOW)
    assert [code for code, _ in errors(bundle)] == ["does_not_link"]


def test_a_root_with_two_keys_of_one_name_links_by_signature() -> None:
    namesake = Authority.root("Example Root")
    rollover = namesake.cross_sign(ROOT)  # self-issued, signed by the other key of the name
    bundle = examine_trusted(file_of(POLICY, rollover, namesake), NOW)
    assert bundle.findings == ()
    assert bundle.chain == certificates(POLICY, rollover, namesake)


def test_the_right_issuer_is_found_among_several_of_one_name() -> None:
    namesakes = [Authority.root("Same", ski=False) for _ in range(3)]
    child = namesakes[2].intermediate("Child", aki=False)
    codes_found = {code for code, _ in errors(examine_trusted(file_of(child, *namesakes), NOW))}
    assert codes_found == {"does_not_link"}  # the roots to each other; the child's signature was found


def test_a_duplicate_of_what_is_there_is_told_by_its_name() -> None:
    existing = {"mine": ROOT.certificate, "other": OTHER.certificate}
    bundle = examine_trusted(file_of(POLICY, ROOT), NOW, existing)
    assert errors(bundle) == [("duplicate", 2)]
    assert only(bundle).message == "certificate 2 (Example Root) is trusted already, as 'mine'"
    assert examine_trusted(file_of(POLICY), NOW, existing).ok  # another anchor


def test_everything_that_is_wrong_is_told_at_once() -> None:
    weak = Authority.root("Weak", key=pki.kept_key("rsa1024"), not_after=NOW - DAY, ca=False)
    assert sorted(errors(examine_trusted(file_of(weak), NOW))) == [("expired", 1), ("not_a_ca", 1), ("weak_key", 1)]


def test_a_bundle_without_a_certificate_has_no_anchor() -> None:
    with pytest.raises(BundleError, match="no certificate"):
        _ = examine_trusted(b"", NOW).anchor


def test_strange_names_are_shown_on_one_line() -> None:
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "A\nB\x1b[31m" + "ü" * 20)])
    bundle = examine_trusted(file_of(Authority.root(subject=name, ca=False)), NOW)
    assert only(bundle).message.startswith("certificate 1 (A?B?[31m" + "ü" * 20 + ") is no CA")
    nameless = examine_trusted(file_of(Authority.root(subject=x509.Name([]), ca=False)), NOW)
    assert "certificate 1 (no name)" in only(nameless).message


def test_a_hundred_cas_of_one_name_are_examined_in_bounded_time() -> None:
    tops = [Authority.root("Same", key="ec384", ski=False, aki=False) for _ in range(25)]
    below = [top.intermediate("Same", key="ec384", ski=False, aki=False, tamper=True) for top in tops for _ in range(3)]
    begun = time.process_time()
    bundle = examine_trusted(file_of(*tops, *below), NOW)
    assert time.process_time() - begun < 10
    assert {code for code, _ in errors(bundle)} == {"bad_signature"}
