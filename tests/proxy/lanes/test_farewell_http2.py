from __future__ import annotations

import contextlib
import json
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise

import h2.config
import h2.connection
import h2.events
import h2.settings
import pytest
from hpack import Decoder, Encoder
from hypothesis import given
from hypothesis import strategies as st

from proxy.lanes.exchange import Unparsed
from proxy.lanes.farewell_http2 import MAX_DROPPED, MAX_REFUSED
from proxy.lanes.http2_frames import (
    ACK,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
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
from proxy.lanes.http2_sieve import CANCEL, INTERNAL_ERROR, REFUSED_STREAM, frame, goaway, rst_stream
from tests.proxy.lanes.relay import Relay

GOOD = [(":method", "GET"), (":scheme", "https"), (":authority", "good.example:8443"), (":path", "/good")]
EVIL = [*GOOD[:2], (":authority", "evil.example"), (":path", "/evil"), ("cookie", "secret")]
ANSWER = [(":status", "200"), ("server", "test")]
TABLE = h2.settings.SettingCodes.HEADER_TABLE_SIZE


@dataclass(frozen=True)
class Frame:
    kind: int
    flags: int
    stream: int
    payload: bytes

    @property
    def raw(self) -> bytes:
        return frame(self.kind, self.flags, self.stream, self.payload)


def frames(data: bytes | bytearray) -> list[Frame]:
    """Whole frames, nothing behind them."""
    found: list[Frame] = []
    at = len(PREFACE) if data.startswith(PREFACE) else 0
    while at < len(data):
        high, low, kind, flags, stream = struct.unpack_from(">BHBBL", data, at)
        end = at + 9 + (high << 16 | low)
        assert end <= len(data), "the last frame is not whole"
        found.append(Frame(kind, flags, stream, bytes(data[at + 9 : end])))
        at = end
    return found


def of(data: bytes | bytearray, *kinds: int) -> list[Frame]:
    return [one for one in frames(data) if one.kind in kinds]


def block(encoder: Encoder, stream: int, fields: list[tuple[str, str]], flags: int = 0, parts: int = 1) -> bytes:
    """HEADERS, and CONTINUATION for more parts than one."""
    encoded = encoder.encode(fields)
    size = -(-len(encoded) // parts)
    cut = [encoded[at : at + size] for at in range(0, len(encoded), size)]
    out = b""
    for place, piece in enumerate(cut):
        ends = END_HEADERS if place == len(cut) - 1 else 0
        out += frame(CONTINUATION if place else HEADERS, ends | (0 if place else flags), stream, piece)
    return out


class Sides:
    """What a client and a server would write, with an encoder each; a relay between them."""

    def __init__(self, settings: bytes = b"") -> None:
        self.relay = Relay(b"h2")
        self.asks = Encoder()
        self.answers = Encoder()
        self.relay.client(PREFACE + frame(SETTINGS, 0, 0, settings))
        self.relay.server(frame(SETTINGS, 0, 0, b"") + frame(SETTINGS, ACK, 0, b""))
        self.relay.client(frame(SETTINGS, ACK, 0, b""))
        self.asked = bytes(self.relay.to_server)

    def request(self, stream: int, fields: list[tuple[str, str]] = GOOD, *, end: bool = True, parts: int = 1) -> bytes:
        return block(self.asks, stream, fields, END_STREAM if end else 0, parts)

    def response(self, stream: int, body: bytes = b"abc", parts: int = 1) -> bytes:
        return block(self.answers, stream, ANSWER, 0, parts) + frame(DATA, END_STREAM, stream, body)

    @property
    def passed(self) -> bytes:
        """What the server got behind the beginning."""
        return bytes(self.relay.to_server).removeprefix(self.asked)

    def heard(self) -> list[tuple[int, list[tuple[str, str]]]]:
        """The header blocks that the client got: stream and fields, decoded one after the other."""
        decoder = Decoder()
        found = []
        whole = b""
        for one in of(self.relay.to_client, HEADERS, CONTINUATION):
            whole += one.payload
            if one.flags & END_HEADERS:
                found.append((one.stream, [(str(name), str(value)) for name, value in decoder.decode(whole)]))
                whole = b""
        return found

    def statuses(self) -> list[tuple[int, str]]:
        return [(stream, fields[0][1]) for stream, fields in self.heard() if fields[0][0] == ":status"]


def test_a_request_for_another_host_is_answered_421_and_not_passed_on() -> None:
    sides = Sides()
    relay = sides.relay
    relay.client(sides.request(1, EVIL))
    assert sides.passed == b""
    (stream, fields), *more = sides.heard()
    assert (stream, more) == (1, [])
    known = dict(fields)
    assert known[":status"] == "421"
    assert known["proxy-status"] == 'sallyport; error=http_request_denied; details="misdirected"'
    assert known["cache-control"] == "no-store"
    body = b"".join(one.payload for one in of(relay.to_client, DATA))
    assert len(body) == int(known["content-length"])
    assert b"evil.example" in body
    assert relay.done
    assert not relay.told
    assert frames(relay.to_client)[-1].raw == goaway(1)


def test_a_client_that_asks_for_json_or_for_the_head_alone_gets_that() -> None:
    sides = Sides()
    sides.relay.client(sides.request(1, [*EVIL, ("accept", "application/json")]))
    assert json.loads(b"".join(one.payload for one in of(sides.relay.to_client, DATA)))["details"] == "misdirected"
    sides = Sides()
    sides.relay.client(sides.request(1, [(":method", "HEAD"), *EVIL[1:]]))
    assert int(dict(sides.heard()[0][1])["content-length"]) > 0
    assert not of(sides.relay.to_client, DATA)
    assert of(sides.relay.to_client, HEADERS)[0].flags & END_STREAM


def mixed(sides: Sides) -> tuple[bytes, bytes]:
    """A good stream with a body, one for another host in the middle of it, a later good one; what of it passes."""
    first = sides.request(1, GOOD, end=False, parts=2)
    begun = frame(DATA, 0, 1, b"hello")
    evil = sides.request(3, EVIL, end=False, parts=3)
    dropped = frame(DATA, 0, 3, b"x" * 10) + frame(WINDOW_UPDATE, 0, 3, b"\0\0\0\1") + frame(PRIORITY, 0, 3, bytes(5))
    late = sides.request(5, GOOD, parts=2)
    passing = frame(PING, 0, 0, bytes(8)) + frame(WINDOW_UPDATE, 0, 1, b"\0\0\0\1") + frame(DATA, END_STREAM, 1, b"!")
    reset = rst_stream(3, CANCEL) + frame(RST_STREAM, 0, 5, bytes(4))
    return first + begun + evil + dropped + late + passing + reset, first + begun + passing


def after_mixed(sides: Sides) -> None:
    relay = sides.relay
    assert len(relay.refused) == 1
    assert sides.statuses() == [(3, "421"), (1, "200")]
    assert not relay.tap.busy
    assert relay.done
    got = frames(relay.to_client)
    assert [one.raw for one in got if one.kind == GOAWAY] == [goaway(3)]
    resets = [one.raw for one in got if one.kind == RST_STREAM]
    assert resets in ([rst_stream(5, REFUSED_STREAM)], [rst_stream(3, 0), rst_stream(5, REFUSED_STREAM)])
    credit = sum(int.from_bytes(one.payload) for one in got if one.kind == WINDOW_UPDATE and not one.stream)
    assert credit == 10
    assert [(exchange.path, exchange.outcome, exchange.request_bytes) for exchange in relay.told] == [
        ("/good", "complete", 6)
    ]


def test_however_the_clients_bytes_are_cut_streams_from_before_go_on_and_no_header_block_passes() -> None:
    size = len(mixed(Sides())[0])
    for cut in range(size + 1):
        sides = Sides()
        stream, passes = mixed(sides)
        sides.relay.client(stream[:cut])
        sides.relay.client(stream[cut:])
        assert sides.passed == passes, cut
        sides.relay.server(sides.response(1))
        after_mixed(sides)


def test_byte_by_byte_it_is_the_same() -> None:
    sides = Sides()
    stream, passes = mixed(sides)
    sides.relay.client(stream, size=1)
    assert sides.passed == passes
    sides.relay.server(sides.response(1), size=1)
    after_mixed(sides)


def script(sides: Sides) -> bytes:
    """A response in many frames, and frames of other kinds between them."""
    more = [("x-first", "a" * 20), ("x-second", "b" * 20)]
    return (
        block(sides.answers, 1, ANSWER + more, parts=3)
        + frame(DATA, 0, 1, b"abc")
        + frame(DATA, 0x8, 1, b"\x04defg\0\0\0\0")
        + frame(PING, 0, 0, bytes(8))
        + frame(SETTINGS, 0, 0, b"")
        + block(sides.answers, 1, more, END_STREAM, parts=2)
    )


def test_wherever_the_server_is_the_answer_stands_between_two_of_its_frames() -> None:
    for cut in range(1, len(script(Sides())) + 1):
        sides = Sides()
        relay = sides.relay
        relay.client(sides.request(1))
        said = script(sides)
        relay.server(said[:cut])
        relay.client(sides.request(3, EVIL))
        relay.server(said[cut:], size=5 if cut % 2 else 0)
        assert sorted(sides.statuses()) == [(1, "200"), (3, "421")]
        ours = [one.raw for one in frames(relay.to_client) if one.stream == 3 or one.kind == GOAWAY]
        assert len(ours) == 2
        rest = bytes(relay.to_client)
        for one in ours:
            assert rest.count(one) == 1
            rest = rest.replace(one, b"")
        assert rest.endswith(said)
        assert relay.done
        assert [exchange.outcome for exchange in relay.told] == ["complete"]


def test_wherever_the_server_is_what_is_said_later_stands_between_two_of_its_frames_too() -> None:
    for cut in range(len(script(Sides()))):
        sides = Sides()
        relay = sides.relay
        relay.client(sides.request(1) + sides.request(3, EVIL, end=False))
        before = bytes(relay.to_client)
        said = script(sides)
        relay.server(said[:cut])
        relay.client(frame(DATA, 0, 3, b"abc") + sides.request(5))
        relay.server(said[cut:], size=5 if cut % 2 else 0)
        rest = bytes(relay.to_client).removeprefix(before)
        ours = [frame(WINDOW_UPDATE, 0, 0, b"\0\0\0\3"), rst_stream(3, 0), rst_stream(5, REFUSED_STREAM)]
        between = [one.raw for one in frames(rest)]
        for one in ours:
            assert between.count(one) == 1
            rest = rest.replace(one, b"")
        assert rest == said
        assert sorted(sides.statuses()) == [(1, "200"), (3, "421")]
        in_block = False
        for each in frames(relay.to_client):
            assert not in_block or each.kind == CONTINUATION
            if each.kind in (HEADERS, CONTINUATION):
                in_block = not each.flags & END_HEADERS
        assert relay.done


def test_header_blocks_of_the_server_are_understood_behind_the_answer() -> None:
    sides = Sides()
    relay = sides.relay
    relay.client(sides.request(1) + sides.request(3))
    relay.server(sides.response(1))
    relay.client(sides.request(5, EVIL))
    relay.server(sides.response(3))  # refers to what the first has put into the table
    assert sides.heard() == [(1, ANSWER), sides.heard()[1], (3, ANSWER)]
    assert sides.statuses()[1] == (5, "421")


def test_a_page_is_sent_only_where_no_window_can_be_overrun() -> None:
    sides = Sides()
    sides.relay.client(sides.request(1))
    sides.relay.server(sides.response(1))
    sides.relay.client(sides.request(3, EVIL))
    small = Sides(settings=struct.pack(">HL", 4, 100))
    small.relay.client(small.request(1, EVIL))
    for each in (sides, small):
        known = dict(each.heard()[-1][1])
        assert known[":status"] == "421"
        assert "proxy-status" in known
        assert not {"content-length", "content-type"} & known.keys()
        assert of(each.relay.to_client, HEADERS)[-1].flags & END_STREAM
        assert not [one for one in of(each.relay.to_client, DATA) if one.stream != 1]
        assert each.relay.done


@pytest.mark.parametrize("before", [False, True])
def test_a_smaller_table_that_was_agreed_on_is_set_by_the_answer(before: bool) -> None:
    """RFC 7541 section 4.2: the first header block behind the acknowledgement has to say it."""
    client = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding="utf-8"))
    server = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False, header_encoding="utf-8"))
    relay = Relay(b"h2")
    events: list[h2.events.Event] = []

    def pump() -> None:
        for _ in range(4):
            relay.client(client.data_to_send())
            server.receive_data(bytes(relay.to_server))
            relay.to_server.clear()
            relay.server(server.data_to_send())
            events.extend(client.receive_data(bytes(relay.to_client)))
            relay.to_client.clear()

    client.initiate_connection()
    server.initiate_connection()
    pump()
    if before:
        client.send_headers(1, GOOD)
        pump()
        server.send_headers(1, [*ANSWER, ("x-long", "a" * 100)])
        pump()
    client.update_settings({TABLE: 50})
    pump()
    client.send_headers(3, EVIL, end_stream=True)
    pump()
    (answer,) = [event for event in events if isinstance(event, h2.events.ResponseReceived) and event.stream_id == 3]
    assert (":status", "421") in (answer.headers or [])


