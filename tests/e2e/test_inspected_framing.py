"""What goes out is as long as it says, whatever an inspector has made of it: no message hides in another."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import ISSUING, PUBLIC
from tests.harness.daemon import Daemon
from tests.harness.handled import Handled, Serve, Talk, answers, converse, to_the_end, until
from tests.harness.inspectors import Scripts
from tests.harness.raw_http import PATIENCE, Pipe, Way
from tests.harness.shapes import ok

FORGETS = """
def requestheaders(flow):
    flow.request.headers.pop("content-length", None)
"""
GROWS = """
def requestheaders(flow):
    flow.request.stream = lambda data: data.replace(b"A", b"BB")
"""
SHRINKS = """
def requestheaders(flow):
    flow.request.stream = lambda data: data.replace(b"A", b"")
"""
RAW = """
def request(flow):
    if "request" in flow.request.path:
        flow.request.raw_content = b"GET /smuggled HTTP/1.1"


def response(flow):
    if "shorter" in flow.request.path:
        flow.response.raw_content = b"blocked"
    if "longer" in flow.request.path:
        flow.response.raw_content *= 2
"""
ASKS = """
def request(flow):
    flow.request.method = "GET"
"""
STREAMS = """
def responseheaders(flow):
    longer = "longer" in flow.request.path
    flow.response.stream = lambda data: data + b"more" if longer and data else data[1:]
"""
TRAILER = """
from mitmproxy import http


def request(flow):
    flow.request.trailers = http.Headers(((b"x", b"a\\r\\nb"),))
"""
CODES = """
def requestheaders(flow):
    flow.request.headers.pop("content-length", None)
    flow.request.headers["transfer-encoding"] = "chunked, gzip"
"""
LOOKS = """
def requestheaders(flow):
    pass
"""
SLOW = """
import asyncio


async def request(flow):
    await asyncio.sleep(0)
