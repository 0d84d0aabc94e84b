"""Heads beyond the limits, as the taps of the fast lane see them: byte by byte as well as at once."""

from __future__ import annotations

from random import Random

import pytest
from hpack import Encoder

from config.settings import Limits
from proxy.lanes.exchange import OverLimit, TooLarge
from proxy.lanes.http1_framing import Direction, Place
from proxy.lanes.http2_frames import CONTINUATION, END_HEADERS, HEADERS, PREFACE, SETTINGS, WINDOW_UPDATE
from proxy.lanes.http2_sieve import ENHANCE_YOUR_CALM, frame
from proxy.lanes.tap import Detour, Http2Tap, make_tap
from tests.proxy.lanes.relay import HOST, Relay

LIMITS = Limits(header_fields=16, header_bytes=2048)
GET = b"GET / HTTP/1.1\r\nHost: good.example\r\n"
MANY = b"".join(b"X-%d: y\r\n" % n for n in range(17))
LARGE = b"X: " + b"y" * 2048 + b"\r\n"
SIZES = pytest.mark.parametrize("size", [0, 1, 1000])
HEADS = pytest.mark.parametrize(("more", "detail"), [(MANY, "header_fields"), (LARGE, "header_bytes")])


@SIZES
@HEADS
def test_an_http1_request_beyond_a_limit_is_answered_and_nothing_of_it_passes(
    more: bytes, detail: str, size: int
) -> None:
    relay = Relay(b"http/1.1", limits=LIMITS)
    relay.client(GET + more + b"\r\n", size)
    assert not relay.to_server
    assert relay.to_client.startswith(b"HTTP/1.1 431 ")
    assert detail.encode() in relay.to_client
    assert relay.done


@SIZES
@HEADS
def test_an_http1_response_beyond_a_limit_is_taken_back_whole(more: bytes, detail: str, size: int) -> None:
    tap = make_tap(b"http/1.1", HOST, lambda _: None, lambda: 1.0, LIMITS)
    tap.from_client(GET + b"\r\n")
    data = b"HTTP/1.1 103 Early\r\n\r\nHTTP/1.1 200 OK\r\n" + more + b"\r\nbody"
    passed = b""
    for at in range(0, len(data), size or len(data)):
        piece = data[at : at + (size or len(data))]
        detour = tap.from_server(piece) or Detour(to_client=piece)
        passed += detour.to_client
        if detour.refused is not None:
            break
    assert isinstance(detour.refused, TooLarge)
    assert (detour.refused.detail, detour.refused.request) == (detail, False)
    assert passed == b"HTTP/1.1 103 Early\r\n\r\n"


def test_a_response_head_that_is_cut_off_reaches_the_client_as_far_as_it_came() -> None:
    tap = make_tap(b"http/1.1", HOST, lambda _: None, lambda: 1.0, LIMITS)
    tap.from_client(GET + b"\r\n")
    detour = tap.from_server(b"HTTP/1.1 200 OK\r\nX")
    assert detour == Detour()
    assert tap.release() == b"HTTP/1.1 200 OK\r\nX"


def headers(stream: int, fields: list[tuple[str, str]], parts: int = 1) -> bytes:
    block = Encoder().encode(fields)
    size = -(-len(block) // parts)
    out = b""
    for at in range(0, len(block), size):
        flags = END_HEADERS if at + size >= len(block) else 0
        out += frame(CONTINUATION if at else HEADERS, flags if at else flags | 1, stream, block[at : at + size])
    return out


REQUEST = [(":method", "GET"), (":scheme", "https"), (":authority", HOST), (":path", "/")]
BEYOND = {
    "header_fields": [(f"x-{n}", "y") for n in range(17)],
    "header_bytes": [("x", "y" * 2048)],
}
BEGIN = PREFACE + frame(SETTINGS, 0, 0, b"") + frame(WINDOW_UPDATE, 0, 0, b"\0\0\0\1")


@SIZES
@pytest.mark.parametrize("parts", [1, 5])
@pytest.mark.parametrize("detail", BEYOND)
def test_an_http2_request_beyond_a_limit_is_answered_on_its_stream(detail: str, parts: int, size: int) -> None:
    relay = Relay(b"h2", limits=LIMITS)
    relay.server(frame(SETTINGS, 0, 0, b""))
    relay.client(BEGIN + headers(1, REQUEST) + headers(3, REQUEST + BEYOND[detail], parts), size)
    assert bytes(relay.to_server) == BEGIN + headers(1, REQUEST)
    (refused,) = relay.refused
    assert isinstance(refused, TooLarge)
    assert (refused.detail, refused.stream) == (detail, 3)
    assert b"431" in relay.to_client
    assert not relay.done  # stream 1 has its answer to come


@SIZES
def test_a_block_that_goes_on_and_on_is_not_gathered(size: int) -> None:
    relay = Relay(b"h2", limits=LIMITS)
    relay.server(frame(SETTINGS, 0, 0, b""))
    relay.client(BEGIN + frame(HEADERS, 1, 1, bytes(1000)) + frame(CONTINUATION, 0, 1, bytes(1000)) * 20, size)
    assert relay.refused
    assert bytes(relay.to_server) == BEGIN
    assert relay.done


@SIZES
def test_frames_before_one_too_many_pass_and_it_does_not(size: int) -> None:
    tap = make_tap(b"h2", HOST, lambda _: None, lambda: 1.0, Limits(http2_control_per_second=1))
    assert isinstance(tap, Http2Tap)
    data = PREFACE + frame(SETTINGS, 0, 0, b"") + frame(WINDOW_UPDATE, 0, 0, b"\0\0\0\1") * 12
    passed = b""

    def play() -> None:
        nonlocal passed
        for at in range(0, len(data), size or len(data)):
            piece = data[at : at + (size or len(data))]
            detour = tap.from_client(piece)
            passed += piece if detour is None else detour.to_server

    with pytest.raises(OverLimit) as caught:
        play()
    passed += caught.value.passes
    # Where a frame's head had passed before the rest of it came, no more than its payload is missing.
    assert data.startswith(passed)
    assert len(passed) >= len(data) - 2 * 13 - 9
    assert ENHANCE_YOUR_CALM == 11


def test_small_chunks_are_read_alike_in_one_go_and_byte_by_byte() -> None:
    random = Random(7)  # noqa: S311 - only has to vary
    for _ in range(50):
        sizes = [random.choice([1, 2, 15, 16, 17, 300]) for _ in range(random.randrange(1, 60))]
        body = [random.randbytes(size) for size in sizes]
        data = b"".join(
            b"%s%x%s\r\n%s\r\n" % (random.choice([b"", b"0"]), len(one), random.choice([b"", b";a=b"]), one)
            for one in body
        )
        data += b"0\r\n\r\nGET"
        seen = []
        for size in (1, 11, len(data)):
            direction = Direction("client", LIMITS)
            direction.expect(Place.FIRST_CHUNK)
            pieces: list[bytes] = []
            ended, at = False, 0
            while not ended:
                piece = bytes(direction.held or b"") + data[at : at + size]
                direction.held = None
                at += size
                _, ended = direction.body(piece, 0, pieces)
            seen.append((b"".join(pieces), direction.counted))
        assert seen == [(b"".join(body), sum(sizes))] * 3
