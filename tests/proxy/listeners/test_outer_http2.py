"""Streams of HTTP/2 to the proxy: none outlives its time, holds more than its window, or ends those beside it."""

from __future__ import annotations

import asyncio

import h2.events
import pytest
from h2.errors import ErrorCodes
from h2.settings import SettingCodes
from hyperframe.frame import DataFrame

from proxy.listeners import outer_http2
from proxy.listeners.outer_http2 import MalformedError, in_http1
from proxy.stalls import waiting
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


def test_a_worker_without_descriptors_for_more_takes_no_stream() -> None:
    async def test() -> None:
        outer = Outer()
        _, kept = outer.tunnel()
        outer.worker.entrance.seats.full = True
        number = outer.ask(CONNECT)
        assert outer.sessions == [kept]
        assert (b":status", b"503") in [
            (name.encode(), value.encode())
            for each in outer.events(h2.events.ResponseReceived, number)
            for name, value in each.headers
        ]

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
        for _ in range(500):
            outer.client.send_data(number, b"x")
        outer.client.end_stream(number)
        outer.sent()
        assert len(session.pieces) == before
        session.transport.resume_reading()
        assert session.pieces[before:] == [b"x" * 500]
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


def test_a_flood_of_frames_lets_others_have_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outer_http2, "TURN_SECONDS", 0.0)

    async def test() -> None:
        outer = Outer()
        number, session = outer.tunnel()
        before, crumb = len(session.pieces), DataFrame(number, b"x").serialize()
        outer.http2.receive(crumb * 2000)
        assert len(session.pieces) - before == outer_http2.PIECE // len(crumb)
        assert outer.transport.paused
        outer.http2.receive(crumb)
        await asyncio.sleep(0)
        assert len(session.pieces) - before == 2 * outer_http2.PIECE // len(crumb)
        while outer.transport.paused:  # noqa: ASYNC110 - as long as there is more, turn by turn
            await asyncio.sleep(0)
        assert len(session.pieces) - before == 2001

    run(test)


def test_a_stream_with_nothing_to_send_is_not_one_that_stalls_because_the_connection_is_full() -> None:
    async def test() -> None:
        outer = Outer()
        _, session = outer.tunnel()
        outer.transport.waiting = 100_000
        outer.http2.writable(False)
        assert session.told == ["full"]
        assert waiting(session.transport) == 0
        outer.transport.waiting = 0
        outer.http2.writable(True)
        assert session.told == ["full", "goes on"]

    run(test)


def test_a_request_that_is_cancelled_at_once_ends_no_other() -> None:
    async def test() -> None:
        for malformed in (True, False):
            outer = Outer()
            _, session = outer.tunnel()
            for _ in range(2):
                number = outer.client.get_next_available_stream_id()
                outer.client.send_headers(number, CONNECT[:1] if malformed else CONNECT)
                outer.client.reset_stream(number)
            at_once = outer.client.data_to_send()
            if not malformed:
                outer.http2.drain()
            outer.http2.receive(at_once)
            assert not outer.closed
            assert session.told == []

    run(test)


def test_a_body_of_another_length_than_announced_ends_its_stream_and_no_other() -> None:
    async def test() -> None:
        for size in (1, 3):
            outer = Outer()
            _, kept = outer.tunnel()
            number = outer.client.get_next_available_stream_id()
            outer.client.send_headers(number, [*GET, ("content-length", "2")])
            outer.client.streams[number]._expected_content_length = None
            outer.client.send_data(number, b"x" * size, end_stream=True)
            outer.sent()
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            assert not outer.closed
            assert outer.events(h2.events.StreamReset, number)
            assert (kept.told, outer.sessions[-1].told) == ([], ["lost"])
            assert b"".join(outer.sessions[-1].pieces).partition(b"\r\n\r\n")[2] in (b"x", b"")

    run(test)


@pytest.mark.parametrize("kind", ["malformed", "data behind the end"])
def test_who_has_us_reset_streams_has_as_few_of_it_as_who_resets_them(kind: str) -> None:
    async def test() -> None:
        outer = Outer(http2_resets_per_second=1)
        for _ in range(15):
            if outer.closed:
                break
            if kind == "malformed":
                outer.ask(CONNECT[:1])
            else:
                number = outer.ask(GET, end=True)
                outer.http2.receive(b"\0\0\1\0\0" + number.to_bytes(4) + b"x")
        assert outer.closed
        assert outer.abused == ["resets"]
        assert outer.events(h2.events.ConnectionTerminated)[-1].error_code == ErrorCodes.ENHANCE_YOUR_CALM

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
