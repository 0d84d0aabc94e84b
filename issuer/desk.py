"""Work that would make the event loop wait, on threads: store and key management service.

Work that only waits at times begins on the loop, and goes on there for as long as it need not wait: to hand something
to a thread and to hear of it costs as much as to record a leaf.

The threads are daemons: a store that hangs must not keep the process from ending.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

MOST_TOGETHER = 10_000
"""Items of one round on the thread. Where the store fails, all that wait are told at once."""
MOST_ON_LOOP = 16
"""Items of one round on the loop. Who needs no round waits for one of these, some ten milliseconds, at most."""

type _Outcomes = list[tuple[Callable[[Any], None], Any]]
"""Whom to tell, and a result or an exception."""


@dataclass(frozen=True, slots=True)
class _Item:
    """One of those that are done together."""

    value: Any
    done: Callable[[Any], None]


class Desk:
    """A thread and what it is to do, in order. To be made, and used, on the event loop."""

    def __init__(self, name: str) -> None:
        self._queue: queue.SimpleQueue[Callable[[], None] | _Item | None] = queue.SimpleQueue()
        self._loop = asyncio.get_running_loop()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def call[A](self, work: Callable[[], A]) -> asyncio.Future[A]:
        """Do something after what was put before it. The future fails with what it raises."""
        future: asyncio.Future[A] = self._loop.create_future()
        self._queue.put(partial(self._do_single, work, future))
        return future

    async def stop(self, seconds: float) -> None:
        """Take no more, and wait for what was put before, but not longer than so many seconds."""
        self._queue.put(None)
        await asyncio.to_thread(self._thread.join, seconds)

    def _run(self) -> None:
        while (entry := self._queue.get()) is not None:
            items: list[_Item] = []
            # What has gathered while the thread was busy, up to the next piece of work of its own.
            while isinstance(entry, _Item):
                items.append(entry)
                if len(items) == MOST_TOGETHER or self._queue.empty():
                    break
                entry = self._queue.get()
            if items:
                self._do_together(items)
            if entry is None:
                return
            if not isinstance(entry, _Item):
                entry()

    def _do_single(self, work: Callable[[], Any], future: asyncio.Future[Any]) -> None:
        try:
            outcome = work()
        except Exception as error:  # noqa: BLE001 - nothing carries on: it is raised where it is awaited
            outcome = error
        self._deliver(_tell, [(partial(settle, future), outcome)])

    def _do_together(self, items: Sequence[_Item]) -> None:
        raise NotImplementedError

    def _deliver(self, tell: Callable[[_Outcomes], None], outcomes: _Outcomes) -> None:
        # The loop is closed where the process is about to end: nobody waits any more.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(tell, outcomes)


class SharedDesk[T, R](Desk):
    """Does together what has gathered: many hosts share one transaction.

    ``together`` yields outcomes by the item's place, as soon as it has them: a result or an exception. An exception
    that it raises is that of every item without an outcome.

    It is begun on the loop, with what came in one turn of it, and yields None before it has to wait: the rest of it is
    done on the thread. What comes before that is finished follows it there, so that there is only ever one round.
    """

    def __init__(
        self, name: str, together: Callable[[Sequence[T]], Iterator[Mapping[int, R | Exception] | None]]
    ) -> None:
        self._together = together
        self._gathered: list[_Item] = []
        # Those that the thread has, or has done without the loop's knowing it yet.
        self._on_thread = 0
        super().__init__(name)

    def submit(self, value: T, done: Callable[[R | Exception], None]) -> None:
        """Put an item to the others. ``done`` is called on the loop with what became of it; it must not raise."""
        if not self._gathered:
            self._loop.call_soon(self._do_gathered)
        self._gathered.append(_Item(value, done))

    def _do_gathered(self) -> None:
        if self._on_thread:
            self._on_thread += len(self._gathered)
            for item in self._gathered:
                self._queue.put(item)
            self._gathered = []
            return
        items, self._gathered = self._gathered[:MOST_ON_LOOP], self._gathered[MOST_ON_LOOP:]
        if self._gathered:
            self._loop.call_soon(self._do_gathered)  # the loop looks at its sockets before that
        missing = {place: item.done for place, item in enumerate(items)}
        steps = self._steps([item.value for item in items], missing)
        for outcomes in steps:
            if outcomes is None:
                self._on_thread = len(missing)
                self._queue.put(partial(self._do_rest, steps))
                return
            _tell(outcomes)

    def _do_together(self, items: Sequence[_Item]) -> None:
        missing = {place: item.done for place, item in enumerate(items)}
        self._do_rest(self._steps([item.value for item in items], missing))

    def _do_rest(self, steps: Iterator[_Outcomes | None]) -> None:
        """On the thread, where waiting does no harm."""
        for outcomes in steps:
            if outcomes:
                self._deliver(self._tell_from_thread, outcomes)

    def _steps(self, values: Sequence[T], missing: dict[int, Callable[[Any], None]]) -> Iterator[_Outcomes | None]:
        """A round: what is known, as soon as it is; None before it has to wait."""
        try:
            for outcomes in self._together(values):
                yield (
                    None if outcomes is None else [(missing.pop(place), outcome) for place, outcome in outcomes.items()]
                )
        except Exception as error:  # noqa: BLE001 - nothing carries on: it is raised where it is awaited
            yield [(done, error) for done in missing.values()]

    def _tell_from_thread(self, outcomes: _Outcomes) -> None:
        self._on_thread -= len(outcomes)
        _tell(outcomes)


def settle[A](future: asyncio.Future[A], outcome: A | Exception) -> None:
    """Give a future a result or an exception, unless whoever waited for it has given up."""
    if future.done():
        return
    if isinstance(outcome, Exception):
        future.set_exception(outcome)
        future.exception()  # looked at, so that asyncio does not complain where who waited gives up at this moment
    else:
        future.set_result(outcome)


def _tell(outcomes: _Outcomes) -> None:
    for done, outcome in outcomes:
        done(outcome)
