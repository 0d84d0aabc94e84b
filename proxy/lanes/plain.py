"""The plain lane: plain HTTP requests in absolute-form, forwarded over TCP. The sockets around :mod:`plain_core`.

Whoever owns the client's connection (its transport, its time limits) calls the methods of :class:`PlainLane` and is
called by it as :class:`ClientPort`. Connections to servers are the lane's own; ``dial`` opens them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import Protocol

from certs.names import Host
from config.settings import Limits
from proxy.disclosure import DEFAULT, Disclosure
from proxy.lanes import plain_commands as commands
from proxy.lanes.exchange import Exchange
from proxy.lanes.plain_answer import Ours
from proxy.lanes.plain_core import PlainCore
from proxy.lanes.plain_heads import PSEUDONYM
from proxy.parent import Parent
from proxy.refusals import Refusal, RefusedError
from proxy.tcp import Reader, half_close

Dial = Callable[[Host, int, Reader], Awaitable[asyncio.Transport]]
"""Opens a connection to host and port for the protocol. Raises RefusedError where name, policy or network forbid it."""


class ClientPort(Protocol):
    """What the lane needs of the client's connection."""

    def write(self, data: bytes) -> None:
        """Send to the client."""

    def pause_reading(self) -> None:
        """Call ``data_received`` no more for a while."""

    def resume_reading(self) -> None:
        """Call ``data_received`` again."""

    def close(self) -> None:
        """End in good order, once what was written has been sent."""

    def abort(self) -> None:
        """Reset, with RST and not FIN (SO_LINGER 0): the client must not take what it has for the whole."""


class PlainLane:
    """The requests of one client connection. ``id`` is what refusals carry; ``refused`` is told of each one."""

    def __init__(
        self,
        client: ClientPort,
        dial: Dial,
        done: Callable[[Exchange], None],
        clock: Callable[[], float],
        id: str,
        refused: Callable[[Refusal], None] = lambda _: None,
        pseudonym: str = PSEUDONYM,
        disclosure: Disclosure = DEFAULT,
        limits: Limits | None = None,
        origin: bool = False,
        parent: Callable[[Host], Parent | None] = lambda _: None,
        carries: Callable[[bytes | None], bool] = lambda _: True,
        ours: Ours | None = None,
    ) -> None:
        """``origin``: clients take us for the server, so that a target may be a path beside the field Host.

        ``parent``: through which other proxy a host is reached; then ``dial`` gives a connection to that one.
        ``carries``, ``ours``: see :class:`PlainCore`.
        """
        self._parent = parent
        self._client = client
        self._dial = dial
        self._core = PlainCore(
            done, refused, clock, id, pseudonym, limits or Limits(), disclosure, origin, carries, ours
        )
        self._server: _ServerSide | None = None
        self._dialling: asyncio.Task[None] | None = None
        self._client_paused = False
        self._client_full = False
        self._turning = False

    @property
    def busy(self) -> bool:
        """A request is under way."""
        return self._core.phase not in (commands.Phase.IDLE, commands.Phase.CLOSED)

    @property
    def reading_head(self) -> bool:
        """A request's head has begun and is not whole: the time for a head runs."""
        return self._core.reading_head

    # --- the client's connection ---

    def data_received(self, data: bytes) -> None:
        """Bytes came from the client; the first call brings what was read before the lane was chosen."""
        self._run(self._core.client_data(data))

    def eof_received(self) -> None:
        """The client will send no more. Its connection stays open until the lane closes it."""
        self._run(self._core.client_ended())

    def connection_lost(self) -> None:
        """The client's connection is gone, or is about to be closed: the server's is dropped."""
        self._run(self._core.client_lost())

    def pause_writing(self) -> None:
        """The client does not keep up: its server waits."""
        self._client_full = self._core.client_full = True
        if self._server is not None:
            self._server.pause_reading()

    def resume_writing(self) -> None:
        """The client keeps up again."""
        self._client_full = self._core.client_full = False
        if self._server is not None and not self._core.more:
            self._server.resume_reading()
        self._run(self._core.go_on())

    # --- the server's connection ---

    def server_data(self, server: _ServerSide, data: bytes) -> None:
        """Bytes came from the server."""
        if server is self._server:
            self._run(self._core.server_data(data))

    def server_gone(self, server: _ServerSide, orderly: bool) -> None:
        """The server has ended its side, or the connection is gone."""
        if server is self._server:
            self._run(self._core.server_gone(orderly))

    def server_writable(self, server: _ServerSide) -> None:
        """Whether the server keeps up has changed."""
        if server is self._server:
            self._balance()

    async def _connect(self, host: Host, port: int) -> None:
        server = _ServerSide(self)
        try:
            parent = self._parent(host)
            transport = await self._dial(host, port, server)
        except RefusedError as error:
            self._dialling = None
            self._run(self._core.refused(error.refusal))
            return
        except asyncio.CancelledError:
            server.drop()
            raise
        except BaseException:
            # A fault of ours: it is not hidden, and the client does not wait for what will not come.
            self._dialling = None
            self._run([*self._core.client_lost(), commands.Abort()])
            raise
        self._dialling = None
        server.transport, self._server = transport, server
        self._run(self._core.connected(parent))
        if self._server is server:
            if server.gone is not None:
                self._run(self._core.server_gone(server.gone))
            elif not self._client_full:
                server.resume_reading()

    # --- commands ---

    def _run(self, wanted: Iterable[commands.Command]) -> None:
        for command in wanted:
            match command:
                case commands.ToClient(data):
                    self._client.write(data)
                case commands.ToServer(data):
                    if self._server is not None:
                        self._server.write(data)
                case commands.Connect(host, port):
                    self._dialling = asyncio.get_running_loop().create_task(self._connect(host, port))
                case commands.EndServer():
                    if self._server is not None:
                        self._server.end()
                case commands.DropServer():
                    self._drop_server()
                case commands.Close():
                    self._client.close()
                case commands.Abort():
                    self._client.abort()
        if self._core.more and not self._turning:
            self._turning = True
            asyncio.get_running_loop().call_soon(self._turn)
        self._balance()

    def _turn(self) -> None:
        """Go on with what a turn of the loop had no time for."""
        self._turning = False
        self._run(self._core.go_on())

    def _drop_server(self) -> None:
        server, self._server = self._server, None
        if server is not None:
            server.drop()
        task, self._dialling = self._dialling, None
        if task is not None:
            task.cancel()

    def _balance(self) -> None:
        """Read the client as long as its bytes have somewhere to go."""
        if self._core.phase is commands.Phase.CLOSED:
            return
        pause = self._core.full or (self._server is not None and self._server.full)
        if pause != self._client_paused:
            self._client_paused = pause
            if pause:
                self._client.pause_reading()
            else:
                self._client.resume_reading()
        if self._server is not None:
            if self._core.more:
                self._server.pause_reading()
            elif not self._client_full:
                self._server.resume_reading()


