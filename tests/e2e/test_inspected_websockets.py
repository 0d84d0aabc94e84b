"""WebSockets under inspection: what cannot be inspected does not pass, ends are told, no message costs too much."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import ISSUING, PUBLIC
from tests.harness.daemon import Daemon
from tests.harness.handled import Handled, Serve, Talk, converse, to_the_end, until
from tests.harness.inspectors import Scripts
from tests.harness.processes import wait_for
from tests.harness.raw_http import Ended, Pipe, Way, connect
from tests.harness.shapes_upgrades import frame

DENIES = """
def websocket_start(flow):
    raise RuntimeError("no sockets here")
"""
FIRST = """
{kind} websocket_message(flow):
    {wait}
    if b"ONE" in flow.websocket.messages[-1].content:
        raise RuntimeError("a mistake of the inspector's")


def websocket_end(flow):
    __import__("logging").info(f"end {{flow.request.host}} {{flow.websocket.close_code}}")
"""
KILLS = """
def websocket_message(flow):
    flow.kill()
"""
EMPTIES = """
def websocket_message(flow):
    flow.websocket.messages.clear()
    raise RuntimeError("a mistake of the inspector's")
"""
LOOKS = """
import asyncio
import logging


async def websocket_message(flow):
    logging.info(f"message {flow.request.path} {len(flow.websocket.messages[-1].content)}")
    await asyncio.sleep(0)


def websocket_end(flow):
    logging.info(f"end {flow.request.path} {flow.websocket.close_code}")
