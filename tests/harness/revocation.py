"""CRLs and OCSP answers for tests: good ones by default, and broken in any one way by an override.

    leaf = issuing.leaf("good.example", extra=names(crl="http://crl.example/1.crl"))
    crl(issuing, [leaf])                        # DER: the issuer's list, with the leaf on it
    ocsp_answer(leaf, revoked=NOW)              # DER

CRLs are put together from DER by hand, as the certificates of :mod:`tests.harness.pki` are: cryptography's builder
refuses much of what tests need. Of answers only the signature is made by hand.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp
from cryptography.x509.oid import AuthorityInformationAccessOID, ExtensionOID

from tests.harness.der_writing import integer, object_identifier, time_of, tlv
from tests.harness.pki import (
    DAY,
    HOUR,
    NOW,
    Issued,
    PrivateKey,
    Raw,
    algorithm_of,
    default_hash,
    extension,
    sign,
)

NO_REV_AVAIL = Raw("2.5.29.56", b"\x05\x00")
MUST_STAPLE = Raw("1.3.6.1.5.5.7.1.24", bytes.fromhex("3003020105"))
_AA_COMPROMISE = b"\xa0\x03\x0a\x01\x0a"
_BASIC = "1.3.6.1.5.5.7.48.1.1"
IDP, REASON, ISSUER, DELTA = "2.5.29.28", "2.5.29.21", "2.5.29.29", "2.5.29.27"


def uri(url: str) -> x509.UniformResourceIdentifier:
    return x509.UniformResourceIdentifier(url)


def names(crl: str | Sequence[str] = (), ocsp: str | Sequence[str] = ()) -> list[Raw]:
    """The extensions in which a certificate says where its CRL and its OCSP responder are."""
    made: list[Raw] = []
    if crls := [crl] if isinstance(crl, str) else list(crl):
        points = [x509.DistributionPoint([uri(url)], None, None, None) for url in crls]
        made.append(
            Raw(ExtensionOID.CRL_DISTRIBUTION_POINTS.dotted_string, x509.CRLDistributionPoints(points).public_bytes())
        )
    if responders := [ocsp] if isinstance(ocsp, str) else list(ocsp):
        access = [x509.AccessDescription(AuthorityInformationAccessOID.OCSP, uri(url)) for url in responders]
        made.append(
            Raw(
                ExtensionOID.AUTHORITY_INFORMATION_ACCESS.dotted_string,
                x509.AuthorityInformationAccess(access).public_bytes(),
            )
        )
    return made


def scope(url: str | None = None, **only: bool) -> Raw:
    """The critical issuingDistributionPoint of a CRL that is for some certificates only (RFC 5280 5.2.5)."""
    point = x509.IssuingDistributionPoint(
        full_name=None if url is None else [uri(url)],
        relative_name=None,
        only_contains_user_certs=only.get("users", False),
        only_contains_ca_certs=only.get("cas", False),
        only_some_reasons=frozenset({x509.ReasonFlags.key_compromise}) if only.get("some_reasons") else None,
        indirect_crl=only.get("indirect", False),
        only_contains_attribute_certs=only.get("attributes", False),
    )
    return Raw(IDP, point.public_bytes(), critical=True)


@dataclass(frozen=True)
class Entry:
    """One line of a CRL. ``reason`` is the number of RFC 5280 5.3.1."""

    serial: int
    at: dt.datetime = NOW - HOUR
    reason: int | None = None
    extra: Sequence[Raw] = ()

    @property
    def der(self) -> bytes:
        extensions = [Raw(REASON, tlv(0x0A, bytes([self.reason])))] if self.reason is not None else []
        written = b"".join(extension(raw) for raw in [*extensions, *self.extra])
        return tlv(0x30, integer(self.serial) + time_of(self.at) + (tlv(0x30, written) if written else b""))


def crl(
    issuer: Issued,
    listed: Sequence[Entry | Issued | int] = (),
    *,
    this_update: dt.datetime = NOW - HOUR,
    next_update: dt.datetime | None = NOW + DAY,
    extra: Sequence[Raw] = (),
    issuer_name: x509.Name | None = None,
    sign_with: PrivateKey | None = None,
    named: str | None = None,
    inner: str | None = None,
    version: int = 2,
    raw_entries: bytes | None = None,
) -> bytes:
    """An issuer's CRL (DER). ``named`` is the hash; ``inner`` the one named inside the signed part, if another."""
    key = issuer.key if sign_with is None else sign_with
    named = named or default_hash(key)
    entries = b"".join(_entry(one).der for one in listed) if raw_entries is None else raw_entries
    fields = [
        integer(version - 1) if version != 1 else b"",
        algorithm_of(key, inner or named),
        (issuer_name or issuer.subject).public_bytes(),
        time_of(this_update),
        b"" if next_update is None else time_of(next_update),
        tlv(0x30, entries) if entries else b"",
    ]
    if version != 1:
        extensions = [Raw("2.5.29.20", integer(7)), *extra]
        fields.append(tlv(0xA0, tlv(0x30, b"".join(extension(raw) for raw in extensions))))
    signed = tlv(0x30, b"".join(fields))
    return tlv(0x30, signed + algorithm_of(key, named) + tlv(0x03, b"\0" + sign(key, signed, named)))