def test_later_requests_are_refused_so_that_they_may_be_sent_again() -> None:
    sides = Sides()
    relay = sides.relay
    relay.client(sides.request(1))
    relay.client(sides.request(3, EVIL))
    relay.client(sides.request(5) + sides.request(7, EVIL, end=False))
    relay.client(block(sides.asks, 7, [("x-trailer", "1")], END_STREAM))
    resets = [one.raw for one in of(relay.to_client, RST_STREAM)]
    assert resets == [rst_stream(5, REFUSED_STREAM), rst_stream(7, REFUSED_STREAM)]
    assert of(sides.passed, HEADERS)[1:] == []
    assert len(relay.refused) == 1


def test_a_request_whose_trailers_cannot_pass_is_reset_on_both_sides() -> None:
    sides = Sides()
    relay = sides.relay
    relay.client(sides.request(1, end=False))
    relay.client(sides.request(3, EVIL))
    relay.client(frame(DATA, 0, 1, b"abc"))
    relay.client(block(sides.asks, 1, [("x-sum", "1"), ("x-more", "2")], END_STREAM, parts=2), size=4)
    assert frames(sides.passed)[-2:] == [Frame(DATA, 0, 1, b"abc"), frames(rst_stream(1, CANCEL))[0]]
    assert [one.raw for one in of(relay.to_client, RST_STREAM)] == [rst_stream(1, INTERNAL_ERROR)]
    assert [(exchange.outcome, exchange.request_bytes) for exchange in relay.told] == [("reset", 3)]
    assert relay.done


