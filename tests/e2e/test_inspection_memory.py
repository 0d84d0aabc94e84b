"""What bodies under inspection may use is used by those that are there: what streams, or is gone, gives it back."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest

from tests.e2e.conftest import ISSUING, PUBLIC
from tests.harness.daemon import Daemon
from tests.harness.handled import Handled, Serve, answers, converse, to_the_end, until
from tests.harness.inspectors import Scripts
from tests.harness.processes import wait_for
from tests.harness.raw_http import Pipe, Way, connect
from tests.harness.shapes import ok

SEES = """
import logging


def request(flow):
    if flow.request.raw_content:
        logging.info(f"request {flow.request.path}")


def response(flow):
    if flow.response.raw_content is not None and b"EVIL" in flow.response.raw_content:
        raise RuntimeError("evil")
"""
NAME = "sees.example"
KIB = 1024
LIMIT = 1024 * KIB
MEMORY = 2 * LIMIT
LARGE = Random(3).randbytes(LIMIT + LIMIT // 2)  # noqa: S311 - what does not compress
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
GET = f"GET / HTTP/1.1\r\nHost: {NAME}\r\nConnection: close\r\n\r\n".encode()
EVIL = ok(b"EVIL" + bytes(900 * KIB))


@pytest.fixture(scope="module")
def server(scratch: Path) -> Iterator[Handled]:
    with Handled(scratch / "memory", ISSUING.leaf(NAME)) as running:
        yield running


@pytest.fixture(scope="module")
def scripts(scratch: Path) -> Scripts:
    made = Scripts(scratch)
    made.add("sees", SEES)
    return made


@pytest.fixture(scope="module")
def daemon(scratch: Path, scripts: Scripts) -> Iterator[Daemon]:
    inspection = {"addons": scripts.addons, "on_large": "stream", "body_limit": LIMIT, "body_memory": MEMORY}
    with Daemon(
        scratch / "remembers", hosts={NAME: "127.0.0.1"}, common=PUBLIC, extra={"inspection": inspection}
    ) as running:
        yield running


@pytest.fixture(autouse=True)
def unharmed(daemon: Daemon) -> Iterator[None]:
    yield
    assert not daemon.log("fault")


def way(daemon: Daemon) -> Way:
    return Way("proxied", daemon.proxy, str(daemon.root))


def begins(body: bytes) -> Serve:
    """A server that sends a chunk, and no end."""

    def serve(pipe: Pipe) -> None:
        until(pipe, b"\r\n\r\n")
        pipe.send(CHUNKED + b"%x\r\n%s\r\n" % (len(body), body))
        to_the_end(pipe)

    return serve


def is_seen(daemon: Daemon, server: Handled) -> bool:
    seen = converse(way(daemon), NAME, server, answers(EVIL), GET)
    assert b"EVIL" not in seen.client
    return seen.status == 502 and b'details="inspector_failed"' in seen.client


def test_what_streams_takes_nothing_from_what_is_inspected(daemon: Daemon, server: Handled) -> None:
    server.begin(begins(LARGE))
    pipes = [connect(way(daemon), NAME, server.port, "http/1.1") for _ in range(2)]
    try:
        for pipe in pipes:
            pipe.send(GET)
            while len(pipe.received) < len(LARGE):
                pipe.receive()
        assert is_seen(daemon, server)
    finally:
        for pipe in pipes:
            pipe.reset()


def test_what_there_is_no_room_for_is_blocked_and_not_streamed(daemon: Daemon, server: Handled) -> None:
    server.begin(begins(bytes(900 * KIB)))
    pipes = [connect(way(daemon), NAME, server.port, "http/1.1") for _ in range(2)]
    serving = list(server.pipes)
    try:
        for number, pipe in enumerate(pipes, 1):
            pipe.send(GET)
            while len(server.pipes) < number or len(server.pipes[number - 1].sent) < 900 * KIB:
                assert server.pipes is not serving
                time.sleep(0.01)  # the server is a thread of this process
        seen = b""
        for _ in range(50):
            seen = converse(way(daemon), NAME, server, answers(EVIL), GET).client
            assert b"EVIL" not in seen
            if b'details="inspection_limit"' in seen:
                break
        assert b'details="inspection_limit"' in seen
    finally:
        for pipe in pipes:
            pipe.reset()
    for _ in range(50):
        if is_seen(daemon, server):
            return
    pytest.fail("what those took that are gone did not come back")


def test_a_request_and_its_response_count_both(daemon: Daemon, server: Handled) -> None:
    """Two exchanges of 2 x 900 KiB: the second one's response finds no room beside the first."""
    body = bytes(900 * KIB)
    post = (
        f"POST / HTTP/1.1\r\nHost: {NAME}\r\nConnection: close\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body
    )
    server.begin(begins(body))
    with connect(way(daemon), NAME, server.port, "http/1.1") as first:
        first.send(post)
        daemon.wait_log("inspector says", message="request /")
        small = b"GET / HTTP/1.1\r\nHost: sees.example\r\nConnection: close\r\n\r\n"
        statuses = {converse(way(daemon), NAME, server, answers(ok(bytes(500 * KIB))), small).status for _ in range(20)}
        assert 502 in statuses
        first.reset()


def test_a_body_counts_until_its_client_has_taken_it(
    tmp_path: Path, scratch: Path, server: Handled, scripts: Scripts
) -> None:
    """Clients that do not read: what waits for them is within what all bodies may use."""
    size = 7 << 20
    inspection = {"addons": scripts.addons, "body_memory": 16 << 20}
    with Daemon(
        tmp_path / "daemon", hosts={NAME: "127.0.0.1"}, common=PUBLIC, extra={"inspection": inspection}
    ) as daemon:
        idle = daemon.memory_kib()
        server.begin(answers(ok(bytes(size))))
        pipes = []
        try:
            for number in range(12):
                pipe = connect(way(daemon), NAME, server.port, "http/1.1")
                pipe.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
                pipe.send(GET)
                pipes.append(pipe)
                while len(server.pipes) <= number or len(server.pipes[number].sent) < size:
                    if any(entry for entry in daemon.log("refused")):
                        break
            wait_for(
                "all but those that are kept to be refused",
                lambda: len(daemon.log("refused", details="inspection_limit")) >= 12 - 4,
                timeout=30,
            )
            assert daemon.memory_kib() - idle < 100 * KIB, f"{daemon.memory_kib() - idle} KiB above idle"
        finally:
            for pipe in pipes:
                pipe.reset()
        assert not daemon.log("fault")
