import subprocess
from datetime import timedelta
from pathlib import Path
from unittest.mock import create_autospec

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, ed25519, mldsa, padding, rsa, x25519
from cryptography.hazmat.primitives.serialization import Encoding

from certs.authority import (
    BuiltInAuthority,
    is_self_issued,
    is_self_signed,
    issued_by,
    issuer_key_identifier,
    key_problem,
    make_built_in,
    signature_problem,
    signature_verifies,
    spki_sha256,
)
from certs.signer import LocalSigner, SigningError
from tests.certs.built_in import NOW, Algorithm, authority
from tests.harness import pki
from tests.harness.programs import need

BOTH = pytest.mark.parametrize("algorithm", ["ecdsa", "rsa"])


def text_of(certificate: x509.Certificate) -> str:
    shown = subprocess.run(
        [need("openssl"), "x509", "-noout", "-text"],
        input=certificate.public_bytes(Encoding.PEM),
        capture_output=True,
        check=True,
    )
    return shown.stdout.decode()


@BOTH
def test_openssl_accepts_the_intermediate_with_the_root_alone(algorithm: Algorithm, tmp_path: Path) -> None:
    made = authority(algorithm)
    (tmp_path / "root.pem").write_bytes(made.root.public_bytes(Encoding.PEM))
    (tmp_path / "intermediate.pem").write_bytes(made.intermediate.public_bytes(Encoding.PEM))
    verified = subprocess.run(
        [need("openssl"), "verify", "-x509_strict", "-CAfile", "root.pem", "intermediate.pem"],
        cwd=tmp_path,
        capture_output=True,
        check=False,
    )
    assert verified.stdout == b"intermediate.pem: OK\n", verified.stderr


@pytest.mark.parametrize(
    ("algorithm", "key", "signature"),
    [
        ("ecdsa", "ASN1 OID: secp384r1", "ecdsa-with-SHA384"),
        ("rsa", "Public-Key: (4096 bit)", "sha256WithRSAEncryption"),
    ],
)
def test_the_root_is_what_the_house_promises(algorithm: Algorithm, key: str, signature: str) -> None:
    text = text_of(authority(algorithm).root)
    assert key in text
    assert f"Signature Algorithm: {signature}" in text
    assert "X509v3 Basic Constraints: critical\n                CA:TRUE, pathlen:1" in text
    assert "X509v3 Key Usage: critical\n                Certificate Sign, CRL Sign" in text
    assert "X509v3 Extended Key Usage" not in text
    assert "O=Sallyport, OU=test installation, CN=Sallyport Root CA (default, " in text.replace(" = ", "=").replace(
        '"', ""
    )
    root = authority(algorithm).root
    assert root.not_valid_after_utc - root.not_valid_before_utc == timedelta(days=3654)
    assert issued_by(root, root)


@pytest.mark.parametrize(
    ("algorithm", "key", "signature"),
    [
        ("ecdsa", "ASN1 OID: prime256v1", "ecdsa-with-SHA384"),
        ("rsa", "Public-Key: (3072 bit)", "sha256WithRSAEncryption"),
    ],
)
def test_the_intermediate_is_what_the_house_promises(algorithm: Algorithm, key: str, signature: str) -> None:
    made = authority(algorithm)
    text = text_of(made.intermediate)
    assert key in text
    assert f"Signature Algorithm: {signature}" in text
    assert "X509v3 Basic Constraints: critical\n                CA:TRUE, pathlen:0" in text
    assert "X509v3 Key Usage: critical\n                Certificate Sign, CRL Sign" in text
    assert "X509v3 Extended Key Usage: \n                TLS Web Server Authentication" in text
    assert made.intermediate.not_valid_before_utc == NOW.replace(microsecond=0) - timedelta(days=1)
    assert made.intermediate.not_valid_after_utc == NOW.replace(microsecond=0) + timedelta(days=1826)
    aki = made.intermediate.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value
    assert aki.key_identifier == issuer_key_identifier(made.root)
    assert made.intermediate_key.public_key() == made.intermediate.public_key()
    assert made.root_key.public_key() == made.root.public_key()


def test_two_authorities_of_one_tenant_share_nothing() -> None:
    one, other = make_built_in("default", "here", NOW), make_built_in("default", "here", NOW)
    assert one.root.subject != other.root.subject
    assert one.intermediate.subject != other.intermediate.subject
    assert len({spki_sha256(c) for a in (one, other) for c in (a.root, a.intermediate)}) == 4
    assert len({c.serial_number for a in (one, other) for c in (a.root, a.intermediate)}) == 4


@pytest.mark.parametrize(("tenant", "installation"), [("t" * 63, "i" * 200), ("ü" * 63, "é" * 64), ("a", "")])
def test_names_of_any_length_fit(tenant: str, installation: str) -> None:
    made = make_built_in(tenant, installation, NOW)
    for certificate, kind in ((made.root, "Root"), (made.intermediate, "Intermediate")):
        (name,) = certificate.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
        assert str(name.value).startswith(f"Sallyport {kind} CA ({tenant[0]}")
        assert str(name.value).endswith(")")
        units = certificate.subject.get_attributes_for_oid(x509.NameOID.ORGANIZATIONAL_UNIT_NAME)
        assert len(units) == (1 if installation else 0)


