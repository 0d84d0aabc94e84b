"""Certification requests (PKCS #10, RFC 2986): a new key of a signing CA or a TLS client, and what is asked for it."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from typing import Literal

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from certs.authority import CA_USAGE, LONGEST_COMMON_NAME, encoded_key
from certs.der import BIT_STRING, SEQUENCE, read, written
from certs.profile import KEY_USAGE
from certs.signer import SigningError, SigningKey, VerifyingKey, hash_for, padding_for, stand_in

type Algorithm = Literal["rsa-2048", "rsa-3072", "rsa-4096", "ecdsa-p256", "ecdsa-p384"]

LONGEST_EMAIL = 255  # RFC 5280 A.1, ub-emailaddress-length
_HIDDEN = {
    "Cc": "control characters",
    "Cf": "invisible characters, or such that change the direction of text",
    "Cs": "halves of characters",
    "Co": "characters of private use",
    "Zl": "line separators",
    "Zp": "paragraph separators",
}
_LONGEST = {
    "common_name": LONGEST_COMMON_NAME,
    "organization": 64,
    "organizational_unit": 64,
    "state": 128,
    "city": 128,
}
"""Characters of each field (RFC 5280 A.1: ub-common-name and so on; the city is the localityName)."""


@dataclass(frozen=True)
class Subject:
    """Whom the certificate is to be for. None: left out."""

    common_name: str
    organization: str | None = None
    organizational_unit: str | None = None
    email: str | None = None
    country: str | None = None
    state: str | None = None
    city: str | None = None


_TITLES = {
    "common_name": "common name",
    "organization": "organization",
    "organizational_unit": "organizational unit",
    "email": "email",
    "country": "country",
    "state": "state",
    "city": "city",
}


def check_subject(subject: Subject) -> list[str]:
    """What is wrong with each field, a line for each, by the upper bounds of RFC 5280 A.1; empty where nothing is."""
    problems = [(title, _problem(field, getattr(subject, field))) for field, title in _TITLES.items()]
    return [f"{title}: {problem}" for title, problem in problems if problem is not None]


def make_request(subject: Subject, algorithm: Algorithm) -> tuple[SigningKey, x509.CertificateSigningRequest]:
    """A new key, and the request for a CA certificate that issues leaves and no CAs. The key is to be sealed at once.

    Asks for basicConstraints CA:TRUE with path length 0, keyUsage keyCertSign and cRLSign, both critical, and a subject
    key identifier (RFC 5280 4.2.1.9, 4.2.1.3, 4.2.1.2). Signed with SHA-256, for P-384 with SHA-384. RSA takes seconds.
    Raises ValueError with all that :func:`check_subject` finds.
    """
    if problems := check_subject(subject):
        raise ValueError("; ".join(problems))
    key = _new_key(algorithm)
    return key, _ca_request(subject, key.public_key()).sign(key, hash_for(key))


@dataclass(frozen=True, slots=True)
class Unsigned:
    """A request whose key is elsewhere, encoded. ``info`` is what the key signs, hashed by its :func:`hash_for`.

    It is the CertificationRequestInfo of RFC 2986 4.1; ``algorithm`` says how the key signs it.
    """

    info: bytes
    algorithm: bytes

    def signed(self, signature: bytes) -> x509.CertificateSigningRequest:
        """The request. Raises :class:`certs.signer.SigningError` where the signature is not the key's."""
        octets = self.info + self.algorithm + written(BIT_STRING, b"\0" + signature)  # no unused bits
        try:
            made = x509.load_der_x509_csr(written(SEQUENCE, octets))
            verifies = made.is_signature_valid
        except (ValueError, UnsupportedAlgorithm) as error:
            raise SigningError("what the signer returned makes no certification request") from error
        if not verifies:
            raise SigningError("the signature of the certification request does not verify with its public key")
        return made


def unsigned_request(subject: Subject, key: VerifyingKey, pss: bool = False) -> Unsigned:
    """The request for a CA certificate that :func:`make_request` makes, on a key that is elsewhere.

    It is signed with a throw-away key of the same kind, and then has the true one in that one's place. ``pss``: the key
    signs by RSASSA-PSS. Raises ValueError with all that :func:`check_subject` finds, and SigningError for a key that
    should sign nothing.
    """
    if problems := check_subject(subject):
        raise ValueError("; ".join(problems))
    signing = stand_in(key)
    made = _ca_request(subject, key).sign(signing, hash_for(key), rsa_padding=padding_for(key, pss))
    info, algorithm, _ = read(made.public_bytes(Encoding.DER)).children()
    version, name, _, attributes = info.children()
    fields = version.whole + name.whole + encoded_key(key) + attributes.whole
    return Unsigned(written(SEQUENCE, fields), algorithm.whole)