def crl_pem(der: bytes) -> bytes:
    return x509.load_der_x509_crl(der).public_bytes(Encoding.PEM)


def _entry(one: Entry | Issued | int) -> Entry:
    if isinstance(one, Issued):
        return Entry(one.certificate.serial_number)
    return Entry(one) if isinstance(one, int) else one


def ocsp_answer(
    about: Issued,
    *,
    revoked: dt.datetime | None = None,
    reason: x509.ReasonFlags | int | None = None,
    unknown: bool = False,
    this_update: dt.datetime = NOW - HOUR,
    next_update: dt.datetime | None = NOW + DAY,
    signer: Issued | None = None,
    sends: Sequence[Issued] = (),
    issuer: Issued | None = None,
    named: str | None = None,
    digest: hashes.HashAlgorithm | None = None,
    by_name: bool = False,
    extra: Sequence[Raw] = (),
) -> bytes:
    """An OCSP answer (DER): good, unless revoked or unknown; signed by the certificate's issuer, unless by ``signer``.

    ``reason`` may be a number that RFC 5280 5.3.1 does not have.
    ``sends`` are the certificates that come with it, ``issuer`` whose certificate it says that it is about, ``digest``
    names the certificate, ``named`` is the hash of the signature.
    """
    parent = issuer or about.parent
    assert parent is not None
    signs = signer or about.parent
    assert signs is not None
    status = ocsp.OCSPCertStatus.UNKNOWN if unknown else ocsp.OCSPCertStatus.GOOD
    builder = ocsp.OCSPResponseBuilder().add_response(
        about.certificate,
        parent.certificate,
        digest or hashes.SHA1(),  # noqa: S303 - a name, no signature
        ocsp.OCSPCertStatus.REVOKED if revoked is not None else status,
        this_update.replace(tzinfo=None),
        None if next_update is None else next_update.replace(tzinfo=None),
        None if revoked is None else revoked.replace(tzinfo=None),
        x509.ReasonFlags.aa_compromise if isinstance(reason, int) else reason,
    )
    encoding = ocsp.OCSPResponderEncoding.NAME if by_name else ocsp.OCSPResponderEncoding.HASH
    builder = builder.responder_id(encoding, signs.certificate)
    for raw in extra:
        builder = builder.add_extension(
            x509.UnrecognizedExtension(x509.ObjectIdentifier(raw.oid), raw.value), raw.critical
        )
    # Signed by hand: cryptography makes no answer that is signed with SHA-1.
    used = None if isinstance(signs.key, ed25519.Ed25519PrivateKey) else hashes.SHA256()
    signed = builder.sign(signs.key, used).tbs_response_bytes  # type: ignore[arg-type]
    if isinstance(reason, int):
        assert signed.count(_AA_COMPROMISE) == 1
        signed = signed.replace(_AA_COMPROMISE, _AA_COMPROMISE[:-1] + bytes([reason]))
    named = named or default_hash(signs.key)
    signature = tlv(0x03, b"\0" + sign(signs.key, signed, named))
    certificates = tlv(0xA0, tlv(0x30, b"".join(one.raw for one in sends))) if sends else b""
    basic = tlv(0x30, signed + algorithm_of(signs.key, named) + signature + certificates)
    return tlv(0x30, tlv(0x0A, b"\0") + tlv(0xA0, tlv(0x30, object_identifier(_BASIC) + tlv(0x04, basic))))
