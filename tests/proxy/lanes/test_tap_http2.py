from __future__ import annotations

import contextlib
import itertools
import struct
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import h2.config
import h2.connection
import h2.events
import h2.settings
import pytest
from hpack import Encoder
from hypothesis import given, settings
from hypothesis import strategies as st

from config.settings import Limits
from proxy.lanes.http2_frames import (
    CONTINUATION,
    DATA,
    GOAWAY,
    HEADERS,
    PING,
    PREFACE,
    PRIORITY,
    PUSH_PROMISE,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
)
from proxy.lanes.tap import Exchange, Http2Tap, Unparsed, make_tap

CLIENT, SERVER = "client", "server"
Stream = list[tuple[str, bytes]]

REQUEST = [(":method", "GET"), (":scheme", "https"), (":authority", "A.example"), (":path", "/x?secret")]
ANSWER = [(":status", "200"), ("server", "test")]


@dataclass
class Told:
    """An exchange without its times."""

    method: str = "GET"
    host: str = "a.example"
    path: str = "/x"
    status: int = 200
    request_bytes: int = 0
    response_bytes: int = 0
    outcome: str = "complete"
    protocol: str = "HTTP/2"


def told(exchanges: list[Exchange]) -> list[Told]:
    return [
        Told(e.method, e.host, e.path, e.status, e.request_bytes, e.response_bytes, e.outcome, e.protocol)
        for e in exchanges
    ]


def make() -> tuple[Http2Tap, list[Exchange]]:
    out: list[Exchange] = []
    ticks = itertools.count(1)
    tap = make_tap(b"h2", "tunnel.example", out.append, lambda: float(next(ticks)), Limits())
    assert isinstance(tap, Http2Tap)
    return tap, out


def play(tap: Http2Tap, stream: Stream) -> None:
    for who, data in stream:
        (tap.from_client if who == CLIENT else tap.from_server)(data)


class Pair:
    """An h2 client and server back to back, a tap between them, and a record of what passed."""

    def __init__(self, *, connect: bool = False) -> None:
        self.client = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True, header_encoding="utf-8"))
        self.server = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False, header_encoding="utf-8"))
        self.tap, self.out = make()
        self.record: Stream = []
        self.events: list[h2.events.Event] = []
        if connect:
            self.server.local_settings = h2.settings.Settings(
                client=False, initial_values={h2.settings.SettingCodes.ENABLE_CONNECT_PROTOCOL: 1}
            )
        self.client.initiate_connection()
        self.server.initiate_connection()
        self.pump()

    def pump(self) -> None:
        while True:
            asked = self.client.data_to_send()
            if asked:
                self.record.append((CLIENT, asked))
                self.tap.from_client(asked)
                self.events += self.server.receive_data(asked)
            answered = self.server.data_to_send()
            if answered:
                self.record.append((SERVER, answered))
                self.tap.from_server(answered)
                self.events += self.client.receive_data(answered)
            if not asked and not answered:
                return

    def ask(self, stream: int, headers: list[tuple[str, str]] | None = None, *, end: bool = True) -> None:
        self.client.send_headers(stream, headers or REQUEST, end_stream=end)
        self.pump()

    def answer(self, stream: int, body: bytes = b"", headers: list[tuple[str, str]] | None = None, **data: Any) -> None:
        self.server.send_headers(stream, headers or ANSWER)
        self.server.send_data(stream, body, end_stream=True, **data)
        self.pump()


def test_a_request_and_its_response_make_an_exchange() -> None:
    pair = Pair()
    assert not pair.tap.busy
    pair.ask(1)
    assert pair.tap.busy
    pair.answer(1, b"abc")
    assert not pair.tap.busy
    assert pair.out == [Exchange("HTTP/2", "GET", "a.example", "/x", 200, 0, 3, 1.0, 2.0, 3.0, "complete")]


def with_trailers(pair: Pair) -> list[Told]:
    pair.ask(1, end=False)
    pair.client.send_data(1, b"12345")
    pair.client.send_headers(1, [("x-check", "1")], end_stream=True)
    pair.pump()
    pair.server.send_headers(1, [(":status", "103"), ("link", "x")])
    pair.server.send_headers(1, ANSWER)
    pair.server.send_data(1, b"abc")
    pair.server.send_headers(1, [("grpc-status", "0")], end_stream=True)
    pair.pump()
    return [Told(request_bytes=5, response_bytes=3)]