def test_a_client_that_goes_on_with_the_body_is_asked_to_stop_once() -> None:
    sides = Sides()
    relay = sides.relay
    relay.client(sides.request(1) + sides.request(3, EVIL, end=False) + frame(DATA, 0, 3, b"abc"))
    assert not of(relay.to_client, RST_STREAM)
    for _ in range(3):
        relay.client(frame(DATA, 0, 3, b"def"))
    assert [one.raw for one in of(relay.to_client, RST_STREAM)] == [rst_stream(3, 0)]


def test_trailers_of_a_request_that_was_answered_are_just_dropped() -> None:
    sides = Sides()
    relay = sides.relay
    relay.client(sides.request(1, end=False) + sides.request(3))
    relay.server(sides.response(1) + rst_stream(1, 0))
    relay.client(sides.request(5, EVIL))
    relay.client(block(sides.asks, 1, [("x-sum", "1")], END_STREAM))
    assert not of(sides.passed, RST_STREAM)
    assert not relay.done


def test_the_servers_own_goaway_never_widens_ours() -> None:
    sides = Sides()
    relay = sides.relay
    relay.client(sides.request(1) + sides.request(3) + sides.request(5, EVIL))
    relay.server(goaway(2**31 - 1), size=3)
    relay.server(sides.response(1))
    relay.server(goaway(1))
    assert [one.raw for one in of(relay.to_client, GOAWAY)] == [goaway(5), goaway(1)]
    assert sorted(exchange.outcome for exchange in relay.told) == ["complete", "reset"]
    assert relay.done


