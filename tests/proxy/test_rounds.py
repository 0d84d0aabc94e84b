"""What a worker looks after: every connection once a second, memory that is tight, and memory that stays full."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from proxy.lag import Lag
from proxy.overload import Overload
from proxy.rounds import FRUITLESS, TICKS, Rounds


class Resting:
    """A session as far as rounds know it, or a connection of TLS to the proxy."""

    http2: object | None = "some"

    def __init__(self, active: float, rests: bool = True) -> None:
        self.active = active
        self.resting = rests
        self.looked: list[float] = []
        self.closed = False

    def rests(self, now: float) -> bool:
        return self.resting

    def look(self, now: float) -> None:
        self.looked.append(now)

    def make_room(self) -> None:
        self.closed = True


class Loop:
    """A loop whose time the test moves."""

    def __init__(self) -> None:
        self.now = 100.0
        self.due: list[tuple[float, Any]] = []

    def time(self) -> float:
        return self.now

    def call_at(self, when: float, what: Any) -> None:
        self.due.append((when, what))

    def turn(self, late: float = 0.0) -> None:
        when, what = self.due.pop()
        self.now = when + late
        what()


class Worker:
    """The parts of a worker that rounds touch."""

    def __init__(self, *sessions: Resting) -> None:
        self.loop = Loop()
        self.sessions = set(sessions)
        self.overload = Overload(1000, 0.25)
        self.lag = Lag()
        self.draining = asyncio.Event()
        self.events: list[tuple[str, dict[str, Any]]] = []
        self.log = self
        self.stalls = self.seldom = self
        self.entrance = self
        self.seats = self
        self.most = self.room = 10
        self.memory = 100
        self.outer: set[Resting] = set()
        self.used = 5.0
        self.shares: list[float | None] = []

    def busy(self, share: float | None) -> None:
        self.shares.append(share)

    def event(self, level: int, event: str, **fields: Any) -> None:
        self.events.append((event, fields))

    def check(self, now: float = 0.0) -> None:
        """Peers that stall."""

    flush = check

    def start(self) -> None:
        Rounds(self, lambda: self.memory, lambda: self.used).start()  # type: ignore[arg-type] # all of a worker that it touches

    def second(self) -> None:
        for _ in range(TICKS):
            self.loop.turn()


def test_every_connection_is_looked_at_once_a_second_and_never_many_at_once() -> None:
    worker = Worker(*(Resting(0.0) for _ in range(95)))
    worker.start()
    seen = []
    for _ in range(TICKS):
        before = sum(len(session.looked) for session in worker.sessions)
        worker.loop.turn()
        seen.append(sum(len(session.looked) for session in worker.sessions) - before)
    assert max(seen) == 10
    assert all(len(session.looked) == 1 for session in worker.sessions)
    worker.second()
    assert all(len(session.looked) == 2 for session in worker.sessions)


def test_a_loop_that_stays_late_sheds() -> None:
    worker = Worker()
    worker.start()
    for _ in range(3):
        assert worker.overload.shedding is None
        worker.loop.turn(late=1.0)
    assert worker.overload.shedding == "overload"


def test_where_memory_is_tight_those_that_rest_longest_make_room_first() -> None:
    resting = [Resting(float(number)) for number in range(30)]
    busy = [Resting(0.0, rests=False) for _ in range(5)]
    worker = Worker(*resting, *busy)
    worker.memory = 949
    worker.start()
    worker.second()
    assert not any(session.closed for session in worker.sessions)
    worker.memory = 950
    worker.loop.turn()
    assert [session.closed for session in resting] == [True] * 10 + [False] * 20
    assert not any(session.closed for session in busy)
    assert worker.overload.shedding is None
    assert worker.events[-1] == ("made room", {"closed": 10, "resting": 30, "memory": 950})


def test_connections_of_http2_to_the_proxy_make_room_where_they_rest() -> None:
    sessions, outer = [Resting(float(n)) for n in range(0, 40, 2)], [Resting(float(n)) for n in range(1, 40, 2)]
    worker = Worker(*sessions)
    inside = Resting(-1.0, rests=False)
    inside.http2 = None  # it counts as its session does
    worker.outer = {*outer, inside}
    worker.memory = 950
    worker.start()
    worker.second()
    assert [one.closed for one in sessions] == [one.closed for one in outer] == [True] * 5 + [False] * 15
    assert worker.events[-1] == ("made room", {"closed": 10, "resting": 40, "memory": 950})


@pytest.mark.parametrize("base", [100, 950])
def test_a_worker_that_is_full_without_a_connection_gives_way_unless_the_next_would_be_full_too(base: int) -> None:
    last = Resting(0.0, rests=False)
    worker = Worker(last)
    worker.memory = base
    worker.start()
    worker.memory = 1000
    for _ in range(2 * FRUITLESS):
        worker.second()
    assert not worker.draining.is_set()
    worker.sessions.clear()
    for _ in range(FRUITLESS - 1):
        worker.second()
    assert not worker.draining.is_set()
    worker.second()
    assert worker.draining.is_set() is (base == 100)
    assert ("shedding", {"reason": "memory", "memory": 1000, "sessions": 1}) in worker.events


def test_the_others_are_told_each_second_how_busy_it_is() -> None:
    worker = Worker()
    worker.start()
    for _ in range(2 * TICKS + 1):
        worker.loop.turn()
        worker.used += 0.03
    assert worker.shares == pytest.approx([0.0, 0.3, 0.3])


def test_the_others_are_told_that_it_takes_no_connections() -> None:
    worker = Worker()
    worker.start()
    worker.second()
    worker.memory = 1000
    worker.second()
    worker.memory = 100
    worker.second()
    worker.draining.set()
    worker.second()
    assert worker.shares == [0.0, None, 0.0, None]
