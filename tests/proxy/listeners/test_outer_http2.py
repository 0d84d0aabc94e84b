"""Streams of HTTP/2 to the proxy: none outlives its time, holds more than its window, or ends those beside it."""

from __future__ import annotations

import asyncio

import h2.events
import pytest
from h2.settings import SettingCodes

from proxy.listeners import outer_http2
from proxy.listeners.outer_http2 import MalformedError, in_http1
from tests.proxy.listeners.outer import CONNECT, GET, Outer, run


def test_a_refusal_that_is_not_taken_ends_with_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outer_http2, "CLOSE_SECONDS", 0.01)

    async def test() -> None:
        outer = Outer({SettingCodes.INITIAL_WINDOW_SIZE: 0})
        outer.allows = "connections"
        number = outer.ask(CONNECT)
        assert list(outer.http2.streams) == [number]
        await asyncio.sleep(0.1)
        assert not outer.http2.streams

    run(test)


def test_what_a_stream_held_is_given_back_to_the_others_when_it_ends() -> None:
    async def test() -> None:
        outer = Outer(http2_stream_window=1 << 20, http2_connection_window=1 << 20)
        number, session = outer.tunnel()
        session.transport.pause_reading()
        while room := min(outer.client.local_flow_control_window(number), outer.client.max_outbound_frame_size):
            outer.client.send_data(number, b"x" * room)
            outer.sent()
        session.transport.abort()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert outer.client.outbound_flow_control_window > 0

    run(test)


def test_what_comes_in_crumbs_while_nobody_reads_is_handed_on_in_one_piece() -> None:
    async def test() -> None:
        outer = Outer()
        number, session = outer.tunnel()
        session.transport.pause_reading()
        before = len(session.pieces)
        for _ in range(1000):
            outer.client.send_data(number, b"x")
        outer.client.end_stream(number)
        outer.sent()
        assert len(session.pieces) == before
        session.transport.resume_reading()
        assert session.pieces[before:] == [b"x" * 1000]
        assert session.told == ["end"]

    run(test)


@pytest.mark.parametrize("fields", [GET, CONNECT])
def test_the_end_of_what_a_client_sends_is_told_once(fields: list[tuple[str, str]]) -> None:
    async def test() -> None:
        outer = Outer()
        number = outer.ask(fields, end=True)
        session = outer.sessions[-1]
        told = list(session.told)
        session.transport.pause_reading()
        session.transport.resume_reading()
        assert session.told == told
        assert not outer.events(h2.events.StreamReset, number)

    run(test)


@pytest.mark.parametrize(
    ("scheme", "path"),
    [
        (b"http://other.example/?", b"/"),
        (b"", b"/"),
        (b"http", b"other"),
        (b"http", b".other.example/"),
        (b"http", b"*"),
    ],
)
def test_scheme_and_path_cannot_name_another_server(scheme: bytes, path: bytes) -> None:
    fields = [(b":method", b"GET"), (b":scheme", scheme), (b":authority", b"a.example"), (b":path", path)]
    with pytest.raises(MalformedError):
        in_http1(fields, True)


def test_options_of_a_whole_server_names_it() -> None:
    fields = [(b":method", b"OPTIONS"), (b":scheme", b"http"), (b":authority", b"a.example"), (b":path", b"*")]
    assert in_http1(fields, True).target == b"http://a.example"
