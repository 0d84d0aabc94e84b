"""The leaf that a client is shown: from this worker's cache, or from the issuer.

All leaves with one leaf key share an OpenSSL context, which holds that key, the chain and the keys of session tickets;
each connection is given its leaf. What a client may resume is a session with that very leaf (:meth:`Shown.connection`).
However many connections wait for the same leaf, the issuer is asked once.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from cachetools import LRUCache
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from OpenSSL import SSL, crypto

from issuer.client import IssuedLeaf, IssuerUnavailable, PrivateKey
from proxy.metrics import Metrics
from proxy.snapshot import Snapshot

CLIENT_CIPHERS = (
    b"ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES256-GCM-SHA384:"
    b"ECDHE-RSA-AES256-GCM-SHA384:ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-RSA-CHACHA20-POLY1305"
)
"""TLS 1.2 towards clients: forward secrecy and authenticated encryption only (RFC 9325, section 4.2)."""
CLIENT_GROUPS = b"X25519MLKEM768/X25519:secp256r1/secp384r1"
"""Key exchange with clients, those between two slashes being as good as each other: Mozilla's intermediate profile. A
client that knows a better one than it has sent a key share for is asked for that."""
DAY = 86_400.0
AT_MOST = 7 * DAY
LONG_ENOUGH = 30 * DAY
"""Seconds for which a server's certificate is taken to hold that nobody has seen yet: any leaf will do for now."""


class Issuer(Protocol):
    """The part of the issuer's client that is used here."""

    async def leaf(
        self,
        tenant: str,
        host: str,
        key: str,
        server_not_after: float | None,
        connection: str = "",
        warned_of: str = "",
    ) -> IssuedLeaf:
        """A leaf for the host; raises issuer.client.IssuerUnavailable."""

    async def leaf_key(self, tenant: str, leaf_key: int, connection: str = "", untrusted: bool = False) -> PrivateKey:
        """The private key of a leaf; raises issuer.client.IssuerUnavailable."""


@dataclass(frozen=True, slots=True)
class Shown:
    """A leaf ready to be shown."""

    context: SSL.Context
    certificate: crypto.X509
    sessions: bytes
    """The session ID context: OpenSSL resumes a session only where it is that of the connection that began it."""
    signing_ca: int
    not_after: float
    reuse_until: float
    generation: int
    """The tenant's, as the issuer knew it."""

    def current(self, snapshot: Snapshot, untrusted: bool) -> bool:
        """Whether it is of the CA that counts, and was given since that is the one: its leaf key is another before."""
        return self.signing_ca == snapshot.ca(untrusted) and self.generation >= snapshot.activation

    def connection(self) -> SSL.Connection:
        """The server's side of a connection that shows this leaf; to be called on the event loop alone.

        OpenSSL copies the session ID context into each new connection, so that a ticket given for one leaf is worth
        nothing where another is shown, or the same host's next one. pyOpenSSL sets it before the first connection only.
        """
        context, sessions = self.context._context, self.sessions
        if SSL._lib.SSL_CTX_set_session_id_context(context, sessions, len(sessions)) != 1:  # type: ignore[attr-defined]
            raise RuntimeError("OpenSSL refused a session ID context")
        tls = SSL.Connection(self.context, None)
        tls.use_certificate(self.certificate)
        tls.set_accept_state()
        return tls


@dataclass(frozen=True, slots=True)
class Identity:
    """What the leaves with one leaf key share."""

    context: SSL.Context
    public_key: bytes
    """SubjectPublicKeyInfo, DER."""


def key_type(snapshot: Snapshot, ecdsa: bool) -> str:
    """The type of leaf key for a client that takes ECDSA, or does not: RSA only where the CA is RSA too."""
    return "rsa" if snapshot.signing_ca_is_rsa and not ecdsa else "ecdsa"


def limit(server_not_after: float | None, now: float) -> float:
    """The latest end of a leaf's life: the server's own, seven days, or a day where the server's dates are bad."""
    if server_not_after is None or server_not_after <= now:
        return now + DAY
    return min(server_not_after, now + AT_MOST)


def usable(shown: Shown, latest: float, now: float) -> bool:
    """Whether a kept leaf may be shown now: not too long-lived, and not due.

    When it is due is for the issuer to say (``reuse_until``): asked again, it gives this one or a new one.
    """
    return shown.not_after <= latest and now < shown.reuse_until