def test_a_goaway_of_the_server_before_it_limits_ours() -> None:
    sides = Sides()
    relay = sides.relay
    relay.client(sides.request(1))
    relay.server(goaway(1))
    relay.client(sides.request(3, EVIL))
    assert [one.raw for one in of(relay.to_client, GOAWAY)] == [goaway(1), goaway(1)]


def test_it_waits_for_a_server_that_has_not_begun() -> None:
    encoder = Encoder()
    relay = Relay(b"h2")
    relay.client(PREFACE + frame(SETTINGS, 0, 0, b"") + block(encoder, 1, EVIL, END_STREAM))
    assert not relay.to_client
    relay.server(frame(SETTINGS, 0, 0, b""), size=1)
    assert [one.kind for one in frames(relay.to_client)][:2] == [SETTINGS, HEADERS]
    assert relay.done
    assert frames(relay.to_server) == [Frame(SETTINGS, 0, 0, b"")]


@pytest.mark.parametrize(
    ("fields", "malformed"),
    [
        ([*GOOD[:2], GOOD[3], ("host", "evil.example")], False),
        ([*GOOD, ("host", "evil.example")], False),
        ([*GOOD, ("host", "good.example"), ("host", "evil.example")], False),
        ([*GOOD, ("Host", "evil.example")], False),
        ([*GOOD[:2], (":authority", "evil.example"), GOOD[3], ("host", "good.example")], False),
        ([*GOOD[:2], GOOD[3]], True),
        ([*GOOD[:2], (":authority", ""), GOOD[3]], True),
    ],
)
def test_the_host_may_stand_in_two_places_and_has_to_be_the_same(
    fields: list[tuple[str, str]], malformed: bool
) -> None:
    sides = Sides()
    sides.relay.client(sides.request(1, fields))
    assert sides.passed == b""
    assert bool(sides.relay.refused[0].malformed) is malformed