def test_no_key_shows_in_a_repr() -> None:
    made = authority()
    assert isinstance(made, BuiltInAuthority)
    assert "key" not in repr(made)
    assert repr(LocalSigner(made.intermediate_key)) == "LocalSigner(secp256r1 of 256 bits)"
    assert repr(LocalSigner(pki.kept_key("rsa2048"))) == "LocalSigner(RSA of 2048 bits)"  # type: ignore[arg-type]  # RSA


@pytest.mark.parametrize(
    ("curve", "hash_name"), [(ec.SECP256R1, "sha256"), (ec.SECP384R1, "sha384"), (ec.SECP521R1, "sha512")]
)
def test_a_signer_takes_the_hash_of_its_curve(curve: type[ec.EllipticCurve], hash_name: str) -> None:
    key = ec.generate_private_key(curve())
    name = pki.common_name("x")
    builder = x509.CertificateBuilder(name, name, key.public_key(), 1).not_valid_before(NOW).not_valid_after(NOW)
    used = LocalSigner(key).sign_certificate(builder).signature_hash_algorithm
    assert used is not None
    assert used.name == hash_name


@pytest.mark.parametrize(
    ("key", "message"),
    [("rsa1024", "too weak"), ("secp256k1", "not usable"), ("ec224", "not usable"), ("ed25519", "not usable")],
)
def test_a_signer_refuses_a_key_that_should_sign_nothing(key: str, message: str) -> None:
    with pytest.raises(SigningError, match=message):
        LocalSigner(pki.kept_key(key))  # type: ignore[arg-type]  # a wrong kind is the point


