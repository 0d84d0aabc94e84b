"""How many lines of the log are too many: a share of the request lines under load, and no flood of one event.

Both count in seconds of the clock that they are told, and begin anew with each: a clock that jumps does no harm.
"""

from __future__ import annotations

from typing import Final

SHARE: Final = 10
"""Beyond its limit, one line in ten is written; beyond ten times that, one in a hundred; and so on."""
MOST_EVENTS: Final = 1000
"""Kinds of events that are counted apart. Names of events are ours, so there are never so many."""


class Sampler:
    """Which request lines are written. ``above``: lines in a second up to which all are."""

    __slots__ = ("_above", "_count", "_every", "_left_out", "_more_at", "_second")

    def __init__(self, above: int) -> None:
        self._above = above
        self._second = -1
        self._count = 0
        self._every = 1
        self._more_at = above
        self._left_out = 0

    def stands_for(self, now: float) -> int:
        """For how many lines the next one stands: 0, it is left out; 1, for itself; N, for N - 1 before it too.

        Each line that is left out is counted in the next that is not, so the sum of these numbers is that of all lines.
        """
        second = int(now)
        if second != self._second:
            self._second, self._count, self._every, self._more_at = second, 0, 1, self._above
        self._count += 1
        if self._count > self._more_at:
            self._every *= SHARE
            self._more_at *= SHARE
        if self._count % self._every:
            self._left_out += 1
            return 0
        stands, self._left_out = self._left_out + 1, 0
        return stands


class FloodGate:
    """How many lines of each event are written in a second: ``above``, and then none, which is said afterwards."""

    __slots__ = ("_above", "_counts", "_left_out", "_second")

    def __init__(self, above: int) -> None:
        self._above = above
        self._second = -1
        self._counts: dict[str, int] = {}
        self._left_out: dict[str, int] = {}

    def lets_through(self, event: str, now: float) -> bool:
        """Whether a line of the event may be written."""
        second = int(now)
        if second != self._second or len(self._counts) >= MOST_EVENTS:
            self._second = second
            self._counts.clear()
        count = self._counts[event] = self._counts.get(event, 0) + 1
        if count <= self._above:
            return True
        self._left_out[event] = self._left_out.get(event, 0) + 1
        return False

    def left_out(self) -> dict[str, int]:
        """How many lines of which event were left out since the last time of asking."""
        told, self._left_out = self._left_out, {}
        return told
