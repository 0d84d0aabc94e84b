from __future__ import annotations

import struct

import pytest

from config.settings import Limits
from proxy.lanes.exchange import OverLimit
from proxy.lanes.http2_frames import CONTINUATION, DATA, HEADERS, PING, PREFACE, RST_STREAM, SETTINGS, WINDOW_UPDATE
from proxy.lanes.http2_meter import Meter
from proxy.lanes.http2_rates import CONTROL, CREDIT, PINGS, RESETS, Rates
from proxy.lanes.http2_sieve import frame

LIMITS = Limits(http2_pings_per_second=10, http2_resets_per_second=10)


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def allowed(rates: Rates, kind: str, most: int = 10_000) -> int:
    """How many may come at once."""
    for number in range(most):
        try:
            rates.count("client", kind)
        except OverLimit as error:
            return number if (error.kind, error.client, error.calm) == (kind, True, True) else -1
    return most


def test_ten_seconds_of_a_kind_may_come_at_once_and_then_as_many_as_time_allows() -> None:
    clock = Clock()
    rates = Rates(LIMITS, clock)
    assert allowed(rates, RESETS) == 100
    clock.now += 3
    assert 28 <= allowed(rates, RESETS) <= 30
    clock.now += 3600
    assert allowed(rates, RESETS) == 100


def test_kinds_and_sides_are_counted_for_themselves() -> None:
    rates = Rates(LIMITS, Clock())
    allowed(rates, RESETS)
    rates.count("server", RESETS)
    assert allowed(rates, PINGS) == 100


def test_what_messages_explain_does_not_count_and_nothing_is_saved_up() -> None:
    rates = Rates(LIMITS, Clock())
    for _ in range(500):
        rates.useful += 1
        for _ in range(CREDIT):
            rates.count("client", PINGS)
    assert allowed(rates, PINGS) <= 100
    rates.useful += 1000
    assert allowed(rates, RESETS) == 100
    rates.useful += 1_000_000
    assert allowed(rates, CONTROL) <= 1001


def metered(*frames: bytes, who: str = "client", size: int = 0) -> str:
    """The kind of what was too much; "": nothing."""
    meter = Meter(who, LIMITS, Rates(LIMITS, Clock()))
    data = (PREFACE if who == "client" else b"") + b"".join(frames)
    try:
        for at in range(0, len(data), size or len(data)):
            meter.read(data[at : at + (size or len(data))])
    except OverLimit as error:
        return error.kind if error.client == (who == "client") else "the other side's"
    return ""


@pytest.mark.parametrize("size", [0, 1, 7, 4096])
@pytest.mark.parametrize("who", ["client", "server"])
def test_the_meter_counts_frames_wherever_pieces_end(who: str, size: int) -> None:
    reset = frame(RST_STREAM, 0, 1, struct.pack(">L", 8))
    data = frame(DATA, 0, 1, bytes(5000))
    assert metered(*[reset, data] * 100, who=who, size=size) == ""
    assert metered(*[reset, data] * 101, who=who, size=size) == "resets"
    assert metered(frame(HEADERS, 0, 1, b"x"), *[frame(CONTINUATION, 0, 1, b"x")] * 65, who=who, size=size) == (
        "continuation"
    )
    assert metered(frame(HEADERS, 0, 1, bytes(70_000)), frame(CONTINUATION, 0, 1, bytes(70_000)), size=size) == (
        "header_bytes"
    )
    assert metered(*[frame(DATA, 0, 1, b"")] * 101, size=size) == "empty"
    assert metered(*[frame(DATA, 1, 1, b"")] * 500, *[data] * 500, size=size) == ""
    assert metered(*[frame(SETTINGS, 0, 0, b"")] * 101, size=size) == "settings"


def test_a_reader_that_answers_each_frame_is_within_the_limits() -> None:
    update = frame(WINDOW_UPDATE, 0, 0, b"\0\0\0\1")
    assert metered(*[frame(DATA, 0, 1, b"x"), update, update, frame(PING, 0, 0, bytes(8))] * 2000) == ""
