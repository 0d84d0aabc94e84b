"""The fast lane: decrypted bytes pass on as they are, and a tap reads along.

The tap sees the bytes before they are sent. What it cannot follow is not passed on, unless the operator says otherwise.
Each side is read only as fast as the other takes it, and an end is passed on in the way in which it came.
"""

from __future__ import annotations

from proxy.lanes.tap import Tap, Unparsed, make_tap
from proxy.lanes.tap_bytes import BytesTap
from proxy.log import WARNING
from proxy.session import Session, State
from proxy.tls_leg import LegError, TlsLeg
from proxy.upstream import NOBODY, ServerLeg


class FastLane:
    """Two legs that are up. Phase of the session, and owner of the server leg."""

    __slots__ = ("client", "client_done", "errors", "host", "server", "server_done", "server_side", "session", "tap")

    def __init__(self, session: Session, client: TlsLeg, server: ServerLeg, alpn: bytes, host: str) -> None:
        assert server.leg is not None  # noqa: S101 - a lane begins when both legs are up
        self.session = session
        self.client = client
        self.server = server.leg
        self.server_side = server
        self.host = host
        self.tap: Tap = make_tap(alpn, host, session.exchange, session.worker.wall)
        self.errors: list[tuple[int, int]] = []
        self.client_done = False
        self.server_done = False

    @property
    def busy(self) -> bool:
        """A request is under way."""
        return self.tap.busy

    @property
    def half(self) -> bool:
        """One of the two sides has ended."""
        return self.client_done or self.server_done

    def begin(self, early: bytes, server_gone: bool | None) -> None:
        """Pass on what the server said early, and what the client sent behind its handshake."""
        session = self.session
        if early:
            self.server_data(early)
        self.server_side.read(True)
        if server_gone is not None and session.state is State.OPEN:
            self.server_ended(server_gone)
            if self.server_side.lost:
                self.server_lost(None)
        if session.state is State.OPEN:
            self.data(b"")

    # --- the client's side ---

    def data(self, data: bytes) -> None:
        """Wire bytes of the client."""
        leg = self.client
        try:
            if plain := leg.receive(data):
                try:
                    self.tap.from_client(plain)
                except Unparsed as error:
                    self._unparsed(error)
                self.server.send(plain, more=leg.ended)
        except Unparsed as error:
            return self.session.abort(f"cannot be followed: {error}")
        except LegError as error:
            return self.session.abort(f"TLS: {error}")
        if leg.ended and not self.client_done:
            self._client_ended(orderly=True)
        return None

    def ended(self) -> bool:
        """FIN from the client."""
        self._client_ended(orderly=False)
        return self.session.state is State.OPEN

    def _client_ended(self, orderly: bool) -> None:
        if not self.client_done:
            self.client_done = True
            self.tap.client_ended()
            if orderly:
                self.server.end()
        if not orderly:
            self.server.half_close()
        if self.server_done:
            self.session.close("both sides ended")

    def writable(self, writable: bool) -> None:
        """The server is read only as fast as the client takes it."""
        self.server_side.read(writable)

    # --- the server's side ---

    def server_data(self, data: bytes) -> None:
        """Plain text of the server."""
        session = self.session
        session.active = session.loop.time()
        try:
            try:
                self.tap.from_server(data)
            except Unparsed as error:
                self._unparsed(error)
            self.client.send(data, more=self.server.ended and not self.server_done)
        except Unparsed as error:
            session.abort(f"cannot be followed: {error}")
        except LegError as error:
            session.abort(f"client TLS: {error}")

    def server_ended(self, orderly: bool) -> None:
        """The server will send no more: the client is told in the same way.

        An end without close_notify reaches the client without one, so that it can tell a cut answer (RFC 8446, 6.1).
        """
        session = self.session
        if not self.server_done:
            self.server_done = True
            self.tap.server_ended()
            if orderly:
                self.client.end()
        if not orderly:
            self.client.half_close()
        if self.client_done:
            session.close("both sides ended")
        elif session.draining and not self.busy:
            session.close("drained")

    def server_lost(self, error: Exception | None) -> None:
        """The connection to the server is gone."""
        self.session.close("server closed" if error is None else f"server: {error}")

    def server_writable(self, writable: bool) -> None:
        """The client is read only as fast as the server takes it."""
        if writable:
            self.session.resume()
        else:
            self.session.pause()

    def server_refused(self, error: LegError) -> None:
        """TLS with the server broke."""
        self.session.abort(f"server TLS: {error}")

    def server_connected(self) -> None:
        """Was before this lane."""

    def server_established(self) -> None:
        """Was before this lane."""

    # --- what cannot be followed, and the end ---

    def _unparsed(self, error: Unparsed) -> None:
        """A stream that the tap cannot follow ends the connection, unless the operator lets it pass."""
        session = self.session
        passes = session.worker.settings.tunnel.on_unparsed == "pass"
        action = "pass" if passes else "close"
        session.log(WARNING, "unparsed", host=self.host, reason=str(error), action=action)
        if not passes:
            raise error
        self.tap.closed()
        self.tap = BytesTap(self.host, session.exchange, session.worker.wall)

    def timed_out(self) -> None:
        """Nobody has said anything for the idle time."""
        self.session.close("idle")

    def closing(self, orderly: bool) -> None:
        """Both legs end. One that was cut is passed on as cut: the other side gets no close_notify."""
        self.tap.closed()
        server = self.server_side
        server.owner = NOBODY
        cut = (self.server_done or server.lost) and not self.server.ended
        if orderly and not cut:
            self.client.end()
        server.close(orderly)
