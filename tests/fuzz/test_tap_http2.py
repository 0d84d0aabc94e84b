"""The tap of HTTP/2: what it tells is what h2 finds in the same bytes, and the bytes stay as they are."""

from __future__ import annotations

import contextlib
import itertools
from dataclasses import dataclass

import h2.config
import h2.connection
import h2.events
import h2.exceptions
from hypothesis import given
from hypothesis import strategies as st

from config.settings import Limits
from proxy.lanes.exchange import Exchange
from proxy.lanes.http2_frames import BEYOND
from proxy.lanes.inspection.http2_connection import tell_sizes
from proxy.lanes.tap import Http2Tap, Unparsed, make_tap
from tests.fuzz.strategies import (
    CLIENT,
    CUTS,
    HTTP2_STREAMS,
    PREFACE,
    REQUEST_BLOCK,
    SERVER,
    STEPS,
    Stream,
    cut,
    frame,
)
from tests.proxy.lanes.relay import HOST, Relay

LARGEST_BLOCK = Limits().header_bytes * BEYOND

REQUEST = [(":method", "POST"), (":scheme", "https"), (":authority", HOST), (":path", "/x?secret")]


@dataclass
class Known:
    """A stream as its two peers know it."""

    status: int = 0
    asked: int = 0
    answered: int = 0
    asked_all: bool = False
    answered_all: bool = False
    outcome: str = ""


class Play:
    """Two peers of hyper-h2 that act out steps; what passes is recorded."""

    def __init__(self) -> None:
        self.client = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True))
        self.server = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False))
        self.record: Stream = []
        self.streams: dict[int, Known] = {}
        self.ended: list[int] = []
        self.client.initiate_connection()
        self.server.initiate_connection()
        self.pump()

    def pump(self) -> None:
        while True:
            asked = self.client.data_to_send()
            if asked:
                self.record.append((CLIENT, asked))
                self.server.receive_data(asked)
            answered = self.server.data_to_send()
            if answered:
                self.record.append((SERVER, answered))
                self.client.receive_data(answered)
            if not asked and not answered:
                return

    def _end(self, number: int, outcome: str) -> None:
        self.streams[number].outcome = outcome
        self.ended.append(number)

    def step(self, what: str, which: int, data: bytes) -> None:
        """One step, where it makes sense on one of the open streams."""
        opened = [number for number, known in self.streams.items() if not known.outcome]
        if what == "ask":
            number = 1 + 2 * len(self.streams)
            self.streams[number] = Known()
            self.client.send_headers(number, [*REQUEST, ("x-data", data.hex())])
        elif what == "ping":
            self.client.ping(data[:8].ljust(8, b"\0"))
        elif what == "settings":
            self.client.update_settings({1: 64 * which, 4: 65_535 + which})
            self.pump()
            tell_sizes(self.server.encoder)  # what is played has to be right
        elif opened:
            number = opened[which % len(opened)]
            self._on_stream(what, number, self.streams[number], data)
        self.pump()

    def _on_stream(self, what: str, number: int, known: Known, data: bytes) -> None:
        if what in ("upload", "end") and not known.asked_all:
            known.asked += len(data)
            known.asked_all = what == "end"
            padding = len(data) % 7 if len(data) % 3 == 0 else None
            self.client.send_data(number, data, end_stream=known.asked_all, pad_length=padding)
        elif what == "early" and not known.status:
            self.server.send_headers(number, [(":status", "103"), ("link", "</a>")])
        elif what == "answer" and not known.status:
            known.status = 200 + len(data)
            self.server.send_headers(number, [(":status", str(known.status)), ("x", data.hex())])
        elif what in ("body", "finish") and known.status and not known.answered_all:
            known.answered += len(data)
            known.answered_all = what == "finish"
            self.server.send_data(number, data, end_stream=known.answered_all)
        elif what in ("reset", "refuse"):
            (self.client if what == "reset" else self.server).reset_stream(number, 8)
            # NO_ERROR behind a whole answer is the exception; these are CANCEL.
            self._end(number, "reset")
            return
        if known.asked_all and known.answered_all:
            self._end(number, "complete")


@given(STEPS, CUTS)
def test_what_two_peers_of_h2_do_is_told_as_they_know_it(
    steps: list[tuple[str, int, bytes]], places: list[int]
) -> None:
    play = Play()
    for each in steps:
        play.step(*each)
    relay = Relay(b"h2")
    for who, data in play.record:
        for piece in cut(data, places):
            (relay.client if who == CLIENT else relay.server)(piece)
    assert bytes(relay.to_server) == b"".join(data for who, data in play.record if who == CLIENT)
    assert bytes(relay.to_client) == b"".join(data for who, data in play.record if who == SERVER)
    wanted = [play.streams[number] for number in play.ended]
    assert [(e.status, e.request_bytes, e.response_bytes, e.outcome) for e in relay.told] == [
        (known.status, known.asked, known.answered, known.outcome) for known in wanted
    ]
    before = len(relay.told)
    relay.tap.closed()
    assert len(relay.told) - before == len(play.streams) - len(play.ended)
    assert all((e.method, e.path, e.host) == ("POST", "/x", HOST) for e in relay.told)


