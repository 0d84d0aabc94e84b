"""A server's connection in the inspection lane: the one that the tunnel judged, or one that the lane opens.

One that is opened later (the first was closed, or an inspector sends a request elsewhere) is admitted, connected to and
judged as any other; no byte goes out before the verdict.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol, overload

from cryptography.hazmat.primitives.hashes import SHA256
from mitmproxy.certs import Cert
from mitmproxy.connection import Connection, ConnectionState, Server
from OpenSSL import SSL

from certs.decision import Decision
from certs.failures import defect_of_failure, wants_certificate
from certs.names import Host, InvalidHost, parse_host
from certs.verdict import Action, Verdict
from certs.verify import handshake_of
from proxy import refusals
from proxy.ledger import client_key
from proxy.reach import reach
from proxy.refusals import RefusedError
from proxy.session import Judged
from proxy.showing import Showing
from proxy.snapshot import Snapshot
from proxy.tls_leg import LegError, TlsLeg
from proxy.upstream import READ_LIMIT, ServerLeg

if TYPE_CHECKING:
    from proxy.session import Session


class Listening(Protocol):
    """Who hears what a server says and does."""

    def from_server(self, server: ServerConnection, data: bytes) -> None:
        """Plain text came."""

    def server_over(self, server: ServerConnection, cut: bool) -> None:
        """It will send no more."""

    def server_full(self, server: ServerConnection, full: bool) -> None:
        """It has more than enough waiting, or takes more again."""


class ServerConnection:
    """Owner of one server leg. ``conn`` is how inspectors see it."""

    __slots__ = (
        "_reasons", "_waiting", "asked", "conn", "early", "ends", "errors", "full", "lane", "open", "over", "session",
        "showing", "side", "stapled",
    )  # fmt: skip

    def __init__(self, session: Session, lane: Listening, conn: Server) -> None:
        self.session = session
        self.lane = lane
        self.conn = conn
        self.side = ServerLeg(self)
        self.errors: list[tuple[int, int]] = []
        self.asked = False
        self.showing: Showing | None = None
        """Whether a server that asks for our client certificate is shown it."""
        self.stapled = b""
        self.early = b""
        self.ends: list[bool] = []
        """How it has ended before it was open: with close_notify (True), or without."""
        self.open = False
        self.over = False
        self.full = False
        self._waiting: asyncio.Future[None] | None = None
        self._reasons: Sequence[str] = ()

    @staticmethod
    def judged(session: Session, lane: Listening, conn: Server, side: ServerLeg) -> ServerConnection:
        """The one whose verdict is in; from now on its leg speaks to this."""
        made = ServerConnection(session, lane, conn)
        made.side = side
        made.open = True
        side.owner = made
        if side.leg is not None:
            describe(conn, side.leg)
        _addresses(conn, side)
        return made

    # --- a connection of the lane's own ---

    async def connect(self, offers: Sequence[bytes]) -> None:
        """Resolve, admit, connect, shake hands, judge. Raises RefusedError."""
        session, conn = self.session, self.conn
        name, port = conn.address or ("", 0)
        try:
            host = parse_host(name)
        except InvalidHost as error:
            raise RefusedError(
                refusals.bad_request(502, f"an inspector asked for {name}: {error}", session.id)
            ) from None
        conn.timestamp_start = time.time()
        await reach(session, host, port, self.side, tunnel=conn.tls)
        conn.timestamp_tcp_setup = time.time()
        if conn.tls:
            try:
                await self._secure(host, port, offers)
            except BaseException:
                self.side.close(orderly=False)
                raise
        _addresses(conn, self.side)
        conn.state = ConnectionState.OPEN
        self.open = True

    async def _secure(self, host: Host, port: int, offers: Sequence[bytes]) -> None:
        session = self.session
        # The working set of now, not the one that the client's connection began with: a CA that was removed meanwhile
        # vouches for no further server.
        snapshot = session.worker.snapshots.current.get(session.tenant.tenant)
        if snapshot is None:
            raise RefusedError(refusals.connection_terminated(host.text, port, session.id, "the tenant is gone"))
        self._waiting = asyncio.get_running_loop().create_future()
        trust = snapshot.trust.at(host)
        judge, client = session.worker.judge, client_key(session.peer)
        self.showing = Showing(self.side, self, host, snapshot, judge, client)
        self.side.begin(trust, host, offers)
        try:
            async with asyncio.timeout(session.worker.limits.tls_timeout):
                await self._waiting
        except TimeoutError:
            raise RefusedError(refusals.connection_timeout(host.text, port, session.id)) from None
        leg = self.side.leg
        if leg is None or not leg.established:
            failed = self.showing.against or Verdict.of([defect_of_failure(self._reasons, self.asked)])
            decision = snapshot.errors.decide(failed, host, session.worker.clock())
            session.judged(failed, Action.BLOCK, self._by(host, port, decision, snapshot))
            raise RefusedError(refusals.certificate(failed.findings, host.text, session.id, decision))
        session.worker.metrics.handshake("server", session.loop.time() - leg.started)
        if self.asked:
            session.was_asked(trust.tls, host.text, port)
        handshake = handshake_of(leg.tls, self)
        verdict = judge.at_once(handshake, host, snapshot)
        if verdict is None:
            verdict = await judge.elsewhere(handshake, host, snapshot, client)
        if self.asked and trust.tls.blocks_who_asks:
            verdict = verdict.also(wants_certificate())
        decision = snapshot.errors.decide(verdict, host, session.worker.clock())
        action = decision.action
        session.judged(verdict, action, self._by(host, port, decision, snapshot))
        passes = action is Action.ALLOW or (action is Action.WARN and self._warned_of(verdict, host))
        if not passes or not verdict.chain:
            raise RefusedError(refusals.certificate(verdict.findings, host.text, session.id, decision))
        self.conn.sni = None if host.is_ip else host.text
        describe(self.conn, leg)

    def _by(self, host: Host, port: int, decision: Decision, snapshot: Snapshot) -> Judged:
        # The connection's own stages are over: this one begins and ends here.
        began = self.session.loop.time()
        return Judged(host, port, decision, self.side, asks=self.asked, snapshot=snapshot, began=began)

    def _warned_of(self, verdict: Verdict, host: Host) -> bool:
        """The client was warned of this very certificate of this very host; of another it is too late to warn."""
        shown = verdict.leaf.fingerprint(SHA256()).hex() if verdict.leaf is not None else ""
        return bool(shown) and shown == self.session.warned_of and self.session.facts.get("host") == host.text

    # --- what the leg tells its owner ---

    def may_be_shown(self, connection: SSL.Connection) -> bool | None:
        """Our client certificate is for a server that is what it says."""
        return self.showing(connection) if self.showing is not None else False

    def server_connected(self) -> None:
        """The lane goes on when the connection is whole."""

    def server_established(self) -> None:
        self._settle(())

    def server_refused(self, error: LegError) -> None:
        if self.open:
            self._over(cut=True)
        else:
            self._settle(error.reasons or ("handshake failure",))

    def server_data(self, data: bytes) -> None:
        if self.open:
            self.lane.from_server(self, data)
        else:
            self.early += data
            if len(self.early) > READ_LIMIT:
                self.side.read(False)

    def server_ended(self, orderly: bool) -> None:
        if self.open:
            # Without TLS, FIN is the end; inside it, only close_notify is.
            self._over(cut=not orderly and self.side.leg is not None)
        elif self.side.leg is not None and self.side.leg.established:
            self.ends.append(orderly)
        else:
            self._settle(("the server closed the connection during the handshake",))

    def server_lost(self, error: Exception | None) -> None:
        if self.open:
            self._over(cut=error is not None or (self.side.leg is not None and not self.side.leg.ended))
        elif self.side.leg is not None and self.side.leg.established:
            self.ends.append(error is None and self.side.leg.ended)
        else:
            self._settle(("the server closed the connection during the handshake",))

    def server_writable(self, writable: bool) -> None:
        self.full = not writable
        if self.full:
            self.session.waits_for(self.side.transport)
        self.lane.server_full(self, self.full)

    def _settle(self, reasons: Sequence[str]) -> None:
        if self._waiting is not None and not self._waiting.done():
            self._reasons = reasons
            self._waiting.set_result(None)

    def _over(self, cut: bool) -> None:
        if not self.over:
            self.over = True
            self.lane.server_over(self, cut)

    # --- what the lane has it do ---

    def send(self, data: bytes) -> None:
        """Send plain text. Raises LegError."""
        side = self.side
        if side.leg is not None:
            side.leg.send(data)
        elif side.transport is not None and not side.transport.is_closing():
            side.transport.write(data)

    def finish(self, fin: bool) -> None:
        """The client has ended its side, with FIN or with close_notify alone: so does this."""
        if self.side.leg is not None:
            self.side.leg.end()
        if fin:
            self.half_close()

    def half_close(self) -> None:
        """Say that there is no more to come, and read on."""
        side = self.side
        if side.leg is not None:
            side.leg.end()
            side.leg.half_close()
        elif side.transport is not None and not side.transport.is_closing():
            side.transport.write_eof()


class _Certificates(Sequence[Cert]):
    """What a server has shown, made into mitmproxy's certificates when somebody looks: most inspectors do not."""

    __slots__ = ("_made", "_tls")

    def __init__(self, tls: Any) -> None:
        self._tls = tls
        self._made: list[Cert] | None = None

    def _all(self) -> list[Cert]:
        if self._made is None:
            chain = self._tls.get_peer_cert_chain(as_cryptography=True) or ()
            self._made, self._tls = [Cert(certificate) for certificate in chain], None
        return self._made

    @overload
    def __getitem__(self, place: int) -> Cert: ...
    @overload
    def __getitem__(self, place: slice) -> list[Cert]: ...
    def __getitem__(self, place: int | slice) -> Cert | list[Cert]:
        return self._all()[place]

    def __len__(self) -> int:
        return len(self._all())


def describe(conn: Connection, leg: TlsLeg) -> None:
    """Say of a connection what its TLS is, as inspectors know it."""
    tls: Any = leg.tls
    conn.tls = True
    conn.timestamp_tls_setup = time.time()
    conn.alpn = tls.get_alpn_proto_negotiated() or None
    conn.cipher = tls.get_cipher_name()
    conn.tls_version = tls.get_protocol_version_name()
    if isinstance(conn, Server):
        conn.certificate_list = _Certificates(tls)


def _addresses(conn: Server, side: ServerLeg) -> None:
    transport = side.transport
    if transport is not None:
        conn.peername = transport.get_extra_info("peername")
        conn.sockname = transport.get_extra_info("sockname")
