"""Threads that do what would make the event loop wait: store and key management service.

They are daemons: a store that hangs must not keep the process from ending.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

MOST_TOGETHER = 10_000
"""Items of one round. Where the store fails, all that wait are told at once."""


@dataclass(frozen=True, slots=True)
class _Single:
    """A piece of work of its own."""

    work: Callable[[], Any]
    future: asyncio.Future[Any]


@dataclass(frozen=True, slots=True)
class _Item:
    """One of those that are done together."""

    value: Any
    future: asyncio.Future[Any]


class Desk:
    """A thread and what it is to do, in order. To be made, and used, on the event loop."""

    def __init__(self, name: str) -> None:
        self._queue: queue.SimpleQueue[_Single | _Item | None] = queue.SimpleQueue()
        self._loop = asyncio.get_running_loop()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def call[A](self, work: Callable[[], A]) -> asyncio.Future[A]:
        """Do something after what was put before it. The future fails with what it raises."""
        future: asyncio.Future[A] = self._loop.create_future()
        self._queue.put(_Single(work, future))
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
            if isinstance(entry, _Single):
                try:
                    outcome = entry.work()
                except Exception as error:  # noqa: BLE001 - nothing carries on: it is raised where it is awaited
                    outcome = error
                self._deliver([(entry.future, outcome)])

    def _do_together(self, items: Sequence[_Item]) -> None:
        raise NotImplementedError

    def _deliver(self, outcomes: list[tuple[asyncio.Future[Any], Any]]) -> None:
        # The loop is closed where the process is about to end: nobody waits any more.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(_settle, outcomes)


class SharedDesk[T, R](Desk):
    """Does together what has gathered: many hosts share one transaction.

    ``together`` yields outcomes by the item's place, as soon as it has them: a result or an exception. An exception
    that it raises is that of every item without an outcome.
    """

    def __init__(self, name: str, together: Callable[[Sequence[T]], Iterator[Mapping[int, R | Exception]]]) -> None:
        self._together = together
        super().__init__(name)

    def submit(self, value: T) -> asyncio.Future[R]:
        """Put an item to the others. The future fails with what went wrong."""
        future: asyncio.Future[R] = self._loop.create_future()
        self._queue.put(_Item(value, future))
        return future

    def _do_together(self, items: Sequence[_Item]) -> None:
        missing = {place: item.future for place, item in enumerate(items)}
        try:
            for outcomes in self._together([item.value for item in items]):
                self._deliver([(missing.pop(place), outcome) for place, outcome in outcomes.items()])
        except Exception as error:  # noqa: BLE001 - nothing carries on: it is raised where it is awaited
            self._deliver([(future, error) for future in missing.values()])


def _settle(outcomes: list[tuple[asyncio.Future[Any], Any]]) -> None:
    for future, outcome in outcomes:
        if future.done():  # whoever waited has given up
            continue
        if isinstance(outcome, Exception):
            future.set_exception(outcome)
        else:
            future.set_result(outcome)
