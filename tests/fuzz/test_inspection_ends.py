"""The inspection lane's ends of HTTP/1 and HTTP/2: the same messages in any pieces, and the right ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import h2.config
import h2.connection
from hypothesis import given
from hypothesis import strategies as st
from mitmproxy import http
from mitmproxy.connection import Client, ConnectionState
from mitmproxy.options import Options
from mitmproxy.proxy import commands, events
from mitmproxy.proxy.layers.http import (
    HttpConnection,
    HttpEvent,
    ReceiveHttp,
    RequestData,
    RequestEndOfMessage,
    RequestHeaders,
    RequestProtocolError,
    RequestTrailers,
    ResponseData,
    ResponseEndOfMessage,
    ResponseHeaders,
    ResponseProtocolError,
)

from config.settings import Limits
from proxy import refusals
from proxy.lanes.abuse import Bounds
from proxy.lanes.exchange import Exchange
from proxy.lanes.inspection.http1 import Http1Server
from proxy.lanes.inspection.http1_server_end import Http1Client
from proxy.lanes.inspection.http2 import Http2Client, Http2Server
from proxy.lanes.inspection.inspectors import LANE_OPTIONS
from proxy.lanes.inspection.layer import LaneContext
from proxy.lanes.inspection.messages import Ended
from proxy.lanes.tap import Unparsed, make_tap
from tests.fuzz.strategies import CLIENT, CUTS, HTTP1_STREAMS, HTTP2_STREAMS, SERVER, STEPS, Stream, Turn, cut, turns
from tests.fuzz.test_tap_http2 import Play
from tests.proxy.lanes.relay import HOST

OPTIONS = Options()
for name, value in LANE_OPTIONS.items():
    if name not in OPTIONS:  # mitmproxy's own proxy server adds these
        OPTIONS.add_option(name, type(value), value, "as the lane sets it")
OPTIONS.update(**LANE_OPTIONS)
ANSWER = b"fine"
BOUNDS = Bounds(Limits(), lambda _: None)


@dataclass
class Message:
    """A message as an end tells of it."""

    first: tuple[object, ...]
    body: bytearray = field(default_factory=bytearray)
    ended: bool = False
    failed: bool = False


class Rig:
    """An end of the lane, fed with bytes; what it tells, and what it has sent."""

    def __init__(self, make: Callable[[LaneContext], HttpConnection], *, answers: bool) -> None:
        client = Client(peername=("192.0.2.1", 1), sockname=("192.0.2.2", 2), timestamp_start=0.0)
        client.state = ConnectionState.OPEN
        self.context = LaneContext(client, OPTIONS)
        self.context.server.state = ConnectionState.OPEN
        self.end = make(self.context)
        self.peer = client if answers else self.context.server
        self.answers = answers
        self.messages: dict[int, Message] = {}
        self.sent = bytearray()
        self.closed = False
        self.tell(events.Start())

    def feed(self, pieces: Sequence[bytes]) -> None:
        """The peer's bytes, until the end closes its connection."""
        for piece in pieces:
            if self.closed:
                return
            self.tell(events.DataReceived(self.peer, piece))

    def tell(self, event: events.Event) -> None:
        """What an exception does here is to fail the test: none is documented."""
        for command in self.end.handle_event(event):
            if isinstance(command, ReceiveHttp):
                self._told(command.event)
            elif isinstance(command, commands.SendData):
                self.sent += command.data
            elif isinstance(command, commands.CloseConnection):
                self.closed = True
            else:
                assert isinstance(command, commands.Log), command

    def _told(self, event: HttpEvent) -> None:
        number = event.stream_id
        if isinstance(event, RequestHeaders):
            assert number not in self.messages, "one stream for each request"
            request = event.request.data
            self.messages[number] = Message((request.method, request.path, request.authority))
        elif isinstance(event, ResponseHeaders):
            self.messages[number] = Message((event.response.status_code,))
        elif isinstance(event, (RequestData, ResponseData)):
            assert not self.messages[number].ended
            self.messages[number].body += event.data
        elif isinstance(event, (RequestEndOfMessage, ResponseEndOfMessage)):
            assert not self.messages[number].ended, "one end for each message"
            self.messages[number].ended = True
            if self.answers:
                self._answer(number)
        elif isinstance(event, (RequestProtocolError, ResponseProtocolError)):
            self.messages.setdefault(number, Message(())).failed = True

    def _answer(self, number: int) -> None:
        size = str(len(ANSWER))
        response = http.Response.make(200, ANSWER, {"Content-Length": size})
        self.tell(ResponseHeaders(number, response, end_stream=False))
        self.tell(ResponseData(number, ANSWER))
        self.tell(ResponseEndOfMessage(number))

    @property
    def whole(self) -> list[tuple[object, ...]]:
        return [(*each.first, bytes(each.body)) for each in self.messages.values() if each.ended and not each.failed]


