"""The monitor's HTTP: what strangers may send it, and what they may not."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy import monitor_http
from proxy.monitor_http import LARGEST_HEAD, MOST_CONNECTIONS, Reply, Server


async def handler(path: str, accept: str) -> Reply | None:
    if path == "/fault":
        raise RuntimeError("broken")
    return Reply(200, f"{path} {accept}".encode()) if path == "/there" else None


async def serving[A](work: Callable[[int, Server], Awaitable[A]], faults: list[BaseException] | None = None) -> A:
    server = Server(handler, (faults if faults is not None else []).append)
    listening = await asyncio.get_running_loop().create_server(server.connection, "127.0.0.1", 0)
    try:
        return await work(listening.sockets[0].getsockname()[1], server)
    finally:
        listening.close()


async def said(port: int, sent: bytes, end: bool = False) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(sent)
    if end:
        writer.write_eof()
    try:
        return await asyncio.wait_for(reader.read(), 20)
    except ConnectionError:
        return b""
    finally:
        writer.close()


def ask(sent: bytes, end: bool = False, faults: list[BaseException] | None = None) -> bytes:
    """What the server answers."""
    return asyncio.run(serving(lambda port, _: said(port, sent, end), faults))


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"GET /there HTTP/1.1\r\nHost: a\r\n\r\n", 200),
        (b"HEAD /there HTTP/1.1\r\nHost: a\r\n\r\n", 200),
        (b"GET /there?x=1 HTTP/1.0\r\n\r\n", 200),
        (b"GET /elsewhere HTTP/1.1\r\nHost: a\r\n\r\n", 404),
        (b"POST /there HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc", 405),
        (b"GET /there HTTP/1.1\r\n\r\n", 400),  # RFC 9112, section 3.2: without Host
        (b"nonsense\r\n\r\n", 400),
        (b"GET /there HTTP/1.1\r\nX: " + b"a" * LARGEST_HEAD + b"\r\n\r\n", 431),
    ],
)
def test_a_request_is_answered_with_its_status_and_the_connection_ends(sent: bytes, status: int) -> None:
    answer = ask(sent)
    assert answer.startswith(b"HTTP/1.1 %d " % status)
    assert b"connection: close" in answer.lower()


def test_head_gets_the_length_and_no_body() -> None:
    head, _, body = ask(b"HEAD /there HTTP/1.1\r\nHost: a\r\nAccept: x\r\n\r\n").partition(b"\r\n\r\n")
    assert b"content-length: 8" in head.lower()
    assert body == b""


def test_one_who_asks_and_half_closes_gets_the_answer() -> None:
    assert ask(b"GET /there HTTP/1.1\r\nHost: a\r\n\r\n", end=True).endswith(b"/there ")


def test_a_fault_of_ours_is_told_and_answered_with_500() -> None:
    faults: list[BaseException] = []
    assert ask(b"GET /fault HTTP/1.1\r\nHost: a\r\n\r\n", faults=faults).startswith(b"HTTP/1.1 500 ")
    assert [str(fault) for fault in faults] == ["broken"]


def test_a_slow_head_has_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(monitor_http, "HEAD_SECONDS", 0.2)
    assert ask(b"GET /there HTTP/1.1\r\nHost:") == b""


def test_more_connections_than_there_are_places_for_are_cut_and_the_next_one_is_served() -> None:
    async def work(port: int, server: Server) -> bytes:
        held = [await asyncio.open_connection("127.0.0.1", port) for _ in range(MOST_CONNECTIONS)]
        while len(server.open) < MOST_CONNECTIONS:  # noqa: ASYNC110 - what is waited for has no event
            await asyncio.sleep(0.01)
        assert await said(port, b"") == b""
        for _, writer in held:
            writer.close()
        while server.open:  # noqa: ASYNC110 - as above
            await asyncio.sleep(0.01)
        return await said(port, b"GET /there HTTP/1.1\r\nHost: a\r\n\r\n")

    assert asyncio.run(serving(work)).startswith(b"HTTP/1.1 200 ")


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=300), st.booleans())
def test_whatever_is_sent_is_answered_or_cut_and_never_a_fault(sent: bytes, as_request: bool) -> None:
    faults: list[BaseException] = []
    sent = b"GET /there HTTP/1.1\r\nHost: a\r\n" + sent + b"\r\n\r\n" if as_request else sent
    answer = ask(sent, end=True, faults=faults)
    assert answer == b"" or answer.startswith(b"HTTP/1.1 ")
    assert faults == []
