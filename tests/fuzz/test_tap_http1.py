"""The tap of HTTP/1: what it lets pass is what came, what it tells is what h11 and the sender know."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import h11
from hypothesis import given
from hypothesis import strategies as st

from config.settings import Limits
from proxy.lanes.exchange import Exchange
from proxy.lanes.tap import Unparsed, make_tap
from tests.fuzz.strategies import CLIENT, CUTS, HTTP1_STREAMS, Stream, Turn, cut, turns
from tests.proxy.lanes.relay import HOST, Relay


@dataclass(frozen=True)
class Told:
    """An exchange without its times."""

    method: str
    path: str
    status: int
    request_bytes: int
    response_bytes: int
    outcome: str = "complete"


def told(exchanges: list[Exchange]) -> list[Told]:
    return [Told(e.method, e.path, e.status, e.request_bytes, e.response_bytes, e.outcome) for e in exchanges]


def expected(made: list[Turn]) -> list[Told]:
    return [Told(t.method, t.path, t.status, t.request_bytes, t.response_bytes) for t in made]


@given(st.lists(turns(), max_size=4), CUTS, st.booleans())
def test_right_exchanges_are_told_as_they_are_and_pass_unchanged(
    made: list[Turn], places: list[int], pipelined: bool
) -> None:
    relay = Relay(b"http/1.1")
    rounds = [made] if pipelined else [[turn] for turn in made]
    for each in rounds:
        for piece in cut(b"".join(turn.asked for turn in each), places):
            relay.client(piece)
        for piece in cut(b"".join(turn.answered for turn in each), places):
            relay.server(piece)
    assert told(relay.told) == expected(made)
    assert bytes(relay.to_server) == b"".join(turn.asked for turn in made)
    assert bytes(relay.to_client) == b"".join(turn.answered for turn in made)
    assert not relay.tap.busy


def followed(stream: Stream) -> tuple[bool, list[Told]]:
    """Whether the tap follows it all, and what it tells."""
    out: list[Exchange] = []
    ticks = itertools.count(1)
    tap = make_tap(b"http/1.1", HOST, out.append, lambda: float(next(ticks)), Limits())
    refused = False
    try:
        for who, data in stream:
            detour = (tap.from_client if who == CLIENT else tap.from_server)(data)
            assert detour is None or detour.refused is None, "without an addressee nothing is turned away"
    except Unparsed as error:
        assert str(error).isprintable()
        refused = True
    tap.client_ended()
    tap.server_ended()
    tap.closed()
    for each in out:
        assert each.outcome in ("complete", "cut", "upgraded")
    return refused, [one for one in told(out) if not (refused and one.outcome == "cut")]


@given(HTTP1_STREAMS, CUTS)
def test_any_stream_is_told_the_same_in_any_pieces(stream: Stream, places: list[int]) -> None:
    whole = followed(stream)
    assert followed([(who, piece) for who, data in stream for piece in cut(data, places)]) == whole
    assert followed([(who, bytes([byte])) for who, data in stream for byte in data]) == whole


@given(HTTP1_STREAMS, CUTS)
def test_what_passes_is_the_beginning_of_what_came(stream: Stream, places: list[int]) -> None:
    relay = Relay(b"http/1.1")
    came = {CLIENT: b"", "server": b""}
    try:
        for who, data in stream:
            for piece in cut(data, places):
                if relay.refused:
                    break
                came[who] += piece
                (relay.client if who == CLIENT else relay.server)(piece)
                if not relay.refused:
                    # Nothing is made up and nothing is lost: what did not pass is kept, to the byte.
                    assert came["server"] == bytes(relay.to_client) + bytes(relay.tap.kept_back)
                    assert came[CLIENT] == bytes(relay.to_server) + bytes(relay.tap.kept)
    except Unparsed:
        pass
    assert came[CLIENT].startswith(bytes(relay.to_server))


def h11_reads(data: bytes) -> list[tuple[str, bytes, int]] | None:
    """Method, target and size of each request; None where h11 takes them for none, or an upgrade goes another way."""
    reader = h11.Connection(h11.SERVER)
    reader.receive_data(data)
    found: list[tuple[str, bytes, int]] = []
    size = 0
    while True:
        try:
            event = reader.next_event()
        except h11.RemoteProtocolError:
            return None
        if isinstance(event, h11.Request):
            if any(name == b"upgrade" for name, _ in event.headers):
                return None
            found.append((event.method.decode(), event.target, -1))
            size = 0
        elif isinstance(event, h11.Data):
            size += len(event.data)
        elif isinstance(event, h11.EndOfMessage):
            found[-1] = (*found[-1][:2], size)
            reader.send(h11.Response(status_code=200, headers=[("Content-Length", "0")]))
            reader.send(h11.EndOfMessage())
            if reader.our_state is not h11.DONE:
                return found
            reader.start_next_cycle()
        else:
            return found


@given(HTTP1_STREAMS)
def test_the_requests_are_those_that_h11_finds(stream: Stream) -> None:
    data = b"".join(piece for who, piece in stream if who == CLIENT)
    out: list[Exchange] = []
    tap = make_tap(b"http/1.1", HOST, out.append, lambda: 0.0, Limits())
    try:
        tap.from_client(data)
    except Unparsed:
        return
    found = h11_reads(data)
    if found is None:
        return
    tap.closed()
    assert [each.method for each in out] == [method for method, _, _ in found]
    whole = [(each, size) for each, (_, _, size) in zip(out, found, strict=True) if size >= 0]
    assert [each.request_bytes for each, _ in whole] == [size for _, size in whole]
