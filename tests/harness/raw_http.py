"""Exact bytes over TLS: both ends of a connection with every record, every TCP write and every way to end in our hands.

with connect(proxy, "good.example", port, trust, alpn="http/1.1") as pipe:
    pipe.send(b"GET / HTTP/1.1\\r\\n"); pipe.send(b"Host: good.example\\r\\n\\r\\n")
    pipe.receive()                       # what has come; raises Ended with the manner in which the other side ended
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Literal, Self

How = Literal["notify", "cut", "reset"]
"""close_notify; FIN without one (or in the middle of a record); RST."""
PATIENCE = 15.0
"""For so many seconds an end waits for the other: a limit for what hangs, never what a test measures."""
_RESET = struct.pack("ii", 1, 0)


class Ended(Exception):  # noqa: N818 - it is no error: every connection ends
    """The other side will send no more."""

    def __init__(self, how: How) -> None:
        super().__init__(how)
        self.how: How = how


@dataclass(frozen=True)
class Way:
    """A way to the origin: directly (``proxy`` is None), or through the proxy at ADDRESS:PORT. ``trust`` checks it."""

    name: str
    proxy: str | None
    trust: str


class Pipe:
    """One end of a TLS connection. ``sent`` and ``received`` are all its plain text, as it went and came."""

    def __init__(self, sock: socket.socket, context: ssl.SSLContext, *, serves: bool, name: str | None = None) -> None:
        sock.settimeout(PATIENCE)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket = sock
        self.sent = bytearray()
        self.received = bytearray()
        self.ended: How | None = None
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self._in, self._out, server_side=serves, server_hostname=name)
        try:
            self._shake_hands()
        except ConnectionError:
            if not serves:
                raise
            self.ended = "reset"  # a client that is refused at its first byte can be quicker than this thread

    def _shake_hands(self) -> None:
        while True:
            try:
                self.tls.do_handshake()
                return self._flush()
            except ssl.SSLWantReadError:
                self._flush()
                self._fill()
            except ssl.SSLError:
                with contextlib.suppress(OSError):
                    self._flush()  # the alert
                raise

    def _flush(self) -> None:
        if data := self._out.read():
            self.socket.sendall(data)

    def _fill(self) -> None:
        data = self.socket.recv(262144)
        if data:
            self._in.write(data)
        else:
            self._in.write_eof()

    def send(self, data: bytes, *, writes: Sequence[int] = ()) -> None:
        """One record (of each 16 KiB begun). ``writes``: where, in wire bytes, one TCP write ends and the next begins.

        Raises ``Ended("reset")`` where the other side is gone.
        """
        if self.ended == "reset":
            raise Ended("reset")
        self.sent += data
        view = memoryview(data)
        try:
            for start in range(0, len(view), 262144):
                self.tls.write(view[start : start + 262144])
                wire = self._out.read()
                at = 0
                for end in (*writes, len(wire)):
                    self.socket.sendall(wire[at:end])
                    at = end
        except (ConnectionError, ssl.SSLZeroReturnError) as error:
            self.ended = self.ended or "reset"
            raise Ended("reset") from error

    def receive(self) -> bytes:
        """What has come, at least one byte. Raises Ended; TimeoutError where nothing came for :data:`PATIENCE`."""
        if self.ended is not None:
            raise Ended(self.ended)
        while True:
            try:
                data = self.tls.read(262144)
            except ssl.SSLWantReadError:
                try:
                    self._flush()
                    self._fill()
                except ConnectionError:
                    self.ended = "reset"
                    raise Ended("reset") from None
                continue
            except ssl.SSLZeroReturnError:
                data = b""
            except ssl.SSLError:
                self.ended = "cut"
                raise Ended("cut") from None
            if not data:
                self.ended = "notify"
                raise Ended("notify")
            self.received += data
            return data

    def notify(self) -> None:
        """close_notify; what the other side still says can be received."""
        # It waits for the other's; ours is in the buffer all the same.
        with contextlib.suppress(ssl.SSLError):
            self.tls.unwrap()
        with contextlib.suppress(OSError):
            self._flush()

    def half_close(self) -> None:
        """FIN."""
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        """RST, at once."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self.socket.close()

    def linger(self) -> None:
        """Close once the other side has ended, or after a second: bytes that nobody has read make a RST of a close."""
        with contextlib.suppress(OSError):
            self.socket.settimeout(1)
            while self.socket.recv(262144):
                pass
        self.socket.close()

    def close(self) -> None:
        """Close at once."""
        self.socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def open_tunnel(proxy: str, host: str, port: int) -> socket.socket:
    """A TCP connection behind the proxy's 200 to a CONNECT. Raises AssertionError with any other answer."""
    address, _, proxy_port = proxy.rpartition(":")
    sock = socket.create_connection((address, int(proxy_port)), timeout=PATIENCE)
    where = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    sock.sendall(f"CONNECT {where} HTTP/1.1\r\nHost: {where}\r\n\r\n".encode())
    head = b""
    while b"\r\n\r\n" not in head:
        piece = sock.recv(1)  # never a byte too many: TLS comes behind
        assert piece, f"the proxy ended the connection: {head!r}"
        head += piece
    assert head.startswith(b"HTTP/1.1 200"), head
    return sock


def connect(way: Way, host: str, port: int, alpn: str) -> Pipe:
    """The client's end of a TLS connection to ``host``, verified; directly it is to 127.0.0.1."""
    if way.proxy is None:
        sock = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)
    else:
        sock = open_tunnel(way.proxy, host, port)
    try:
        return Pipe(sock, _context(way.trust, alpn), serves=False, name=host)
    except BaseException:
        sock.close()
        raise


_contexts: dict[tuple[str, str], ssl.SSLContext] = {}


def _context(trust: str, alpn: str) -> ssl.SSLContext:
    if (trust, alpn) not in _contexts:
        context = ssl.create_default_context(cafile=trust)
        if alpn:
            context.set_alpn_protocols([alpn])
        _contexts[trust, alpn] = context
    return _contexts[trust, alpn]