@pytest.mark.parametrize("kind", ["ec256", "rsa2048"])
def test_a_signer_refuses_a_key_whose_halves_do_not_belong_together(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A leaf that it signs is not verified again, so this has to be found out before."""
    key, other = pki.kept_key(kind), pki.kept_key(kind, 1)
    mixed = create_autospec(key, instance=True, spec_set=True)
    assert isinstance(key, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey)
    mixed.key_size = key.key_size
    mixed.sign = other.sign
    mixed.public_key = key.public_key
    if isinstance(key, ec.EllipticCurvePrivateKey):
        mixed.curve = key.curve
    with pytest.raises(SigningError, match="does not belong to its public half"):
        LocalSigner(mixed)


def test_a_builder_that_lacks_something_is_a_signing_error() -> None:
    with pytest.raises(SigningError, match="could not be signed"):
        LocalSigner(authority().intermediate_key).sign_certificate(x509.CertificateBuilder())


@pytest.mark.parametrize(
    ("key", "problem"),
    [
        (pki.kept_key("rsa1024"), "RSA of 1024 bits; at least 2048 is needed"),
        (pki.kept_key("rsa2048"), None),
        (ec.generate_private_key(ec.SECP224R1()), "curve secp224r1 of 224 bits; at least 256 is needed"),
        (ec.generate_private_key(ec.SECP256R1()), None),
        (ec.generate_private_key(ec.BrainpoolP256R1()), None),
        (ed25519.Ed25519PrivateKey.generate(), None),
        (ed448.Ed448PrivateKey.generate(), None),
        (dsa.generate_private_key(2048), "a key of kind DSA"),
        (x25519.X25519PrivateKey.generate(), "a key of kind X25519"),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_weak_and_strange_keys_are_told(key: pki.PrivateKey, problem: str | None) -> None:
    found = key_problem(key.public_key())
    assert found is None if problem is None else found is not None and found.startswith(problem)


@pytest.mark.parametrize(
    ("bits", "exponent", "problem"),
    [
        (8192, 65537, None),
        (8193, 65537, "RSA of 8193 bits; at most 8192 are verified with"),
        (16384, 65537, "RSA of 16384 bits; at most 8192 are verified with"),
        (2048, 2**32 - 1, None),
        (2048, 2**32 + 1, "RSA with an exponent of 33 bits; at most 32 are verified with"),
    ],
)
def test_an_rsa_key_that_takes_long_to_verify_with_is_weak(bits: int, exponent: int, problem: str | None) -> None:
    assert key_problem(rsa.RSAPublicNumbers(exponent, 2 ** (bits - 1) + 1).public_key()) == problem


def test_no_signature_is_verified_with_a_key_that_takes_long() -> None:
    key = pki.kept_key("rsa2048")
    root = pki.Authority.root(key=key, spki=pki.excessive_spki(key))
    root.certificate.verify_directly_issued_by(root.certificate)  # it would be good
    assert not is_self_signed(root.certificate)


@pytest.mark.parametrize(
    ("hash_name", "problem"),
    [
        ("md5", "signed with MD5; SHA-256 or better is needed"),
        ("sha1", "signed with SHA1; SHA-256 or better is needed"),
        ("sha224", None),
        ("sha256", None),
        ("sha512", None),
    ],
)
def test_weak_hashes_are_told(hash_name: str, problem: str | None) -> None:
    root = pki.Authority.root(key=pki.kept_key("rsa2048"), hash=hash_name)
    assert signature_problem(root.certificate) == problem


def test_an_edwards_signature_has_no_hash_and_no_problem() -> None:
    assert signature_problem(pki.Authority.root(key="ed25519").certificate) is None


def test_issued_by_needs_name_and_signature() -> None:
    root, stranger = pki.Authority.root("Root"), pki.Authority.root("Root")
    issuing = root.intermediate("Issuing")
    assert issued_by(issuing.certificate, root.certificate)
    assert not issued_by(issuing.certificate, stranger.certificate)  # the name, another key
    renamed = pki.Authority.root("Other", key=root.key)
    assert not issued_by(issuing.certificate, renamed.certificate)  # the key, another name
    assert not issued_by(root.certificate, issuing.certificate)
    assert not issued_by(root.intermediate(tamper=True).certificate, root.certificate)


def test_self_signed_is_more_than_self_issued() -> None:
    root = pki.Authority.root("Root")
    assert is_self_issued(root.certificate)
    assert is_self_signed(root.certificate)
    rollover = pki.Authority.root("Root", sign_with=pki.new_key())
    assert is_self_issued(rollover.certificate)
    assert not is_self_signed(rollover.certificate)
    assert not is_self_issued(root.intermediate().certificate)


def test_a_name_that_is_too_long_is_still_compared_without_a_warning() -> None:
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "x" * 64)])
    key = ec.generate_private_key(ec.SECP256R1())
    builder = x509.CertificateBuilder(name, name, key.public_key(), 1).not_valid_before(NOW).not_valid_after(NOW)
    encoded = builder.sign(key, hashes.SHA256()).public_bytes(Encoding.DER)
    # Country names have two letters; the certificate's CN is made one, so that cryptography warns when it decodes it.
    country = encoded.replace(bytes.fromhex("0603550403"), bytes.fromhex("0603550406"))
    assert country != encoded
    assert is_self_issued(x509.load_der_x509_certificate(country))


@pytest.mark.parametrize("kind", ["ec256", "ec384", "rsa2048", "dsa", "ed448"])
def test_a_signature_verifies_with_its_key_alone(kind: str) -> None:
    root = pki.Authority.root(key=pki.kept_key(kind))
    child = root.intermediate("Child").certificate
    key = root.certificate.public_key()
    assert signature_verifies(child, key)
    assert not signature_verifies(root.intermediate(tamper=True).certificate, key)
    assert not signature_verifies(child, pki.Authority.root(key=pki.kept_key(kind, 1)).certificate.public_key())
    assert not signature_verifies(child, pki.Authority.root(key=pki.kept_key("ed25519")).certificate.public_key())


@pytest.mark.parametrize(("kind", "weak"), [("rsa2048", "md5"), ("rsa2048", "sha1"), ("ec256", "sha1")])
def test_a_weak_signature_is_still_verified(kind: str, weak: str) -> None:
    root = pki.Authority.root(key=pki.kept_key(kind), hash=weak)
    assert is_self_signed(root.certificate)
    assert not is_self_signed(pki.Authority.root(key=pki.kept_key(kind), hash=weak, tamper=True).certificate)


def test_the_algorithm_inside_must_be_the_one_outside() -> None:
    root = pki.Authority.root()
    assert not issued_by(root.intermediate(inner_hash="sha384").certificate, root.certificate)


@pytest.mark.parametrize("kind", [mldsa.MLDSA44PrivateKey, mldsa.MLDSA65PrivateKey, mldsa.MLDSA87PrivateKey])
def test_ml_dsa_authorities_are_understood(
    kind: type[mldsa.MLDSA44PrivateKey | mldsa.MLDSA65PrivateKey | mldsa.MLDSA87PrivateKey],
) -> None:
    key, name = kind.generate(), pki.common_name("x")
    builder = x509.CertificateBuilder(name, name, key.public_key(), 1).not_valid_before(NOW).not_valid_after(NOW)
    root = builder.sign(key, None)
    assert is_self_signed(root)
    assert key_problem(root.public_key()) is None
    assert signature_problem(root) is None


def test_rsa_pss_is_understood() -> None:
    key, name = pki.kept_key("rsa2048"), pki.common_name("x")
    assert isinstance(key, rsa.RSAPrivateKey)
    builder = x509.CertificateBuilder(name, name, key.public_key(), 1).not_valid_before(NOW).not_valid_after(NOW)
    pss = padding.PSS(padding.MGF1(hashes.SHA256()), 32)
    root = builder.sign(key, hashes.SHA256(), rsa_padding=pss)
    assert is_self_signed(root)
    assert signature_problem(root) is None
