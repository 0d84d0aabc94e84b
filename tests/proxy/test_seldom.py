"""A line of the log a second, with how many it stands for."""

from __future__ import annotations

from typing import Any

from proxy.seldom import Seldom


def test_the_first_is_said_at_once_and_what_follows_within_a_second_together() -> None:
    said: list[tuple[str, int, dict[str, Any]]] = []
    seldom = Seldom(lambda what, count, fields: said.append((what, count, fields)))
    seldom.happened("full", 10.0, id="a")
    seldom.happened("full", 10.2, id="b")
    seldom.happened("full", 10.9, id="c")
    seldom.happened("late", 10.9, id="d")
    assert said == [("full", 1, {"id": "a"}), ("late", 1, {"id": "d"})]
    seldom.flush(10.95)
    assert len(said) == 2
    seldom.flush(11.0)
    assert said[2:] == [("full", 2, {"id": "c"})]
    seldom.happened("full", 11.5, id="e")
    seldom.happened("full", 12.1, id="f")
    assert said[3:] == [("full", 2, {"id": "f"})]


def test_what_has_not_happened_for_a_second_is_forgotten_and_nothing_is_said_twice() -> None:
    said: list[int] = []
    seldom = Seldom(lambda what, count, fields: said.append(count))
    seldom.happened("full", 1.0)
    for now in (2.0, 3.0, float("inf")):
        seldom.flush(now)
    assert said == [1]
    assert not seldom._counts
