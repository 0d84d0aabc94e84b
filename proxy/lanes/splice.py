"""Bytes both ways, unread: what is not TLS, where the operator lets such pass, and TLS that is not decrypted."""

from __future__ import annotations

from dataclasses import dataclass

from proxy.lanes.tap_bytes import BytesTap
from proxy.log import DEBUG, INFO
from proxy.session import Session, Unhurried
from proxy.tcp import half_close
from proxy.tls_leg import LegError
from proxy.upstream import NOBODY, READ_LIMIT, ServerLeg

TLS_HANDSHAKE = 0x16
"""The first byte of a record that begins a handshake (RFC 8446, section 5.1)."""


QUIET_SECONDS = 5.0
"""What is not decrypted is taken to rest when nothing has moved for so long. A slow answer looks like none."""


@dataclass(frozen=True, slots=True)
class Bypass:
    """Why TLS passes undecrypted: a bypass rule, with the list file that it stands in; or in words."""

    rule: str | None = None
    file: str | None = None
    reason: str | None = None


class SpliceLane(Unhurried):
    """Phase of the session, and owner of the connection to the server, on which no TLS of ours begins.

    ``bypass``: why the client's TLS passes. None: what passes is not TLS, and whatever is shall be judged.
    """

    __slots__ = ("bypass", "client_done", "errors", "first", "host", "server", "server_done", "server_first", "session",
                 "tap")  # fmt: skip

    def __init__(
        self, session: Session, server: ServerLeg, host: str, first: bytes, bypass: Bypass | None = None
    ) -> None:
        self.session = session
        self.server = server
        self.host = host
        self.bypass = bypass
        self.first = bytearray(first)
        """What the client has sent before the connection stands."""
        self.tap = BytesTap(host, session.exchange, session.worker.wall) if bypass is None else None
        """Tells of the connection as of one exchange. A bypass has a line of its own."""
        self.errors: list[tuple[int, int]] = []
        self.server_first = False
        """The server spoke first, and nothing of the client's has been seen yet."""
        self.client_done = False
        self.server_done = False
        session.has_taken("pass" if bypass is None else "bypass")
        if bypass is None:
            session.log(INFO, "passed", host=host, port=session.facts.get("port"), reason="not TLS")

    @property
    def busy(self) -> bool:
        """Nobody can tell when such a protocol rests: a drain does not wait for it.

        What is not decrypted is most often HTTP: it is let be while anything moves.
        """
        return self.bypass is not None and self.session.loop.time() - self.session.active < QUIET_SECONDS

    @property
    def half(self) -> bool:
        """One of the two sides has ended."""
        return self.client_done or self.server_done

    def begin(self, early: bytes) -> None:
        """Pass on what both sides have said so far."""
        self.server_first = bool(early) and self.bypass is None
        self.server.read(True)  # it may have said more than is kept
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
        if self.tap is not None:
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
        if self.tap is not None:
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
        """There is no TLS of ours here."""

    def server_established(self) -> None:
        """There is no TLS of ours here."""

    def timed_out(self) -> None:
        """Nobody has said anything for the idle time."""
        self.session.close("idle")

    def closing(self, orderly: bool) -> None:
        """Let the server go."""
        if self.tap is not None:
            self.tap.closed()
        self._tell()
        self.server.owner = NOBODY
        self.server.close(orderly)

    def _tell(self) -> None:
        """One line for what was not decrypted, in the place of lines for its requests."""
        session, bypass = self.session, self.bypass
        if bypass is not None:
            session.log(
                INFO if session.disclosure.requests else DEBUG, "bypassed", host=self.host,
                port=session.facts.get("port"), address=session.facts.get("address"), rule=bypass.rule,
                file=bypass.file, reason=bypass.reason, request_bytes=session.up, response_bytes=session.down,
                ms=round((session.loop.time() - session.started) * 1e3, 1),
            )  # fmt: skip