def test_requests_that_name_the_host_otherwise_pass() -> None:
    sides = Sides()
    asked = sides.request(1, [*GOOD[:2], GOOD[3], ("host", "GOOD.example")])
    asked += sides.request(3, [*GOOD, ("host", "good.example")])
    sides.relay.client(asked)
    assert sides.passed == asked
    assert not sides.relay.refused


def test_a_promise_of_the_server_is_the_clients_to_judge() -> None:
    sides = Sides()
    relay = sides.relay
    relay.client(sides.request(1))
    relay.server(frame(PUSH_PROMISE, END_HEADERS, 1, (2).to_bytes(4) + sides.answers.encode(EVIL)))
    relay.client(sides.request(3, EVIL) + frame(WINDOW_UPDATE, 0, 2, b"\0\0\0\1"))
    assert of(sides.passed, WINDOW_UPDATE)
    relay.server(sides.response(1))
    assert not relay.done
    relay.server(sides.response(2))
    assert relay.done


def test_a_client_that_opens_stream_upon_stream_is_cut_off() -> None:
    sides = Sides()
    sides.relay.client(sides.request(1) + sides.request(3, EVIL))
    for number in range(MAX_REFUSED):
        sides.relay.client(frame(HEADERS, END_HEADERS, 5 + 2 * number, b""))
    with pytest.raises(Unparsed, match=r"^client: more than 1000 streams"):
        sides.relay.client(frame(HEADERS, END_HEADERS, 5 + 2 * MAX_REFUSED, b""))


