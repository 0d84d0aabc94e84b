"""HTTP/2 to the proxy without TLS, sockets and servers: a client of h2, and sessions that only note what they get."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any

import h2.config
import h2.connection
import h2.events
from h2.settings import SettingCodes

from config.settings import Limits
from proxy.listeners.outer_http2 import OuterHttp2, StreamTransport

CONNECT = [(":method", "CONNECT"), (":authority", "good.example:443")]
GET = [(":method", "GET"), (":scheme", "http"), (":authority", "good.example"), (":path", "/")]
ESTABLISHED = b"HTTP/1.1 200 Connection established\r\n\r\n"


class Noted:
    """A session."""

    transport: StreamTransport

    def __init__(self) -> None:
        self.pieces: list[bytes] = []
        self.told: list[str] = []

    def connection_made(self, transport: StreamTransport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.pieces.append(data)

    def eof_received(self) -> bool:
        self.told.append("end")
        return True

    def close(self, reason: str) -> None:
        self.told.append(reason)
        self.transport.close()

    def connection_lost(self, error: Exception | None) -> None:
        self.told.append("lost")

    def pause_writing(self) -> None:
        self.told.append("full")

    def resume_writing(self) -> None:
        self.told.append("goes on")


class Wire:
    """TCP to the client. ``waiting`` is what it does not take."""

    waiting = 0
    paused = False

    def pause_reading(self) -> None:
        self.paused = True

    def resume_reading(self) -> None:
        self.paused = False

    def is_closing(self) -> bool:
        return False

    def get_write_buffer_size(self) -> int:
        return self.waiting

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return ("192.0.2.1", 1) if name == "peername" else default


class Outer:
    """One connection of a client: what both ends know of it."""

    def __init__(self, settings: dict[SettingCodes, int] | None = None, **limits: Any) -> None:
        self.loop = asyncio.get_running_loop()
        self.closed = False
        self.certified = ""
        self.tenant, self.peer, self.listener = "default", "192.0.2.1", SimpleNamespace(name="leaf", tenant="default")
        self.transport = Wire()
        self.sessions: list[Noted] = []
        self.allows: str = ""
        """The limit that allows no further session, if one."""
        self.abused: list[str] = []
        entrance = SimpleNamespace(
            shedding=None, seats=SimpleNamespace(take=lambda *_: self.allows or (), full=False), session=self._session,
            refusal=lambda *_: b"HTTP/1.1 503 Busy\r\nContent-Length: 1\r\nConnection: close\r\n\r\n!",
        )  # fmt: skip
        self.worker: Any = SimpleNamespace(limits=Limits(**limits), entrance=entrance, abused=self.abused.append)
        self.client = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True, header_encoding="utf-8"))
        self.client.config.validate_outbound_headers = False
        self.client.config.normalize_outbound_headers = False
        self.got: list[h2.events.Event] = []
        self.http2 = OuterHttp2(self)  # type: ignore[arg-type] # all of it that is touched
        self.client.initiate_connection()
        self.http2.begin()
        if settings:
            self.client.update_settings(settings)
        self.sent()

    def _session(self, *_: object) -> Noted:
        self.sessions.append(Noted())
        return self.sessions[-1]

    # --- what HTTP/2 asks of the connection ---

    def send(self, data: bytes) -> None:
        if not self.closed:
            self.got += self.client.receive_data(data)

    def close(self) -> None:
        self.closed = True

    def log(self, *_: object, **__: object) -> None: ...
    def warn(self, *_: object, **__: object) -> None: ...

    # --- the client ---

    def sent(self) -> None:
        """What the client has to send arrives, in one piece; so does what comes of it."""
        while data := self.client.data_to_send():
            self.http2.receive(data)

    def ask(self, fields: list[tuple[str, str]], *, end: bool = False) -> int:
        number = self.client.get_next_available_stream_id()
        self.client.send_headers(number, fields, end_stream=end)
        self.sent()
        return number

    def tunnel(self) -> tuple[int, Noted]:
        """A CONNECT that was answered with 200."""
        number = self.ask(CONNECT)
        self.sessions[-1].transport.write(ESTABLISHED)
        return number, self.sessions[-1]

    def events(self, kind: type[h2.events.Event], number: int = 0) -> list[Any]:
        """What has come to the client, of a kind and on a stream."""
        return [
            each
            for each in self.got
            if isinstance(each, kind) and (not number or getattr(each, "stream_id", 0) == number)
        ]


def run(test: Callable[[], Awaitable[None]]) -> None:
    """Run a test on a loop of its own."""

    async def main() -> None:
        async with asyncio.timeout(30):
            await test()

    asyncio.run(main())