class _ServerSide(Reader):
    """One connection to a server. Nothing is read from it before it was asked something."""

    def __init__(self, lane: PlainLane) -> None:
        self._lane = lane
        self.transport: asyncio.Transport | None = None
        self.full = False
        self.gone: bool | None = None
        """Not None: it has ended; True: in good order."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - what TCP connections get
        self.transport = transport
        self.bound(transport)
        transport.pause_reading()

    def data_received(self, data: bytes) -> None:
        self._lane.server_data(self, data)

    def eof_received(self) -> bool:
        self._end(True)
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._end(exc is None)

    def _end(self, orderly: bool) -> None:
        if self.gone is None:
            self.gone = orderly
            self._lane.server_gone(self, orderly)

    def pause_writing(self) -> None:
        self.full = True
        self._lane.server_writable(self)

    def resume_writing(self) -> None:
        self.full = False
        self._lane.server_writable(self)

    def write(self, data: bytes) -> None:
        if self.transport is not None and not self.transport.is_closing():
            self.transport.write(data)

    def end(self) -> None:
        if self.transport is not None and not self.transport.is_closing():
            half_close(self.transport)

    def pause_reading(self) -> None:
        if self.transport is not None and not self.transport.is_closing():
            self.transport.pause_reading()

    def resume_reading(self) -> None:
        if self.transport is not None and not self.transport.is_closing():
            self.transport.resume_reading()

    def drop(self) -> None:
        """Nothing of it is needed any more. Bytes that the server does not take must not keep the socket."""
        if self.transport is not None:
            if self.transport.get_write_buffer_size():
                self.transport.abort()
            else:
                self.transport.close()