class Leaves:
    """The worker's leaves. ``clock`` tells seconds since 1970."""

    def __init__(
        self,
        issuer: Issuer,
        size: int,
        clock: Callable[[], float],
        metrics: Metrics | None = None,
        minimum: int = SSL.TLS1_2_VERSION,
    ) -> None:
        """``minimum``: the oldest version of TLS that clients may speak."""
        self._minimum = minimum
        self.issuer = issuer
        self.clock = clock
        self.metrics = metrics or Metrics()
        self.heard: Callable[[IssuerUnavailable | None], None] = lambda error: None
        """Told how each question to the issuer ended: None, or why there is no leaf."""
        self._kept: LRUCache[tuple[str, str, str, bool, str], Shown] = LRUCache(size)
        self._identities: LRUCache[tuple[str, int, tuple[bytes, ...]], Identity] = LRUCache(256)
        self._waiting: dict[tuple[object, ...], list[Callable[[Shown | Exception], None]]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def kept(
        self, snapshot: Snapshot, host: str, key: str, server_not_after: float | None, warned_of: str = ""
    ) -> Shown | None:
        """The leaf, where one is at hand. ``server_not_after`` None: there is no server certificate with good dates.

        ``warned_of``: one that the client is to be warned by, because of the server's certificate with this SHA-256.
        """
        shown = self._kept.get((snapshot.tenant, host, key, server_not_after is None, warned_of))
        if shown is None:
            return None
        now = self.clock()
        if shown.current(snapshot, bool(warned_of)) and usable(shown, limit(server_not_after, now), now):
            self.metrics.leaf_hits += 1
            return shown
        return None

    def ask(
        self,
        snapshot: Snapshot,
        host: str,
        key: str,
        server_not_after: float | None,
        done: Callable[[Shown | Exception], None],
        connection: str,
        warned_of: str = "",
    ) -> None:
        """Get the leaf from the issuer: one question for all who wait for it, under the first one's connection id.

        ``done`` gets it, or why there is none: issuer.client.IssuerUnavailable, or a fault of ours.
        """
        ca = snapshot.ca(bool(warned_of))
        question = (snapshot.tenant, ca, snapshot.activation, host, key, server_not_after, warned_of)
        if (waiting := self._waiting.get(question)) is not None:
            waiting.append(done)
            return
        self._waiting[question] = [done]
        # Eager: the question goes out in this turn of the loop.
        work = self._answer(question, snapshot, host, key, server_not_after, connection, warned_of)
        task = asyncio.Task(work, loop=asyncio.get_running_loop(), eager_start=True)
        if not task.done():
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _answer(
        self,
        question: tuple[object, ...],
        snapshot: Snapshot,
        host: str,
        key: str,
        server_not_after: float | None,
        connection: str,
        warned_of: str,
    ) -> None:
        outcome: Shown | Exception
        try:
            outcome = await self._ask(snapshot, host, key, server_not_after, connection, warned_of)
        except Exception as error:  # noqa: BLE001 - nothing carries on: everyone who waits is told
            outcome = error
        for done in self._waiting.pop(question):
            done(outcome)

    async def _ask(
        self,
        snapshot: Snapshot,
        host: str,
        key: str,
        server_not_after: float | None,
        connection: str,
        warned_of: str,
    ) -> Shown:
        self.metrics.leaves_asked += 1
        try:
            issued = await self.issuer.leaf(snapshot.tenant, host, key, server_not_after, connection, warned_of)
        except IssuerUnavailable as error:
            self.heard(error)
            raise
        self.heard(None)
        identity = self._identities.get((snapshot.tenant, issued.leaf_key, issued.chain))
        if identity is None:
            private = await self.issuer.leaf_key(snapshot.tenant, issued.leaf_key, connection, bool(warned_of))
            identity = Identity(leaf_context(issued.chain, private, self._minimum), spki(private))
            self._identities[(snapshot.tenant, issued.leaf_key, issued.chain)] = identity
        shown = shown_as(issued, identity)
        self._kept[(snapshot.tenant, host, key, server_not_after is None, warned_of)] = shown
        return shown

    def forget(self, tenant: str) -> None:
        """Drop a tenant's leaves and keys, and with their contexts the sessions that clients could resume."""
        for kept in [key for key in self._kept if key[0] == tenant]:
            del self._kept[kept]
        for held in [key for key in self._identities if key[0] == tenant]:
            del self._identities[held]


def shown_as(issued: IssuedLeaf, identity: Identity) -> Shown:
    """The leaf, to be shown with its key and chain. Raises ValueError where the key is not the leaf's."""
    if identity.public_key not in issued.certificate:  # OpenSSL checks it again, in each handshake
        raise ValueError(f"leaf key {issued.leaf_key} is not the key of the leaf that came with it")
    return Shown(
        identity.context,
        crypto.load_certificate(crypto.FILETYPE_ASN1, issued.certificate),
        hashlib.sha256(issued.certificate).digest(),
        issued.signing_ca,
        issued.not_after,
        issued.reuse_until,
        issued.generation,
    )


def spki(private: PrivateKey) -> bytes:
    """A key's public half as certificates have it (RFC 5280, section 4.1.2.7)."""
    return private.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def leaf_context(chain: tuple[bytes, ...], private: PrivateKey, minimum: int = SSL.TLS1_2_VERSION) -> SSL.Context:
    """The server side of TLS towards clients, with a leaf key and the chain of its leaves."""
    context = SSL.Context(SSL.TLS_SERVER_METHOD)
    context.set_min_proto_version(minimum)
    context.set_cipher_list(CLIENT_CIPHERS)
    if SSL._lib.SSL_CTX_set1_curves_list(context._context, CLIENT_GROUPS) != 1:  # type: ignore[attr-defined]
        raise RuntimeError("OpenSSL refused the groups for key exchange")
    context.set_options(SSL.OP_NO_COMPRESSION | SSL.OP_NO_RENEGOTIATION)
    context.set_mode(SSL.MODE_RELEASE_BUFFERS)
    # Tickets are enough to resume by; sessions kept here would only be memory.
    context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
    context.use_privatekey(private)
    for certificate in chain:
        context.add_extra_chain_cert(x509.load_der_x509_certificate(certificate))
    context.set_alpn_select_callback(select_alpn)
    return context


def select_alpn(connection: SSL.Connection, offers: list[bytes]) -> bytes | SSL._NoOverlappingProtocols:
    """The protocol of the leg's application data that the client offers; none where there is none in common."""
    wanted: tuple[bytes, ...] = connection.get_app_data() or ()
    for protocol in wanted:
        if protocol in offers:
            return protocol
    return SSL.NO_OVERLAPPING_PROTOCOLS
