from __future__ import annotations

import itertools

import pytest

from proxy.lanes.tap import BytesTap, Exchange, Tap


def make() -> tuple[BytesTap, list[Exchange]]:
    out: list[Exchange] = []
    ticks = itertools.count(1)
    return BytesTap("a.example", out.append, lambda: float(next(ticks))), out


def test_bytes_are_counted_both_ways_and_told_of_once_at_the_close() -> None:
    tap, out = make()
    assert tap.busy
    assert tap.protocol == "bytes"
    tap.from_client(b"abc")
    tap.from_server(bytes(70000))
    tap.from_server(b"x")
    tap.from_client(b"de")
    tap.client_ended()
    tap.server_ended()
    assert out == []
    tap.closed()
    tap.closed()
    assert out == [Exchange("bytes", "", "a.example", "", 0, 5, 70001, 1.0, 2.0, 3.0, "complete")]
    assert not tap.busy


@pytest.mark.parametrize(("ends", "outcome"), [("client_ended", "complete"), ("server_ended", "complete"), ("", "cut")])
def test_it_is_cut_where_neither_side_ended_it(ends: str, outcome: str) -> None:
    tap, out = make()
    tap.from_client(b"abc")
    if ends:
        getattr(tap, ends)()
    tap.closed()
    assert [(exchange.outcome, exchange.first_byte) for exchange in out] == [(outcome, 0.0)]


def test_a_tap_that_is_closed_counts_nothing_more() -> None:
    tap, out = make()
    tap.closed()
    tap.from_client(b"abc")
    tap.from_server(b"abc")
    assert (out[0].request_bytes, out[0].response_bytes) == (0, 0)


def test_the_base_class_follows_nothing_by_itself() -> None:
    tap = Tap("h", lambda _: None, lambda: 0.0, "x")
    for call in (lambda: tap.from_client(b""), lambda: tap.from_server(b""), tap.closed, lambda: tap.busy):
        with pytest.raises(NotImplementedError):
            call()
    tap.client_ended()
    tap.server_ended()
