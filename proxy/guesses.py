"""How often passwords may be guessed: a few at once, then one every few seconds, for a client and for a user."""

from __future__ import annotations

from collections.abc import Callable, Hashable

from cachetools import LRUCache

MOST = 10.0
"""Wrong passwords in a row that cost no waiting."""
SECONDS = 6.0
"""After which another one is forgotten."""
KEPT = 20_000


class Guesses:
    """Buckets that leak. A key is a client, a user, or both together; each guess goes into every bucket of its own.

    A guess counts from its beginning, so that many at once are no way around it; one that was right is taken back.
    ``clock`` tells seconds that nobody sets.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._levels: LRUCache[Hashable, tuple[float, float]] = LRUCache(KEPT)

    def begin(self, *keys: Hashable) -> float:
        """Count a guess; or count nothing, and tell for how many seconds there may be none. 0: it may be made."""
        wait = max((self._level(key) - (MOST - 1)) * SECONDS for key in keys)
        if wait > 0:
            return wait
        for key in keys:
            self._add(key, 1.0)
        return 0.0

    def take_back(self, *keys: Hashable) -> None:
        """It was no guess."""
        for key in keys:
            self._add(key, -1.0)

    def _level(self, key: Hashable) -> float:
        level, at = self._levels.get(key, (0.0, 0.0))
        return max(0.0, level - (self._clock() - at) / SECONDS)

    def _add(self, key: Hashable, number: float) -> None:
        self._levels[key] = max(0.0, self._level(key) + number), self._clock()
