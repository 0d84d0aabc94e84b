"""What a worker looks after by itself, ten times a second: time limits, its own lag and memory, peers that do not read.

Every connection is looked at once a second, a tenth of them each time, so that ten thousand hold the loop for less than
a millisecond at once.
"""

from __future__ import annotations

import ctypes
import gc
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from proxy.log import INFO, WARNING
from proxy.overload import RELIEVED, resident

if TYPE_CHECKING:
    from proxy.listeners.outer_tls import OuterTls
    from proxy.session import Session
    from proxy.worker import Worker

TICK_SECONDS = 0.1
TICKS = 10
"""Ticks in which every connection has been looked at."""
ROOM_SHARE = 10
"""One in so many connections is closed in a second, at most, where memory is tight."""
FRUITLESS = 10
"""Seconds without connections after which a worker that is still full is replaced: that memory does not come back."""


class Rounds:
    """The timer of one worker."""

    def __init__(
        self, worker: Worker, measure: Callable[[], int] = resident, used: Callable[[], float] = time.process_time
    ) -> None:
        """``measure``: the worker's memory, in bytes; ``used``: the processor's time that it has taken, in seconds."""
        self.worker = worker
        self._measure = measure
        self._used = used
        self._base = 0
        self._counted = (0.0, 0.0)
        """When the processor's time was last looked at, and what it was."""
        self._due = 0.0
        self._part = 0
        self._walk: tuple[Session, ...] = ()
        self._empty_seconds = 0
        self._shed: str | None = None

    def start(self) -> None:
        """Begin."""
        worker = self.worker
        self._base = self._measure()
        most = worker.overload.memory
        worker.log.event(INFO, "limits", connections=worker.entrance.seats.most, room=worker.entrance.seats.room,
                         memory=most)  # fmt: skip
        if self._base >= most * RELIEVED:
            worker.log.event(WARNING, "limits", reason=f"limits.memory leaves no room: a worker takes {self._base} "
                             f"bytes without a connection, and {most} is the limit; raise it")  # fmt: skip
        now = worker.loop.time()
        self._counted = now, self._used()
        self._again(now)

    def _again(self, now: float) -> None:
        self._due = now + TICK_SECONDS
        self.worker.loop.call_at(self._due, self._tick)

    def _tick(self) -> None:
        worker = self.worker
        now = worker.loop.time()
        late = max(0.0, now - self._due)
        worker.lag.saw(late)
        worker.overload.late(late, now)
        self._again(now)
        if self._part == 0:
            self._second(now)
            self._walk = tuple(worker.sessions)
        for session in self._walk[self._part :: TICKS]:
            session.look(now)
        self._part = (self._part + 1) % TICKS

    def _second(self, now: float) -> None:
        worker = self.worker
        overload = worker.overload
        overload.uses(self._measure())
        self._tell_busy(now)
        worker.stalls.check(now)
        worker.seldom.flush(now)
        worker.flush()
        if overload.tight:
            self._make_room(now)
        if overload.shedding != self._shed:
            self._shed = overload.shedding
            worker.log.event(WARNING, "shedding" if self._shed else "no longer shedding", reason=self._shed,
                             memory=overload.used, sessions=len(worker.sessions))  # fmt: skip
            if self._shed == "memory":
                gc.collect()
        if overload.shedding == "memory":
            trim()
            self._renew()
        else:
            self._empty_seconds = 0

    def _tell_busy(self, now: float) -> None:
        """Let the other workers know whether this one takes connections, and how much it has to do."""
        worker = self.worker
        (before, used), self._counted = self._counted, (now, self._used())
        takes = worker.overload.shedding is None and not worker.draining.is_set()
        worker.entrance.seats.busy((self._counted[1] - used) / max(now - before, TICK_SECONDS) if takes else None)

    def _make_room(self, now: float) -> None:
        """Connections on which nothing is under way end, those that rest longest first."""
        worker = self.worker
        # What else is there of connections of TLS to the proxy is a session each.
        outer = (one for one in worker.entrance.outer if one.http2 is not None)
        there: list[Session | OuterTls] = [*worker.sessions, *outer]
        resting = sorted((one for one in there if one.rests(now)), key=lambda one: one.active)
        most = max(10, len(there) // ROOM_SHARE)
        for one in resting[:most]:
            one.make_room()
        if resting:
            worker.log.event(WARNING, "made room", closed=len(resting[:most]), resting=len(resting),
                             memory=worker.overload.used)  # fmt: skip

    def _renew(self) -> None:
        """A worker that is full without a connection gives way to a new one, unless that would be full as well."""
        worker = self.worker
        if worker.sessions or self._base >= worker.overload.memory * RELIEVED:
            self._empty_seconds = 0
            return
        self._empty_seconds += 1
        if self._empty_seconds == FRUITLESS:
            worker.log.event(
                WARNING, "worker ends", reason="its memory is full without a connection; a new one follows"
            )
            worker.draining.set()


def trim() -> None:
    """Give memory that is free back to the system (malloc_trim(3)), where the C library can."""
    release = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if release is not None:
        release(0)
