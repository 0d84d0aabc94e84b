"""Where an attack is aimed at, and the ways in: TCP, a tunnel, TLS, HTTP/2. Attackers come from addresses of their own.

The canary comes from 127.0.0.1, attackers from 127.1.0.0/24, so that limits on one address do not hit the canary.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import socket
import ssl
import struct
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

ADDRESSES = 40
_sources = itertools.cycle(f"127.1.0.{number}" for number in range(1, ADDRESSES + 1))
GONE = (ConnectionError, ssl.SSLError, TimeoutError, OSError)
"""What a peer that has had enough looks like."""


@dataclass(frozen=True)
class Aim:
    """The proxy, the server behind it, whom to trust, the host of the lane, how long, and how many descriptors."""

    proxy: tuple[str, int]
    target: tuple[str, int]
    root: Path
    host: str
    seconds: float
    descriptors: int
    ca: Path | None = None
    """The chain and key (one PEM file) of a CA that the tenant trusts, and that the attacker has."""
    published: int = 0
    """The port at 127.0.0.2 where the hosts of :data:`PUBLISHERS` may be asked what certificates point to."""

    def tcp(self, *, receive: int | None = None) -> socket.socket:
        """A connection to the proxy; ``receive``: bytes of the receive buffer."""
        made = socket.socket()
        try:
            if receive is not None:
                made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive)
            made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            made.bind((next(_sources), 0))
            made.settimeout(10)
            made.connect(self.proxy)
        except OSError:
            made.close()
            raise
        return made

    @property
    def connect(self) -> bytes:
        """The head that opens a tunnel."""
        where = f"{self.target[0]}:{self.target[1]}"
        return f"CONNECT {where} HTTP/1.1\r\nHost: {where}\r\n\r\n".encode()

    def tunnel(self, *, receive: int | None = None) -> socket.socket:
        """A tunnel that stands. Raises ConnectionError where the proxy does not open it."""
        made = self.tcp(receive=receive)
        answer = b""
        try:
            made.sendall(self.connect)
            while not answer.endswith(b"\r\n\r\n") and (piece := made.recv(1)):
                answer += piece
        except OSError:
            made.close()
            raise
        if not answer.startswith(b"HTTP/1.1 200"):
            made.close()
            raise ConnectionError(f"no tunnel: {answer!r}")
        return made

    def context(self, *alpn: str) -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=str(self.root))
        if alpn:
            context.set_alpn_protocols(list(alpn))
        return context

    def tls(self, context: ssl.SSLContext, *, receive: int | None = None) -> ssl.SSLSocket:
        """TLS with what stands for the server."""
        tunnel = self.tunnel(receive=receive)
        try:
            return context.wrap_socket(tunnel, server_hostname=self.host)
        except BaseException:
            tunnel.close()
            raise

    def http2(self, context: ssl.SSLContext) -> ssl.SSLSocket:
        """A connection of HTTP/2 whose SETTINGS are on their way."""
        made = self.tls(context)
        made.sendall(PREFACE + frame(4, 0, 0))
        return made

    @property
    def authority(self) -> str:
        return f"{self.host}:{self.target[1]}"

    def request(self, path: str, more: str = "") -> bytes:
        return f"GET {path} HTTP/1.1\r\nHost: {self.authority}\r\n{more}\r\n".encode()


PUBLISHERS = tuple(f"pki.site{number}.test" for number in range(12))
HOSTILE = "hostile.example"
"""Below it are the hosts that attack, where what nobody tells of revocation is blocked."""


@dataclass
class Report:
    """What an attack came to.

    ``left``: of ``slow`` clients, how many were not gone in their time. ``through``: how often a request reached what
    has to be blocked.
    """

    did: str
    slow: int = 0
    left: int = 0
    opened: int = 0
    through: int = 0
    notes: list[str] = field(default_factory=list)


_OPEN = frozenset({1, 2, 3})
"""ESTABLISHED, SYN_SENT and SYN_RECV, as Linux numbers the states (net/tcp_states.h)."""
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """RFC 9113 section 4.1."""
    return struct.pack(">HBBBL", len(payload) >> 8, len(payload) & 255, kind, flags, stream) + payload


def request_block(aim: Aim, path: str = "/t/x") -> bytes:
    """A request's header block, without Huffman coding and without the table (RFC 7541 section 6.2.2)."""

    def text(value: str) -> bytes:
        return bytes([len(value)]) + value.encode()

    return b"\x82\x87\x04" + text(path) + b"\x01" + text(aim.authority)


def clock(seconds: float) -> Callable[[], bool]:
    """Whether there is time left."""
    until = time.monotonic() + seconds
    return lambda: time.monotonic() < until


@contextlib.contextmanager
def many() -> Iterator[list[socket.socket]]:
    """Sockets that are all closed at the end, with a reset so that they leave nothing."""
    held: list[socket.socket] = []
    try:
        yield held
    finally:
        for each in held:
            reset(each)


def reset(sock: socket.socket) -> None:
    """Close with RST."""
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


def megabytes(count: int) -> str:
    return f"{count / 1e6:.1f} MB"


def nothing_left(sock: socket.socket) -> bool:
    """Whether the peer has ended the connection, though what it sent before may still be there to be read.

    By the state (tcp(7), TCP_INFO): a RST does not take away what is in the receive buffer, where a slow reader would
    find it for an hour.
    """
    try:
        state = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0]
    except OSError:
        return True
    return state not in _OPEN


def raw(tls: ssl.SSLSocket) -> socket.socket:
    """The socket below TLS, to be read byte by byte."""
    below = socket.socket(fileno=os.dup(tls.fileno()))
    below.setblocking(False)
    return below
