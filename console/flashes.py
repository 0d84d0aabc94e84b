"""What a page says once, about what was done on the page before: kept here for a few minutes, by session."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field

from cachetools import TTLCache

KEPT = 1000
KEPT_SECONDS = 300.0
MOST = 5


@dataclass(frozen=True, slots=True)
class Flash:
    """``text`` is said; ``undo`` is the path that a button posts to, with ``fields``, to take it back."""

    text: str
    level: str = "done"
    """done, note or problem."""
    undo: str | None = None
    fields: Mapping[str, str] = field(default_factory=dict)


class Flashes:
    """Of all sessions, by their number."""

    def __init__(self) -> None:
        self._kept: TTLCache[int, tuple[Flash, ...]] = TTLCache(KEPT, KEPT_SECONDS)
        self._lock = threading.Lock()

    def add(self, session: int, flash: Flash) -> None:
        """Have it said on the next page."""
        with self._lock:
            self._kept[session] = (*self._kept.get(session, ()), flash)[-MOST:]

    def take(self, session: int) -> tuple[Flash, ...]:
        """What is to be said now, and then no more."""
        with self._lock:
            taken: tuple[Flash, ...] = self._kept.pop(session, ())
            return taken
