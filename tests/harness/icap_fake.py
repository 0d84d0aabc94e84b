"""An ICAP server that says what a test tells it to, sense or nonsense, on the test's own event loop.

    async with FakeIcap(answer) as icap:
        await client.scan(icap.url, ...)
        assert icap.scans[0].preview == 1024

``answer`` is bytes, sent for every REQMOD and RESPMOD, or a coroutine function of the conversation and the request.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import ssl
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from types import TracebackType
from typing import Self

from addons.icap_service import ServiceUrl

OPTIONS = (
    b'ICAP/1.0 200 OK\r\nMethods: REQMOD, RESPMOD\r\nISTag: "one"\r\nAllow: 204\r\nEncapsulated: null-body=0\r\n\r\n'
)
UNCHANGED = b'ICAP/1.0 204 No Content\r\nISTag: "one"\r\n\r\n'
CONTINUE = b"ICAP/1.0 100 Continue\r\n\r\n"


def options(**fields: str) -> bytes:
    """An answer to OPTIONS with these fields too, or in place of the usual ones: ``Max_Connections="3"``."""
    said = {"Methods": "REQMOD, RESPMOD", "ISTag": '"one"', "Encapsulated": "null-body=0"}
    said |= {name.replace("_", "-"): value for name, value in fields.items()}
    return ("ICAP/1.0 200 OK\r\n" + "".join(f"{name}: {value}\r\n" for name, value in said.items()) + "\r\n").encode()


def changed(kind: str, head: bytes, body: bytes | None = None, more: bytes = b"") -> bytes:
    """A 200 with a changed message; ``kind`` is req or res, ``more`` are further ICAP fields."""
    part = f"{kind}-body" if body is not None else "null-body"
    encapsulated = f"Encapsulated: {kind}-hdr=0, {part}={len(head)}\r\n\r\n".encode()
    return (
        b'ICAP/1.0 200 OK\r\nISTag: "one"\r\n'
        + more
        + encapsulated
        + head
        + (chunked(body) if body is not None else b"")
    )


def chunked(body: bytes) -> bytes:
    """A body as chunks, with its end."""
    return (b"%x\r\n%b\r\n" % (len(body), body) if body else b"") + b"0\r\n\r\n"


@dataclass(frozen=True)
class Asked:
    """A request as it came."""

    method: str
    url: str
    fields: Mapping[str, str]
    heads: Mapping[str, bytes]
    """``req-hdr`` and ``res-hdr``."""
    body: bytes | None
    """What came of the body, with a preview no more than that; None for null-body."""
    ieof: bool

    @property
    def preview(self) -> int | None:
        """The Preview field."""
        return int(self.fields["preview"]) if "preview" in self.fields else None


@dataclass
class Conversation:
    """One connection, for an answer that is more than bytes."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    number: int

    async def send(self, data: bytes) -> None:
        """Send, and wait until it is on its way."""
        self.writer.write(data)
        await self.writer.drain()

    async def body(self) -> tuple[bytes, bool]:
        """Chunks up to their end, and whether that said ieof."""
        read = b""
        while True:
            line = await self.reader.readuntil(b"\r\n")
            size, _, extension = line[:-2].partition(b";")
            read += (await self.reader.readexactly(int(size, 16) + 2))[:-2]
            if int(size, 16) == 0:
                return read, extension.strip() == b"ieof"

    async def request(self) -> Asked | None:
        """The next request; None where the client ended the connection."""
        try:
            head = (await self.reader.readuntil(b"\r\n\r\n")).decode()
        except (asyncio.IncompleteReadError, ConnectionError):
            return None
        line, *rest = head[:-4].split("\r\n")
        method, url, version = line.split(" ")
        assert version == "ICAP/1.0"
        fields = {name.lower(): value for name, value in (one.split(": ", 1) for one in rest)}
        parts = [(name, int(offset)) for name, offset in re.findall(r"([a-z-]+)=([0-9]+)", fields["encapsulated"])]
        heads: dict[str, bytes] = {}
        for (name, offset), (_, end) in pairwise(parts):
            heads[name] = await self.reader.readexactly(end - offset)
        body, ieof = (None, False) if parts[-1][0] == "null-body" else await self.body()
        return Asked(method, url, fields, heads, body, ieof)


Answering = Callable[[Conversation, Asked], Awaitable[None]]


@dataclass
class FakeIcap:
    """The server. ``requests`` are all that came, ``scans`` those that were not OPTIONS."""

    answer: bytes | Answering = UNCHANGED
    options: bytes | Answering = OPTIONS
    tls: ssl.SSLContext | None = None
    requests: list[Asked] = field(default_factory=list)
    connections: int = 0
    open: int = 0
    port: int = 0
    _server: asyncio.Server | None = None
    _writers: set[asyncio.StreamWriter] = field(default_factory=set)

    @property
    def url(self) -> ServiceUrl:
        """The URL of its service."""
        return ServiceUrl.parse(f"{'icaps' if self.tls else 'icap'}://127.0.0.1:{self.port}/scan")

    @property
    def scans(self) -> list[Asked]:
        return [one for one in self.requests if one.method != "OPTIONS"]

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port, limit=1 << 24, ssl=self.tls)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server is not None
        self._server.close()
        for writer in self._writers:
            writer.transport.abort()
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.open += 1
        self._writers.add(writer)
        conversation = Conversation(reader, writer, self.connections)
        # A test that is over, or a client that went, ends the conversation in any place.
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            while (asked := await conversation.request()) is not None and not writer.is_closing():
                self.requests.append(asked)
                answer = self.options if asked.method == "OPTIONS" else self.answer
                if isinstance(answer, bytes):
                    await conversation.send(answer)
                else:
                    await answer(conversation, asked)
        self.open -= 1
        self._writers.discard(writer)
        writer.close()