def with_padding(pair: Pair) -> list[Told]:
    pair.ask(1, end=False)
    pair.client.send_data(1, b"12345", pad_length=0)
    pair.client.send_data(1, b"", pad_length=255, end_stream=True)
    pair.pump()
    pair.answer(1, b"abc", pad_length=7)
    return [Told(request_bytes=5, response_bytes=3)]


def with_large_headers(pair: Pair) -> list[Told]:
    big = [("x-" + str(n), "\x7f" * 1000) for n in range(16)]  # beyond one frame, and not to be compressed
    pair.ask(1, REQUEST + big)
    pair.answer(1, b"abc", ANSWER + big)
    pair.ask(3)
    pair.answer(3)
    return [Told(response_bytes=3), Told()]


def with_interleaved_streams(pair: Pair) -> list[Told]:
    for stream in range(1, 80, 2):
        pair.ask(stream, [*REQUEST[:3], (":path", f"/{stream}")], end=False)
    for _ in range(2):
        for stream in range(1, 80, 2):
            pair.client.send_data(stream, bytes(stream))
        pair.pump()
    for stream in range(79, 0, -2):
        pair.server.send_headers(stream, ANSWER)
        pair.server.send_data(stream, bytes(100 + stream), end_stream=True)
        pair.client.end_stream(stream)
        pair.pump()
    return [
        Told(path=f"/{stream}", request_bytes=2 * stream, response_bytes=100 + stream) for stream in range(79, 0, -2)
    ]


def with_an_early_answer(pair: Pair) -> list[Told]:
    pair.ask(1, end=False)
    pair.answer(1, b"too large", [(":status", "413")])
    pair.server.reset_stream(1, 0)
    pair.pump()
    pair.ask(3, end=False)
    pair.answer(3, b"late")
    pair.client.send_data(3, b"body", end_stream=True)
    pair.pump()
    return [Told(status=413, response_bytes=9), Told(request_bytes=4, response_bytes=4)]


def with_resets(pair: Pair) -> list[Told]:
    pair.ask(1)
    pair.client.reset_stream(1, 8)
    pair.server.send_headers(1, ANSWER)  # crosses the reset; its header block changes the table
    pair.server.send_data(1, b"on its way")
    late = pair.server.data_to_send()
    pair.record.append((SERVER, late))
    pair.pump_first(late)
    pair.ask(3, end=False)
    pair.server.reset_stream(3, 7)
    pair.pump()
    pair.ask(5)
    pair.answer(5, b"x")
    return [Told(status=0, outcome="reset"), Told(status=0, outcome="reset"), Told(response_bytes=1)]


def with_a_push(pair: Pair) -> list[Told]:
    pair.ask(1)
    pair.server.push_stream(1, 2, [*REQUEST[:3], (":path", "/pushed")])
    pair.pump()
    pair.answer(1, b"a")
    pair.answer(2, b"bc")
    return [Told(response_bytes=1), Told(path="/pushed", response_bytes=2)]


def with_goaway(pair: Pair) -> list[Told]:
    pair.ask(1)
    pair.ask(3)
    goaway = frame(GOAWAY, 0, 0, struct.pack(">LL", 1, 0) + b"bye")
    pair.record.append((SERVER, goaway))
    pair.tap.from_server(goaway)
    pair.answer(1, b"a")
    pair.client.send_headers(5, REQUEST, end_stream=True)
    asked = pair.client.data_to_send()
    pair.record.append((CLIENT, asked))
    pair.tap.from_client(asked)
    return [
        Told(status=0, outcome="reset"),
        Told(response_bytes=1),
        Told(status=0, outcome="reset"),
    ]


def with_settings_that_change(pair: Pair) -> list[Told]:
    codes = h2.settings.SettingCodes
    for stream, (table, size) in enumerate([(0, 16384), (65536, 60000), (100, 16384), (4096, 70000)]):
        pair.client.update_settings({codes.HEADER_TABLE_SIZE: table, codes.MAX_FRAME_SIZE: size})
        pair.server.update_settings({codes.HEADER_TABLE_SIZE: table, codes.MAX_FRAME_SIZE: size})
        pair.pump()
        for again in range(2):
            number = 4 * stream + 2 * again + 1
            pair.ask(number, [*REQUEST, ("x-a", "b" * 50), ("x-c", "d" * 50)])
            pair.answer(number, bytes(min(size, 30000)), [*ANSWER, ("x-a", "b" * 50), ("x-c", "d" * 50)])
            pair.client.acknowledge_received_data(min(size, 30000), number)
            pair.pump()
    return [Told(response_bytes=size) for size in (16384, 16384, 30000, 30000, 16384, 16384, 30000, 30000)]


