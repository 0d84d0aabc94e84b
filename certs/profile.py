"""The profile of a leaf: the certificate that a client is shown in place of the server's own.

For the host that was asked for and no other name, with a key that is not the CA's, never valid longer than the
server's own certificate or seven days. What is built here is checked by :mod:`certs.lint` before it is signed.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from certs.authority import LONGEST_COMMON_NAME, issuer_key_identifier
from certs.expiry import Validity
from certs.kept import kept
from certs.names import Host

BACKDATED = timedelta(days=1)  # for devices whose clock is behind
LONGEST_LIFETIME = timedelta(days=7)
LIFETIME_WITHOUT_SERVER = timedelta(days=1)  # the server showed no certificate, or one whose own dates are bad

BASIC_CONSTRAINTS = x509.BasicConstraints(ca=False, path_length=None)
KEY_USAGE = x509.KeyUsage(
    digital_signature=True,
    content_commitment=False,
    key_encipherment=False,  # RSA key exchange has no forward secrecy and is not offered
    data_encipherment=False,
    key_agreement=False,
    key_cert_sign=False,
    crl_sign=False,
    encipher_only=False,
    decipher_only=False,
)
EXTENDED_KEY_USAGE = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH])


class ProfileError(Exception):
    """No leaf of the profile can be made from the request; the message says why."""


@dataclass(frozen=True, slots=True)
class LeafRequest:
    """What a leaf is made of.

    ``server_not_after`` is the end of the server's own certificate (aware); None where it showed none or its own dates
    are bad. ``within`` is when the issuer's whole chain is valid, since a leaf verifies no longer than that; None:
    nothing is above the issuer.
    """

    host: Host
    public_key: CertificatePublicKeyTypes
    issuer: x509.Certificate
    server_not_after: datetime | None = None
    within: Validity | None = None


def validity(
    request_server_not_after: datetime | None, within: Validity, now: datetime, lifetime: timedelta
) -> tuple[datetime, datetime]:
    """First and last second of a leaf's validity (RFC 5280 4.1.2.5), both whole seconds.

    It begins a day back, but not before the issuer's chain (``within``). It ends after ``lifetime`` (at most seven
    days), and not after the server's certificate nor that chain; after a day at most where there is no server's
    certificate that still holds. Raises :class:`ProfileError` where the chain is not valid now or the lifetime is not
    positive.
    """
    if lifetime <= timedelta(0):
        raise ProfileError(f"a lifetime of {lifetime} leaves no time to a leaf")
    if now < within.begins:
        raise ProfileError(f"the signing CA's chain is not valid before {within.begins:%Y-%m-%d %H:%M:%S} UTC")
    if now > within.ends:
        raise ProfileError(f"the signing CA's chain expired on {within.ends:%Y-%m-%d %H:%M:%S} UTC")
    last = min(now + min(lifetime, LONGEST_LIFETIME), within.ends)
    if request_server_not_after is None or request_server_not_after <= now:
        last = min(last, now + LIFETIME_WITHOUT_SERVER)
    else:
        last = min(last, request_server_not_after)
    first = max(now - BACKDATED, within.begins)
    return first.replace(microsecond=0), last.replace(microsecond=0)


def build(request: LeafRequest, now: datetime, lifetime: timedelta) -> x509.CertificateBuilder:
    """The leaf, ready to be linted and signed. Raises :class:`ProfileError` as :func:`validity` does."""
    within = request.within or Validity.of([request.issuer])
    first, last = validity(request.server_not_after, within, now, lifetime)
    subject = subject_of(request.host)
    names = x509.SubjectAlternativeName([request.host.san()])
    issuer_name, authority_key = _of_issuer(request.issuer)
    return (
        x509.CertificateBuilder(
            issuer_name=issuer_name,
            subject_name=subject,
            public_key=request.public_key,
            extensions=[
                *_SAME_IN_ALL,
                x509.Extension(names.oid, is_empty(subject), names),
                authority_key,
                _of_key(request.public_key),
            ],
        )
        .serial_number(x509.random_serial_number())  # 159 random bits, positive (RFC 5280 4.1.2.2)
        .not_valid_before(first)
        .not_valid_after(last)
    )


_SAME_IN_ALL = (
    x509.Extension(BASIC_CONSTRAINTS.oid, True, BASIC_CONSTRAINTS),
    x509.Extension(KEY_USAGE.oid, True, KEY_USAGE),
    x509.Extension(EXTENDED_KEY_USAGE.oid, False, EXTENDED_KEY_USAGE),
)


@kept(64)
def _of_issuer(issuer: x509.Certificate) -> tuple[x509.Name, x509.Extension[x509.AuthorityKeyIdentifier]]:
    """What all leaves of an issuer have of it: its name and its key's identifier."""
    identifier = authority_key_identifier(issuer)
    return issuer.subject, x509.Extension(identifier.oid, False, identifier)


@kept(256)
def _of_key(key: CertificatePublicKeyTypes) -> x509.Extension[x509.SubjectKeyIdentifier]:
    """What all leaves with a key have of it."""
    identifier = subject_key_identifier(key)
    return x509.Extension(identifier.oid, False, identifier)


def subject_of(host: Host) -> x509.Name:
    """CN with the host where it fits, for people who read certificates; else empty (RFC 5280 4.1.2.6, A.1)."""
    if len(host.text) > LONGEST_COMMON_NAME:
        return x509.Name([])
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host.text)])


def is_empty(name: x509.Name) -> bool:
    """Whether a name has no attribute: only then is the subject alternative name critical (RFC 5280 4.2.1.6)."""
    return not list(name)


def authority_key_identifier(issuer: x509.Certificate) -> x509.AuthorityKeyIdentifier:
    """The issuer's own subject key identifier and nothing else of it (RFC 5280 4.2.1.1)."""
    return x509.AuthorityKeyIdentifier(issuer_key_identifier(issuer), None, None)


def subject_key_identifier(public_key: CertificatePublicKeyTypes) -> x509.SubjectKeyIdentifier:
    """SHA-1 of the key's bits (RFC 5280 4.2.1.2, method 1); an identifier, so SHA-1 is as good as any."""
    return x509.SubjectKeyIdentifier.from_public_key(public_key)
