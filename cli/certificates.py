"""A certificate in words and as JSON. Whatever cannot be read of it is said so, since it may be a stranger's."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, ed25519, rsa
from cryptography.x509.oid import NameOID

from cli.output import day, stamp

UNREADABLE = "(unreadable)"


def _read[T](read: Callable[[], T], otherwise: T) -> T:
    """What ``read`` gives, or ``otherwise`` where the certificate's bytes do not hold it in a readable form."""
    try:
        return read()
    except (ValueError, TypeError, UnsupportedAlgorithm, x509.ExtensionNotFound, x509.DuplicateExtension):
        return otherwise


def subject(certificate: x509.Certificate) -> str:
    """The subject as in RFC 4514, or ``(empty)``."""
    return _read(lambda: certificate.subject.rfc4514_string() or "(empty)", UNREADABLE)


def issuer(certificate: x509.Certificate) -> str:
    """The issuer as in RFC 4514, or ``(empty)``."""
    return _read(lambda: certificate.issuer.rfc4514_string() or "(empty)", UNREADABLE)


def common_name(certificate: x509.Certificate) -> str:
    """The common name, or the whole subject where there is none."""
    none: list[x509.NameAttribute[str | bytes]] = []
    found = _read(lambda: certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME), none)
    return str(found[0].value) if found else subject(certificate)


def key(certificate: x509.Certificate) -> str:
    """The kind of key and its size: ``RSA 2048``, ``EC secp256r1``."""

    def described() -> str:
        public = certificate.public_key()
        match public:
            case rsa.RSAPublicKey():
                return f"RSA {public.key_size}"
            case ec.EllipticCurvePublicKey():
                return f"EC {public.curve.name}"
            case dsa.DSAPublicKey():
                return f"DSA {public.key_size}"
            case ed25519.Ed25519PublicKey():
                return "Ed25519"
            case ed448.Ed448PublicKey():
                return "Ed448"
            case _:
                return type(public).__name__.removesuffix("PublicKey")

    return _read(described, UNREADABLE)


def signature(certificate: x509.Certificate) -> str:
    """The hash that was signed (``sha256``), or the algorithm's OID where there is no hash of its own."""

    def described() -> str:
        algorithm = certificate.signature_hash_algorithm
        return algorithm.name if algorithm is not None else certificate.signature_algorithm_oid.dotted_string

    return _read(described, UNREADABLE)


def names(certificate: x509.Certificate) -> list[str]:
    """The subject alternative names, as text."""

    def listed() -> list[str]:
        extension = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
        return [str(name.value) for name in extension.value]

    return _read(listed, [])


def is_ca(certificate: x509.Certificate) -> bool:
    """Whether basicConstraints says that it is a CA (RFC 5280, 4.2.1.9)."""
    return _read(lambda: certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca, False)


def fingerprint(certificate: x509.Certificate) -> str:
    """SHA-256 of the certificate, hexadecimal."""
    return certificate.fingerprint(hashes.SHA256()).hex()


def as_object(certificate: x509.Certificate) -> dict[str, Any]:
    """The certificate for JSON."""
    return {
        "subject": subject(certificate),
        "issuer": issuer(certificate),
        "common_name": common_name(certificate),
        "names": names(certificate),
        "serial": _read(lambda: f"{certificate.serial_number:x}", UNREADABLE),
        "not_before": stamp(certificate.not_valid_before_utc),
        "not_after": stamp(certificate.not_valid_after_utc),
        "key": key(certificate),
        "signature": signature(certificate),
        "ca": is_ca(certificate),
        "sha256": fingerprint(certificate),
    }


def as_fields(certificate: x509.Certificate) -> list[tuple[str, str]]:
    """The certificate for people: names and values."""
    shown = [("subject", subject(certificate)), ("issuer", issuer(certificate))]
    if alternatives := names(certificate):
        more = f" and {len(alternatives) - 6} more" if len(alternatives) > 6 else ""
        shown.append(("names", ", ".join(alternatives[:6]) + more))
    valid = f"{day(certificate.not_valid_before_utc)} to {day(certificate.not_valid_after_utc)}"
    return [
        *shown,
        ("valid", valid),
        ("key", f"{key(certificate)}, signed with {signature(certificate)}"),
        ("sha256", fingerprint(certificate)),
    ]


def load(chain: Iterable[bytes]) -> list[x509.Certificate]:
    """The certificates of a record (DER each)."""
    return [x509.load_der_x509_certificate(der) for der in chain]