def with_websocket(pair: Pair) -> list[Told]:
    connect = [(":method", "CONNECT"), (":protocol", "websocket"), *REQUEST[1:]]
    pair.ask(1, connect, end=False)
    pair.server.send_headers(1, ANSWER)
    pair.pump()
    pair.client.send_data(1, b"\x81\x80\0\0\0\0")
    pair.server.send_data(1, b"\x81\x00", end_stream=True)
    pair.client.end_stream(1)
    pair.pump()
    pair.ask(3, connect, end=False)
    pair.server.send_headers(3, [(":status", "403")], end_stream=True)
    pair.client.end_stream(3)
    pair.pump()
    pair.ask(5, connect, end=False)
    pair.server.send_headers(5, ANSWER)
    pair.pump()
    pair.tap.closed()
    upgraded = Told("CONNECT", outcome="upgraded", protocol="WebSocket")
    return [
        replace(upgraded, request_bytes=6, response_bytes=2),
        Told("CONNECT", status=403),
        upgraded,
    ]


def with_no_authority(pair: Pair) -> list[Told]:
    pair.ask(1, [REQUEST[0], REQUEST[1], REQUEST[3], ("host", "H.example")])
    pair.answer(1)
    return [Told(host="h.example")]


def cut_in_the_middle(pair: Pair) -> list[Told]:
    pair.ask(1, end=False)
    pair.client.send_data(1, b"12345")
    pair.pump()
    pair.server.send_headers(1, ANSWER)
    pair.server.send_data(1, b"abcdef", pad_length=3)
    answered = pair.server.data_to_send()[:-5]
    pair.record.append((SERVER, answered))
    pair.tap.from_server(answered)
    pair.tap.server_ended()
    return [Told(request_bytes=5, response_bytes=4, outcome="cut")]


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + struct.pack(">L", stream) + payload


def pump_first(pair: Pair, late: bytes) -> None:
    """The server's bytes pass while the client's reset is on its way."""
    asked = pair.client.data_to_send()
    pair.record.insert(-1, (CLIENT, asked))
    pair.tap.from_client(asked)
    pair.tap.from_server(late)
    pair.client.receive_data(late)
    pair.server.receive_data(asked)
    pair.pump()


Pair.pump_first = pump_first  # type: ignore[attr-defined] # the one scenario that needs it stands below the class

SCENARIOS: list[Callable[[Pair], list[Told]]] = [
    with_trailers, with_padding, with_large_headers, with_interleaved_streams, with_an_early_answer, with_resets,
    with_a_push, with_goaway, with_settings_that_change, with_websocket, with_no_authority, cut_in_the_middle,
]  # fmt: skip


def run(scenario: Callable[[Pair], list[Told]]) -> tuple[Pair, list[Told]]:
    pair = Pair(connect=scenario is with_websocket)
    return pair, scenario(pair)


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.__name__)
def test_what_h2_connections_say_is_followed(scenario: Callable[[Pair], list[Told]]) -> None:
    pair, expected = run(scenario)
    pair.tap.closed()
    assert told(pair.out) == expected
    assert not pair.tap.busy


RECORDED = {scenario.__name__: (lambda got: (got[0].record, got[1]))(run(scenario)) for scenario in SCENARIOS}


@pytest.mark.parametrize("name", RECORDED)
def test_bytes_that_come_singly_tell_the_same(name: str) -> None:
    record, expected = RECORDED[name]
    tap, out = make()
    for who, data in record:
        play(tap, [(who, bytes([byte])) for byte in data])
    tap.closed()
    assert told(out) == expected


@given(st.sampled_from(sorted(RECORDED)), st.lists(st.integers(0, 100_000), max_size=40))
@settings(max_examples=150)
def test_any_splits_tell_the_same(name: str, cuts: list[int]) -> None:
    record, expected = RECORDED[name]
    tap, out = make()
    for who, data in record:
        places = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
        play(tap, [(who, data[a:b]) for a, b in pairwise(places)])
    tap.closed()
    assert told(out) == expected


# --- by hand ---

