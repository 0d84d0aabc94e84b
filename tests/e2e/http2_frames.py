"""An HTTP/2 client of raw frames, for tests of what a client should not send."""

from __future__ import annotations

import contextlib
import select
import ssl
import struct
import time
from dataclasses import dataclass, field

from hpack import Encoder

from proxy.lanes.http2_frames import DATA, GOAWAY, HEADERS, PREFACE, RST_STREAM, SETTINGS
from proxy.lanes.http2_sieve import frame

GET = [(":method", "GET"), (":scheme", "https"), (":path", "/")]


def request(stream: int, host: str, *fields: tuple[str, str], flags: int = 5) -> bytes:
    """A request that refers to no dynamic table, so that it can be repeated."""
    block = Encoder()
    block.header_table_size = 0
    return frame(HEADERS, flags, stream, block.encode([*GET, (":authority", host), *fields]))


@dataclass
class Raw:
    """Frames over TLS. ``codes`` are those of GOAWAY, ``resets`` and ``bodies`` are by stream."""

    tls: ssl.SSLSocket
    codes: list[int] = field(default_factory=list)
    resets: dict[int, int] = field(default_factory=dict)
    heads: list[int] = field(default_factory=list)
    ended: set[int] = field(default_factory=set)
    bodies: dict[int, int] = field(default_factory=dict)
    held: bytes = b""
    settled: bool = False

    def begin(self) -> None:
        """The preface, and the server's SETTINGS: its acknowledgement must not come into the middle of a block."""
        self.tls.sendall(PREFACE + frame(SETTINGS, 0, 0, b""))
        while not self.settled:
            assert self.read()

    def flood(self, data: bytes, times: int) -> int:
        """Send ``data`` so many times, unless the other side ends it; how often it was sent."""
        piece = max(1, 65536 // len(data))
        sent = 0
        with contextlib.suppress(ConnectionError, ssl.SSLError, TimeoutError):
            while sent < times:
                self.tls.sendall(data * min(piece, times - sent))
                sent += piece
        return sent

    def storm(self, data: bytes, times: int) -> None:
        """Send ``data`` so many times and take what is answered meanwhile, until the other side has ended.

        In one thread: an SSL object's errors are those of whoever used it last.
        """
        piece = memoryview(data * max(1, min(times, 65536 // len(data))))
        left, rest = times * len(data), piece[:0]
        self.tls.setblocking(False)
        reads, deadline = True, time.monotonic() + 30
        while reads:
            assert time.monotonic() < deadline, "the other side does not end it"
            writes = bool(left)
            with contextlib.suppress(ssl.SSLWantWriteError):
                try:
                    while left:
                        rest = rest or piece[: min(len(piece), left)]
                        sent = self.tls.send(rest)
                        left, rest = left - sent, rest[sent:]
                    writes = False
                except ssl.SSLWantReadError:
                    writes = False
                except (ConnectionError, ssl.SSLError) as error:
                    if isinstance(error, ssl.SSLWantWriteError):
                        raise
                    left = 0
            try:
                while reads:
                    reads = self.read()
            except ssl.SSLWantReadError:
                select.select([self.tls], [self.tls] if writes else [], [], 1)

    def read(self) -> bool:
        """Take what comes next; False: the other side has ended."""
        try:
            data = self.tls.recv(65536)
        except ssl.SSLWantReadError:
            raise
        except (ConnectionError, ssl.SSLError):
            return False
        self.held += data
        while len(self.held) >= 9:
            high, low, kind, flags, stream = struct.unpack_from(">BHBBL", self.held)
            size = 9 + (high << 16 | low)
            if len(self.held) < size:
                break
            payload, self.held = self.held[9:size], self.held[size:]
            if kind == GOAWAY:
                self.codes.append(int.from_bytes(payload[4:8]))
            elif kind == RST_STREAM:
                self.resets.setdefault(stream, int.from_bytes(payload))
                self.ended.add(stream)
            elif kind == SETTINGS and not flags & 1:
                self.settled = True
                with contextlib.suppress(OSError):
                    self.tls.sendall(frame(SETTINGS, 1, 0, b""))
            if kind == HEADERS:
                self.heads.append(stream)
            if kind == DATA:
                self.bodies[stream] = self.bodies.get(stream, 0) + len(payload)
            if kind in (DATA, HEADERS) and flags & 1:
                self.ended.add(stream)
        return bool(data)
