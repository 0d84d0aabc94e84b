"""So many a second, and a few at once: a token bucket, for requests of a connection and signatures of a key manager."""

from __future__ import annotations

from collections.abc import Callable


class Bucket:
    """``rate`` a second, and ``burst`` at once: as many as one second brings, unless said otherwise.

    ``clock`` counts seconds and never goes back.
    """

    __slots__ = ("_burst", "_clock", "_rate", "_since", "_tokens")

    def __init__(self, rate: int, clock: Callable[[], float], burst: int | None = None) -> None:
        self._rate = rate
        self._burst = rate if burst is None else burst
        self._clock = clock
        self._tokens = float(self._burst)
        self._since = clock()

    @property
    def level(self) -> float:
        """How many tokens there are; below zero where some are taken that are still to come."""
        now = self._clock()
        self._tokens = min(self._burst, self._tokens + (now - self._since) * self._rate)
        self._since = now
        return self._tokens

    @property
    def half_full(self) -> bool:
        """Whether there is one that whoever comes next will not miss."""
        return self.level >= max(1, self._burst / 2)

    def take(self) -> bool:
        """One token; False where there is none."""
        return self.reserve(0.0) is not None

    def reserve(self, patience: float) -> float | None:
        """One token, those who came before first: the seconds until it is there.

        None where that is longer than ``patience``; then none is taken.
        """
        wait = max(0.0, (1 - self.level) / self._rate)
        if wait > patience:
            return None
        self._tokens -= 1
        return wait

    def give_back(self) -> None:
        """One that was not used after all."""
        self._tokens += 1
