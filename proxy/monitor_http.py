"""A small HTTP server for the monitor: one GET or HEAD on a connection, everything about it bounded.

A scrape comes every few seconds, so a connection ends with its answer: there is nothing to be kept alive, and nobody
can hold a place for longer than his time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import h11

LARGEST_HEAD = 8 * 1024
HEAD_SECONDS = 5.0
ANSWER_SECONDS = 10.0
"""To take an answer."""
MOST_CONNECTIONS = 64


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer."""

    status: int
    body: bytes
    content_type: str = "text/plain; charset=utf-8"


Handler = Callable[[str, str], Awaitable[Reply | None]]
"""From path and Accept to an answer; None where nothing is at that path. It must not raise for what a client sends."""


class Server:
    """What the connections share."""

    def __init__(self, handler: Handler, fault: Callable[[BaseException], None]) -> None:
        self.handler = handler
        self.fault = fault
        """Told of what the handler raises: a fault of ours."""
        self.open: set[asyncio.Transport] = set()

    def connection(self) -> asyncio.Protocol:
        """For ``create_server``."""
        return _Connection(self)


class _Connection(asyncio.Protocol):
    def __init__(self, server: Server) -> None:
        self._server = server
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=LARGEST_HEAD)
        self._size = 0
        self._transport: asyncio.Transport | None = None
        self._late: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - asyncio's own promise for TCP
        self._transport = transport
        if len(self._server.open) >= MOST_CONNECTIONS:
            transport.abort()
            return
        self._server.open.add(transport)
        self._late = asyncio.get_running_loop().call_later(HEAD_SECONDS, transport.abort)

    def data_received(self, data: bytes) -> None:
        if self._task is not None or self._transport is None or self._transport.is_closing():
            return  # a body that nobody asked for
        self._size += len(data)
        if self._size > LARGEST_HEAD:  # h11 looks at the size of a head that is not whole yet, and no other
            return self._answer(Reply(431, b"the request's head is too large\n"), b"")
        try:
            self._http.receive_data(data)
            event = self._http.next_event()
        except h11.RemoteProtocolError as error:
            return self._answer(Reply(error.error_status_hint, f"{error}\n".encode()), b"")
        if isinstance(event, h11.Request):
            self._task = asyncio.get_running_loop().create_task(self._handle(event))
        return None

    async def _handle(self, request: h11.Request) -> None:
        method = request.method
        if method not in (b"GET", b"HEAD"):
            return self._answer(Reply(405, b"expected GET or HEAD\n"), method)
        path = request.target.partition(b"?")[0].decode("latin-1")
        accept = b", ".join(value for name, value in request.headers if name == b"accept").decode("latin-1")
        try:
            reply = await self._server.handler(path, accept)
        except Exception as error:  # noqa: BLE001 - told, and the client hears that it is ours
            self._server.fault(error)
            reply = Reply(500, b"a fault of Sallyport's own; its log says where\n")
        return self._answer(reply or Reply(404, b"expected /metrics, /healthz or /readyz\n"), method)

    def _answer(self, reply: Reply, method: bytes) -> None:
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        headers = [
            ("Content-Type", reply.content_type),
            ("Content-Length", str(len(reply.body))),
            ("Cache-Control", "no-store"),
            ("X-Content-Type-Options", "nosniff"),
            ("Connection", "close"),
        ]
        if reply.status == 405:
            headers.append(("Allow", "GET, HEAD"))
        head = self._http.send(h11.Response(status_code=reply.status, headers=headers))
        transport.write((head or b"") + (b"" if method == b"HEAD" else reply.body))
        if self._late is not None:
            self._late.cancel()
        self._late = asyncio.get_running_loop().call_later(ANSWER_SECONDS, transport.abort)
        transport.close()

    def eof_received(self) -> bool:
        return self._task is not None  # one who asks and half-closes still wants the answer

    def connection_lost(self, exc: Exception | None) -> None:
        if self._late is not None:
            self._late.cancel()
        if self._task is not None:
            self._task.cancel()
        if self._transport is not None:
            self._server.open.discard(self._transport)
