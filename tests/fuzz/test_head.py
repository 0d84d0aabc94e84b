"""Heads of first requests: the same in any pieces, no byte read twice, and never more generous than h11."""

from __future__ import annotations

import h11
from hypothesis import given

from proxy.head import BadHead, HeadReader, RequestHead
from tests.fuzz.strategies import CUTS, REQUEST_HEADS, cut

LIMIT = 600


def outcome(pieces: list[bytes]) -> RequestHead | type[BadHead] | None:
    reader, buffer = HeadReader(LIMIT), bytearray()
    for piece in pieces:
        buffer += piece
        try:
            head = reader.read(buffer)
        except BadHead as error:
            assert error.status in (400, 431, 505)
            assert str(error).isprintable()
            return BadHead
        if head is not None:
            assert head.size <= LIMIT
            return head
    return None


@given(REQUEST_HEADS, CUTS)
def test_any_pieces_come_to_the_same(data: bytes, places: list[int]) -> None:
    whole = outcome([data])
    assert outcome(cut(data, places)) == whole
    assert outcome([bytes([byte]) for byte in data]) == whole


@given(REQUEST_HEADS)
def test_what_is_taken_h11_reads_as_the_same_request(data: bytes) -> None:
    head = outcome([data])
    if not isinstance(head, RequestHead):
        return
    reader = h11.Connection(h11.SERVER, max_incomplete_event_size=4 * LIMIT)
    reader.receive_data(data[: head.size])
    try:
        event = reader.next_event()
    except h11.RemoteProtocolError:
        return  # stricter than we are, in a plain request whose framing the lane judges later
    assert isinstance(event, h11.Request)
    assert event.method.decode() == head.method
    assert event.target.decode() == head.target
    assert event.http_version.decode() == head.version
    assert [(name, value) for name, value in event.headers] == [(name, value) for name, value in head.headers]
