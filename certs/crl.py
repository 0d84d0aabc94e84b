"""Certificate revocation lists (RFC 5280 5): read, held against a certificate, and looked into.

A list may have a million entries, so it stays as it is encoded, some 35 bytes each: a serial number that is not among
its octets is not listed. Only where it is, the entry around it is read, alone. cryptography reads a whole list in one
go, in which no other thread gets its turn, the event loop's neither: so it is given a list in parts, each one a list of
its own with some of the entries.
"""

from __future__ import annotations

import binascii
import hashlib
from collections.abc import Iterator
from datetime import datetime
from typing import cast

from cachetools import LRUCache
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from cryptography.x509.oid import CRLEntryExtensionOID, ExtensionOID

from certs.authority import signature_problem, verifies
from certs.der import INTEGER, SEQUENCE, DerError, Element, read, written
from certs.facts import Facts, NameKey, name_key
from certs.revocation import SLACK, UNDATED, UNREADABLE, Revocation, Standing, Subject, Unusable

UNDERSTOOD = frozenset({ExtensionOID.ISSUING_DISTRIBUTION_POINT, ExtensionOID.CRL_NUMBER,
                        ExtensionOID.AUTHORITY_KEY_IDENTIFIER})  # fmt: skip
ENTRY_UNDERSTOOD = frozenset({CRLEntryExtensionOID.CRL_REASON, CRLEntryExtensionOID.INVALIDITY_DATE})
_CRITICAL = b"\x01\x01\xff\x04"
"""How ``critical`` is followed by the value of an extension, in DER."""
_KEPT_ISSUERS = 8
_KEPT_SERIALS = 1024
_MOST_LENGTH_OCTETS = 4
"""Behind the first octet of a length; as :mod:`certs.der` reads them."""
_BEGIN, _BEGIN_CRL, _END_CRL = b"-----BEGIN ", b"-----BEGIN X509 CRL-----", b"-----END X509 CRL-----"
_LARGEST_FRAME = 64 * 1024
"""Bytes of a list without its entries: names, dates, extensions, signature."""
_WHITESPACE = b" \t\r\n\v\f"
_PIECE = 64 * 1024
"""Bytes of a list that are read, or decoded, in one go."""