def refuse(_: object, __: str) -> refusals.Refusal:
    return refusals.misdirected(HOST, HOST, "0123")


def http1_server(context: LaneContext) -> HttpConnection:
    return Http1Server(context, refuse, BOUNDS, secure=True)


def http2_server(context: LaneContext) -> HttpConnection:
    return Http2Server(context, refuse, BOUNDS)


def http1_client(context: LaneContext) -> HttpConnection:
    return Http1Client(context, BOUNDS)


def http2_client(context: LaneContext) -> HttpConnection:
    return Http2Client(context, BOUNDS)


def in_any_pieces(
    make: Callable[[LaneContext], HttpConnection], data: bytes, places: list[int], *, prepare: Callable[[Rig], None]
) -> Rig:
    """The rig that got all in one piece, once others that got it in pieces have told of the same messages."""
    rigs = []
    for pieces in ([data], cut(data, places), [bytes([byte]) for byte in data]):
        rig = Rig(make, answers=make not in (http1_client, http2_client))
        prepare(rig)
        rig.feed(pieces)
        rigs.append(rig)
    first = rigs[0]
    for rig in rigs[1:]:
        assert rig.whole == first.whole
        assert rig.closed == first.closed
    return first


def nothing(_: Rig) -> None:
    """There is nothing to prepare."""


def sent_by(stream: Stream, who: str) -> bytes:
    return b"".join(data for each, data in stream if each == who)


# The client's side, HTTP/1


@given(st.lists(turns(), max_size=4), CUTS)
def test_http1_requests_are_those_that_were_sent_and_each_is_answered(made: list[Turn], places: list[int]) -> None:
    rig = in_any_pieces(http1_server, b"".join(turn.asked for turn in made), places, prepare=nothing)
    assert [(first[0], len(body)) for *first, body in rig.whole] == [  # type: ignore[arg-type] # the last is the body
        (turn.method.encode(), turn.request_bytes) for turn in made
    ]
    assert rig.sent.count(b"HTTP/1.1 200") == len(made)
    assert rig.sent.count(ANSWER) == sum(turn.method != "HEAD" for turn in made)
    assert not rig.closed


@given(HTTP1_STREAMS, CUTS)
def test_any_bytes_of_http1_are_the_same_requests_in_any_pieces_and_those_of_the_tap(
    stream: Stream, places: list[int]
) -> None:
    data = sent_by(stream, CLIENT)
    rig = in_any_pieces(http1_server, data, places, prepare=nothing)
    told: list[Exchange] = []
    tap = make_tap(b"http/1.1", HOST, told.append, lambda: 0.0, Limits())
    try:
        tap.from_client(data)
    except Unparsed:
        assert rig.closed or b"upgrade" in data.lower(), "what the fast lane cannot follow is not carried on here"
        return
    tap.closed()
    if not rig.closed and b"upgrade" not in data.lower():
        ended = [each for each in rig.messages.values() if each.ended]
        assert [m.first[0] for m in rig.messages.values()] == [each.method.encode() for each in told]
        assert [len(m.body) for m in ended] == [each.request_bytes for each in told][: len(ended)]


