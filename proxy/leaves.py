"""The leaf that a client is shown: from this worker's cache, or from the issuer.

A leaf is kept as an OpenSSL context with its certificate, chain and key, since a context is also what a client resumes
its session in. However many connections wait for the same leaf, the issuer is asked once.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from cachetools import LRUCache
from OpenSSL import SSL, crypto

from issuer.client import IssuedLeaf, PrivateKey
from proxy.snapshot import Snapshot

CLIENT_CIPHERS = (
    b"ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES256-GCM-SHA384:"
    b"ECDHE-RSA-AES256-GCM-SHA384:ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-RSA-CHACHA20-POLY1305"
)
"""TLS 1.2 towards clients: forward secrecy and authenticated encryption only (RFC 9325, section 4.2)."""
DAY = 86_400.0
AT_MOST = 7 * DAY


class Issuer(Protocol):
    """The part of the issuer's client that is used here."""

    async def leaf(self, tenant: str, host: str, key: str, server_not_after: float | None) -> IssuedLeaf:
        """A leaf for the host; raises issuer.client.IssuerUnavailable."""

    async def leaf_key(self, tenant: str, leaf_key: int) -> PrivateKey:
        """The private key of a leaf; raises issuer.client.IssuerUnavailable."""


@dataclass(frozen=True, slots=True)
class Shown:
    """A leaf ready to be shown."""

    context: SSL.Context
    signing_ca: int
    not_after: float
    reuse_until: float


def limit(server_not_after: float | None, now: float) -> float:
    """The latest end of a leaf's life: the server's own, seven days, or a day where the server's dates are bad."""
    if server_not_after is None or server_not_after <= now:
        return now + DAY
    return min(server_not_after, now + AT_MOST)


def usable(shown: Shown, signing_ca: int, latest: float, now: float) -> bool:
    """Whether a kept leaf may be shown now: of the active CA, not too long-lived, and not due.

    When it is due is for the issuer to say (``reuse_until``): asked again, it gives this one or a new one.
    """
    return shown.signing_ca == signing_ca and shown.not_after <= latest and now < shown.reuse_until


class Leaves:
    """The worker's leaves. ``clock`` tells seconds since 1970."""

    def __init__(self, issuer: Issuer, size: int, clock: Callable[[], float]) -> None:
        self.issuer = issuer
        self.clock = clock
        self.hits = 0
        self.asked = 0
        self._kept: LRUCache[tuple[str, str, str, bool], Shown] = LRUCache(size)
        self._keys: LRUCache[tuple[str, int], crypto.PKey] = LRUCache(256)
        self._waiting: dict[tuple[object, ...], list[Callable[[Shown | Exception], None]]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def kept(self, snapshot: Snapshot, host: str, key: str, server_not_after: float | None) -> Shown | None:
        """The leaf, where one is at hand. ``server_not_after`` None: there is no server certificate with good dates."""
        shown = self._kept.get((snapshot.tenant, host, key, server_not_after is None))
        if shown is None:
            return None
        now = self.clock()
        if usable(shown, snapshot.signing_ca, limit(server_not_after, now), now):
            self.hits += 1
            return shown
        return None

    def ask(
        self,
        snapshot: Snapshot,
        host: str,
        key: str,
        server_not_after: float | None,
        done: Callable[[Shown | Exception], None],
    ) -> None:
        """Get the leaf from the issuer: one question for all who wait for it.

        ``done`` gets it, or why there is none: issuer.client.IssuerUnavailable, or a fault of ours.
        """
        question = (snapshot.tenant, snapshot.signing_ca, host, key, server_not_after)
        if (waiting := self._waiting.get(question)) is not None:
            waiting.append(done)
            return
        self._waiting[question] = [done]
        task = asyncio.get_running_loop().create_task(self._answer(question, snapshot, host, key, server_not_after))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _answer(
        self, question: tuple[object, ...], snapshot: Snapshot, host: str, key: str, server_not_after: float | None
    ) -> None:
        outcome: Shown | Exception
        try:
            outcome = await self._ask(snapshot, host, key, server_not_after)
        except Exception as error:  # noqa: BLE001 - nothing carries on: everyone who waits is told
            outcome = error
        for done in self._waiting.pop(question):
            done(outcome)

    async def _ask(self, snapshot: Snapshot, host: str, key: str, server_not_after: float | None) -> Shown:
        self.asked += 1
        issued = await self.issuer.leaf(snapshot.tenant, host, key, server_not_after)
        if (private := self._keys.get((snapshot.tenant, issued.leaf_key))) is None:
            private = crypto.PKey.from_cryptography_key(await self.issuer.leaf_key(snapshot.tenant, issued.leaf_key))
            self._keys[(snapshot.tenant, issued.leaf_key)] = private
        shown = Shown(leaf_context(issued, private), issued.signing_ca, issued.not_after, issued.reuse_until)
        self._kept[(snapshot.tenant, host, key, server_not_after is None)] = shown
        return shown

    def forget(self, tenant: str) -> None:
        """Drop a tenant's leaves and keys, and with their contexts the sessions that clients could resume."""
        for kept in [key for key in self._kept if key[0] == tenant]:
            del self._kept[kept]
        for held in [key for key in self._keys if key[0] == tenant]:
            del self._keys[held]


def leaf_context(issued: IssuedLeaf, private: crypto.PKey) -> SSL.Context:
    """The server side of TLS towards a client, with this leaf and its whole chain.

    The objects that are handed to OpenSSL are its own: cryptography's would be encoded and parsed again for each leaf,
    which is more than all the rest of this.
    """
    context = SSL.Context(SSL.TLS_SERVER_METHOD)
    context.set_min_proto_version(SSL.TLS1_2_VERSION)
    context.set_cipher_list(CLIENT_CIPHERS)
    context.set_options(SSL.OP_NO_COMPRESSION | SSL.OP_NO_RENEGOTIATION)
    context.set_mode(SSL.MODE_RELEASE_BUFFERS)
    # Tickets are enough to resume by; sessions kept here would only be memory.
    context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
    context.set_session_id(b"sallyport")
    context.use_certificate(crypto.load_certificate(crypto.FILETYPE_ASN1, issued.certificate))
    for certificate in issued.chain:
        context.add_extra_chain_cert(_authority(certificate))
    context.use_privatekey(private)
    context.check_privatekey()
    context.set_alpn_select_callback(select_alpn)
    return context


@functools.lru_cache(64)
def _authority(certificate: bytes) -> crypto.X509:
    """A certificate of a signing CA's chain: the same for all its leaves."""
    return crypto.load_certificate(crypto.FILETYPE_ASN1, certificate)


def select_alpn(connection: SSL.Connection, offers: list[bytes]) -> bytes | SSL._NoOverlappingProtocols:
    """The protocol of the leg's application data that the client offers; none where there is none in common."""
    wanted: tuple[bytes, ...] = connection.get_app_data() or ()
    for protocol in wanted:
        if protocol in offers:
            return protocol
    return SSL.NO_OVERLAPPING_PROTOCOLS
