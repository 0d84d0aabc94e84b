"""Answers to what is fetched for a certificate: never more than is taken, the same in any pieces, nothing raised."""

from __future__ import annotations

import asyncio
from typing import cast

from hypothesis import given
from hypothesis import strategies as st

from proxy.fetch_exchange import Answer, Exchange, FetchFailed, Request, parse_url
from tests.fuzz.strategies import CUTS, cut, edited

MOST = 300
LINES = st.sampled_from(
    [
        b"Content-Length: 5", b"Content-Length: 300", b"Content-Length: 301", b"Content-Length: 99999999999999999999",
        b"Transfer-Encoding: chunked", b"Transfer-Encoding: gzip", b"Content-Encoding: gzip", b"Connection: close",
        b"Location: /x", b"Location: http://127.0.0.1/", b"Location: //[", b"Location: \xff", b"Upgrade: x",
        b"X: " + b"y" * 99,
    ]
)  # fmt: skip
STATUS = st.sampled_from(
    [b"200 OK", b"100 Continue", b"101 X", b"103 Hints", b"204 No", b"301 M", b"302", b"308 M", b"404 N"]
)
BODIES = st.one_of(
    st.binary(max_size=400),
    st.lists(st.binary(min_size=1, max_size=99), max_size=6).map(
        lambda chunks: b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks) + b"0\r\n\r\n"
    ),
)
HEADS = st.builds(
    lambda status, lines: b"\r\n".join([b"HTTP/1.1 " + status, *lines, b"", b""]), STATUS, st.lists(LINES, max_size=4)
)
ANSWERS = edited(st.builds(lambda heads, body: b"".join(heads) + body, st.lists(HEADS, min_size=1, max_size=3), BODIES))


class Wire:
    """As much of a transport as an exchange uses."""

    def write(self, _data: bytes) -> None: ...
    def abort(self) -> None: ...


def outcome(pieces: list[bytes], posted: bool) -> tuple[type, object]:
    """What it comes to when these pieces arrive and the connection ends."""

    async def scenario() -> tuple[type, object]:
        exchange = Exchange(parse_url("http://ca.example/x"), Request(b"q" if posted else None, "a/b"), MOST)
        exchange._transport = cast("asyncio.Transport", Wire())
        for piece in pieces:
            exchange.data_received(piece)
        exchange.eof_received()
        exchange.connection_lost(None)
        found = exchange.answer.result()
        if isinstance(found, FetchFailed):
            assert str(found).isprintable()
            return FetchFailed, None
        assert len(found.body) <= MOST
        return Answer, (found.body, found.moved)

    return asyncio.run(scenario())


@given(ANSWERS, CUTS, st.booleans())
def test_an_answer_comes_to_the_same_in_any_pieces(data: bytes, places: list[int], posted: bool) -> None:
    assert outcome(cut(data, places), posted) == outcome([data], posted)


@given(
    st.text(max_size=60) | edited(st.just(b"http://user@ca.example:80/a?b#c")).map(lambda raw: raw.decode("latin-1"))
)
def test_a_url_is_plain_http_to_a_host_or_refused(text: str) -> None:
    try:
        target = parse_url(text)
    except FetchFailed as error:
        assert "\n" not in str(error)
        return
    assert text[:7].lower() == "http://"
    assert "@" not in target.authority
    assert parse_url(target.url) == target
