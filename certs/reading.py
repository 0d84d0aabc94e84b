"""What a certificate says of itself, as text. It may be a stranger's: whatever cannot be read of it is said so."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from datetime import datetime

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.x509.oid import NameOID

UNREADABLE = "(unreadable)"


def read[T](look: Callable[[], T], otherwise: T) -> T:
    """What ``look`` gives, or ``otherwise`` where the certificate's bytes do not hold it in a readable form."""
    try:
        with warnings.catch_warnings():
            # What cryptography warns of (a serial number below one, a country of three letters) is shown as it is.
            warnings.simplefilter("ignore")
            return look()
    except (
        ValueError,
        TypeError,
        OverflowError,
        KeyError,  # an unknown TLSFeature (RFC 7633 4.1)
        UnsupportedAlgorithm,
        x509.InvalidVersion,
        x509.ExtensionNotFound,
        x509.DuplicateExtension,
        x509.UnsupportedGeneralNameType,
    ):
        return otherwise


def subject(certificate: x509.Certificate) -> str:
    """The subject as in RFC 4514, or ``(empty)``."""
    return read(lambda: certificate.subject.rfc4514_string() or "(empty)", UNREADABLE)


def issuer(certificate: x509.Certificate) -> str:
    """The issuer as in RFC 4514, or ``(empty)``."""
    return read(lambda: certificate.issuer.rfc4514_string() or "(empty)", UNREADABLE)


def common_name(certificate: x509.Certificate) -> str:
    """The common name, or the whole subject where there is none."""
    none: list[x509.NameAttribute[str | bytes]] = []
    found = read(lambda: certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME), none)
    return str(found[0].value) if found else subject(certificate)


def names(certificate: x509.Certificate) -> list[str]:
    """The subject alternative names, as text."""

    def listed() -> list[str]:
        extension = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
        return [str(name.value) for name in extension.value]

    return read(listed, [])


def serial(certificate: x509.Certificate) -> str:
    """The serial number, hexadecimal."""
    return read(lambda: f"{certificate.serial_number:x}", UNREADABLE)


def begins(certificate: x509.Certificate) -> datetime | None:
    """When it begins to be valid; None where that cannot be read."""
    return read(lambda: certificate.not_valid_before_utc, None)


def ends(certificate: x509.Certificate) -> datetime | None:
    """When it ends; None where that cannot be read."""
    return read(lambda: certificate.not_valid_after_utc, None)


def fingerprint(certificate: x509.Certificate) -> str:
    """SHA-256 of the certificate, hexadecimal."""
    return certificate.fingerprint(hashes.SHA256()).hex()