BEGUN: Stream = [(CLIENT, PREFACE + frame(SETTINGS, 0, 0)), (SERVER, frame(SETTINGS, 0, 0))]


def block(headers: list[tuple[str, str]]) -> bytes:
    return Encoder().encode(headers)


ASKED = (CLIENT, frame(HEADERS, 5, 1, block(REQUEST)))
ASKING = (CLIENT, frame(HEADERS, 4, 1, block(REQUEST)))
ANSWERED = (SERVER, frame(HEADERS, 5, 1, block(ANSWER)))
ANSWERING = (SERVER, frame(HEADERS, 4, 1, block(ANSWER)))


def begun(*more: tuple[str, bytes]) -> tuple[Http2Tap, list[Exchange]]:
    tap, out = make()
    play(tap, [*BEGUN, *more])
    return tap, out


def asks(headers: list[tuple[str, str]], flags: int = 5, stream: int = 1) -> tuple[str, bytes]:
    return (CLIENT, frame(HEADERS, flags, stream, block(headers)))


def says(headers: list[tuple[str, str]], flags: int = 5, stream: int = 1) -> tuple[str, bytes]:
    return (SERVER, frame(HEADERS, flags, stream, block(headers)))


REFUSED: dict[str, tuple[Stream, str]] = {
    "HTTP/1": ([(CLIENT, b"G")], "client: bytes that are not the HTTP/2 connection preface"),
    "half a preface": ([(CLIENT, PREFACE[:10] + b"x")], "client: bytes that are not the HTTP/2 connection preface"),
    "a client's first frame": ([(CLIENT, PREFACE + frame(PING, 0, 0, bytes(8)))], "client: a first frame"),
    "a server's first frame": ([(SERVER, frame(SETTINGS, 1, 0))], "server: a first frame"),
    "DATA first": ([(SERVER, frame(DATA, 0, 1, b"x"))], "server: a first frame"),
    "HTTP/1 from the server": ([(SERVER, b"HTTP/1.1 400 Bad Request\r\n")], "server: a frame of "),
    "too large a frame": ([*BEGUN, (CLIENT, frame(0x77, 0, 0, bytes(16385)))], "client: a frame of 16385 bytes"),
    "too large DATA": ([*BEGUN, ASKED, ANSWERING, (SERVER, frame(DATA, 0, 1, bytes(16385)))], "server: a frame of"),
    "a frame size out of range": (
        [(CLIENT, PREFACE + frame(SETTINGS, 0, 0, struct.pack(">HL", 5, 2**24)))],
        "client: SETTINGS_MAX_FRAME_SIZE",
    ),
    "SETTINGS of 5 bytes": ([(SERVER, frame(SETTINGS, 0, 0, bytes(5)))], "server: a frame of type 4 with 5 bytes"),
    "SETTINGS on a stream": ([(SERVER, frame(SETTINGS, 0, 1))], "server: a frame of type 4 on stream 1"),
    "an ACK of nothing": ([*BEGUN, (SERVER, frame(SETTINGS, 1, 0) * 2)], "server: an acknowledgement"),
    "an ACK with content": ([*BEGUN, (SERVER, frame(SETTINGS, 1, 0, bytes(6)))], "server: an acknowledgement"),
    "SETTINGS without end": ([*BEGUN, (SERVER, frame(SETTINGS, 0, 0) * 100)], "server: more than 50 SETTINGS"),
    "PING of 7 bytes": ([*BEGUN, (SERVER, frame(PING, 0, 0, bytes(7)))], "server: a frame of"),
    "WINDOW_UPDATE of 5 bytes": ([*BEGUN, (SERVER, frame(WINDOW_UPDATE, 0, 0, bytes(5)))], "server: a frame of"),
    "PRIORITY on stream 0": ([*BEGUN, (CLIENT, frame(PRIORITY, 0, 0, bytes(5)))], "client: a frame of"),
    "a short GOAWAY": ([*BEGUN, (SERVER, frame(GOAWAY, 0, 0, bytes(7)))], "server: a frame of"),
    "HEADERS on stream 0": ([*BEGUN, asks(REQUEST, 5, 0)], "client: a frame of"),
    "DATA on stream 0": ([*BEGUN, (CLIENT, frame(DATA, 0, 0))], "client: a frame of type 0"),
    "HEADERS on an even stream": ([*BEGUN, asks(REQUEST, 5, 2)], "client: a frame for"),
    "DATA on an idle stream": ([*BEGUN, (CLIENT, frame(DATA, 0, 1))], "client: a frame for stream 1"),
    "a reset of an idle stream": ([*BEGUN, (SERVER, frame(RST_STREAM, 0, 1, bytes(4)))], "server: a frame for"),
    "an answer on an idle stream": ([*BEGUN, says(ANSWER, 5, 1)], "server: a frame for"),
    "an answer on an unpromised one": ([*BEGUN, says(ANSWER, 5, 2)], "server: a frame for"),
    "DATA before the answer": ([*BEGUN, ASKED, (SERVER, frame(DATA, 0, 1, b"x"))], "server: DATA outside the response"),
    "DATA after the request": ([*BEGUN, ASKED, (CLIENT, frame(DATA, 0, 1, b"x"))], "client: DATA after the end"),
    "DATA after the answer": (
        [*BEGUN, ASKING, ANSWERED, (SERVER, frame(DATA, 0, 1, b"x"))],
        "server: DATA outside the response",
    ),
    "HEADERS after the request": ([*BEGUN, ASKED, ASKED], "client: a second header block"),
    "trailers that do not end": (
        [*BEGUN, ASKING, asks([("a", "b")], 4, 1)],
        "client: a second header block",
    ),
    "pseudo fields in trailers": ([*BEGUN, ASKING, ASKED], "client: a malformed set of pseudo"),
    "a second answer": ([*BEGUN, ASKED, ANSWERING, ANSWERED], "server: a malformed set of pseudo"),
    "a third header block": ([*BEGUN, ASKING, ANSWERED, ANSWERED], "server: a header block after"),
    "padding longer than DATA": ([*BEGUN, ASKING, (CLIENT, frame(DATA, 8, 1, b"\x05abcd"))], "client: DATA with more"),
    "padded DATA without padding": ([*BEGUN, ASKING, (CLIENT, frame(DATA, 8, 1))], "client: padded DATA"),
    "padding longer than HEADERS": ([*BEGUN, (CLIENT, frame(HEADERS, 0xC, 1, b"\x05abcd"))], "client: a frame of"),
    "empty padded HEADERS": ([*BEGUN, (CLIENT, frame(HEADERS, 0xC, 1))], "client: a frame of"),
    "HEADERS too short for priority": ([*BEGUN, (CLIENT, frame(HEADERS, 0x24, 1, b"abcd"))], "client: a frame of"),
    "CONTINUATION alone": ([*BEGUN, (CLIENT, frame(CONTINUATION, 4, 1))], "client: CONTINUATION without"),
    "another frame in a header block": (
        [*BEGUN, (CLIENT, frame(HEADERS, 0, 1) + frame(PING, 0, 0, bytes(8)))],
        "client: a frame in the middle",
    ),
    "DATA in a header block": ([*BEGUN, (CLIENT, frame(HEADERS, 0, 1) + frame(DATA, 0, 1))], "client: a frame in the"),
    "CONTINUATION of another stream": (
        [*BEGUN, (CLIENT, frame(HEADERS, 0, 1) + frame(CONTINUATION, 4, 3))],
        "client: a frame in the middle",
    ),
    "CONTINUATION without end": (
        [*BEGUN, (CLIENT, frame(HEADERS, 0, 1) + frame(CONTINUATION, 0, 1) * 65)],
        "client: more than 64 CONTINUATION",
    ),
    "a header block that is none": ([*BEGUN, (CLIENT, frame(HEADERS, 5, 1, b"\xff\xff\xff"))], "client: a head"),
    "an index that is not there": ([*BEGUN, (CLIENT, frame(HEADERS, 5, 1, b"\xbe"))], "client: a header block"),
    "a table above what is allowed": ([*BEGUN, (CLIENT, frame(HEADERS, 5, 1, b"\x3f\xe2\x1f"))], "client: a head"),
    "a table that does not shrink": (
        [*BEGUN, (SERVER, frame(SETTINGS, 0, 0, struct.pack(">HL", 1, 0))), (CLIENT, frame(SETTINGS, 1, 0) * 2), ASKED],
        "client: a header block that cannot be decoded",
    ),
    "no method": ([*BEGUN, asks(REQUEST[1:], 5, 1)], "client: a request on stream 1"),
    "no path": ([*BEGUN, asks(REQUEST[:3], 5, 1)], "client: a request on stream 1"),
    "a method twice": ([*BEGUN, asks(REQUEST + REQUEST[:1], 5, 1)], "client: a malformed"),
    "an unknown pseudo field": ([*BEGUN, asks([*REQUEST, (":a", "")], 5, 1)], "client: a malf"),
    "a pseudo field behind others": (
        [*BEGUN, asks([("a", "b"), *REQUEST], 5, 1)],
        "client: a malformed set of pseudo",
    ),
    "CONNECT": (
        [*BEGUN, asks([(":method", "CONNECT"), (":authority", "a:1")], 4, 1)],
        "client: CONNECT inside the tunnel",
    ),
    "an extended CONNECT not offered": (
        [*BEGUN, asks([(":method", "CONNECT"), (":protocol", "x"), *REQUEST[1:]], 4, 1)],
        "client: an extended CONNECT",
    ),
    ":protocol with GET": (
        [*BEGUN, asks([*REQUEST, (":protocol", "x")], 4, 1)],
        "client: :protocol without CONNECT",
    ),
    "no status": ([*BEGUN, ASKED, says([("a", "b")], 4, 1)], "server: a response on stream 1"),
    "a status of 20": ([*BEGUN, ASKED, says([(":status", "20")], 4, 1)], "server: a response"),
    "a status of 101": ([*BEGUN, ASKED, says([(":status", "101")], 4, 1)], "server: a resp"),
    "an interim response that ends": (
        [*BEGUN, ASKED, says([(":status", "103")], 5, 1)],
        "server: an interim response",
    ),
    "a push of the client": ([*BEGUN, (CLIENT, frame(PUSH_PROMISE, 4, 1, b"\0\0\0\2" + block(REQUEST)))], "client: PU"),
    "a push on an idle stream": (
        [*BEGUN, (SERVER, frame(PUSH_PROMISE, 4, 1, b"\0\0\0\2" + block(REQUEST)))],
        "server: a frame for stream 1",
    ),
    "a push of an odd stream": (
        [*BEGUN, ASKED, (SERVER, frame(PUSH_PROMISE, 4, 1, b"\0\0\0\3" + block(REQUEST)))],
        "server: a promise of stream 3",
    ),
    "a push for a pushed stream": (
        [*BEGUN, ASKED, (SERVER, frame(PUSH_PROMISE, 4, 2, b"\0\0\0\4" + block(REQUEST)))],
        "server: PUSH_PROMISE on stream 2",
    ),
    "a message on a pushed stream that is closed": (
        [
            *BEGUN,
            ASKED,
            (SERVER, frame(PUSH_PROMISE, 4, 1, b"\0\0\0\2" + block(REQUEST))),
            says(ANSWER, 5, 2),
            (CLIENT, frame(DATA, 0, 2, b"x")),
        ],
        "client: a message on stream 2 of the server",
    ),
    "a large frame that has to be read": (
        [*BEGUN, (CLIENT, frame(SETTINGS, 0, 0, struct.pack(">HL", 5, 2**20)) + ASKED[1]),
         (SERVER, frame(SETTINGS, 0, 0, bytes(65538)))],
        "server: a frame of type 4 with more than",
    ),
    "a short PUSH_PROMISE": ([*BEGUN, ASKED, (SERVER, frame(PUSH_PROMISE, 4, 1, b"\0\0\0"))], "server: a frame of"),
    "an extended CONNECT that is offered no more": (
        [
            *BEGUN,
            (SERVER, frame(SETTINGS, 0, 0, struct.pack(">HLHL", 8, 1, 8, 0))),
            asks([(":method", "CONNECT"), (":protocol", "x"), *REQUEST[1:]], 4),
        ],
        "client: an extended CONNECT",
    ),
    "a table above what is kept, though announced": (
        [
            *BEGUN,
            (SERVER, frame(SETTINGS, 0, 0, struct.pack(">HL", 1, 2**20))),
            (CLIENT, frame(HEADERS, 5, 1, b"\x3f\xe1\xff\x03" + block(REQUEST))),  # 65536
            (CLIENT, frame(HEADERS, 5, 3, b"\x3f\xe2\xff\x03" + block(REQUEST))),  # 65537
        ],
        "client: a header block that cannot be decoded: Encoder exceeded",
    ),
    "1001 streams": (
        [*BEGUN, *((CLIENT, frame(HEADERS, 4, 2 * n + 1, b"\x82\x84\x87")) for n in range(1001))],
        "client: more than 1000 open streams",
    ),
    "a message on a pushed stream": (
        [
            *BEGUN,
            ASKED,
            (SERVER, frame(PUSH_PROMISE, 4, 1, b"\0\0\0\2" + block(REQUEST))),
            (CLIENT, frame(DATA, 0, 2, b"x")),
        ],
        "client: DATA after the end of stream 2",
    ),
}  # fmt: skip


