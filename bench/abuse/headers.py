"""256 MB of headers: before the tunnel, and in a request over TLS."""

from __future__ import annotations

import socket

from bench.abuse.aim import GONE, Aim, Report, clock, megabytes

MOST = 256_000_000
LINES = b"".join(b"x-filler-%04d: %s\r\n" % (number, b"a" * 240) for number in range(256))


def _pour(sock: socket.socket, begin: bytes) -> int:
    """Send headers until somebody has had enough; how many bytes went out."""
    sent = 0
    try:
        sock.sendall(begin)
        while sent < MOST:
            sock.sendall(LINES)
            sent += len(LINES)
    except GONE:
        pass
    return sent


def _told(tries: int, most: int, total: int) -> Report:
    return Report(f"{tries} heads, {megabytes(total)}; at most {megabytes(most)} of one taken")


def connect_headers(aim: Aim) -> Report:
    """Behind a CONNECT's request line."""
    tries = most = total = 0
    more = clock(aim.seconds)
    while more():
        try:
            with aim.tcp() as sock:
                sent = _pour(sock, aim.connect[:-2])
        except GONE:
            sent = 0
        tries, most, total = tries + 1, max(most, sent), total + sent
    return _told(tries, most, total)


def request_headers(aim: Aim) -> Report:
    """Of a request over TLS."""
    context = aim.context()
    tries = most = total = 0
    more = clock(aim.seconds)
    while more():
        try:
            with aim.tls(context) as tls:
                sent = _pour(tls, aim.request("/t/headers")[:-2])
        except GONE:
            sent = 0
        tries, most, total = tries + 1, max(most, sent), total + sent
    return _told(tries, most, total)
