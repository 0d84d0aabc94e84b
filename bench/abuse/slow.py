"""300 clients that take a second for each byte, at one of four stages; how many are gone when their time is over."""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Callable

from bench.abuse.aim import GONE, Aim, Report, clock, many, nothing_left, raw
from config.settings import Limits

CLIENTS = 300
GRACE = 5.0
"""Seconds beyond a limit: three hundred are not looked at at once, on a machine with other work."""


def limit_of(stage: str) -> float:
    """Seconds that a slow client has at this stage."""
    limits = Limits()
    return {
        "connect": limits.connect_head_timeout,
        "tls": limits.tls_timeout,
        "request": limits.connect_head_timeout,
        "read": limits.write_timeout,
    }[stage]


def _trickle(
    clients: list[tuple[float, socket.socket, Callable[[], None]]], limit: float, more: Callable[[], bool]
) -> tuple[int, float]:
    """One step of each client a second, while there is more time. How many are left, and when the last one went.

    Of those whose time is not over when the attack's is, nothing can be said: they count as gone.
    """
    allowed = limit + GRACE
    last = 0.0
    while clients and more():
        turn = time.monotonic()
        alive = []
        for client in clients:
            began, sock, step = client
            if nothing_left(sock):
                last = max(last, time.monotonic() - began)
                continue
            try:
                step()
            except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
                pass
            except GONE:
                last = max(last, time.monotonic() - began)
                continue
            alive.append(client)
        clients = alive
        if all(time.monotonic() - began > allowed for began, _, _ in clients):
            break
        time.sleep(max(0.0, turn + 1 - time.monotonic()))
    over = [began for began, _, _ in clients if time.monotonic() - began > allowed]
    return len(over), last


def _attack(aim: Aim, stage: str, make: Callable[[], tuple[socket.socket, Callable[[], None]]]) -> Report:
    limit = limit_of(stage)
    more = clock(aim.seconds)
    clients: list[tuple[float, socket.socket, Callable[[], None]]] = []
    failed = 0
    with many() as held:
        for _ in range(CLIENTS):
            if not more():
                break
            try:
                sock, step = make()
            except GONE:
                failed += 1
                continue
            held.append(sock)
            clients.append((time.monotonic(), sock, step))
        begun = len(clients)
        left, last = _trickle(clients, limit, more)
    report = Report(f"{begun} clients; the last that went did after {last:.0f} s", slow=begun, left=left)
    report.notes.append(f"limit {limit:.0f} s")
    if failed:
        report.notes.append(f"{failed} were refused")
    return report


def _dripping(sock: socket.socket, data: bytes) -> Callable[[], None]:
    at = 0

    def step() -> None:
        nonlocal at
        # The last byte is never sent: what is complete is no longer slow.
        if at < len(data) - 1:
            sock.send(data[at : at + 1])
            at += 1

    return step


def slow_connect(aim: Aim) -> Report:
    """The CONNECT, byte by byte."""
    head = aim.connect[:-2] + b"X-Filler: " + b"a" * 100 + b"\r\n\r\n"

    def make() -> tuple[socket.socket, Callable[[], None]]:
        sock = aim.tcp()
        sock.setblocking(False)
        return sock, _dripping(sock, head)

    return _attack(aim, "connect", make)


def slow_tls(aim: Aim) -> Report:
    """The ClientHello, byte by byte."""
    outgoing = ssl.MemoryBIO()
    tls = aim.context().wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname=aim.host)
    try:
        tls.do_handshake()
    except ssl.SSLWantReadError:
        hello = outgoing.read()

    def make() -> tuple[socket.socket, Callable[[], None]]:
        sock = aim.tunnel()
        sock.setblocking(False)
        return sock, _dripping(sock, hello)

    return _attack(aim, "tls", make)


def slow_request(aim: Aim) -> Report:
    """A request's head over TLS, byte by byte."""
    context = aim.context()
    head = aim.request("/t/slow", "X-Filler: " + "a" * 100 + "\r\n")

    def make() -> tuple[socket.socket, Callable[[], None]]:
        sock = aim.tls(context)
        below = raw(sock)
        sock.setblocking(False)
        step = _dripping(sock, head)

        def both() -> None:
            # Session tickets are read, so that what is seen of the socket below is its end alone.
            try:
                if sock.recv(4096) == b"":
                    raise ConnectionError("closed")
            except ssl.SSLWantReadError:
                pass
            step()

        _keep.append(sock)
        return below, both

    _keep: list[ssl.SSLSocket] = []
    return _attack(aim, "request", make)


def slow_read(aim: Aim) -> Report:
    """The answer to a request for 2 MB, byte by byte."""
    context = aim.context()
    _keep: list[ssl.SSLSocket] = []

    def make() -> tuple[socket.socket, Callable[[], None]]:
        sock = aim.tls(context, receive=4096)
        sock.sendall(aim.request("/large"))
        below = raw(sock)
        _keep.append(sock)

        def step() -> None:
            if below.recv(1) == b"":
                raise ConnectionError("closed")

        return below, step

    return _attack(aim, "read", make)
