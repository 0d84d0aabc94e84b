"""Public keys from files: by themselves, in certificates, and what is no such thing."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_der_public_key,
    pkcs12,
)
from hypothesis import given
from hypothesis import strategies as st

from certs.public_keys import LARGEST, PublicKeyProblem, public_key_of, read_public_key
from tests.harness.pki import Authority, excessive_spki, kept_key

KEY = kept_key("rsa2048", 1)
assert isinstance(KEY, rsa.RSAPrivateKey)
PUBLIC = KEY.public_key()
SPKI, PKCS1 = PublicFormat.SubjectPublicKeyInfo, PublicFormat.PKCS1
CA = Authority.root("Organisation Proxy", key=KEY)


@pytest.mark.parametrize("encoding", [Encoding.PEM, Encoding.DER])
@pytest.mark.parametrize("form", [SPKI, PKCS1])
def test_a_key_by_itself_is_read_in_both_forms(encoding: Encoding, form: PublicFormat) -> None:
    assert read_public_key(PUBLIC.public_bytes(encoding, form)) == PUBLIC
    assert public_key_of(PUBLIC.public_bytes(encoding, form)) == PUBLIC


def test_that_of_a_certificate_is_used_and_text_around_it_is_not() -> None:
    assert read_public_key(CA.pem()) == PUBLIC
    assert read_public_key(CA.raw) == PUBLIC
    assert read_public_key(b"made by hand\r\n" + PUBLIC.public_bytes(Encoding.PEM, SPKI) + b"\nend\n") == PUBLIC


@pytest.mark.parametrize("kind", ["ec256", "ec384", "ec521"])
def test_curves_are_read(kind: str) -> None:
    key = kept_key(kind, 1).public_key()
    assert isinstance(key, ec.EllipticCurvePublicKey)
    assert read_public_key(key.public_bytes(Encoding.DER, SPKI)) == key


@pytest.mark.parametrize(
    "data",
    [
        KEY.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
        KEY.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption()),
        KEY.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption()),
        KEY.private_bytes(Encoding.DER, PrivateFormat.TraditionalOpenSSL, NoEncryption()),
        KEY.private_bytes(Encoding.DER, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret")),
        PUBLIC.public_bytes(Encoding.PEM, SPKI) + KEY.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
        pkcs12.serialize_key_and_certificates(b"ca", KEY, CA.certificate, None, BestAvailableEncryption(b"secret")),
    ],
    ids=["pkcs8", "pkcs1", "pkcs8-der", "pkcs1-der", "encrypted", "both-halves", "pkcs12"],
)
def test_a_private_key_is_refused_without_being_read(data: bytes) -> None:
    with pytest.raises(PublicKeyProblem) as caught:
        read_public_key(data)
    assert str(caught.value) == "the file holds a private key, which belongs nowhere but in the key manager"


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "neither a public key nor a certificate in it: the file is empty"),
        (b"-----BEGIN PUBLIC KEY-----\nMIIB\n-----END PUBLIC KEY-----\n", "no public key that can be read"),
        (PUBLIC.public_bytes(Encoding.PEM, SPKI) * 2, "2 public keys"),
        (CA.pem() + Authority.root("Another").pem(), "2 certificates"),
        (kept_key("rsa1024", 1).public_key().public_bytes(Encoding.PEM, SPKI), "too weak"),
        (ed25519.Ed25519PrivateKey.generate().public_key().public_bytes(Encoding.DER, SPKI), "kind Ed25519"),
        (excessive_spki(KEY), "exponent"),
    ],
    ids=["empty", "cut", "two-keys", "two-certificates", "weak", "ed25519", "excessive"],
)
def test_what_cannot_be_used_is_refused_by_what_is_wrong(data: bytes, said: str) -> None:
    with pytest.raises(PublicKeyProblem) as caught:
        read_public_key(data)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_is_too_large_is_not_parsed() -> None:
    with pytest.raises(PublicKeyProblem, match="at most"):
        public_key_of(PUBLIC.public_bytes(Encoding.DER, SPKI) + bytes(LARGEST))


@given(
    st.binary(max_size=400) | st.builds(lambda cut: PUBLIC.public_bytes(Encoding.DER, SPKI)[:cut], st.integers(0, 293))
)
def test_whatever_octets_come_they_are_refused_in_words(data: bytes) -> None:
    with pytest.raises(PublicKeyProblem) as caught:
        read_public_key(data)
    assert "\n" not in str(caught.value)


def test_the_examples_are_what_they_are_called() -> None:
    assert load_der_public_key(PUBLIC.public_bytes(Encoding.DER, PKCS1)) == PUBLIC