"""
SCRIPTS: dict[str, tuple[str, dict[str, Any]]] = {
    "denies": (DENIES, {}),
    "first-def": (FIRST.format(kind="def", wait="pass"), {}),
    "first-async": (FIRST.format(kind="async def", wait="await __import__('asyncio').sleep(0)"), {}),
    "kills": (KILLS, {}),
    "empties": (EMPTIES, {}),
    "looks": (LOOKS, {"timeout": 60}),
}
NAMES = tuple(f"{name}.example" for name in SCRIPTS)
MIB = 1 << 20
TAKES = (
    b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"
)
MASK = bytes(4)
EMPTY = frame(0x00, b"", MASK)


@pytest.fixture(scope="module")
def server(scratch: Path) -> Iterator[Handled]:
    with Handled(scratch / "sockets", ISSUING.leaf(NAMES)) as running:
        yield running


@pytest.fixture(scope="module")
def daemon(scratch: Path) -> Iterator[Daemon]:
    scripts = Scripts(scratch)
    for name, (text, settings) in SCRIPTS.items():
        scripts.add(name, text, **settings)
    inspection = {"addons": scripts.addons, "body_limit": 8 * MIB, "body_memory": 16 * MIB}
    with Daemon(
        scratch / "socketed",
        hosts=dict.fromkeys(NAMES, "127.0.0.1"),
        common=PUBLIC,
        extra={"inspection": inspection},
    ) as running:
        yield running


@pytest.fixture(autouse=True)
def unharmed(daemon: Daemon) -> Iterator[None]:
    yield
    assert not daemon.log("fault")


def way(daemon: Daemon) -> Way:
    return Way("proxied", daemon.proxy, str(daemon.root))


def asks(name: str, path: str = "/") -> bytes:
    fields = (
        f"GET {path} HTTP/1.1", f"Host: {name}.example", "Connection: Upgrade", "Upgrade: websocket",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Version: 13", "", "",
    )  # fmt: skip
    return "\r\n".join(fields).encode()


def switches(more: bytes = b"") -> Serve:
    def serve(pipe: Pipe) -> None:
        until(pipe, b"\r\n\r\n")
        pipe.send(TAKES + more)
        to_the_end(pipe)

    return serve


def talk(
    daemon: Daemon, server: Handled, name: str, serve: Serve, more: bytes, then: Callable[[Pipe], object] | None = None
) -> Talk:
    return converse(way(daemon), f"{name}.example", server, serve, asks(name) + more, then)


def test_a_websocket_that_an_inspector_does_not_begin_is_refused_whole(daemon: Daemon, server: Handled) -> None:
    early = frame(0x81, b"LEAK", MASK)
    seen = talk(daemon, server, "denies", switches(frame(0x81, b"LEAK")), early)
    assert seen.status == 502
    assert b'details="inspector_failed"' in seen.client
    assert b"LEAK" not in seen.client
    assert b"LEAK" not in b"".join(seen.servers)


@pytest.mark.parametrize("name", ["first-def", "first-async", "kills", "empties"])
def test_nothing_passes_behind_a_message_that_may_not(daemon: Daemon, server: Handled, name: str) -> None:
    def then(pipe: Pipe) -> None:
        until(pipe, b"\r\n\r\n")
        pipe.send(frame(0x81, b"ONE", MASK) + frame(0x81, b"TWO", MASK))

    seen = talk(daemon, server, name, switches(), b"", then)
    assert seen.ended == "reset"
    assert not any(word in b"".join(seen.servers) for word in (b"ONE", b"TWO"))
    if name.startswith("first"):
        assert daemon.wait_log("inspector says", message=f"end {name}.example 1006")


def test_an_end_is_told_though_the_client_is_just_gone(daemon: Daemon, server: Handled) -> None:
    path = "/gone"
    server.begin(switches())
    pipe = connect(way(daemon), "looks.example", server.port, "http/1.1")
    pipe.send(asks("looks", path))
    until(pipe, b"\r\n\r\n")
    pipe.send(frame(0x81, b"hello", MASK))
    daemon.wait_log("inspector says", message=f"message {path} 5")
    pipe.reset()
    assert daemon.wait_log("inspector says", message=f"end {path} 1006", timeout=10)
    assert len(daemon.log("inspector says", message=f"end {path} 1006")) == 1


def test_a_server_that_is_slow_to_say_goodbye_is_not_reset(daemon: Daemon, server: Handled) -> None:
    """RFC 6455 section 7.1.1: the one that closes the connection is the server."""
    goodbye, gone, told = frame(0x88, b"\x03\xe8bye"), threading.Event(), list[str]()

    def slow(pipe: Pipe) -> None:
        until(pipe, b"\r\n\r\n")
        pipe.send(TAKES)
        gone.wait(10)
        for _ in range(3):
            pipe.send(goodbye)
            told.append(to_the_end(pipe))

    server.begin(slow)
    with connect(way(daemon), "looks.example", server.port, "http/1.1") as pipe:
        pipe.send(asks("looks", "/slow"))
        until(pipe, TAKES[-4:])
        pipe.send(frame(0x88, b"\x03\xe8bye", MASK))
        until(pipe, goodbye)
        (worker,) = daemon.pids().workers
        before = daemon.open_files(worker)
        pipe.notify()
        pipe.half_close()
        assert to_the_end(pipe) == "notify"
        wait_for("the client's connection to be closed", lambda: daemon.open_files(worker) < before)
    gone.set()
    assert server.received()
    assert told == ["notify"] * 3


def cpu(daemon: Daemon) -> float:
    """Seconds of processor that the worker has used."""
    (pid,) = daemon.pids().workers
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def price(daemon: Daemon, server: Handled, path: str, message: bytes, size: int) -> float:
    """Seconds of processor until the message has been inspected."""
    server.begin(switches())
    with connect(way(daemon), "looks.example", server.port, "http/1.1") as pipe:
        pipe.send(asks("looks", path))
        until(pipe, b"\r\n\r\n")
        before = cpu(daemon)
        pipe.send(message)
        daemon.wait_log("inspector says", timeout=60, message=f"message {path} {size}")
        return cpu(daemon) - before


def test_a_large_message_costs_what_it_is_long(daemon: Daemon, server: Handled) -> None:
    small = price(daemon, server, "/small", frame(0x82, bytes(MIB), MASK), MIB)
    large = price(daemon, server, "/large", frame(0x82, bytes(7 * MIB), MASK), 7 * MIB)
    assert large < 7 * max(small, 0.05) * 2.5, f"1 MiB took {small:.2f} s, 7 MiB {large:.2f} s"


def test_frames_without_anything_in_them_are_counted(daemon: Daemon, server: Handled) -> None:
    """A message of empty frames: it is ended where it would take more than a message may."""
    few = price(daemon, server, "/few", frame(0x02, b"x", MASK) + EMPTY * 5_000 + frame(0x80, b"", MASK), 1)
    many = price(daemon, server, "/many", frame(0x02, b"x", MASK) + EMPTY * 20_000 + frame(0x80, b"", MASK), 1)
    assert many < 4 * max(few, 0.05) * 2.5, f"5,000 took {few:.2f} s, 20,000 {many:.2f} s"
    refused = len(daemon.log("refused"))
    seen = talk(daemon, server, "looks", switches(), frame(0x02, b"x", MASK) + EMPTY * 70_000)
    assert seen.ended == "reset"
    assert wait_for("it in the log", lambda: daemon.log("refused")[refused:])


def test_messages_that_are_not_whole_share_what_all_bodies_may_use(daemon: Daemon, server: Handled) -> None:
    """16 MiB for all: of five that keep 6 MiB each, two can be there."""
    server.begin(switches())
    begun = frame(0x02, bytes(6 * MIB), MASK)
    pipes = [connect(way(daemon), "looks.example", server.port, "http/1.1") for _ in range(5)]
    refused = len(daemon.log("refused"))
    try:
        for pipe in pipes:
            with contextlib.suppress(Ended):
                pipe.send(asks("looks", "/shared") + begun)
        wait_for("three to be refused", lambda: len(daemon.log("refused")) >= refused + 3, timeout=60)
        assert {entry["details"] for entry in daemon.log("refused")[refused:]} == {"inspection_limit"}
    finally:
        for pipe in pipes:
            pipe.reset()
    assert price(daemon, server, "/again", frame(0x82, bytes(7 * MIB), MASK), 7 * MIB) > 0
