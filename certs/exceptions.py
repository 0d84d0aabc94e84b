"""Exceptions to the error settings: what is done about one defect of some hosts, for a while, for one certificate.

:class:`HostExceptions` finds the one that counts. An exception that has expired, or that is pinned to another
certificate than the server shows, is as if it were not there.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime

from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256

from certs.der import DerError, tbs_fields
from certs.host_patterns import HostIndex, HostPattern
from certs.names import Host
from certs.verdict import COVERED_BY_UNTRUSTED, STRICTNESS, UNTRUSTED, Action, Defect


@dataclass(frozen=True, slots=True)
class HostException:
    """``defect``: a defect's name, or ``untrusted`` for the three that the master row covers.

    ``fingerprint``: SHA-256 of the server's certificate, or of its SubjectPublicKeyInfo; None: of any certificate.
    """

    id: int
    pattern: HostPattern
    defect: str
    action: Action
    fingerprint: bytes | None = None
    expires_at: datetime | None = None
    reason: str = ""

    def fits(self, shown: frozenset[bytes]) -> bool:
        """Whether it is for a server with these fingerprints."""
        return self.fingerprint is None or self.fingerprint in shown


def expired(expires_at: datetime | None, now: datetime) -> bool:
    """Whether an exception with that end, if it has one, no longer counts."""
    return expires_at is not None and now >= expires_at


def fingerprints(certificate: x509.Certificate | None) -> frozenset[bytes]:
    """SHA-256 of a certificate and of its key, as an exception may have either; none where nothing was shown."""
    if certificate is None:
        return frozenset()
    key = key_fingerprint(certificate)
    return frozenset({certificate.fingerprint(SHA256()), *([] if key is None else [key])})


def key_fingerprint(certificate: x509.Certificate) -> bytes | None:
    """SHA-256 of the SubjectPublicKeyInfo as it is encoded (RFC 5280 4.1.2.7); None where it cannot be found."""
    try:
        return hashlib.sha256(tbs_fields(certificate.tbs_certificate_bytes).public_key.whole).digest()
    except DerError:
        return None


type _ByDefect = dict[str, list[HostException]]


@dataclass(frozen=True, slots=True)
class HostExceptions:
    """A tenant's exceptions, found by host."""

    every: tuple[HostException, ...] = ()
    _index: HostIndex[_ByDefect] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        index: HostIndex[_ByDefect] = HostIndex(dict)
        for each in self.every:
            index.at(each.pattern).setdefault(each.defect, []).append(each)
        object.__setattr__(self, "_index", index)  # frozen, and not yet seen by anybody

    def find(self, host: Host, defect: Defect, leaf: x509.Certificate | None, now: datetime) -> HostException | None:
        """The exception that counts for a defect of a server that shows ``leaf``; None: there is none.

        That of the closest pattern: the host itself, the longest name above it, ``*``. Of one pattern's, those for the
        defect itself before those for ``untrusted``; of these, one that is pinned before one that is not; then the
        strictest.
        """
        if not self.every:
            return None
        shown = fingerprints(leaf)
        for group in self._groups(host, defect):
            if there := [each for each in group if each.fits(shown) and not expired(each.expires_at, now)]:
                return min(there, key=lambda each: (each.fingerprint is None, STRICTNESS[each.action]))
        return None

    def next_end(self, host: Host, now: datetime) -> datetime | None:
        """When the first of those for the host ends, whatever defect it is for; None: none of them does."""
        groups = (group for at in self._index.find(host) for group in at.values())
        ends = (each.expires_at for group in groups for each in group if not expired(each.expires_at, now))
        return min((end for end in ends if end is not None), default=None)

    def passed_over(
        self, host: Host, defect: Defect, leaf: x509.Certificate | None, now: datetime
    ) -> Iterator[tuple[HostException, str]]:
        """Those for that host and defect which do not count now, and why not: for whoever wonders."""
        shown = fingerprints(leaf)
        for group in self._groups(host, defect):
            for each in group:
                if expired(each.expires_at, now):
                    yield each, f"it expired on {each.expires_at:%Y-%m-%d at %H:%M:%S} UTC"
                elif not each.fits(shown):
                    yield each, "it is pinned to another certificate or key"

    def _groups(self, host: Host, defect: Defect) -> Iterator[list[HostException]]:
        """Those that are for the host and the defect, whatever they are pinned to, the first that may count first."""
        names = (defect.value, UNTRUSTED) if defect in COVERED_BY_UNTRUSTED else (defect.value,)
        for at in self._index.find(host):
            for name in names:
                group = at.get(name, [])
                # A key that signs our leaves vouches for a server only where somebody named that very host.
                yield [each for each in group if each.pattern.exact] if defect is Defect.OWN_CA else group
