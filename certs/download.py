"""Certificates as a file to download: for servers and tools (PEM, DER), Windows, Apple's systems and Android."""

from __future__ import annotations

import plistlib
import uuid
from collections.abc import Sequence
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding, pkcs7

from certs.authority import is_self_issued
from certs.formats import title, to_pem


class _Form(NamedTuple):
    extension: str
    media_type: str


_FORMS = {
    "pem": _Form(".pem", "application/x-pem-file"),
    "der": _Form(".cer", "application/pkix-cert"),  # RFC 2585 3, 4.1
    "p7b": _Form(".p7b", "application/pkcs7-mime"),
    "mobileconfig": _Form(".mobileconfig", "application/x-apple-aspen-config"),
    "android": _Form(".crt", "application/x-x509-ca-cert"),
}
FORMATS = ("pem", "der", "p7b", "mobileconfig", "android")

FILES = {
    "root.pem": "pem",
    "root.cer": "der",
    "root.crt": "android",
    "root.p7b": "p7b",
    "root.mobileconfig": "mobileconfig",
}
"""The names under which devices are offered their root certificate, and each one's format."""

_PROFILES = uuid.UUID("500cb4e3-6fa8-5ac5-bd26-af2b144a4767")
"""The namespace (RFC 9562 5.5) of the profiles made here. Another one would no longer replace those installed."""


class DownloadError(Exception):
    """These certificates cannot be written in that format; the message says what can be done."""


def encode(chosen: Sequence[x509.Certificate], form: str, name: str) -> bytes:
    """The certificates as a file in one of :data:`FORMATS`.

    ``pem`` holds them in the order given (RFC 7468 5), ``p7b`` without one (a PKCS #7 that only carries certificates,
    DER; RFC 2315 9.1, RFC 5652 5.1). The others hold exactly one. ``name`` is who offers the file: a configuration
    profile shows it as its organisation. Raises :class:`DownloadError`.
    """
    _known(form)
    if not chosen:
        raise DownloadError("there is no certificate to write")
    if form == "pem":
        return to_pem(chosen).encode("ascii")
    if form == "p7b":
        return pkcs7.serialize_certificates(list(chosen), Encoding.DER)
    if len(chosen) != 1:
        kind = {"der": "a DER file", "mobileconfig": "a configuration profile", "android": "a file for Android"}[form]
        raise DownloadError(f"{kind} holds one certificate and these are {len(chosen)}; use pem or p7b")
    (certificate,) = chosen
    if form == "mobileconfig":
        return _profile(certificate, name)
    if form == "android" and not _is_ca(certificate):
        raise DownloadError(
            f"{_title(certificate)} is no CA by its basicConstraints, and Android installs only CAs; use pem or der"
        )
    return certificate.public_bytes(Encoding.DER)


def extension(form: str) -> str:
    """What a file's name ends in, with the dot. Raises :class:`DownloadError` for an unknown format."""
    return _known(form).extension


def media_type(form: str) -> str:
    """The Content-Type of the file. Raises :class:`DownloadError` for an unknown format."""
    return _known(form).media_type


def _known(form: str) -> _Form:
    if form not in _FORMS:
        raise DownloadError(f"there is no format {form!r}; use one of {', '.join(FORMATS)}")
    return _FORMS[form]


def _profile(certificate: x509.Certificate, name: str) -> bytes:
    """A configuration profile (Apple's "Configuration Profile Reference") that installs one root.

    A device replaces a profile by another of the same PayloadIdentifier, so identifiers come from the certificate.
    """
    shown = _title(certificate)
    if not is_self_issued(certificate):
        raise DownloadError(f"{shown} is not a root (another CA issued it); use a profile for its root, or pem or p7b")
    encoded = certificate.public_bytes(Encoding.DER)
    digest = certificate.fingerprint(hashes.SHA256()).hex()
    identifier = f"sallyport.root.{digest}"
    organization = "".join(c if c.isprintable() else "?" for c in name).strip() or shown
    root = {
        "PayloadType": "com.apple.security.root",
        "PayloadVersion": 1,
        "PayloadIdentifier": f"{identifier}.certificate",
        "PayloadUUID": _uuid(f"certificate {digest}"),
        "PayloadDisplayName": shown,
        "PayloadDescription": f"The root certificate {shown}, SHA-256 {digest}.",
        "PayloadOrganization": organization,
        "PayloadCertificateFileName": f"{digest[:16]}.cer",
        "PayloadContent": encoded,
    }
    profile = {
        "PayloadType": "Configuration",
        "PayloadVersion": 1,
        "PayloadIdentifier": identifier,
        "PayloadUUID": _uuid(f"profile {digest}"),
        "PayloadDisplayName": shown,
        "PayloadDescription": (
            f"Installs the root certificate {shown}. A device that trusts it accepts every certificate that this CA "
            "issues, for any website: who holds the CA's key can read and change what the device sends and receives "
            "over TLS. Install it only where your organisation asks you to, and compare the fingerprint first. "
            f"SHA-256 {digest}. On an iPhone or iPad the trust is then switched on in Settings, General, About, "
            "Certificate Trust Settings."
        ),
        "PayloadOrganization": organization,
        "PayloadScope": "System",
        "PayloadRemovalDisallowed": False,
        "PayloadContent": [root],
    }
    return plistlib.dumps(profile, fmt=plistlib.FMT_XML)


def _uuid(what: str) -> str:
    return str(uuid.uuid5(_PROFILES, what)).upper()


def _title(certificate: x509.Certificate) -> str:
    """The common name, printable, so that XML can hold it."""
    return title(certificate.public_bytes(Encoding.DER))


def _is_ca(certificate: x509.Certificate) -> bool:
    """Whether basicConstraints says so (RFC 5280 4.2.1.9), which is what Android goes by."""
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except (ValueError, x509.ExtensionNotFound, x509.DuplicateExtension, x509.UnsupportedGeneralNameType):
        return False
    except KeyError:  # what cryptography raises for a TLSFeature that it does not know (RFC 7633 4.1)
        return False