def _ca_request(subject: Subject, key: VerifyingKey) -> x509.CertificateSigningRequestBuilder:
    return (
        x509.CertificateSigningRequestBuilder(_name(subject))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(CA_USAGE, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def make_client_request(subject: Subject, algorithm: Algorithm) -> tuple[SigningKey, x509.CertificateSigningRequest]:
    """A new key, and the request for a certificate of a TLS client on it. The key is to be sealed at once.

    Asks for keyUsage digitalSignature and extended keyUsage clientAuth (RFC 5280 4.2.1.3, 4.2.1.12). Otherwise as
    :func:`make_request`.
    """
    if problems := check_subject(subject):
        raise ValueError("; ".join(problems))
    key = _new_key(algorithm)
    builder = (
        x509.CertificateSigningRequestBuilder(_name(subject))
        .add_extension(KEY_USAGE, critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
    )
    return key, builder.sign(key, hash_for(key))


def _problem(field: str, value: str | None) -> str | None:
    if value is None:
        return "is missing; a certificate authority needs one" if field == "common_name" else None
    if not value:
        return "is empty" if field == "common_name" else "is empty; leave it out"
    if hidden := [_HIDDEN[kind] for kind in map(unicodedata.category, value) if kind in _HIDDEN]:
        return f"has {hidden[0]}; take them out"
    if value != value.strip():
        return "has a space at its beginning or end; take it out"
    if field == "country":
        known = len(value) == 2 and value.isascii() and value.isalpha()
        return None if known else "is no code of exactly two letters, A to Z, such as DE (ISO 3166-1)"
    if field == "email":
        return _email_problem(value)
    if len(value) > _LONGEST[field]:
        return f"has {len(value)} characters; at most {_LONGEST[field]} are allowed (RFC 5280 A.1)"
    if field == "common_name" and (size := len(value.encode())) > LONGEST_COMMON_NAME:
        return f"has {size} bytes in UTF-8; at most {LONGEST_COMMON_NAME} are allowed, since some programs count bytes"
    return None


def _email_problem(value: str) -> str | None:
    if not value.isascii():
        return "has characters outside of ASCII; write the domain in its xn-- form (RFC 5280 4.1.2.6)"
    if len(value) > LONGEST_EMAIL:
        return f"has {len(value)} characters; at most {LONGEST_EMAIL} are allowed (RFC 5280 A.1)"
    mailbox, _, domain = value.partition("@")
    if not mailbox or not domain or "@" in domain or " " in value:
        return "is no address of the form name@domain, with exactly one @ and no spaces"
    return None


def _name(subject: Subject) -> x509.Name:
    """From the widest to the narrowest, as directories are ordered (X.521).

    The library writes the country as PrintableString and the email, PKCS #9's (RFC 2985 5.2.1), as IA5String, the
    others as UTF8String.
    """
    fields = (
        (NameOID.COUNTRY_NAME, subject.country and subject.country.upper()),
        (NameOID.STATE_OR_PROVINCE_NAME, subject.state),
        (NameOID.LOCALITY_NAME, subject.city),
        (NameOID.ORGANIZATION_NAME, subject.organization),
        (NameOID.ORGANIZATIONAL_UNIT_NAME, subject.organizational_unit),
        (NameOID.COMMON_NAME, subject.common_name),
        (NameOID.EMAIL_ADDRESS, subject.email),
    )
    return x509.Name([x509.NameAttribute(oid, value) for oid, value in fields if value is not None])


def _new_key(algorithm: Algorithm) -> SigningKey:
    match algorithm:
        case "rsa-2048":
            return rsa.generate_private_key(65537, 2048)
        case "rsa-3072":
            return rsa.generate_private_key(65537, 3072)
        case "rsa-4096":
            return rsa.generate_private_key(65537, 4096)
        case "ecdsa-p256":
            return ec.generate_private_key(ec.SECP256R1())
        case "ecdsa-p384":
            return ec.generate_private_key(ec.SECP384R1())
