"""A connection through a parent proxy: the parent's TLS where it has one, CONNECT where a tunnel is wanted, then bytes.

Whoever wants the connection has a protocol and gets a transport, as with TCP: :class:`Through` is it. Nothing is handed
over before the parent was believed to be the parent, and the tunnel stands.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from OpenSSL import SSL

from certs.verify import handshake_of, judge
from proxy.parent import Parent, ParentError
from proxy.parent_answer import ConnectAnswer
from proxy.tcp import Reader, half_close
from proxy.tls_leg import LegError
from proxy.upstream import NOBODY, READ_LIMIT, ServerLeg, costly

HTTP_1 = (b"http/1.1",)


class ParentLink:
    """Owner of the leg to the parent. Until :meth:`hand_over` it waits for the parent; then it passes on.

    To be made inside of a running loop; ``clock`` gives the time by which a certificate is judged.
    """

    def __init__(self, parent: Parent, clock: Callable[[], Any]) -> None:
        self.errors: list[tuple[int, int]] = []
        self.asked = False
        self.stapled = b""
        self.leg = ServerLeg(self)
        self._parent = parent
        self._clock = clock
        self._answer: ConnectAnswer | None = None
        self._waiting: asyncio.Future[None] | None = None
        self._protocol: Reader | None = None
        self._early = bytearray()
        self._ended = False
        """The parent has ended its side, in order."""
        self._cut: Exception | None = None
        """It was cut off: with TLS, also by an end that its TLS does not know of."""
        self._lost = False
        self._full = False

    # --- the way there ---

    async def secure(self) -> None:
        """TLS with the parent, which has to be what it is configured as. Raises ParentError."""
        parent, trust = self._parent, self._parent.trust
        assert trust is not None  # noqa: S101 - called for such alone
        if self._early:
            raise ParentError("tls_protocol_error", parent.address, "it spoke before the TLS handshake")
        self._waiting = asyncio.get_running_loop().create_future()
        self.leg.begin(trust, parent.host, HTTP_1)
        if self._ended or self._lost:
            self._over()
        await self._waiting
        leg = self.leg.leg
        assert leg is not None  # noqa: S101 - begun above
        handshake = handshake_of(leg.tls, self)
        if costly(handshake):
            raise ParentError("tls_certificate_error", parent.address, "its certificate chain is too long")
        verdict = judge(handshake, parent.host, trust.store, self._clock())
        if not verdict.ok or not verdict.chain:
            why = verdict.findings[0].explanation if verdict.findings else "nobody vouches for its certificate"
            raise ParentError("tls_certificate_error", parent.address, why)

    async def connect(self, host: str, port: int) -> None:
        """Have the parent open a tunnel to host and port. Raises ParentError."""
        self._answer = ConnectAnswer(self._parent, host, port)
        self._waiting = asyncio.get_running_loop().create_future()
        self._write(self._answer.request)
        early, self._early = bytes(self._early), bytearray()
        if early:
            self.server_data(early)
        elif self._ended or self._lost:
            self._over()
        await self._waiting

    def hand_over(self, protocol: Reader) -> asyncio.Transport:
        """From now on the protocol has the connection, and what came through it so far."""
        transport = Through(self.leg)
        self.leg.read(True)
        self._protocol = protocol
        protocol.connection_made(transport)
        early, self._early = bytes(self._early), bytearray()
        if early:
            protocol.data_received(early)
        if self._full:
            protocol.pause_writing()
        if self._lost:
            protocol.connection_lost(self._cut)
        elif self._ended:
            self._end()
        return transport

    def drop(self) -> None:
        """Nobody wants it any more."""
        self.leg.owner = NOBODY
        self.leg.close(orderly=False)

    def _write(self, data: bytes) -> None:
        if self.leg.leg is not None:
            try:
                self.leg.leg.send(data)
            except LegError as error:
                self.server_refused(error)
        elif self.leg.transport is not None:
            self.leg.transport.write(data)

    def _settle(self, error: ParentError | None = None) -> None:
        if self._waiting is not None and not self._waiting.done():
            if error is None:
                self._waiting.set_result(None)
            else:
                self._waiting.set_exception(error)

    # --- what the leg tells its owner ---

    def may_be_shown(self, connection: SSL.Connection) -> bool | None:
        """A parent is shown no client certificate."""
        return False

    def server_connected(self) -> None:
        """Whoever has dialled goes on."""

    def server_established(self) -> None:
        self._settle()

    def server_refused(self, error: LegError) -> None:
        if self._protocol is None:
            why = ", ".join(error.reasons) or "the handshake failed"
            return self._settle(ParentError("tls_protocol_error", self._parent.address, f"its TLS failed: {why}"))
        self._cut = self._cut or ConnectionAbortedError(f"TLS with the parent proxy: {error}")
        return self.leg.close(orderly=False)

    def server_data(self, data: bytes) -> None:
        protocol, answer = self._protocol, self._answer
        if protocol is not None:
            return protocol.data_received(data)
        if answer is None:
            self._early += data  # before it was asked for anything; the answer's reader makes of it what it can
        else:
            try:
                rest = answer.receive(data)
            except ParentError as error:
                self._answer = None
                self.leg.read(False)
                return self._settle(error)
            if rest is None:
                return None
            self._answer = None
            self._early += rest
            self._settle()
        if len(self._early) > READ_LIMIT:
            self.leg.read(False)
        return None

    def server_ended(self, orderly: bool) -> None:
        if self._ended or self._cut is not None:
            return
        if self.leg.leg is not None and not orderly:
            self._cut = ConnectionAbortedError("the parent proxy was cut off")
            if self._protocol is None:
                self._over()
            return self.leg.close(orderly=False)
        self._ended = True
        if self._protocol is not None:
            self._end()
        else:
            self._over()
        return None

    def server_lost(self, error: Exception | None) -> None:
        self._lost = True
        self._cut = self._cut or error
        if self._protocol is not None:
            self._protocol.connection_lost(self._cut)
        else:
            self._over()

    def server_writable(self, writable: bool) -> None:
        self._full = not writable
        if self._protocol is not None and writable:
            self._protocol.resume_writing()
        elif self._protocol is not None:
            self._protocol.pause_writing()

    def _over(self) -> None:
        """The parent ends while something of it is waited for."""
        answer, self._answer = self._answer, None
        if answer is not None:
            try:
                answer.receive(b"")
            except ParentError as error:
                return self._settle(error)
        why = "it closed the connection"
        return self._settle(ParentError("connection_terminated", self._parent.address, why))

    def _end(self) -> None:
        protocol = self._protocol
        assert protocol is not None  # noqa: S101 - only called once it is handed over
        if not protocol.eof_received():
            self.leg.close(orderly=True)


class Through(asyncio.Transport):
    """The transport that leads through a parent: what is written goes into the parent's TLS, where it has one."""

    def __init__(self, leg: ServerLeg) -> None:
        super().__init__()
        self._leg = leg
        self._closing = False

    @property
    def _under(self) -> asyncio.Transport:
        transport = self._leg.transport
        assert transport is not None  # noqa: S101 - this is made when it stands
        return transport

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """Of the connection to the parent: its socket, and the parent's address as the peer's."""
        return self._under.get_extra_info(name, default)

    def is_closing(self) -> bool:
        return self._closing or self._under.is_closing()

    def write(self, data: Any) -> None:
        leg = self._leg.leg
        if leg is None:
            self._under.write(data)
        elif not (self.is_closing() or leg.closed):
            try:
                leg.send(bytes(data))
            except LegError as error:
                self._leg.owner.server_refused(error)

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        if (leg := self._leg.leg) is None:
            return half_close(self._under)
        leg.end()
        return leg.half_close()

    def close(self) -> None:
        if not self.is_closing():
            self._closing = True
            self._leg.close(orderly=True)

    def abort(self) -> None:
        self._closing = True
        self._under.abort()

    def pause_reading(self) -> None:
        self._under.pause_reading()

    def resume_reading(self) -> None:
        self._under.resume_reading()

    def is_reading(self) -> bool:
        return self._under.is_reading()

    def get_write_buffer_size(self) -> int:
        return self._under.get_write_buffer_size()

    def get_write_buffer_limits(self) -> tuple[int, int]:
        return self._under.get_write_buffer_limits()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self._under.set_write_buffer_limits(high, low)
