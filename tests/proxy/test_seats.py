"""Each limit lets in exactly as many as it says, over all workers, and is named when it refuses."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from config.settings import Limits, Listener
from proxy.ledger import Ledger
from proxy.seats import MOST, Seats, columns, room

A = Listener(name="a", bind="127.0.0.1:0")
B = Listener(name="b", bind="127.0.0.1:0")
OTHER = Listener(name="c", bind="127.0.0.1:0", tenant="other")
LISTENERS = (A, B, OTHER)
Make = Callable[..., tuple[Seats, Seats]]


@pytest.fixture
def workers() -> Iterator[Make]:
    made: list[Ledger] = []

    def make(descriptors: int = 20_000, **limits: Any) -> tuple[Seats, Seats]:
        ledger = Ledger.create(4, columns(LISTENERS))
        made.append(ledger)
        rows = (ledger.take(), ledger.take())
        first, second = (Seats(ledger, row, Limits(**limits), 2, descriptors) for row in rows)
        return first, second

    yield make
    for ledger in made:
        ledger.close()


@pytest.mark.parametrize(
    ("limit", "within", "beyond", "free"),
    [
        ("connections", [(A, "192.0.2.1"), (OTHER, "192.0.2.2"), (B, "192.0.2.3")], (B, "192.0.2.4"), None),
        ("connections_per_listener", [(A, f"192.0.2.{n}") for n in range(3)], (A, "192.0.2.9"), (B, "192.0.2.9")),
        ("connections_per_tenant", [(A, "::1"), (B, "::2"), (A, "192.0.2.1")], (B, "::3"), (OTHER, "::3")),
        (
            "connections_per_client",
            [(A, "2001:db8::1"), (B, "2001:db8::2"), (OTHER, "2001:db8::3")],
            (B, "2001:db8::4"),
            (B, "2001:db8:0:1::4"),
        ),
    ],
)
def test_a_limit_lets_in_as_many_as_it_says_over_both_workers(
    workers: Make,
    limit: str,
    within: list[tuple[Listener, str]],
    beyond: tuple[Listener, str],
    free: tuple[Listener, str] | None,
) -> None:
    first, second = workers(**{limit: 3})
    taken = []
    for seats, who in zip((first, second, first), within, strict=True):
        seat = seats.take(who[0], who[0].tenant, who[1])
        assert not isinstance(seat, str)
        taken.append((seats, seat))
    assert (
        first.take(beyond[0], beyond[0].tenant, beyond[1])
        == second.take(beyond[0], beyond[0].tenant, beyond[1])
        == limit
    )
    if free is not None:
        assert not isinstance(second.take(free[0], free[0].tenant, free[1]), str)
    seats, seat = taken[0]
    seats.leave(seat)
    assert not isinstance(second.take(beyond[0], beyond[0].tenant, beyond[1]), str)
    assert first.take(beyond[0], beyond[0].tenant, beyond[1]) == limit


def test_what_was_refused_counts_nothing(workers: Make) -> None:
    first, second = workers(connections=1, connections_per_client=1)
    seat = first.take(A, A.tenant, "192.0.2.1")
    assert not isinstance(seat, str)
    for _ in range(100):
        assert isinstance(second.take(A, A.tenant, "192.0.2.1"), str)
    first.leave(seat)
    assert not any(first.ledger.cells)


def test_the_narrowest_limit_is_the_one_that_is_named(workers: Make) -> None:
    every = dict.fromkeys(
        ("connections", "connections_per_listener", "connections_per_tenant", "connections_per_client"), 1
    )
    first, second = workers(**every)
    first.take(A, A.tenant, "192.0.2.1")
    assert second.take(A, A.tenant, "192.0.2.1") == "connections_per_client"
    assert second.take(A, A.tenant, "192.0.2.2") == "connections_per_tenant"
    assert second.take(OTHER, OTHER.tenant, "192.0.2.2") == "connections"


def test_a_dead_workers_connections_make_room(workers: Make) -> None:
    first, second = workers(connections=2)
    first.take(A, A.tenant, "192.0.2.1")
    first.take(A, A.tenant, "192.0.2.1")
    assert second.take(A, A.tenant, "192.0.2.1") == "connections"
    first.ledger.free(0)
    assert not isinstance(second.take(A, A.tenant, "192.0.2.1"), str)


def test_without_a_limit_the_descriptors_of_all_workers_are_the_limit(workers: Make) -> None:
    first, second = workers(descriptors=16)
    assert (first.room, first.most) == (4, 8)
    for _ in range(4):
        assert not first.full
        assert not isinstance(first.take(A, A.tenant, "192.0.2.1"), str)
    assert first.full  # the other worker should have the next one
    for _ in range(4):
        assert not isinstance(second.take(A, A.tenant, "192.0.2.1"), str)
    assert not first.full  # nobody has room: it may as well say so
    assert first.take(A, A.tenant, "192.0.2.1") == second.take(A, A.tenant, "192.0.2.1") == "connections"


@settings(deadline=None)
@given(st.integers(min_value=8, max_value=1 << 31))
def test_there_is_always_room_for_one_and_never_for_more_than_there_are_descriptors(descriptors: int) -> None:
    assert 1 <= room(descriptors) <= MOST
    assert 2 * room(descriptors) <= descriptors


def test_unlimited_descriptors_are_still_a_number() -> None:
    assert room(-1) == MOST
    assert room(20_000) == 9808


def at_work(ledger: Ledger, *open_and_busy: tuple[int, float | None]) -> list[Seats]:
    """Workers with so many connections open, that take so much of a processor; None: they take no connections."""
    made = []
    for open_, share in open_and_busy:
        seats = Seats(ledger, ledger.take(), Limits(), len(open_and_busy), 20_000)
        for _ in range(open_):
            seats.take(A, "default", "192.0.2.1")
        seats.busy(share)
        made.append(seats)
    return made


def test_a_worker_is_ahead_that_has_more_than_its_share(workers: Make) -> None:
    first, second = workers()
    first.busy(0), second.busy(0)
    assert (first.ahead, second.ahead) == (False, False)  # nobody has any
    seat = first.take(A, "default", "192.0.2.1")
    assert (first.ahead, second.ahead) == (True, False)
    second.take(A, "default", "192.0.2.1")
    assert (first.ahead, second.ahead) == (False, False)
    for _ in range(200):
        first.take(A, "default", "192.0.2.1")
        second.take(A, "default", "192.0.2.1")
    first.take(A, "default", "192.0.2.1")
    assert not first.ahead  # one among so many
    for _ in range(10):
        first.take(A, "default", "192.0.2.1")
    assert first.ahead
    assert not isinstance(seat, str)
    for _ in range(10):
        first.leave(seat)
    assert not first.ahead


@pytest.fixture
def ledger() -> Iterator[Ledger]:
    made = Ledger.create(16, columns(LISTENERS))
    yield made
    made.close()


def test_one_worker_alone_is_never_ahead(ledger: Ledger) -> None:
    (alone,) = at_work(ledger, (5, 1.0))
    assert (alone.ahead, alone.others) == (False, False)


def test_what_workers_have_that_take_none_makes_nobody_wait(ledger: Ledger) -> None:
    first, second, draining = at_work(ledger, (1, 0.1), (0, 0.1), (10, None))
    assert (first.ahead, second.ahead) == (False, False)
    assert (first.others, draining.others) == (True, True)
    second.busy(None)
    assert (first.others, second.others) == (False, True)


def test_nobody_waits_for_workers_that_are_not_there(ledger: Ledger) -> None:
    first, second, gone = at_work(ledger, (10, 0.1), (10, 0.1), (0, 0.1))
    assert (first.ahead, second.ahead, gone.ahead) == (True, True, False)
    gone.busy(None)  # its row is cleared
    assert (first.ahead, second.ahead) == (False, False)


def test_a_busy_worker_that_drains_does_not_keep_the_others_from_sharing(ledger: Ledger) -> None:
    first, second, draining = at_work(ledger, (10, 0.1), (0, 0.1), (2, 1.0))
    assert not first.ahead
    draining.busy(None)
    assert (first.ahead, second.ahead) == (True, False)


def test_a_worker_that_is_idler_is_not_ahead_whatever_it_has_open(ledger: Ledger) -> None:
    first, second = at_work(ledger, (50, 0.0), (0, 1.0))
    for mine, ahead in ((0.0, False), (0.5, False), (0.75, True), (1.0, True)):
        first.busy(mine)
        assert first.ahead is ahead, mine
        assert not second.ahead
    second.busy(0.0)
    first.busy(0.0)
    assert first.ahead


@pytest.mark.parametrize("count", [3, 8, 15])
def test_of_many_workers_none_leaves_anything_to_the_only_busy_one(ledger: Ledger, count: int) -> None:
    busy, *idle = at_work(ledger, (5, 1.0), *[(10, 0.02)] * count)
    assert not any(worker.ahead for worker in (busy, *idle))
    busy.busy(0.02)
    assert all(worker.ahead for worker in idle)