# The server's side, HTTP/1


def asked(method: str) -> Callable[[Rig], None]:
    """Send a request without a body through the end."""

    def prepare(rig: Rig) -> None:
        request = http.Request.make(method, f"https://{HOST}/", b"", {"Host": HOST})
        request.data.authority = b""
        rig.tell(RequestHeaders(1, request, end_stream=True))
        rig.tell(RequestEndOfMessage(1))

    return prepare


@given(turns(), CUTS)
def test_an_http1_response_is_the_one_that_was_sent(turn: Turn, places: list[int]) -> None:
    rig = in_any_pieces(http1_client, turn.answered, places, prepare=asked(turn.method))
    assert [(status, len(body)) for status, body in rig.whole] == [(turn.status, turn.response_bytes)]  # type: ignore[arg-type] # bytes


@given(HTTP1_STREAMS, CUTS, st.sampled_from(["GET", "HEAD"]))
def test_any_bytes_of_http1_are_the_same_response_in_any_pieces(stream: Stream, places: list[int], method: str) -> None:
    rig = in_any_pieces(http1_client, sent_by(stream, SERVER), places, prepare=asked(method))
    if not rig.closed:
        rig.context.server.state = ConnectionState.CLOSED
        rig.tell(Ended(rig.context.server, cut=True))
    for message in rig.messages.values():
        assert message.ended or message.failed, "a request whose server is gone comes to an end"


# HTTP/2


@given(STEPS, CUTS)
def test_http2_requests_are_those_that_were_sent(steps: list[tuple[str, int, bytes]], places: list[int]) -> None:
    play = Play()
    for what, which, data in steps:
        if what not in ("refuse", "reset"):  # who ends what first is a matter of order
            play.step(what, which, data)
    rig = in_any_pieces(http2_server, sent_by(play.record, CLIENT), places, prepare=nothing)
    wanted = sorted(known.asked for known in play.streams.values() if known.asked_all)
    assert sorted(len(each[-1]) for each in rig.whole) == wanted  # type: ignore[arg-type] # the last is the body
    assert all(each[:3] == (b"POST", b"/x?secret", HOST.encode()) for each in rig.whole)
    reader = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True))
    reader.initiate_connection()
    for _ in play.streams:
        reader.send_headers(reader.get_next_available_stream_id(), [(":method", "POST"), (":scheme", "https"),
                            (":authority", HOST), (":path", "/")])  # fmt: skip
    reader.receive_data(bytes(rig.sent))
    assert not rig.closed


@given(HTTP2_STREAMS, CUTS)
def test_any_frames_of_http2_are_the_same_requests_in_any_pieces(stream: Stream, places: list[int]) -> None:
    in_any_pieces(http2_server, sent_by(stream, CLIENT), places, prepare=nothing)


@given(HTTP2_STREAMS, CUTS)
def test_any_frames_of_http2_are_the_same_responses_in_any_pieces(stream: Stream, places: list[int]) -> None:
    rig = in_any_pieces(http2_client, sent_by(stream, SERVER), places, prepare=asked("GET"))
    if not rig.closed:
        rig.context.server.state = ConnectionState.CLOSED
        rig.tell(Ended(rig.context.server, cut=True))
    assert all(message.ended or message.failed for message in rig.messages.values())


def test_trailers_are_told() -> None:
    rig = Rig(http1_server, answers=False)
    seen: list[HttpEvent] = []
    rig._told = seen.append  # type: ignore[method-assign] # to see them all
    rig.peer = rig.context.client  # type: ignore[assignment] # the server's end reads the client
    rig.feed([b"PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX-Sum: 1\r\n\r\n"])
    assert [type(each) for each in seen] == [RequestHeaders, RequestTrailers, RequestEndOfMessage]
