"""How well a worker's event loop has kept up lately: for whoever watches the worker.

What is done about it is decided in :mod:`proxy.overload`, from the same measurements.
"""

from __future__ import annotations

from collections import deque

KEPT = 150
"""Measurements that are remembered: those of fifteen seconds, at ten a second."""


class Lag:
    """The recent measurements of one worker."""

    def __init__(self) -> None:
        self._recent: deque[float] = deque((0.0,), KEPT)

    def saw(self, seconds: float) -> None:
        """The loop came to its timer so many seconds later than it should have."""
        self._recent.append(seconds)

    @property
    def longest(self) -> float:
        """In seconds."""
        return max(self._recent)
