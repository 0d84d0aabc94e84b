"""The issuer's socket: a closed set of messages, the same in any pieces, and nothing else."""

from __future__ import annotations

import asyncio
import json
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from issuer import connection as connections
from issuer.connection import Connection
from issuer.issuing import Wanted
from issuer.protocol import (
    MAX_FRAME,
    Code,
    Failure,
    FrameReader,
    LeafAnswer,
    LeafKeyAnswer,
    LeafKeyRequest,
    LeafRequest,
    ProtocolError,
    decode_answer,
    decode_request,
    encode_answer,
    encode_request,
)
from tests.fuzz.strategies import CUTS, EDITS, JSON, cut, edit

IDS = st.integers(0, (1 << 53) - 1)
TEXTS = st.text(st.characters(codec="utf-8"), max_size=20)
INSTANTS = st.floats(-62_135_596_800, 253_402_300_799, allow_nan=False)
KINDS = st.sampled_from(["ecdsa", "rsa"])
HOSTS = st.one_of(st.from_regex(r"[a-z0-9-]{1,10}\.example", fullmatch=True), TEXTS)
REQUESTS = st.one_of(
    st.builds(LeafRequest, IDS, TEXTS, HOSTS, KINDS, st.none() | INSTANTS), st.builds(LeafKeyRequest, IDS, TEXTS, IDS)
)
ANSWERS = st.one_of(
    st.builds(
        LeafAnswer,
        IDS,
        st.binary(max_size=60),
        st.lists(st.binary(max_size=60), max_size=3).map(tuple),
        IDS,
        IDS,
        IDS,
        INSTANTS,
        INSTANTS,
    ),
    st.builds(LeafKeyAnswer, IDS, KINDS, st.binary(max_size=60)),
    st.builds(Failure, IDS, st.sampled_from(Code), TEXTS),
)
GOOD = {"id": 1, "op": "leaf", "tenant": "t", "host": "h.example", "key": "ecdsa", "server_not_after": None}
NEAR = st.dictionaries(st.sampled_from([*GOOD, "leaf_key", "ok", "error"]), JSON, max_size=3).map(
    lambda change: framed(json.dumps(GOOD | change).encode())
)


def framed(body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + body


STREAMS = st.builds(
    edit,
    st.lists(
        st.one_of(REQUESTS.map(encode_request), REQUESTS.map(encode_request), NEAR, st.binary(max_size=12).map(framed)),
        max_size=5,
    ).map(b"".join),
    st.one_of(st.just([]), EDITS),
)


@given(REQUESTS, ANSWERS)
def test_messages_arrive_as_they_were_sent(request: LeafRequest | LeafKeyRequest, answer: Any) -> None:
    reader = FrameReader()
    reader.feed(encode_request(request) + encode_answer(answer))
    first, second = reader.next(), reader.next()
    assert first is not None
    assert second is not None
    assert decode_request(first) == request
    assert decode_answer(second) == answer
    assert reader.next() is None


def read(pieces: list[bytes]) -> tuple[list[object], bool]:
    """The requests in it, and whether it was then refused."""
    reader, found = FrameReader(), []
    for piece in pieces:
        reader.feed(piece)
        try:
            while (frame := reader.next()) is not None:
                assert len(frame) <= MAX_FRAME
                found.append(decode_request(frame))
        except ProtocolError as error:
            assert str(error).isprintable()
            return found, True
    return found, False


@given(STREAMS, CUTS)
def test_any_stream_holds_the_same_requests_in_any_pieces(data: bytes, places: list[int]) -> None:
    whole = read([data])
    assert read(cut(data, places)) == whole
    assert read([bytes([byte]) for byte in data]) == whole


@given(st.one_of(st.binary(max_size=200), JSON.map(lambda value: json.dumps(value).encode())))
def test_any_frame_is_an_answer_or_refused(frame: bytes) -> None:
    for decode in (decode_answer, decode_request):
        try:
            decode(frame)
        except ProtocolError as error:
            assert str(error).isprintable()


class Room:
    """What keeps the connections together."""

    def joined(self, connection: Connection) -> None: ...

    def left(self, connection: Connection) -> None: ...

    def may_sign(self, tenant: str) -> bool:
        return True


class Answering:
    """An issuance that has every leaf at hand, or is asked to make it. Answering is the only thing replaced."""

    def leaf_at_hand(self, wanted: Wanted) -> LeafAnswer | None:
        return _leaf(wanted.id) if wanted.id % 2 else None

    async def leaf(self, wanted: Wanted) -> LeafAnswer:
        await asyncio.sleep(0)
        return _leaf(wanted.id)

    async def leaf_key(self, request: LeafKeyRequest) -> LeafKeyAnswer:
        return LeafKeyAnswer(request.id, "ecdsa", b"\x30key")


def _leaf(number: int) -> LeafAnswer:
    return LeafAnswer(number, b"\x30leaf", (), 1, 2, 3, 4.0, 5.0)


class Wire(asyncio.Transport):
    """A transport that keeps what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.out = bytearray()
        self.over = False

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return default

    def write(self, data: bytes | bytearray | memoryview) -> None:
        assert not self.over, "written after the end"
        self.out += data

    def abort(self) -> None:
        self.over = True

    def close(self) -> None:
        self.over = True

    def is_closing(self) -> bool:
        return self.over

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...


@contextmanager
def own_peer() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(connections, "peer_uid", lambda _: 0)
        patch.setattr(connections, "is_ours", lambda _: True)
        patch.setattr(connections, "log_event", lambda *_, **__: None)
        yield


async def converse(pieces: list[bytes]) -> tuple[set[tuple[int, str]], bool]:
    """Who was answered and how, and whether the connection was ended."""
    wire = Wire()
    connection = Connection(Room(), Answering(), rate=1000, deadline=5)  # type: ignore[arg-type] # it is asked for no more
    connection.connection_made(wire)
    for piece in pieces:
        if not wire.over:
            connection.data_received(piece)
        await asyncio.sleep(0)
    for _ in range(6):
        await asyncio.sleep(0)
    reader, found = FrameReader(), set()
    reader.feed(bytes(wire.out))
    while (frame := reader.next()) is not None:
        answer = decode_answer(frame)
        found.add((answer.id, type(answer).__name__))
    connection.connection_lost(None)
    await asyncio.sleep(0)
    return found, wire.over


@given(STREAMS, CUTS)
def test_a_connection_answers_each_request_and_ends_with_the_first_that_is_none(data: bytes, places: list[int]) -> None:
    wanted, refused = read([data])
    with own_peer(), asyncio.Runner() as runner:
        answered, over = runner.run(converse(cut(data, places)))
    assert over == refused
    ids = {request.id for request in wanted}  # type: ignore[attr-defined] # both kinds have one
    assert {number for number, _ in answered} <= ids
    if not refused:
        assert {number for number, _ in answered} == ids