def followed(stream: Stream) -> tuple[str, list[tuple[object, ...]]]:
    out: list[Exchange] = []
    ticks = itertools.count(1)
    tap = make_tap(b"h2", HOST, out.append, lambda: float(next(ticks)), Limits())
    refused = ""
    try:
        for who, data in stream:
            detour = (tap.from_client if who == CLIENT else tap.from_server)(data)
            assert detour is None or detour.refused is None, "without an addressee nothing is turned away"
    except Unparsed as error:
        refused = str(error)
        assert refused.isprintable()
    bounded(tap)
    tap.client_ended()
    tap.server_ended()
    tap.closed()
    return refused, [(e.method, e.path, e.status, e.request_bytes, e.response_bytes, e.outcome) for e in out]


def bounded(tap: object) -> None:
    assert isinstance(tap, Http2Tap)
    for walk in (tap.client, tap.server):
        assert len(walk.held or b"") <= LARGEST_BLOCK + 9
        assert len(walk.block or b"") <= LARGEST_BLOCK


@given(HTTP2_STREAMS, CUTS)
def test_any_frames_are_told_the_same_in_any_pieces(stream: Stream, places: list[int]) -> None:
    whole = followed(stream)
    assert followed([(who, piece) for who, data in stream for piece in cut(data, places)]) == whole
    assert followed([(who, bytes([byte])) for who, data in stream for byte in data]) == whole


@given(HTTP2_STREAMS, CUTS)
def test_what_passes_is_the_beginning_of_what_came(stream: Stream, places: list[int]) -> None:
    relay = Relay(b"h2")
    came = {CLIENT: b"", SERVER: b""}
    with contextlib.suppress(Unparsed):
        for who, data in stream:
            for piece in cut(data, places):
                came[who] += piece
                (relay.client if who == CLIENT else relay.server)(piece)
                if relay.refused:
                    return  # from here on frames are our own
                assert came[SERVER] == bytes(relay.to_client) + bytes(relay.tap.kept_back)
                assert came[CLIENT] == bytes(relay.to_server) + bytes(relay.tap.kept)


def h2_reads(data: bytes) -> dict[int, tuple[bytes, int]] | None:
    """The requests by stream: path, and bytes of DATA. None where h2 refuses any of it."""
    reader = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False, header_encoding=None))
    reader.initiate_connection()
    found: dict[int, tuple[bytes, int]] = {}
    try:
        events = reader.receive_data(data)
    except h2.exceptions.ProtocolError:
        return None
    for event in events:
        number = getattr(event, "stream_id", None) or 0
        if isinstance(event, h2.events.RequestReceived):
            found[number] = (dict(event.headers or [])[b":path"], 0)
        elif isinstance(event, h2.events.DataReceived) and number in found:
            found[number] = (found[number][0], found[number][1] + len(event.data or b""))
        elif isinstance(event, (h2.events.StreamReset, h2.events.ConnectionTerminated)):
            return None  # who counts what of a stream that was given up is a matter of order
    return found


@given(HTTP2_STREAMS)
def test_the_requests_are_those_that_h2_finds(stream: Stream) -> None:
    asked = b"".join(data for who, data in stream if who == CLIENT)
    out: list[Exchange] = []
    tap = make_tap(b"h2", HOST, out.append, lambda: 0.0, Limits())
    assert isinstance(tap, Http2Tap)
    try:
        tap.from_client(asked)
    except Unparsed:
        return
    found = h2_reads(asked)
    if found is None:
        return
    open_ = {number: (each.exchange.path, each.exchange.request_bytes) for number, each in tap.streams.items()}
    if tap.client.passing:
        open_[tap.client.passing] = (
            open_[tap.client.passing][0],
            open_[tap.client.passing][1] - tap.client.missing,
        )
        found.setdefault(tap.client.passing, (b"", 0))
    # h2 tells of a DATA frame when it is whole; of one that is passing the tap knows more.
    assert {n: v for n, v in open_.items() if n != tap.client.passing} == {
        number: (path.partition(b"?")[0].decode("latin-1"), size)
        for number, (path, size) in found.items()
        if number != tap.client.passing
    }
    assert sorted(open_) == sorted(found)


@given(st.lists(st.binary(max_size=40), max_size=4), CUTS)
def test_any_header_block_over_any_frames_is_decoded_or_refused(parts: list[bytes], places: list[int]) -> None:
    data = PREFACE + frame(4, 0, 0) + frame(1, 1, 1, REQUEST_BLOCK)
    for number, part in enumerate(parts):
        data += frame(9, 4 if number == len(parts) - 1 else 0, 1, part)
    followed([(CLIENT, piece) for piece in cut(data, places)])
