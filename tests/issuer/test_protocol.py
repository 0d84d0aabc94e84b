"""Frames and messages: a closed set, bounded, and nothing else."""

from __future__ import annotations

import contextlib
import json
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from certs.signer import Health, HostHealth
from issuer.protocol import (
    MAX_FRAME,
    Answer,
    CheckAnswer,
    CheckRequest,
    Code,
    Failure,
    FrameReader,
    KeyManagerAnswer,
    KeyManagerRequest,
    LeafAnswer,
    LeafKeyAnswer,
    LeafKeyRequest,
    LeafRequest,
    ProtocolError,
    Request,
    WireGuardKeyAnswer,
    WireGuardKeyRequest,
    decode_answer,
    decode_request,
    encode_answer,
    encode_request,
)

REQUESTS: list[Request] = [
    LeafRequest(1, "default", "www.example", "ecdsa", 1_900_000_000.5),
    LeafRequest(2, "other-1", "xn--bcher-kva.example", "rsa", None),
    LeafRequest(3, "default", "www.example", "ecdsa", None, "00ff00ff00ff00ff"),
    LeafKeyRequest((1 << 53) - 1, "default", 7),
    LeafKeyRequest(4, "default", 7, "0" * 32),
    CheckRequest(8, "default"),
    KeyManagerRequest(9, "default"),
    WireGuardKeyRequest(9, "default"),
]
ANSWERS: list[Answer] = [
    LeafAnswer(3, b"\x30leaf", (b"\x30one", b"\x30two"), 7, 8, 9, 1_900_000_000.0, 1_890_000_000.25),
    LeafAnswer(4, b"\x30leaf", (), 7, 8, 9, 1_900_000_000.0, 1_890_000_000.25),
    LeafKeyAnswer(5, "rsa", b"\x30key"),
    CheckAnswer(7, 12),
    KeyManagerAnswer(8, Health()),
    KeyManagerAnswer(
        9,
        Health(
            (
                HostHealth("kms1.example:5696", 12.5, "no connection to it: connection refused", 0.5),
                HostHealth("[2001:db8::1]:5696", None, "", None, 4, 2, 0.25, 0.04),
            ),
            3,
        ),
    ),
    WireGuardKeyAnswer(8, bytes(32)),
    WireGuardKeyAnswer(9, b""),
    Failure(6, Code.STORE_UNAVAILABLE, "the disk is full"),
]


def frame_of(data: bytes) -> bytes:
    reader = FrameReader()
    reader.feed(data)
    frame = reader.next()
    assert frame is not None
    assert reader.next() is None
    return frame


@pytest.mark.parametrize("request_", REQUESTS, ids=repr)
def test_a_request_arrives_as_it_was_sent(request_: Request) -> None:
    assert decode_request(frame_of(encode_request(request_))) == request_


@pytest.mark.parametrize("answer", ANSWERS, ids=repr)
def test_an_answer_arrives_as_it_was_sent(answer: Answer) -> None:
    assert decode_answer(frame_of(encode_answer(answer))) == answer


def test_a_key_is_in_no_repr() -> None:
    assert "key" not in repr(LeafKeyAnswer(5, "rsa", b"\x30key")).replace("LeafKeyAnswer", "")


@given(st.lists(st.integers(min_value=1, max_value=40), max_size=30))
def test_frames_are_found_wherever_the_stream_is_cut(cuts: list[int]) -> None:
    stream = b"".join(encode_request(request) for request in REQUESTS)
    reader, found = FrameReader(), []
    for cut in [*cuts, len(stream)]:
        reader.feed(stream[:cut])
        stream = stream[cut:]
        while (frame := reader.next()) is not None:
            found.append(decode_request(frame))
    assert found == REQUESTS


@pytest.mark.parametrize("length", [0, MAX_FRAME + 1, 0x47455420, 0xFFFFFFFF])
def test_a_length_that_no_frame_has_is_refused_before_its_bytes_come(length: int) -> None:
    reader = FrameReader()
    reader.feed(struct.pack(">I", length))
    with pytest.raises(ProtocolError, match="a frame has 1 to 65536"):
        reader.next()


def test_the_longest_frame_is_taken() -> None:
    reader = FrameReader()
    reader.feed(struct.pack(">I", MAX_FRAME) + b"x" * MAX_FRAME)
    assert reader.next() == b"x" * MAX_FRAME