def test_a_body_that_is_dropped_gets_its_window_back_up_to_a_limit() -> None:
    sides = Sides()
    sides.relay.client(sides.request(1) + sides.request(3, EVIL, end=False))
    for _ in range(MAX_DROPPED // 16384 + 10):
        sides.relay.client(frame(DATA, 0, 3, bytes(16384)))
    credit = sum(int.from_bytes(one.payload) for one in of(sides.relay.to_client, WINDOW_UPDATE))
    assert credit == MAX_DROPPED
    assert not of(sides.passed, DATA)


@pytest.mark.parametrize("stream", [0, 2])
def test_nonsense_behind_it_ends_the_connection(stream: int) -> None:
    sides = Sides()
    sides.relay.client(sides.request(1) + sides.request(3, EVIL))
    with pytest.raises(Unparsed):
        sides.relay.client(frame(HEADERS, END_HEADERS, stream, b""))


def test_what_is_open_when_the_server_is_gone_was_cut() -> None:
    sides = Sides()
    sides.relay.client(sides.request(1) + sides.request(3, EVIL))
    assert sides.relay.tap.busy
    sides.relay.tap.client_ended()
    sides.relay.tap.server_ended()
    sides.relay.tap.closed()
    assert [exchange.outcome for exchange in sides.relay.told] == ["cut"]


@given(st.data())
def test_good_frames_pass_unchanged_however_they_are_cut(data: st.DataObject) -> None:
    sides = Sides()
    stream = b""
    for number in range(1, 12, 2):
        end = data.draw(st.booleans())
        stream += sides.request(number, end=end, parts=data.draw(st.integers(1, 3)))
        if not end:
            for size in data.draw(st.lists(st.integers(0, 40), max_size=3)):
                stream += frame(DATA, 0, number, bytes(size))
            stream += frame(DATA, 0x8 | END_STREAM, number, b"\x02ab\0\0")
        stream += data.draw(st.sampled_from([b"", frame(PING, 0, 0, bytes(8)), frame(0x42, 1, 0, b"unknown")]))
    passed = 0
    for size in data.draw(cuts(len(stream))):
        sides.relay.client(stream[passed : passed + size])
        passed += size
        assert stream.startswith(sides.passed)
    assert sides.passed == stream
    assert not sides.relay.refused


@given(
    st.lists(
        st.tuples(st.integers(0, 12), st.integers(0, 255), st.integers(0, 9), st.binary(max_size=12)),
        max_size=30,
    ),
    st.binary(max_size=20),
)
def test_whatever_comes_behind_it_no_header_block_passes(
    after: list[tuple[int, int, int, bytes]], garbage: bytes
) -> None:
    sides = Sides()
    opened = sides.request(1, end=False)
    sides.relay.client(opened + sides.request(3, EVIL))
    with contextlib.suppress(Unparsed):
        for each in after:
            sides.relay.client(frame(*each), size=5)
        sides.relay.client(garbage)
    behind = sides.passed.removeprefix(opened)
    while len(behind) >= 9:
        assert behind[3] not in (HEADERS, CONTINUATION)
        stream = int.from_bytes(behind[5:9])
        assert stream <= 1 or stream % 2 == 0
        behind = behind[9 + int.from_bytes(behind[:3]) :]


def cuts(size: int) -> st.SearchStrategy[list[int]]:
    """Sizes of pieces that together have ``size`` bytes."""

    def sizes(places: Iterable[int]) -> list[int]:
        edges = [0, *sorted(places), size]
        return [end - start for start, end in pairwise(edges)]

    return st.sets(st.integers(1, size - 1), max_size=20).map(sizes)
