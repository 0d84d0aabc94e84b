"""Which lines are written under load, as tables, the time being told."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.log_limits import FloodGate, Sampler


@pytest.mark.parametrize(
    ("above", "lines", "written", "unsaid"),
    [
        (5, 5, [1] * 5, 0),
        (5, 9, [1] * 5, 4),
        (5, 10, [1] * 5 + [5], 0),
        (5, 50, [1] * 5 + [5, 10, 10, 10, 10], 0),
        # Beyond ten times the limit it is one in a hundred.
        (5, 99, [1] * 5 + [5, 10, 10, 10, 10], 49),
        (5, 300, [1] * 5 + [5, 10, 10, 10, 10, 50, 100, 100], 0),
        (1, 1000, [1, 9, 90, 900], 0),
    ],
)
def test_so_many_lines_in_one_second(above: int, lines: int, written: list[int], unsaid: int) -> None:
    sampler = Sampler(above)
    stands = [sampler.stands_for(7.5) for _ in range(lines)]
    assert [n for n in stands if n] == written
    assert lines - sum(stands) == unsaid


def test_each_second_begins_anew_and_tells_of_those_left_out_before() -> None:
    sampler = Sampler(2)
    assert [sampler.stands_for(1.0) for _ in range(6)] == [1, 1, 0, 0, 0, 0]
    assert [sampler.stands_for(2.0) for _ in range(3)] == [5, 1, 0]
    assert sampler.stands_for(1.0) == 2  # a clock that was set back


@given(st.integers(1, 50), st.lists(st.tuples(st.floats(0, 3), st.integers(1, 200)), max_size=30))
def test_the_sum_is_that_of_all_lines(above: int, rounds: list[tuple[float, int]]) -> None:
    sampler = Sampler(above)
    total = said = 0
    for now, lines in rounds:
        total += lines
        said += sum(sampler.stands_for(now) for _ in range(lines))
    if rounds:
        # The first of a second is always written, and makes up for all before it.
        assert said + sampler.stands_for(1000.0) == total + 1


def test_under_ten_times_the_load_at_most_twice_as_many_lines_are_written() -> None:
    sampler = Sampler(1000)
    assert sum(bool(sampler.stands_for(1.0)) for _ in range(10_000)) == 1900
    sampler = Sampler(1000)
    assert sum(bool(sampler.stands_for(1.0)) for _ in range(100_000)) == 2800


def test_a_flood_of_one_event_keeps_no_other_out() -> None:
    gate = FloodGate(3)
    assert [gate.lets_through("refused", 1.0) for _ in range(5)] == [True, True, True, False, False]
    assert gate.lets_through("no leaf", 1.9)
    assert gate.left_out() == {"refused": 2}
    assert gate.left_out() == {}
    assert gate.lets_through("refused", 2.0)
    assert gate.left_out() == {}
