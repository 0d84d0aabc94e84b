"""Bytes both ways, unread: for what is not TLS, where the operator lets such pass."""

from __future__ import annotations

from proxy.lanes.tap_bytes import BytesTap
from proxy.log import INFO
from proxy.session import Session, Unhurried
from proxy.tcp import half_close
from proxy.tls_leg import LegError
from proxy.upstream import NOBODY, READ_LIMIT, ServerLeg

TLS_HANDSHAKE = 0x16
"""The first byte of a record that begins a handshake (RFC 8446, section 5.1)."""


class SpliceLane(Unhurried):
    """Phase of the session, and owner of the connection to the server, on which no TLS begins."""

    __slots__ = ("client_done", "errors", "first", "server", "server_done", "server_first", "session", "tap")

    def __init__(self, session: Session, server: ServerLeg, host: str, first: bytes) -> None:
        self.session = session
        self.server = server
        self.first = bytearray(first)
        """What the client has sent before the connection stands."""
        self.tap = BytesTap(host, session.exchange, session.worker.wall)
        self.errors: list[tuple[int, int]] = []
        self.server_first = False
        """The server spoke first, and nothing of the client's has been seen yet."""
        self.client_done = False
        self.server_done = False
        session.has_taken("pass")
        session.log(INFO, "passed", host=host, port=session.facts.get("port"), reason="not TLS")

    @property
    def busy(self) -> bool:
        """Nobody can tell when such a protocol rests: a drain does not wait for it."""
        return False

    @property
    def half(self) -> bool:
        """One of the two sides has ended."""
        return self.client_done or self.server_done

    def begin(self, early: bytes) -> None:
        """Pass on what both sides have said so far."""
        self.server_first = bool(early)
        if early:
            self.server_data(early)
        if self.server.transport is not None:
            self.server_connected()

    def data(self, data: bytes) -> None:
        """Bytes of the client."""
        if self.server_first and data:
            self.server_first = False
            if data[0] == TLS_HANDSHAKE:
                # A server must not get out of being judged by saying something first.
                return self.session.abort("TLS behind a server that spoke first")
        if self.server.transport is None:
            self.first += data
            if len(self.first) > READ_LIMIT:
                self.session.pause()
            return None
        self.tap.from_client(data)
        self.session.to_server(len(data))
        self.server.transport.write(data)
        return None

    def ended(self) -> bool:
        """FIN from the client."""
        self.client_done = True
        if self.server.transport is not None:
            half_close(self.server.transport)
        if self.server_done:
            self.session.close("both sides ended")
        return not self.server_done

    def writable(self, writable: bool) -> None:
        """The server is read only as fast as the client takes it."""
        self.server.read(writable)

    def server_connected(self) -> None:
        """TCP stands."""
        first, self.first = bytes(self.first), bytearray()
        self.session.resume()
        if first:
            self.data(first)
        if self.client_done:
            self.ended()

    def server_data(self, data: bytes) -> None:
        """Bytes of the server."""
        self.session.active = self.session.loop.time()
        self.tap.from_server(data)
        self.session.to_client(len(data))
        self.session.client.write(data)

    def server_ended(self, orderly: bool) -> None:
        """FIN from the server."""
        self.server_done = True
        if self.client_done:
            self.session.close("both sides ended")
        else:
            half_close(self.session.client)

    def server_lost(self, error: Exception | None) -> None:
        """The connection to the server is gone."""
        if error is None:
            self.session.close("server closed")
        else:
            self.session.abort(f"server: {error}")

    def server_writable(self, writable: bool) -> None:
        """The client is read only as fast as the server takes it."""
        if writable:
            self.session.resume()
        else:
            self.session.pause()
            self.session.waits_for(self.server.transport)

    def server_refused(self, error: LegError) -> None:
        """There is no TLS here."""

    def server_established(self) -> None:
        """There is no TLS here."""

    def timed_out(self) -> None:
        """Nobody has said anything for the idle time."""
        self.session.close("idle")

    def closing(self, orderly: bool) -> None:
        """Let the server go."""
        self.tap.closed()
        self.server.owner = NOBODY
        self.server.close(orderly)