@pytest.mark.parametrize("singly", [False, True], ids=["whole", "byte by byte"])
@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_followed_is_refused(name: str, singly: bool) -> None:
    stream, message = REFUSED[name]
    if singly:
        stream = [(who, bytes([byte])) for who, data in stream for byte in data]
    tap, out = make()
    with pytest.raises(Unparsed) as caught:
        play(tap, stream)
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)
    for again in (tap.from_client, tap.from_server):
        with pytest.raises(Unparsed):
            again(b"\0")
    before = len(out)
    tap.closed()
    assert all(exchange.outcome == "cut" for exchange in out[before:])
    assert not tap.busy


def test_frames_of_unknown_kinds_and_small_ones_are_passed_over() -> None:
    noise = frame(0xFA, 0xFF, 5, bytes(5000)) + frame(PING, 1, 0, bytes(8)) + frame(WINDOW_UPDATE, 0, 9, b"\0\0\0\1")
    noise += frame(PRIORITY, 0, 77, bytes(5)) + frame(0x0C, 0, 0, b"ORIGIN")
    tap, out = begun((CLIENT, noise), ASKED, (SERVER, noise), ANSWERED, (CLIENT, noise))
    assert told(out) == [Told()]
    assert not tap.busy


def test_frames_for_streams_that_are_closed_are_skipped() -> None:
    tap, out = begun(
        ASKED,
        ANSWERED,
        (CLIENT, frame(RST_STREAM, 0, 1, bytes(4)) + frame(DATA, 1, 1, b"late")),
        (SERVER, frame(DATA, 1, 1, b"late") + frame(HEADERS, 5, 1, block(ANSWER)) + frame(RST_STREAM, 0, 1, bytes(4))),
    )
    assert told(out) == [Told()]
    assert not tap.busy


