from __future__ import annotations

import contextlib
import gc
import itertools
import weakref
from dataclasses import dataclass, replace
from itertools import pairwise

import h11
import httptools
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from config.settings import Limits
from proxy.lanes.tap import BytesTap, Exchange, Http1Tap, Http2Tap, Tap, Unparsed, make_tap

CLIENT, SERVER = "client", "server"
Stream = list[tuple[str, bytes]]

GET = b"GET /a?token=secret#x HTTP/1.1\r\nHost: WWW.Example.com\r\n\r\n"
POST = b"POST /p HTTP/1.1\r\nHost: a.example\r\nContent-Length: 5\r\n\r\nhello"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n1;a=b\r\n!\r\n0\r\n\r\n"
WEBSOCKET = b"GET /ws HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n\r\n"
SWITCHED = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"


class Watched:
    """A tap with what it told, and a clock that counts its calls."""

    def __init__(self, alpn: bytes = b"http/1.1") -> None:
        self.told: list[Exchange] = []
        ticks = itertools.count(1)
        self.tap: Tap = make_tap(alpn, "tunnel.example", self.told.append, lambda: float(next(ticks)), Limits())

    def play(self, stream: Stream) -> list[Exchange]:
        for who, data in stream:
            (self.tap.from_client if who == CLIENT else self.tap.from_server)(data)
        return self.told


@dataclass
class Told:
    """An exchange without its times."""

    method: str
    host: str
    path: str
    status: int
    request_bytes: int
    response_bytes: int
    outcome: str = "complete"
    protocol: str = "HTTP/1.1"


def told(exchanges: list[Exchange]) -> list[Told]:
    return [
        Told(e.method, e.host, e.path, e.status, e.request_bytes, e.response_bytes, e.outcome, e.protocol)
        for e in exchanges
    ]


def refusal(stream: Stream) -> str:
    watched = Watched()
    with pytest.raises(Unparsed) as caught:
        watched.play(stream)
    message = str(caught.value)
    assert message.startswith(("client: ", "server: "))
    # It stays refused, and what was open can still be told.
    with pytest.raises(Unparsed):
        watched.tap.from_client(b"GET / HTTP/1.1\r\n\r\n")
    with pytest.raises(Unparsed):
        watched.tap.from_server(b"x")
    watched.tap.closed()
    return message


GET_TOLD = Told("GET", "www.example.com", "/a", 200, 0, 3)


def test_the_alpn_chooses_the_tap() -> None:
    kinds = {alpn: type(Watched(alpn).tap) for alpn in (b"h2", b"http/1.1", b"http/1.0", b"", b"imap")}
    assert kinds == {b"h2": Http2Tap, b"http/1.1": Http1Tap, b"http/1.0": Http1Tap, b"": Http1Tap, b"imap": BytesTap}


def test_a_request_and_its_response_make_an_exchange() -> None:
    watched = Watched()
    assert not watched.tap.busy
    watched.tap.from_client(GET)
    assert watched.tap.busy
    watched.tap.from_server(OK)
    assert not watched.tap.busy
    assert watched.told == [
        Exchange("HTTP/1.1", "GET", "www.example.com", "/a", 200, 0, 3, 1.0, 2.0, 3.0, "complete"),
    ]


