"""How a worker's event loop keeps up, and what memory the process has."""

from __future__ import annotations

import resource
from collections.abc import Callable
from pathlib import Path

TICK_SECONDS = 0.25
LAG_SECONDS = 15.0
PAGE = resource.getpagesize()


class Lag:
    """How late the event loop is: the longest of the last fifteen seconds. ``later`` is the loop's ``call_later``."""

    def __init__(self, clock: Callable[[], float], later: Callable[[float, Callable[[], None]], object]) -> None:
        self._clock = clock
        self._later = later
        self._recent = [0.0] * round(LAG_SECONDS / TICK_SECONDS)
        self._place = 0
        self._due = 0.0

    def start(self) -> None:
        """Look four times a second from now on."""
        self._due = self._clock() + TICK_SECONDS
        self._later(TICK_SECONDS, self._tick)

    def _tick(self) -> None:
        self._recent[self._place] = max(0.0, self._clock() - self._due)
        self._place = (self._place + 1) % len(self._recent)
        self.start()

    @property
    def longest(self) -> float:
        """In seconds."""
        return max(self._recent)


def memory() -> int:
    """The resident memory of this process, in bytes."""
    with Path("/proc/self/statm").open("rb") as file:
        return int(file.read().split()[1]) * PAGE