def test_the_reserved_bit_of_a_stream_number_does_not_count() -> None:
    _, out = begun(ASKED, ANSWERING, (SERVER, frame(DATA, 1, 1 | 1 << 31, b"abc")))
    assert told(out) == [Told(response_bytes=3)]


def test_the_reserved_bit_of_the_connection_does_not_count() -> None:
    tap, _ = begun((CLIENT, frame(PING, 0, 1 << 31, bytes(8))))
    assert not tap.busy


@pytest.mark.parametrize(("code", "outcome"), [(0, "complete"), (8, "reset"), (0x01000000, "reset")])
def test_a_reset_behind_the_whole_answer_is_an_error_unless_it_says_no_error(code: int, outcome: str) -> None:
    _, out = begun(ASKING, ANSWERED, (SERVER, frame(RST_STREAM, 0, 1, struct.pack(">L", code))))
    assert told(out) == [Told(outcome=outcome)]


def test_a_reset_by_the_client_is_one_even_behind_the_whole_answer() -> None:
    _, out = begun(ASKING, ANSWERED, (CLIENT, frame(RST_STREAM, 0, 1, bytes(4))))
    assert told(out) == [Told(outcome="reset")]


def test_goaway_ends_just_what_the_other_side_opened() -> None:
    promise = (SERVER, frame(PUSH_PROMISE, 4, 1, b"\0\0\0\2" + block([*REQUEST[:3], (":path", "/pushed")])))
    tap, out = begun(ASKED, promise, (SERVER, frame(GOAWAY, 0, 0, bytes(8))))
    assert [exchange.path for exchange in out] == ["/x"]
    assert tap.busy
    play(tap, [(CLIENT, frame(GOAWAY, 0, 0, bytes(8)))])
    assert told(out) == [Told(status=0, outcome="reset"), Told(path="/pushed", status=0, outcome="reset")]
    assert not tap.busy