STREAMS: dict[str, tuple[Stream, list[Told]]] = {
    "keep-alive": ([(CLIENT, GET), (SERVER, OK), (CLIENT, GET), (SERVER, OK)], [GET_TOLD, GET_TOLD]),
    "pipelined": (
        [(CLIENT, GET + POST + GET), (SERVER, OK + CHUNKED + OK)],
        [GET_TOLD, Told("POST", "a.example", "/p", 200, 5, 6), GET_TOLD],
    ),
    "chunked both ways, with trailers": (
        [
            (CLIENT, b"PUT /u HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nA\r\n0123456789\r\n0\r\n\r\n"),
            (
                SERVER,
                b"HTTP/1.1 201 Created\r\nTransfer-Encoding: gzip, Chunked\r\n\r\n"
                b"01\r\nx\r\n00\r\nA: b\r\nC: d\r\n\r\n",
            ),
        ],
        [Told("PUT", "a", "/u", 201, 10, 1)],
    ),
    "HEAD, whatever its head says": (
        [
            (CLIENT, b"HEAD /h HTTP/1.1\r\nHost: a\r\n\r\n" + GET),
            (
                SERVER,
                b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n" + OK,
            ),
        ],
        [Told("HEAD", "a", "/h", 200, 0, 0), GET_TOLD],
    ),
    "HEAD with chunked, and with no length": (
        [
            (CLIENT, b"HEAD /h HTTP/1.1\r\nHost: a\r\n\r\nHEAD /i HTTP/1.1\r\nHost: a\r\n\r\n" + GET),
            (SERVER, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nHTTP/1.1 404 No\r\n\r\n" + OK),
        ],
        [Told("HEAD", "a", "/h", 200, 0, 0), Told("HEAD", "a", "/i", 404, 0, 0), GET_TOLD],
    ),
    "204 and 304 have no body": (
        [
            (CLIENT, GET + GET + GET),
            (SERVER, b"HTTP/1.1 304 Not Modified\r\nContent-Length: 99\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n" + OK),
        ],
        [replace(GET_TOLD, status=304, response_bytes=0), replace(GET_TOLD, status=204, response_bytes=0), GET_TOLD],
    ),
    "100 Continue": (
        [(CLIENT, POST[:-5]), (SERVER, b"HTTP/1.1 100 Continue\r\n\r\n"), (CLIENT, b"hello"), (SERVER, OK)],
        [Told("POST", "a.example", "/p", 200, 5, 3)],
    ),
    "a response before the request has ended": (
        [(CLIENT, POST[:-5]), (SERVER, OK), (CLIENT, b"hello" + GET), (SERVER, OK)],
        [Told("POST", "a.example", "/p", 200, 5, 3), GET_TOLD],
    ),
    "empty lines between messages": (
        [(CLIENT, b"\r\n" + GET + b"\r\n\r\n" + GET), (SERVER, OK + b"\r\n" + OK)],
        [GET_TOLD, GET_TOLD],
    ),
    "WebSocket": (
        [(CLIENT, GET + WEBSOCKET), (SERVER, OK + SWITCHED + b"\x81\x00"), (CLIENT, b"\x81\x80\x00\x00\x00\x00")],
        [GET_TOLD, Told("GET", "a", "/ws", 101, 6, 2, "upgraded", "WebSocket")],
    ),
    "another protocol": (
        [
            (CLIENT, WEBSOCKET.replace(b"websocket", b"tls/1.0") + b"early"),
            (SERVER, SWITCHED.replace(b"websocket", b"TLS/1.0") + b"\x00\r\n\r\n"),
        ],
        [Told("GET", "a", "/ws", 101, 5, 5, "upgraded", "bytes")],
    ),
    "an upgrade that is refused": (
        [(CLIENT, WEBSOCKET + GET + POST), (SERVER, OK + OK + OK)],
        [Told("GET", "a", "/ws", 200, 0, 3), GET_TOLD, Told("POST", "a.example", "/p", 200, 5, 3)],
    ),
    "an upgrade with a body that is refused early": (
        [
            (CLIENT, POST[:-9].replace(b"Content", b"Upgrade: h2c\r\nContent") + b"\r\n\r\nhel"),
            (SERVER, OK),
            (CLIENT, b"lo" + GET),
            (SERVER, OK),
        ],
        [Told("POST", "a.example", "/p", 200, 5, 3), GET_TOLD],
    ),
    "a server that offers an upgrade": (
        [
            (CLIENT, GET),
            (SERVER, OK.replace(b"Content", b"Upgrade: h2\r\nConnection: Upgrade\r\nContent")),
            (CLIENT, GET),
        ],
        [GET_TOLD, replace(GET_TOLD, status=0, response_bytes=0, outcome="cut")],
    ),
    "absolute form": (
        [
            (CLIENT, b"GET http://u:p@B.example:8443/x;y?q HTTP/1.1\r\nHost: a\r\n\r\n"),
            (SERVER, OK),
            (CLIENT, b"GET http://b.example?q HTTP/1.1\r\nHost: a\r\n\r\n"),
            (SERVER, OK),
            (CLIENT, b"OPTIONS * HTTP/1.1\r\n\r\n"),
            (SERVER, OK),
        ],
        [
            Told("GET", "b.example:8443", "/x;y", 200, 0, 3),
            Told("GET", "b.example", "/", 200, 0, 3),
            Told("OPTIONS", "tunnel.example", "*", 200, 0, 3),
        ],
    ),
    "empty lines behind the last messages": (
        [
            (CLIENT, GET.replace(b"Host", b"Connection: close\r\nHost") + b"\r\n"),
            (SERVER, OK.replace(b"Content", b"Connection: close\r\nContent") + b"\r\n"),
        ],
        [GET_TOLD],
    ),
    "HTTP/1.0 kept alive": (
        [
            (CLIENT, b"GET /o HTTP/1.0\r\nConnection: keep-alive\r\n\r\n" + GET),
            (SERVER, OK.replace(b"1.1", b"1.0").replace(b"Content", b"Connection: Keep-Alive\r\nContent") + OK),
        ],
        [Told("GET", "tunnel.example", "/o", 200, 0, 3), GET_TOLD],
    ),
    "cut in the middle of the response": (
        [(CLIENT, GET + POST), (SERVER, OK[:-1])],
        [
            replace(GET_TOLD, response_bytes=2, outcome="cut"),
            Told("POST", "a.example", "/p", 0, 5, 0, "cut"),
        ],
    ),
    "cut in the middle of the request": (
        [(CLIENT, GET + POST[:-3]), (SERVER, OK)],
        [GET_TOLD, Told("POST", "a.example", "/p", 0, 2, 0, "cut")],
    ),
    "cut in the middle of a chunk": (
        [(CLIENT, GET), (SERVER, CHUNKED[:52])],
        [replace(GET_TOLD, response_bytes=52 - CHUNKED.index(b"hello"), outcome="cut")],
    ),
}


@pytest.mark.parametrize("name", STREAMS)
def test_streams_are_followed(name: str) -> None:
    stream, expected = STREAMS[name]
    watched = Watched()
    watched.play(stream)
    watched.tap.closed()
    assert told(watched.told) == expected
    assert not watched.tap.busy
    watched.tap.closed()
    assert len(watched.told) == len(expected)


def split(data: bytes, cuts: list[int]) -> list[bytes]:
    places = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    return [data[a:b] for a, b in pairwise(places)]


@pytest.mark.parametrize("name", STREAMS)
def test_bytes_that_come_singly_tell_the_same(name: str) -> None:
    stream, expected = STREAMS[name]
    watched = Watched()
    watched.play([(who, bytes([byte])) for who, data in stream for byte in data])
    watched.tap.closed()
    assert told(watched.told) == expected


@given(st.data())
@settings(max_examples=400)
def test_any_splits_tell_the_same(data: st.DataObject) -> None:
    stream, expected = STREAMS[data.draw(st.sampled_from(sorted(STREAMS)))]
    watched = Watched()
    for who, piece in stream:
        cuts = data.draw(st.lists(st.integers(0, len(piece)), max_size=8))
        watched.play([(who, part) for part in split(piece, cuts)])
    watched.tap.closed()
    assert told(watched.told) == expected


# --- ends of the connection ---


def test_a_response_that_ends_with_the_connection_is_complete_then() -> None:
    watched = Watched()
    watched.play([(CLIENT, GET), (SERVER, b"HTTP/1.0 200 OK\r\n\r\n" + bytes(100)), (SERVER, bytes(70000))])
    assert watched.told == []
    assert watched.tap.busy
    watched.tap.server_ended()
    assert told(watched.told) == [replace(GET_TOLD, response_bytes=70100)]
    watched.tap.closed()
    assert len(watched.told) == 1


def test_the_end_of_the_server_cuts_what_is_open() -> None:
    watched = Watched()
    watched.play([(CLIENT, GET + GET), (SERVER, OK[:-1])])
    watched.tap.server_ended()
    assert [(e.outcome, e.status, e.response_bytes, e.first_byte > 0) for e in watched.told] == [
        ("cut", 200, 2, True),
        ("cut", 0, 0, False),
    ]
    assert not watched.tap.busy


def test_a_client_that_has_ended_still_gets_its_answer() -> None:
    watched = Watched()
    watched.play([(CLIENT, GET)])
    watched.tap.client_ended()
    assert watched.tap.busy
    watched.play([(SERVER, OK)])
    assert told(watched.told) == [GET_TOLD]


def test_an_upload_that_the_client_ends_is_cut_even_if_answered() -> None:
    watched = Watched()
    watched.play([(CLIENT, POST[:-2])])
    watched.tap.client_ended()
    watched.play([(SERVER, OK)])
    assert told(watched.told) == [Told("POST", "a.example", "/p", 200, 3, 3, "cut")]
    answered_first = Watched()
    answered_first.play([(CLIENT, POST[:-2]), (SERVER, OK)])
    assert answered_first.tap.busy
    answered_first.tap.client_ended()
    assert told(answered_first.told) == told(watched.told)


def test_an_early_answer_and_the_servers_end_cut_the_upload() -> None:
    watched = Watched()
    watched.play([(CLIENT, POST[:-2]), (SERVER, OK.replace(b"Content", b"Connection: close\r\nContent"))])
    watched.tap.server_ended()
    assert told(watched.told) == [Told("POST", "a.example", "/p", 200, 3, 3, "cut")]
    watched.tap.from_client(b"lo")  # still on its way
    watched.tap.closed()
    assert len(watched.told) == 1


def test_an_upgraded_connection_is_told_of_at_its_close() -> None:
    watched = Watched()
    watched.play([(CLIENT, WEBSOCKET), (SERVER, SWITCHED), (CLIENT, bytes(100000)), (SERVER, bytes(200000))])
    assert watched.tap.protocol == "WebSocket"
    watched.tap.client_ended()
    watched.tap.server_ended()
    assert watched.told == []
    assert watched.tap.busy
    watched.tap.closed()
    assert told(watched.told) == [Told("GET", "a", "/ws", 101, 100000, 200000, "upgraded", "WebSocket")]


def test_a_head_in_progress_keeps_the_tap_busy() -> None:
    watched = Watched()
    watched.play([(CLIENT, GET[:10])])
    assert watched.tap.busy
    watched.tap.closed()
    assert watched.told == []


def test_large_bodies_are_counted_exactly() -> None:
    watched = Watched()
    size = 5_000_000
    watched.play([(CLIENT, GET), (SERVER, b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)])
    for at in range(0, size, 65536):
        watched.play([(SERVER, bytes(min(65536, size - at)))])
    assert told(watched.told) == [replace(GET_TOLD, response_bytes=size)]


def test_the_path_in_the_log_is_short_and_visible() -> None:
    watched = Watched()
    watched.play([(CLIENT, b"GET /" + b"a" * 5000 + b" HTTP/1.1\r\nHost: a\xe9 \tb\r\n\r\n"), (SERVER, OK)])
    assert watched.told[0].path == "/" + "a" * 1023
    assert watched.told[0].host == "a%E9%20%09b"


# --- what is refused ---

REFUSED: dict[str, tuple[Stream, str]] = {
    "garbage, at its first byte": ([(CLIENT, b"\x16")], "client: "),
    "an unknown method": ([(CLIENT, b"FOO / HTTP/1.1\r\n")], "client: "),
    "HTTP/2 without ALPN": ([(CLIENT, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")], "client: "),
    "HTTP/0.9": ([(CLIENT, b"GET /\r\n\r\n")], "client: "),
    "CONNECT": ([(CLIENT, b"CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n")], "client: CONNECT inside the tunnel"),
    "two Host fields": ([(CLIENT, b"GET / HTTP/1.1\r\nHost: a\r\nhost: b\r\n\r\n")], "client: two fields"),
    "two blanks in the request line": ([(CLIENT, b"GET  / HTTP/1.1\r\n\r\n")], "client: a malformed request line"),
    "NUL in a head": ([(CLIENT, b"GET / HTTP/1.1\r\nA: \x00\r\n\r\n")], "client: "),
    "bare LF": ([(CLIENT, b"GET / HTTP/1.1\nHost: a\n\n")], "client: "),
    "obs-fold": ([(CLIENT, b"GET / HTTP/1.1\r\nHost: a\r\n b\r\n\r\n")], "client: "),
    "a blank before the colon": ([(CLIENT, b"GET / HTTP/1.1\r\nContent-Length : 5\r\n\r\n")], "client: "),
    "two lengths": (
        [(CLIENT, b"POST / HTTP/1.1\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\n")],
        "client: ",
    ),
    "a signed length": ([(CLIENT, b"POST / HTTP/1.1\r\nContent-Length: +5\r\n\r\n")], "client: "),
    "a huge length": ([(CLIENT, b"POST / HTTP/1.1\r\nContent-Length: 9999999999999999999\r\n\r\n")], "client: "),
    "length and chunked": (
        [(CLIENT, GET), (SERVER, b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n")],
        "server: ",
    ),
    "chunked twice": (
        [(CLIENT, GET), (SERVER, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked, chunked\r\n\r\n")],
        "server: ",
    ),
    "chunked not last": (
        [(CLIENT, GET), (SERVER, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked, gzip\r\n\r\n")],
        "server: ",
    ),
    "chunked in HTTP/1.0": (
        [(CLIENT, GET), (SERVER, b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")],
        "server: Transfer-Encoding in HTTP/1.0",
    ),
    "an unknown coding": ([(CLIENT, b"POST / HTTP/1.1\r\nTransfer-Encoding: xchunked\r\n\r\n")], "client: "),
    "a target of another scheme": ([(CLIENT, b"GET ftp://a/ HTTP/1.1\r\n\r\n")], "client: a request target"),
    "a status line that only looks like one": (
        [(CLIENT, GET), (SERVER, b"RTSP/1.0 200 OK\r\n\r\n")],
        "server: ",
    ),
    "101 pipelined": ([(CLIENT, GET * 101)], "client: more than 100 requests"),
    "a response before a request": ([(SERVER, OK)], "server: a response that no request asked for"),
    "a second response": ([(CLIENT, GET), (SERVER, OK + b"H")], "server: a response that no request asked for"),
    "a second response during the upload": (
        [(CLIENT, POST[:-1]), (SERVER, OK + OK)],
        "server: a response that no request asked for",
    ),
    "bytes after the request's close": (
        [(CLIENT, GET.replace(b"Host", b"Connection: close\r\nHost") + b"\r\n"), (CLIENT, GET)],
        "client: bytes after Connection: close",
    ),
    "bytes after the response's close": (
        [(CLIENT, GET + GET), (SERVER, OK.replace(b"Content", b"Connection: x, Close\r\nContent") + OK)],
        "server: bytes after Connection: close",
    ),
    "close beside keep-alive": (
        [(CLIENT, GET.replace(b"Host", b"Connection: keep-alive\r\nConnection: close\r\nHost") + GET)],
        "client: bytes after Connection: close",
    ),
    "a status of two digits": ([(CLIENT, GET), (SERVER, b"HTTP/1.1 20 OK\r\n\r\n")], "server: "),
    "a status of 099": ([(CLIENT, GET), (SERVER, b"HTTP/1.1 099 OK\r\n\r\n")], "server: "),
    "another protocol's answer": ([(CLIENT, GET), (SERVER, b"ICY 200 OK\r\n\r\n")], "server: "),
    "101 that nobody asked for": ([(CLIENT, GET), (SERVER, SWITCHED)], "server: "),
    "101 without Upgrade": ([(CLIENT, WEBSOCKET), (SERVER, b"HTTP/1.1 101 X\r\n\r\n")], "server: "),
    "101 for an earlier request": ([(CLIENT, GET + WEBSOCKET), (SERVER, SWITCHED)], "server: "),
    "much behind an upgrade": ([(CLIENT, WEBSOCKET + bytes(65537))], "client: more than 65536 bytes behind"),
    "garbage behind a refused upgrade": ([(CLIENT, WEBSOCKET + b"\x00"), (SERVER, OK)], "client: "),
    "a chunk size that is no number": ([(CLIENT, GET), (SERVER, CHUNKED.replace(b"5\r\n", b"x\r\n", 1))], "server: "),
    "a chunk size with a blank": ([(CLIENT, GET), (SERVER, CHUNKED.replace(b"5\r\n", b"5 \r\n", 1))], "server: "),
    "a chunk size that is too long": ([(CLIENT, GET), (SERVER, CHUNKED.replace(b"5\r\n", b"0" * 16))], "server: "),
    "a chunk longer than it says": ([(CLIENT, GET), (SERVER, CHUNKED.replace(b"hello", b"hello!"))], "server: "),
    "a bare LF after a chunk": ([(CLIENT, GET), (SERVER, CHUNKED.replace(b"hello\r\n", b"hello\n"))], "server: "),
    "a bare LF in a chunk extension": ([(CLIENT, GET), (SERVER, CHUNKED.replace(b"a=b", b"a\nb"))], "server: "),
    "an endless chunk extension": ([(CLIENT, GET), (SERVER, CHUNKED[:60] + b";" + b"a" * 5000)], "server: "),
    "a long chunk extension": ([(CLIENT, GET), (SERVER, CHUNKED.replace(b"a=b", b"a" * 5000))], "server: "),
    "malformed trailers": ([(CLIENT, GET), (SERVER, CHUNKED[:-2] + b"a b: c\r\n\r\n")], "server: malformed trailers"),
    "trailers with a bare LF": ([(CLIENT, GET), (SERVER, CHUNKED[:-2] + b"a: b\nc\r\n\r\n")], "server: "),
    "endless trailers": ([(CLIENT, GET), (SERVER, CHUNKED[:-2] + b"a: b\r\n" * 4000)], "server: trailers of more than"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_followed_is_refused(name: str) -> None:
    stream, message = REFUSED[name]
    assert refusal(stream).startswith(message)


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_followed_is_refused_byte_by_byte(name: str) -> None:
    stream, message = REFUSED[name]
    if sum(len(data) for _, data in stream) > 50000:
        pytest.skip("the size alone is what is refused")
    assert refusal([(who, bytes([byte])) for who, data in stream for byte in data]).startswith(message[:8])


@given(st.lists(st.tuples(st.sampled_from([CLIENT, SERVER]), st.binary(max_size=60))))
def test_any_bytes_are_followed_or_refused(stream: Stream) -> None:
    watched = Watched()
    with contextlib.suppress(Unparsed):
        watched.play(stream)
    watched.tap.client_ended()
    watched.tap.server_ended()
    watched.tap.closed()


PIECES = [
    GET, POST, OK, CHUNKED, WEBSOCKET, SWITCHED, b"HTTP/1.1 ", b"GET / ", b"\r\n", b"\n", b"\r", b"HTTP/1.1\r\n",
    b"Host: a", b"Content-Length: 2", b"Transfer-Encoding: chunked", b"Connection: close", b"0\r\n\r\n", b"2\r\nab\r\n",
    b" ", b"\x00", b"HTTP/1.1 100 C\r\n\r\n", b"HTTP/1.1 204 N\r\n\r\n", b"HEAD / HTTP/1.1\r\n\r\n", b":", b"ab",
]  # fmt: skip


@given(st.lists(st.tuples(st.sampled_from([CLIENT, SERVER]), st.sampled_from(PIECES)), max_size=14), st.booleans())
@settings(max_examples=400)
def test_any_mixture_is_told_the_same_in_any_pieces(stream: Stream, ended: bool) -> None:
    results = []
    for pieces in (stream, [(who, bytes([byte])) for who, data in stream for byte in data]):
        watched = Watched()
        refused = False
        try:
            watched.play(pieces)
        except Unparsed:
            refused = True
        if ended:
            watched.tap.server_ended()
        watched.tap.closed()
        results.append((refused, [t for t in told(watched.told) if t.outcome != "cut" or not refused]))
    assert results[0] == results[1]


# --- other readers agree ---


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["GET", "POST", "HEAD", "PUT"]),
            st.one_of(st.none(), st.binary(max_size=40)),
            st.sampled_from(["length", "chunked", "none"]),
            st.binary(max_size=200),
            st.sampled_from([200, 204, 304, 404]),
        ),
        max_size=5,
    ),
    st.lists(st.integers(0, 2000), max_size=12),
)
@settings(max_examples=200)
def test_what_h11_writes_is_followed(turns: list[tuple[str, bytes | None, str, bytes, int]], cuts: list[int]) -> None:
    client, server = h11.Connection(h11.CLIENT), h11.Connection(h11.SERVER)
    watched = Watched()
    expected = []
    for method, upload, framing, body, status in turns:
        headers = [("Host", "h.example")]
        if upload is not None:
            headers.append(("Content-Length", str(len(upload))))
        asked = client.send(h11.Request(method=method, target="/t", headers=headers)) or b""
        asked += (client.send(h11.Data(data=upload)) or b"") if upload else b""
        asked += client.send(h11.EndOfMessage()) or b""
        server.receive_data(asked)
        while type(server.next_event()) is not h11.EndOfMessage:
            pass
        if method == "HEAD" or status in (204, 304) or framing == "none":
            body = b""
        said = [("Content-Length", str(len(body)))] if framing != "chunked" else [("Transfer-Encoding", "chunked")]
        if status == 204:
            said = []
        answer = server.send(h11.Response(status_code=status, headers=said)) or b""
        for at in range(0, len(body), 50):
            answer += server.send(h11.Data(data=body[at : at + 50])) or b""
        answer += server.send(h11.EndOfMessage()) or b""
        client.receive_data(answer)
        while type(client.next_event()) is not h11.EndOfMessage:
            pass
        client.start_next_cycle()
        server.start_next_cycle()
        watched.play([(CLIENT, piece) for piece in split(asked, cuts)])
        watched.play([(SERVER, piece) for piece in split(answer, cuts)])
        expected.append(Told(method, "h.example", "/t", status, len(upload or b""), len(body)))
    assert told(watched.told) == expected
    assert not watched.tap.busy


class Count:
    def __init__(self) -> None:
        self.messages = 0

    def on_message_complete(self) -> None:
        self.messages += 1


@given(st.lists(st.sampled_from([b"GET / HTTP/1.1\r\n", b"POST /x HTTP/1.0\r\n", b"Host: a\r\n", b"Host:a", b"A: b\r\n",
                                 b"Content-Length: 1\r\n", b"Transfer-Encoding: chunked\r\n", b"Connection: close\r\n",
                                 b"\r\n", b"\n", b"\r", b" ", b"x", b"1\r\nx\r\n", b"0\r\n", b"\t", b"\x0b", b"\xff",
                                 b"Connection: keep-alive\r\n"]),
                max_size=14))  # fmt: skip
@settings(max_examples=600)
def test_llhttp_alone_finds_as_many_requests_in_what_is_followed(pieces: list[bytes]) -> None:
    data = b"".join(pieces)
    watched = Watched()
    try:
        watched.play([(CLIENT, data)])
    except Unparsed:
        return
    uploads = 1 if watched.tap._upload is not None else 0  # type: ignore[attr-defined] # the base class has none
    count = Count()
    parser = httptools.HttpRequestParser(count)
    parser.feed_data(data)
    assert count.messages == len(watched.tap._open) - uploads  # type: ignore[attr-defined] # the base class has none


def test_a_tap_that_is_dropped_in_the_middle_leaves_nothing_behind() -> None:
    gc.collect()
    gc.disable()
    try:

        class Traced(Http1Tap):
            __slots__ = ("__weakref__",)

        tap = Traced("h", lambda _: None, lambda: 0.0, Limits())
        tap.from_client(POST[:-2])
        tap.from_server(OK[:10])
        gone = weakref.ref(tap)
        del tap
        assert gone() is None
    finally:
        gc.enable()
