"""A client that has HTTP/2 with its proxy: CONNECT on streams, and requests, by the h2 library over a TLS socket."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

import h2.config
import h2.connection
import h2.events
import h2.exceptions

PATIENCE = 30
Fields = list[tuple[str, str]]


@dataclass
class Stream:
    """What has come on a stream."""

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytearray = field(default_factory=bytearray)
    ended: bool = False
    reset: int | None = None


class Http2Proxy:
    """One connection to a TLS proxy at ADDRESS:PORT that is known as ``name``; a thread reads what comes."""

    def __init__(self, proxy: str, root: Path, name: str, context: ssl.SSLContext | None = None) -> None:
        context = context or ssl.create_default_context(cafile=str(root))
        context.set_alpn_protocols(["h2"])
        address, _, port = proxy.rpartition(":")
        self.tls = context.wrap_socket(socket.create_connection((address, int(port)), PATIENCE), server_hostname=name)
        self.http = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True, header_encoding="utf-8"))
        self.streams: dict[int, Stream] = {}
        self.goaway = False
        self.over = False
        self._changed = threading.Condition()
        self._reader = threading.Thread(target=self._read, daemon=True)

    def __enter__(self) -> Self:
        with self._changed:
            self.http.initiate_connection()
            self._flush()
        self.tls.settimeout(None)
        self._reader.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        with contextlib.suppress(OSError):
            self.tls.shutdown(socket.SHUT_RDWR)
        self.tls.close()
        self._reader.join(5)

    def ask(self, fields: Fields, *, end: bool = False) -> int:
        """Begin a stream with these fields, as they are."""
        with self._changed:
            number = self.http.get_next_available_stream_id()
            self.streams[number] = Stream()
            self.http.send_headers(number, fields, end_stream=end)
            self._flush()
        return number

    def connect(self, authority: str, *more: tuple[str, str]) -> Tunnel:
        """CONNECT; the tunnel, once it stands."""
        number = self.ask([(":method", "CONNECT"), (":authority", authority), *more])
        stream = self.wait(number, lambda stream: bool(stream.status))
        assert stream.status == 200, f"CONNECT was answered with {stream.status}: {bytes(stream.body)!r}"
        return Tunnel(self, number)

    def get(self, scheme: str, authority: str, path: str) -> Stream:
        """A whole request; what it was answered."""
        fields = [(":method", "GET"), (":scheme", scheme), (":authority", authority), (":path", path)]
        return self.wait(self.ask(fields, end=True), lambda stream: stream.ended)

    def send(self, number: int, data: bytes, *, end: bool = False) -> None:
        """DATA, as the windows allow."""
        at = 0
        with self._changed:
            while True:
                room = min(self.http.local_flow_control_window(number), self.http.max_outbound_frame_size)
                piece = data[at : at + room]
                at += len(piece)
                last = at == len(data)
                if piece or last:
                    self.http.send_data(number, piece, end_stream=end and last)
                    self._flush()
                if last:
                    return
                if not room:
                    assert self._changed.wait(PATIENCE), "the window does not open"

    def wait(self, number: int, test: object) -> Stream:
        """The stream, once the test holds, or it or the connection has ended."""
        stream = self.streams[number]
        assert callable(test)
        with self._changed:
            done = self._changed.wait_for(
                lambda: test(stream) or stream.ended or stream.reset is not None or self.over, PATIENCE
            )
        assert done, f"nothing came on stream {number}"
        return stream

    def _flush(self) -> None:
        with contextlib.suppress(OSError):
            self.tls.sendall(self.http.data_to_send())

    def _read(self) -> None:
        while True:
            try:
                data = self.tls.recv(65536)
            except (OSError, ValueError):
                data = b""
            with self._changed:
                if not data:
                    self.over = True
                    self._changed.notify_all()
                    return
                with contextlib.suppress(h2.exceptions.ProtocolError):
                    for event in self.http.receive_data(data):
                        self._event(event)
                self._flush()
                self._changed.notify_all()

    def _event(self, event: h2.events.Event) -> None:
        if isinstance(event, h2.events.ConnectionTerminated):
            self.goaway = True
        stream = self.streams.get(getattr(event, "stream_id", 0) or 0)
        if stream is None:
            return
        if isinstance(event, h2.events.ResponseReceived):
            stream.headers = {str(name): str(value) for name, value in event.headers or []}
            stream.status = int(stream.headers.pop(":status"))
        elif isinstance(event, h2.events.DataReceived):
            stream.body += event.data or b""
            self.http.acknowledge_received_data(event.flow_controlled_length or 0, event.stream_id or 0)
        elif isinstance(event, h2.events.StreamEnded):
            stream.ended = True
        elif isinstance(event, h2.events.StreamReset):
            stream.reset = int(event.error_code or 0)


class Tunnel:
    """TLS with a server through a stream."""

    def __init__(self, proxy: Http2Proxy, number: int) -> None:
        self.proxy, self.number = proxy, number
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._taken = 0

    def secure(self, root: Path, name: str) -> None:
        """The handshake, trusting that root alone."""
        context = ssl.create_default_context(cafile=str(root))
        self.tls = context.wrap_bio(self._in, self._out, server_hostname=name)
        self._pump(self.tls.do_handshake)

    def request(self, request: bytes) -> bytes:
        """Send bytes, and read to the end."""
        self.tls.write(request)
        self._send()
        answer = bytearray()
        while True:
            try:
                piece = self._pump(lambda: self.tls.read(65536))
            except ssl.SSLZeroReturnError:
                return bytes(answer)
            if not piece:
                return bytes(answer)
            answer += piece  # type: ignore[arg-type]

    def _pump(self, step: object) -> object:
        assert callable(step)
        while True:
            try:
                return step()
            except ssl.SSLWantReadError:
                self._send()
                stream = self.proxy.wait(self.number, lambda stream: len(stream.body) > self._taken)
                if len(stream.body) == self._taken:
                    self._in.write_eof()
                else:
                    self._in.write(bytes(stream.body[self._taken :]))
                    self._taken = len(stream.body)
            finally:
                self._send()

    def _send(self) -> None:
        if self._out.pending:
            self.proxy.send(self.number, self._out.read())