def test_a_promised_stream_may_be_refused_by_the_client() -> None:
    _, out = begun(
        ASKED,
        (SERVER, frame(PUSH_PROMISE, 0xC, 1, b"\1\0\0\0\2" + block(REQUEST) + b"\0")),
        (CLIENT, frame(RST_STREAM, 0, 2, struct.pack(">L", 8))),
        (SERVER, frame(HEADERS, 4, 2, block(ANSWER)) + frame(DATA, 1, 2, b"late")),
        ANSWERED,
    )
    assert told(out) == [Told(status=0, outcome="reset"), Told()]


def test_a_narrower_table_counts_from_its_acknowledgement_on() -> None:
    narrower = (SERVER, frame(SETTINGS, 0, 0, struct.pack(">HL", 1, 0)))
    small = Encoder()
    small.header_table_size = 0
    after = (CLIENT, frame(HEADERS, 5, 3, small.encode(REQUEST)))
    tap, _ = begun(narrower, (CLIENT, frame(SETTINGS, 1, 0)), ASKED, (CLIENT, frame(SETTINGS, 1, 0)), after)
    assert len(tap.streams) == 2


def test_a_widened_frame_size_counts_at_once_and_a_narrowed_one_from_its_acknowledgement() -> None:
    def size(value: int) -> tuple[str, bytes]:
        return (CLIENT, frame(SETTINGS, 0, 0, struct.pack(">HL", 5, value)))

    large = (SERVER, frame(DATA, 0, 1, bytes(20000)))
    acknowledged = (SERVER, frame(SETTINGS, 1, 0))
    tap, _ = begun(ASKED, ANSWERING, size(20000), large, size(16384), large, acknowledged, acknowledged, large)
    with pytest.raises(Unparsed, match="at most 16384"):
        play(tap, [acknowledged, large])


