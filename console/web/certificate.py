"""A certificate for the template piece ``certificate.html``: what there is to say of it, read once."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from certs.expiry import Validity
from control.shown import certificates
from control.shown.text import clean

HASHES = frozenset({"sha1", "sha256"})
"""Fields that are copied as a whole, to look the certificate up by."""


@dataclass(frozen=True, slots=True)
class Read:
    """A certificate in words. ``fields``: names and values, fingerprints aside; ``expiry`` is of certs.expiry.

    Every text is clean of what cannot be seen or turns the writing direction: it may be a stranger's.
    """

    common_name: str
    fields: tuple[tuple[str, str], ...]
    sha256: str
    sha1: str
    pem: str
    not_after: datetime
    expiry: str


def read(certificate: x509.Certificate, now: datetime) -> Read:
    """The certificate in words."""
    validity = Validity.of([certificate])  # cryptography loads none whose times cannot be read
    return Read(
        common_name=clean(certificates.common_name(certificate)),
        fields=tuple(
            (clean(name), clean(value))
            for name, value in certificates.full_fields(certificate, now)
            if name not in HASHES
        ),
        sha256=certificates.fingerprint(certificate),
        sha1=certificates.sha1(certificate),
        pem=certificate.public_bytes(Encoding.PEM).decode("ascii"),
        not_after=validity.ends,
        expiry=validity.expiry(now).value,
    )
