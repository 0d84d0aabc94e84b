"""The HTTP server of the console: uvicorn on a socket that it is handed, TLS in front, everything about it bounded.

uvicorn bounds what a client may have it wait for only between requests. So a connection is taken here, counted, given
the certificate for the address that it has reached, and only then handed on; and a request has to arrive in time.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import ssl
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from socket import socket
from typing import Any

import anyio.to_thread
import h11
import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from config.settings import Network
from console.request_log import LARGEST_HEAD

type Certificates = Callable[[str], ssl.SSLContext | None]
"""From the address of ours that was reached to the TLS to speak there; None where there is no certificate to show."""

THREADS = 8
"""Use cases wait for the store and hash passwords (64 MiB each), on so many threads at most."""
MOST_CONNECTIONS = 128
MOST_FROM_ONE = 48
"""Connections from one address, unless it is a trusted proxy's; browsers make six."""
HANDSHAKE_SECONDS = 10.0
REQUEST_SECONDS = 30.0
"""For a request to arrive, with its body; from the connection's beginning, or from its first byte."""
TAKING_SECONDS = 30.0
"""To take a piece of an answer."""
KEEP_SECONDS = 30
"""A connection on which nothing is under way is kept so long."""
DRAIN_SECONDS = 2
CLOSE_SECONDS = 2.0
BACKLOG = 128


class Server(uvicorn.Server):
    """Serves ``app`` until :meth:`end`. ``trusted_proxies``: networks whose X-Forwarded-For is believed."""

    def __init__(self, app: ASGIApp, certificates: Certificates, trusted_proxies: Sequence[Network] = ()) -> None:
        super().__init__(
            uvicorn.Config(
                app, http=H11Protocol, ws="none", loop="asyncio", lifespan="on", interface="asgi3", workers=1,
                log_config=None, access_log=False, server_header=False, timeout_keep_alive=KEEP_SECONDS,
                timeout_graceful_shutdown=DRAIN_SECONDS, h11_max_incomplete_event_size=LARGEST_HEAD,
                proxy_headers=bool(trusted_proxies), forwarded_allow_ips=[str(network) for network in trusted_proxies],
            )
        )  # fmt: skip
        self.certificates = certificates
        self._trusted = tuple(trusted_proxies)
        self.ready = asyncio.Event()
        """It accepts connections."""
        self.taken: Counter[str] = Counter()
        """Connections by the address that they are from."""
        self.securing: set[asyncio.Task[None]] = set()
        self._ending = asyncio.Event()

    def end(self) -> None:
        """Take no more connections, let requests end, for :data:`DRAIN_SECONDS` at most."""
        self.should_exit = True
        self._ending.set()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Signals are the process's own business."""
        yield

    async def startup(self, sockets: list[socket] | None = None) -> None:
        """Listen. Raises RuntimeError where the application does not start."""
        anyio.to_thread.current_default_thread_limiter().total_tokens = THREADS
        await self.lifespan.startup()
        if self.lifespan.should_exit:
            raise RuntimeError("the application did not start")
        loop = asyncio.get_running_loop()
        self.servers = [
            await loop.create_server(lambda: _Accepted(self), sock=listening, backlog=BACKLOG)
            for listening in sockets or ()
        ]
        self.started = True
        self.ready.set()

    async def main_loop(self) -> None:
        """Wait for the end; once a second the date that answers carry is another."""
        while not await self.on_tick(0):
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._ending.wait(), 1)

    def admits(self, peer: str) -> bool:
        """Whether there is room for one more connection from there."""
        return self.taken.total() < MOST_CONNECTIONS and (self.taken[peer] < MOST_FROM_ONE or self._is_trusted(peer))

    def left(self, peer: str) -> None:
        """A connection is gone."""
        self.taken[peer] -= 1
        if self.taken[peer] <= 0:
            del self.taken[peer]

    def _is_trusted(self, peer: str) -> bool:
        return bool(peer) and any(ipaddress.ip_address(peer) in network for network in self._trusted)


class _Accepted(asyncio.Protocol):
    """A connection until its TLS stands, with what may have come within it by then."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._first = bytearray()
        self._lost = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - asyncio's own promise for TCP
        server = self._server
        peer, reached = _address(transport, "peername"), _address(transport, "sockname")
        context = server.certificates(reached) if server.admits(peer) else None
        if context is None:
            transport.abort()
            return
        server.taken[peer] += 1
        transport.pause_reading()  # until TLS reads
        task = asyncio.get_running_loop().create_task(self._secure(transport, context, peer))
        server.securing.add(task)
        task.add_done_callback(server.securing.discard)

    async def _secure(self, transport: asyncio.Transport, context: ssl.SSLContext, peer: str) -> None:
        server = self._server
        try:
            secured = await asyncio.get_running_loop().start_tls(
                transport, self, context, server_side=True,
                ssl_handshake_timeout=HANDSHAKE_SECONDS, ssl_shutdown_timeout=CLOSE_SECONDS,
            )  # fmt: skip
        except OSError:  # no TLS, none that both speak, another name, or too slow; ssl.SSLError is one too
            secured = None
        if secured is None or self._lost:
            transport.abort()
            server.left(peer)
            return
        http = _Http(server, peer)
        secured.set_protocol(http)
        http.connection_made(secured)
        if self._first:
            http.data_received(bytes(self._first))

    def data_received(self, data: bytes) -> None:
        self._first += data

    def connection_lost(self, exc: Exception | None) -> None:
        self._lost = True


class _Http(H11Protocol):
    """One connection. What is counted in :class:`Server` is given back when it is lost."""

    def __init__(self, server: Server, peer: str) -> None:
        super().__init__(server.config, server.server_state, server.lifespan.state)
        self._server = server
        self._peer = peer
        self._late: asyncio.TimerHandle | None = None
        self._stalled: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as uvicorn has it
        super().connection_made(transport)
        self._late = self.loop.call_later(REQUEST_SECONDS, transport.abort)

    def data_received(self, data: bytes) -> None:
        if self._late is None and self.conn.their_state is h11.IDLE:
            self._late = self.loop.call_later(REQUEST_SECONDS, self.transport.abort)
        super().data_received(data)
        if self.conn.their_state not in (h11.IDLE, h11.SEND_BODY):
            self._in_time()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._stalled = self.loop.call_later(TAKING_SECONDS, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._stalled is not None:
            self._stalled.cancel()
            self._stalled = None

    def connection_lost(self, exc: Exception | None) -> None:
        self._in_time()
        super().connection_lost(exc)
        self._server.left(self._peer)

    def _in_time(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None


def _address(transport: asyncio.Transport, which: str) -> str:
    name: Any = transport.get_extra_info(which)
    return str(name[0]).partition("%")[0] if name else ""
