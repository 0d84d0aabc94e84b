"""Whom a tenant trusts for which host: a trusted CA may be limited to host patterns, and counts for no other host.

Every set of CAs that comes to count together has a :class:`certs.trust.TrustStore` and a TLS context of its own, made
when a host first needs it. A tenant that limits none has one, and finding it costs nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from cachetools import LRUCache
from cryptography import x509
from OpenSSL import SSL

from certs.host_patterns import HostIndex, parse_pattern
from certs.names import Host
from certs.trust import USUAL, ServerTls, TrustStore, server_leg_context

KEPT = 64
"""Sets that are kept, of some 100 KiB each: so many, and one for each of the tenant's CAs, up to :data:`MOST`."""
MOST = 1024


@dataclass(frozen=True, slots=True)
class OwnCa:
    """A CA of the tenant's own: its chain (DER), the topmost last, and host patterns; none: for every host."""

    chain: tuple[bytes, ...]
    hosts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Trust:
    """What counts for a host: for our judgement, and for the handshake."""

    store: TrustStore
    context: SSL.Context
    tls: ServerTls


class Rules(Protocol):
    """How TLS is spoken with which server."""

    usual: ServerTls

    def of(self, host: Host) -> ServerTls: ...


class AllAlike:
    """The same with all of them."""

    usual = USUAL

    def of(self, host: Host) -> ServerTls:
        return USUAL


class TrustByHost:
    """Immutable but for what it has made so far, so :meth:`at` is for one thread.

    Raises ValueError for a certificate that cannot be read, or a pattern that is none.
    """

    def __init__(self, common: Sequence[x509.Certificate], own: Sequence[OwnCa], rules: Rules | None = None) -> None:
        self._common = tuple(common)
        self._chains = [[x509.load_der_x509_certificate(der) for der in ca.chain] for ca in own]
        self._everywhere = frozenset(place for place, ca in enumerate(own) if not ca.hosts)
        self._limited: HostIndex[set[int]] | None = None
        for place, ca in enumerate(own):
            for text in ca.hosts:
                self._limited = self._limited or HostIndex(set)
                self._limited.at(parse_pattern(text)).add(place)
        self._rules = rules or AllAlike()
        kept = min(KEPT + len(own), MOST)
        self._made: LRUCache[tuple[frozenset[int], ServerTls], Trust] = LRUCache(kept)
        self._stores: LRUCache[frozenset[int], TrustStore] = LRUCache(kept)
        self._usual = self._make(self._everywhere, self._rules.usual)

    def at(self, host: Host) -> Trust:
        """Whom the tenant trusts about this host."""
        tls = self._rules.of(host)
        places = self._everywhere
        if self._limited is not None:
            places = places.union(*self._limited.find(host))
        if tls is self._usual.tls and places == self._everywhere:
            return self._usual
        if (made := self._made.get((places, tls))) is None:
            made = self._made[places, tls] = self._make(places, tls)
        return made

    def _make(self, places: frozenset[int], tls: ServerTls) -> Trust:
        if (store := self._stores.get(places)) is None:
            store = TrustStore(self._common, [self._chains[place] for place in sorted(places)])
            self._stores[places] = store
        return Trust(store, server_leg_context(store, tls), tls)