"""
SCRIPTS: dict[str, tuple[str, dict[str, Any]]] = {
    "forgets": (FORGETS, {}),
    "grows": (GROWS, {}),
    "shrinks": (SHRINKS, {}),
    "raw": (RAW, {}),
    "asks": (ASKS, {}),
    "streams": (STREAMS, {}),
    "trailer": (TRAILER, {}),
    "codes": (CODES, {}),
    "looks": (LOOKS, {}),
    "slow": (SLOW, {}),
}
NAMES = tuple(f"{name}.example" for name in SCRIPTS)
HEAD_SECONDS = 1
SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: looks.example\r\n\r\n"


@pytest.fixture(scope="module")
def server(scratch: Path) -> Iterator[Handled]:
    with Handled(scratch / "framing", ISSUING.leaf(NAMES)) as running:
        yield running


@pytest.fixture(scope="module")
def daemon(scratch: Path) -> Iterator[Daemon]:
    scripts = Scripts(scratch)
    for name, (text, settings) in SCRIPTS.items():
        scripts.add(name, text, **settings)
    extra = {"inspection": {"addons": scripts.addons}, "limits": {"connect_head_timeout": HEAD_SECONDS}}
    with Daemon(scratch / "framed", hosts=dict.fromkeys(NAMES, "127.0.0.1"), common=PUBLIC, extra=extra) as running:
        yield running


@pytest.fixture(autouse=True)
def unharmed(daemon: Daemon) -> Iterator[None]:
    yield
    assert not daemon.log("fault")


def talk(daemon: Daemon, server: Handled, name: str, request: bytes, serve: Serve) -> Talk:
    return converse(Way("proxied", daemon.proxy, str(daemon.root)), f"{name}.example", server, serve, request)


def asked(name: str, method: str = "GET", path: str = "/", *fields: str, body: bytes = b"") -> bytes:
    first = (f"{method} {path} HTTP/1.1", f"Host: {name}.example", "Connection: close", *fields)
    return "\r\n".join((*first, "", "")).encode() + body


def post(name: str, body: bytes, path: str = "/") -> bytes:
    return asked(name, "POST", path, f"Content-Length: {len(body)}", body=body)


def test_a_body_whose_length_was_taken_away_stays_a_body(daemon: Daemon, server: Handled) -> None:
    seen = talk(daemon, server, "forgets", post("forgets", SMUGGLED), answers(ok(b"fine")))
    assert seen.status == 200
    (came,) = seen.servers
    head, _, body = came.partition(b"\r\n\r\n")
    assert b"transfer-encoding: chunked" in head.lower()
    assert body.startswith(b"%x\r\n%s\r\n" % (len(SMUGGLED), SMUGGLED))


def test_a_body_that_grows_does_not_become_another_request(daemon: Daemon, server: Handled) -> None:
    body = b"A" * len(SMUGGLED) + SMUGGLED
    serve: Serve = to_the_end
    seen = talk(daemon, server, "grows", post("grows", body), serve)
    assert seen.status == 502
    assert b'details="inspector_failed"' in seen.client
    assert b"smuggled" not in b"".join(seen.servers)
    assert daemon.wait_log("inspector failed", reason="a body that is longer than its Content-Length says")


def test_a_body_that_shrinks_is_not_completed_by_another_request(daemon: Daemon, server: Handled) -> None:
    seen = talk(daemon, server, "shrinks", post("shrinks", b"AAAAAsecret"), to_the_end)
    assert seen.status == 502
    assert daemon.wait_log("inspector failed", reason="a body that is shorter than its Content-Length says")


@pytest.mark.parametrize("path", ["/shorter", "/longer"])
def test_a_kept_response_of_another_length_is_refused(daemon: Daemon, server: Handled, path: str) -> None:
    seen = talk(daemon, server, "raw", asked("raw", path=path), answers(ok(b"Y" * 30)))
    assert seen.status == 502
    assert b'details="inspector_failed"' in seen.client


def test_a_kept_request_of_another_length_is_refused(daemon: Daemon, server: Handled) -> None:
    seen = talk(daemon, server, "raw", post("raw", b"six by", "/request"), answers(ok(b"fine")))
    assert seen.status == 502
    assert b"".join(seen.servers) == b""


@pytest.mark.parametrize("path", ["/longer", "/shorter"])
def test_a_streamed_response_of_another_length_is_cut(daemon: Daemon, server: Handled, path: str) -> None:
    seen = talk(daemon, server, "streams", asked("streams", path=path), answers(ok(b"hello")))
    assert seen.ended == "reset"
    assert b"more" not in seen.client
    said = f"a body that is {path[1:]} than its Content-Length says"
    assert daemon.wait_log("inspector failed", host="streams.example", reason=said)


def test_who_asked_with_head_gets_no_body(daemon: Daemon, server: Handled) -> None:
    seen = talk(daemon, server, "asks", asked("asks", "HEAD"), answers(ok(b"HTTP/1.1 200 OK\r\n\r\n")))
    assert seen.status == 200
    assert seen.client.endswith(b"\r\n\r\n")
    assert seen.client.count(b"\r\n\r\n") == 1


def test_a_trailer_with_a_line_break_is_refused(daemon: Daemon, server: Handled) -> None:
    request = asked("trailer", "POST", "/", "Transfer-Encoding: chunked", body=b"5\r\nhello\r\n0\r\n\r\n")
    seen = talk(daemon, server, "trailer", request, to_the_end)
    assert seen.status == 502
    assert b'details="inspector_failed"' in seen.client


def test_a_coding_that_does_not_end_with_chunked_is_refused(daemon: Daemon, server: Handled) -> None:
    seen = talk(daemon, server, "codes", post("codes", b"hello"), to_the_end)
    assert seen.status == 502
    assert b"".join(seen.servers) == b""


def test_what_is_not_chunked_is_not_passed_on_as_chunked(daemon: Daemon, server: Handled) -> None:
    def serve(pipe: Pipe) -> None:
        until(pipe, b"\r\n\r\n")
        pipe.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: xchunked\r\n\r\nhello")
        pipe.notify()

    seen = talk(daemon, server, "looks", asked("looks"), serve)
    assert seen.client.endswith(b"\r\n\r\nhello")


def test_a_response_that_says_two_lengths_is_no_fault_of_an_inspector(daemon: Daemon, server: Handled) -> None:
    head = b"HTTP/1.1 304 Not Modified\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n"
    seen = talk(daemon, server, "looks", asked("looks", "HEAD"), answers(head))
    assert seen.status == 502
    assert b"error=http_protocol_error" in seen.client
    assert daemon.wait_log("refused", host="looks.example", error="http_protocol_error")
    assert not daemon.log("inspector failed", host="looks.example")


def test_http10_is_told_no_100(daemon: Daemon, server: Handled) -> None:
    request = b"POST / HTTP/1.0\r\nHost: slow.example\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\nab"
    seen = talk(daemon, server, "slow", request, answers(b"HTTP/1.0 200 OK\r\nContent-Length: 4\r\n\r\nfine"))
    assert seen.status == 200
    assert seen.servers[0].endswith(b"ab")


def test_a_head_that_is_begun_behind_a_request_has_its_time_too(daemon: Daemon, server: Handled) -> None:
    request = b"GET / HTTP/1.1\r\nHost: looks.example\r\n\r\nGET /begun HT"
    seen = talk(daemon, server, "looks", request, answers(ok(b"fine")))
    assert seen.status == 200
    assert seen.ended == "notify"


def test_a_refused_upload_over_plain_http_gets_to_read_why(daemon: Daemon) -> None:
    """Closing on bytes that were not read would reset the connection, and the answer with it."""
    address, _, port = daemon.proxy.rpartition(":")
    request = b"POST http://looks.example:1/ HTTP/1.1\r\nHost: looks.example:1\r\nContent-Length: 300000\r\n\r\n"
    with socket.create_connection((address, int(port)), timeout=PATIENCE) as client:
        client.sendall(request + bytes(299_999))
        client.shutdown(socket.SHUT_WR)
        got = b""
        while piece := client.recv(65536):
            got += piece
    assert got.startswith(b"HTTP/1.1 502 ")
    assert got.endswith(b"</html>\n")