def test_the_end_of_the_server_cuts_every_stream() -> None:
    tap, out = begun(ASKED, (CLIENT, frame(HEADERS, 5, 3, block(REQUEST))))
    tap.client_ended()
    assert out == []
    tap.server_ended()
    assert told(out) == [Told(status=0, outcome="cut")] * 2


def test_names_in_the_log_are_short_and_visible() -> None:
    headers = [(":method", "M" * 99), (":scheme", "https"), (":path", "/\r\n\x00" + "a" * 5000), (":authority", "é")]
    _, out = begun((CLIENT, frame(HEADERS, 5, 1, block(headers))), ANSWERED)
    assert (out[0].method, out[0].host) == ("M" * 32, "%C3%A9")
    assert out[0].path == "/%0D%0A%00" + "a" * 1014


# --- any bytes ---

FRAMES = st.builds(
    frame,
    st.integers(0, 11),
    st.sampled_from([0, 1, 4, 5, 8, 9, 0xC, 0x24, 0x2D]),
    st.sampled_from([0, 1, 1, 2, 3, 5]),
    st.one_of(
        st.binary(max_size=20),
        st.sampled_from(
            [block(REQUEST), block(ANSWER), b"", bytes(4), bytes(6), bytes(8), b"\0\0\0\2" + block(REQUEST)]
        ),
    ),
)


@given(st.lists(st.tuples(st.sampled_from([CLIENT, SERVER]), st.one_of(FRAMES, st.binary(max_size=30))), max_size=30))
@settings(max_examples=400)
def test_any_frames_are_followed_or_refused_the_same_in_any_pieces(stream: Stream) -> None:
    results = []
    for pieces in (stream, [(who, bytes([byte])) for who, data in stream for byte in data]):
        tap, out = make()
        refused = ""
        try:
            play(tap, [*BEGUN, *pieces])
        except Unparsed as error:
            refused = str(error)
        tap.client_ended()
        tap.server_ended()
        tap.closed()
        results.append((refused, told(out)))
    assert results[0][0] == results[1][0]
    if not results[0][0]:
        assert results[0] == results[1]


@given(st.binary(max_size=400))
def test_any_header_block_is_decoded_or_refused(data: bytes) -> None:
    tap, _ = make()
    with contextlib.suppress(Unparsed):
        play(tap, [*BEGUN, (CLIENT, frame(HEADERS, 5, 1, b"\x82\x84\x87" + data))])


@given(st.binary(max_size=200), st.binary(max_size=200))
def test_any_bytes_are_followed_or_refused(asked: bytes, answered: bytes) -> None:
    for who, data in ((CLIENT, asked), (CLIENT, PREFACE + asked), (SERVER, answered)):
        tap, _ = make()
        try:
            play(tap, [(who, data)])
        except Unparsed:
            continue