class Crl:
    """A list that can be used, as far as that can be told without the certificate that it is about."""

    __slots__ = (
        "_crl",
        "_fields",
        "_known",
        "_odd",
        "_scope",
        "_verified",
        "encoded",
        "issuer",
        "next_update",
        "this_update",
    )

    def __init__(self, encoded: bytes) -> None:
        """Raises Unusable. For a long list this takes some 100 ms for each 10 MiB: not for an event loop."""
        try:
            fields = _Fields(encoded)
            crl = None
            for entries in fields.parts():
                part = fields.with_entries(entries)
                crl = crl or part
            crl = crl or x509.load_der_x509_crl(encoded)
            self.issuer: NameKey = name_key(fields.issuer)
            self._scope = _scope(crl)
            self.this_update = crl.last_update_utc
            self.next_update = crl.next_update_utc or self.this_update + UNDATED
        except UNREADABLE as error:
            raise Unusable.because(error) from None
        self.encoded = encoded
        self._crl = crl
        """The list with the first of its entries."""
        self._fields = fields
        self._known: LRUCache[int, Revocation | None] = LRUCache(_KEPT_SERIALS)
        self._verified: dict[bytes, bool] = {}
        self._odd: str | None = None

    def standing(self, subject: Subject, now: datetime) -> Standing:
        """What it says of the certificate. Raises Unusable where it is not about it, or does not count (any more)."""
        check_may_sign(subject.issuer)
        self.check(subject.issuer, now)
        self._check_scope(subject)
        return Standing(self.this_update, self.next_update, "RFC 5280 6.3.3", self._looked_up(subject.facts.serial))

    def check(self, issuer: Facts, now: datetime) -> None:
        """Raises Unusable where it is not that issuer's, or does not count (any more), whatever it is asked about.

        The same for all certificates of an issuer, as far as they have the same name and key.
        """
        self._check_issuer(issuer)
        self._check_time(now)

    def check_entries(self) -> None:
        """Raises Unusable where an entry has a critical extension that is not understood here (RFC 5280 5.3).

        Where there is any critical one, all entries are looked at, which may take seconds; what came of it is
        remembered.
        """
        if self._odd is None:
            critical = (entries for entries in self._fields.parts() if _CRITICAL in entries)
            self._odd = next(filter(None, map(_odd_entry, map(self._fields.with_entries, critical))), "")
        if self._odd:
            raise Unusable(self._odd)

    def verified(self, issuer: Facts) -> bool:
        """Whether the issuer's key verifies its signature. The answer is remembered."""
        if issuer.spki is None:
            return False
        if (answer := self._verified.get(issuer.spki)) is None:
            if len(self._verified) >= _KEPT_ISSUERS:
                self._verified.clear()
            try:
                answer = self._verifies(issuer.key)
            except UNREADABLE:
                answer = False
            self._verified[issuer.spki] = answer
        return answer

    def _verifies(self, key: object) -> bool:
        signed = self._fields.signed
        octets = memoryview(self.encoded)[signed.start : signed.end]
        parameters = self._crl.signature_algorithm_parameters
        if (used := self._crl.signature_hash_algorithm) is None:
            return verifies(key, self._crl, bytes(octets), parameters)
        digest = hashlib.new(used.name.replace("-", "_"), octets).digest()  # meanwhile other threads run
        return verifies(key, _Digested(self._crl), digest, parameters)

    def _check_issuer(self, issuer: Facts) -> None:
        if self.issuer != issuer.subject:
            raise Unusable("it is another issuer's")
        if (problem := signature_problem(self._crl)) is not None:
            raise Unusable(f"it is {problem}")
        if not self.verified(issuer):
            raise Unusable("the issuer's key does not verify its signature")
        self.check_entries()

    def _check_time(self, now: datetime) -> None:
        # Reckoned with now, since a list may say that it ends with the last second that there is (RFC 5280 4.1.2.5).
        if now + SLACK < self.this_update:
            raise Unusable(f"it is valid only from {self.this_update:%Y-%m-%d %H:%M:%S} UTC on")
        if now - SLACK > self.next_update:
            raise Unusable(f"it was to be replaced by {self.next_update:%Y-%m-%d %H:%M:%S} UTC")

    def _check_scope(self, subject: Subject) -> None:
        """RFC 5280 6.3.3 (b)."""
        scope = self._scope
        if scope is None:
            return
        if scope.only_contains_user_certs and subject.facts.ca:
            raise Unusable("it is for certificates that are no CA's")
        if scope.only_contains_ca_certs and not subject.facts.ca:
            raise Unusable("it is for certificates of CAs")
        if scope.full_name is not None and subject.points.isdisjoint(scope.full_name):
            raise Unusable("it is for another distribution point")

    def _looked_up(self, serial: int) -> Revocation | None:
        """:meth:`_revocation`, remembered: it takes a millisecond for each few MiB."""
        if serial not in self._known:
            self._known[serial] = self._revocation(serial)
        return self._known[serial]

    def _revocation(self, serial: int) -> Revocation | None:
        if (listed := self._fields.listed) is None:
            return None
        if serial <= 0:
            raise Unusable("it cannot list a serial number below one")
        entry = self._entry(listed, serial)
        if entry is None:
            return None
        reason = _reason(entry)
        if reason is x509.ReasonFlags.remove_from_crl:
            return None  # RFC 5280 6.3.3 (l)
        return Revocation(self._revoked_at(entry), reason)

    def _revoked_at(self, entry: x509.RevokedCertificate) -> datetime:
        try:
            return entry.revocation_date_utc
        except UNREADABLE:  # the year 0
            return self.this_update  # by then it was

    def _entry(self, listed: Element, serial: int) -> x509.RevokedCertificate | None:
        """The entry with that serial number."""
        number = written(INTEGER, serial.to_bytes(serial.bit_length() // 8 + 1))
        at = self.encoded.find(number, listed.body, listed.end)
        while at >= 0:
            if (entry := self._entry_around(listed, at)) is not None:
                return entry
            at = self.encoded.find(number, at + 1, listed.end)
        return None

    def _entry_around(self, listed: Element, at: int) -> x509.RevokedCertificate | None:
        """The entry that begins with the number there; None where the octets are something else's.

        What has just the form of an entry counts as one, wherever it is: all of the list is signed.
        """
        for start in range(at - 2, max(listed.body, at - 2 - _MOST_LENGTH_OCTETS) - 1, -1):
            if self.encoded[start] != SEQUENCE:
                continue
            try:
                entry = read(self.encoded, start, listed.end)
                if entry.body != at:
                    continue
                return self._fields.with_entries(entry.whole)[0]
            except UNREADABLE:
                continue
        return None


def check_may_sign(issuer: Facts) -> None:
    """Raises Unusable where the issuer's certificate says that it signs no lists (RFC 5280 6.3.3 (f))."""
    if issuer.key_usage is not None and not issuer.key_usage.crl_sign:
        raise Unusable("its issuer may not sign CRLs (keyUsage)")


class _Digested:
    """A list as what has a signature over octets that were digested already."""

    def __init__(self, crl: x509.CertificateRevocationList) -> None:
        assert crl.signature_hash_algorithm is not None  # noqa: S101 - else there is no digest
        self.signature_algorithm_oid = crl.signature_algorithm_oid
        # What takes the one takes the other.
        self.signature_hash_algorithm = cast("hashes.HashAlgorithm", Prehashed(crl.signature_hash_algorithm))
        self.signature = crl.signature


class _Fields:
    """Where the parts of an encoded CRL are that are looked at as octets. Raises DerError."""

    def __init__(self, encoded: bytes) -> None:
        outer = _sequence(encoded, 0, len(encoded))
        self.signed = _sequence(encoded, outer.body, outer.end)
        fields = list(self.signed.children())
        if fields and fields[0].tag == INTEGER:  # the version; one of version 1 has none
            fields = fields[1:]
        if len(fields) < 3:
            raise DerError("no TBSCertList")
        self.issuer = fields[1]
        self.listed: Element | None = next((field for field in fields[3:] if field.tag == SEQUENCE), None)
        begins, ends = self.signed.end, self.signed.end
        if self.listed is not None:
            _sequence(encoded, self.listed.start, self.listed.end)
            begins, ends = self.listed.start, self.listed.end
        if outer.end != len(encoded):
            raise DerError("there is something behind it")
        if begins + outer.end - ends > _LARGEST_FRAME:
            raise DerError(f"more than {_LARGEST_FRAME} bytes beside its entries")
        self._encoded = encoded
        self._before, self._between = encoded[self.signed.body : begins], encoded[ends : self.signed.end]
        self._behind = encoded[self.signed.end :]

    def parts(self) -> Iterator[bytes]:
        """All entries, some at a time; one empty part where a list has none. Raises DerError."""
        if self.listed is None:
            return
        encoded, (start, end) = self._encoded, self.listed[3:]
        at = start
        while at < end:
            if at + 1 < end and encoded[at + 1] < 0x80:  # as almost all are
                at += 2 + encoded[at + 1]
            else:
                at = read(encoded, at, end).end
            if at - start > _PIECE:
                yield encoded[start:at]
                start = at
        if at > end:
            raise DerError("an entry is longer than the list")
        if start < at or at == self.listed.body:
            yield encoded[start:at]

    def with_entries(self, entries: bytes) -> x509.CertificateRevocationList:
        """The list with these entries alone; its signature is of the whole. Raises one of UNREADABLE."""
        signed = written(SEQUENCE, self._before + written(SEQUENCE, entries) + self._between)
        return x509.load_der_x509_crl(written(SEQUENCE, signed + self._behind))


def _sequence(encoded: bytes, start: int, end: int) -> Element:
    """The SEQUENCE there, its length written in as few octets as it can be. Raises DerError."""
    found = read(encoded, start, end)
    length = found.end - found.body
    fewest = 2 if length < 0x80 else 2 + (length.bit_length() + 7) // 8
    if found.tag != SEQUENCE or found.body - start != fewest:
        raise DerError("it is no DER")
    return found


def _scope(crl: x509.CertificateRevocationList) -> x509.IssuingDistributionPoint | None:
    """For which certificates it is; None: for all of its issuer's. Raises Unusable, ValueError."""
    scope = None
    for extension in crl.extensions:
        if extension.oid == ExtensionOID.DELTA_CRL_INDICATOR:
            raise Unusable("it is a delta CRL")
        if extension.critical and extension.oid not in UNDERSTOOD:
            raise Unusable(f"it has a critical extension that is not understood here ({extension.oid.dotted_string})")
        if isinstance(extension.value, x509.IssuingDistributionPoint):
            scope = extension.value
    if scope is None:
        return None
    if scope.indirect_crl:
        raise Unusable("it is an indirect CRL")
    if scope.only_contains_attribute_certs:
        raise Unusable("it is for attribute certificates")
    if scope.only_some_reasons is not None:
        raise Unusable("it is for some reasons of revocation only")
    if scope.relative_name is not None:
        raise Unusable("it is for a distribution point with a relative name")
    return scope


def _odd_entry(crl: x509.CertificateRevocationList) -> str:
    """What is wrong with the first entry that has a critical extension that is not understood; else empty."""
    for entry in crl:
        try:
            odd = [e.oid for e in entry.extensions if e.critical and e.oid not in ENTRY_UNDERSTOOD]
        except UNREADABLE as error:
            return str(Unusable.because(error))
        if odd:
            return f"an entry has a critical extension that is not understood here ({odd[0].dotted_string})"
    return ""


def _reason(entry: x509.RevokedCertificate) -> x509.ReasonFlags | None:
    try:
        return entry.extensions.get_extension_for_class(x509.CRLReason).value.reason
    except (*UNREADABLE, x509.ExtensionNotFound):
        return None  # revoked it is all the same


def crls_of_file(data: bytes, most: int | None = None) -> list[bytes]:
    """The encoded lists of a file, DER or PEM with any number of them, or ``most``, in its order. Raises Unusable.

    The time that it takes grows with the file and no faster, whatever is in it, and other threads get their turns.
    """
    if _BEGIN not in data[:65536] and data[:1] == b"\x30":
        return [data]
    found: list[bytes] = []
    at = 0
    while (begins := data.find(_BEGIN_CRL, at)) >= 0:
        if len(found) == most:
            raise Unusable(f"there are more CRLs in it than {most}")
        begins += len(_BEGIN_CRL)
        ends = data.find(_END_CRL, begins)
        if ends < 0:
            raise Unusable(f"it is cut off: CRL {len(found) + 1} in it has no END X509 CRL")
        found.append(_from_base64(data, begins, ends))
        at = ends + len(_END_CRL)
    if not found:
        raise Unusable("there is no CRL in it; expected DER, or PEM with BEGIN X509 CRL")
    return found


def _from_base64(data: bytes, start: int, end: int) -> bytes:
    """What is encoded there (RFC 7468 3), piece by piece, since each holds up the other threads. Raises Unusable."""
    pieces: list[bytes] = []
    rest = b""
    try:
        for at in range(start, end, _PIECE):
            text = rest + data[at : min(at + _PIECE, end)].translate(None, _WHITESPACE)
            whole = len(text) & ~3 if at + _PIECE < end else len(text)
            pieces.append(binascii.a2b_base64(text[:whole], strict_mode=True))
            rest = text[whole:]
    except binascii.Error as error:
        raise Unusable.because(error) from None
    return b"".join(pieces)