def test_what_does_not_fit_into_a_frame_is_not_sent() -> None:
    with pytest.raises(ProtocolError, match="at most 65536"):
        encode_answer(LeafAnswer(3, b"\x30" * 60_000, (), 7, 8, 9, 1.0, 1.0))


def test_a_worker_that_names_no_connection_is_understood() -> None:
    for name, request_ in (("leaf", REQUESTS[0]), ("leaf_key", REQUESTS[3])):
        message = json.loads(frame_of(encode_request(request_)))
        assert (message["op"], message.pop("connection")) == (name, "")
        assert decode_request(json.dumps(message).encode()) == request_


GOOD = {"id": 1, "op": "leaf", "tenant": "t", "host": "h.example", "key": "ecdsa", "server_not_after": None}


@pytest.mark.parametrize(
    "change",
    [
        {"id": True},
        {"id": -1},
        {"id": 1 << 53},
        {"id": "1"},
        {"id": 1.0},
        {"connection": "g"},
        {"connection": "0" * 33},
        {"connection": "AB"},
        {"connection": "ab\n"},
        {"connection": None},
        {"connection": 7},
        {"op": "sign"},
        {"op": None},
        {"tenant": None},
        {"tenant": "t" * 513},
        {"tenant": "\ud800"},
        {"host": ["h"]},
        {"key": "dsa"},
        {"key": None},
        {"server_not_after": "soon"},
        {"server_not_after": True},
        {"server_not_after": 1e300},
        {"server_not_after": -1e300},
        {"extra": 1},
    ],
    ids=repr,
)
def test_a_request_of_another_shape_is_refused(change: dict[str, object]) -> None:
    assert decode_request(json.dumps(GOOD).encode()).id == 1
    with pytest.raises(ProtocolError):
        decode_request(json.dumps(GOOD | change).encode())


@pytest.mark.parametrize("missing", list(GOOD))
def test_a_request_that_lacks_a_field_is_refused(missing: str) -> None:
    with pytest.raises(ProtocolError):
        decode_request(json.dumps({name: value for name, value in GOOD.items() if name != missing}).encode())


@pytest.mark.parametrize(
    "frame",
    [
        b"null",
        b"[]",
        b'"leaf"',
        b"\xff\xfe",
        b"{",
        b"[" * 60_000,
        b'{"id":' + b"9" * 5000 + b"}",
        json.dumps(GOOD | {"server_not_after": 1.5}).replace("1.5", "NaN").encode(),
        json.dumps(GOOD | {"server_not_after": 1.5}).replace("1.5", "Infinity").encode(),
    ],
    ids=lambda frame: repr(frame[:20]),
)
def test_what_is_no_message_is_refused(frame: bytes) -> None:
    with pytest.raises(ProtocolError):
        decode_request(frame)
    with pytest.raises(ProtocolError):
        decode_answer(frame)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@given(
    st.dictionaries(
        st.sampled_from([*GOOD, "ok", "error", "message", "certificate", "chain", "leaf_key", "generation", "kind"]),
        JSON,
    ),
    st.booleans(),
)
def test_any_json_is_a_message_or_a_protocol_error(message: dict[str, object], ok: bool) -> None:
    for decode, start in ((decode_request, GOOD), (decode_answer, {"ok": ok, "id": 1})):
        with contextlib.suppress(ProtocolError):
            decode(json.dumps(start | message).encode())


@given(st.binary(max_size=200))
def test_any_bytes_are_a_message_or_a_protocol_error(data: bytes) -> None:
    reader = FrameReader()
    reader.feed(data)
    with contextlib.suppress(ProtocolError):
        while (frame := reader.next()) is not None:
            decode_request(frame)


@pytest.mark.parametrize(
    "change",
    [
        {"address": None},
        {"down_for": -1},
        {"down_for": "12"},
        {"seconds": True},
        {"connections": 1.5},
        {"why": "x" * 513},
        {"more": 1},
    ],
    ids=repr,
)
def test_what_says_nothing_of_a_key_manager_is_refused(change: dict[str, object]) -> None:
    message = json.loads(frame_of(encode_answer(KeyManagerAnswer(9, Health((HostHealth("kms.example:5696"),))))))
    assert decode_answer(json.dumps(message).encode())
    message["hosts"][0] |= change
    with pytest.raises(ProtocolError):
        decode_answer(json.dumps(message).encode())
    for hosts in (None, {}, ["kms.example"]):
        with pytest.raises(ProtocolError):
            decode_answer(json.dumps(message | {"hosts": hosts}).encode())
