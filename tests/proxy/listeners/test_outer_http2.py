"""Streams of HTTP/2 to the proxy: none outlives its time, holds more than its window, or ends those beside it."""

from __future__ import annotations

import h2.events
import pytest

from proxy.listeners.outer_http2 import MalformedError, in_http1
from tests.proxy.listeners.outer import CONNECT, GET, Outer, run


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
