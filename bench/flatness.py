"""Whether memory and descriptors stay where they are: a line through the second half of what was sampled."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import linear_regression, mean

from bench.machine import descriptors, memory_kib

PERIOD = 1.0
MEMORY_SHARE, MEMORY_KIB = 0.05, 8 * 1024
"""The line may rise over the second half by this share of the mean, and this much: what an allocator breathes."""
LONG = 600.0
"""Seconds. A shorter run is warming up all through, so just a leak that is plain to see fails it:"""
SHORT_MEMORY_SHARE = 0.25
FILES_SHARE, FILES = 0.10, 40
"""The same for descriptors: how many connections are open at a moment is chance."""


@dataclass(frozen=True)
class Sample:
    """A moment. ``at`` is that of ``time.monotonic``."""

    at: float
    memory_kib: int
    descriptors: int


class Sampler:
    """Samples a process tree until it is stopped."""

    def __init__(self, root: int, period: float = PERIOD) -> None:
        self.root = root
        self.period = period
        self.samples: list[Sample] = []
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._over.wait(self.period):
            self.samples.append(Sample(time.monotonic(), memory_kib(self.root), descriptors(self.root)))

    def stop(self) -> list[Sample]:
        """All samples."""
        self._over.set()
        self._thread.join()
        return self.samples

    @property
    def peak_kib(self) -> int:
        return max((each.memory_kib for each in self.samples), default=0)


@dataclass(frozen=True)
class Rise:
    """What the fitted line rises from the middle to the end, the mean it is beside, and what it may rise."""

    rise: float
    mean: float
    allowed: float

    @property
    def flat(self) -> bool:
        return self.rise <= self.allowed


def rise(at: Sequence[float], values: Sequence[float], share: float, absolute: float) -> Rise:
    """Of the second half in time. Fewer than four samples in it have no line and count as flat."""
    if not at:
        return Rise(0.0, 0.0, absolute)
    middle = (at[0] + at[-1]) / 2
    later = [(a, v) for a, v in zip(at, values, strict=True) if a >= middle]
    if len(later) < 4:
        return Rise(0.0, mean(values), absolute)
    slope = linear_regression([a for a, _ in later], [v for _, v in later]).slope
    level = mean(v for _, v in later)
    return Rise(slope * (later[-1][0] - later[0][0]), level, share * level + absolute)


def memory_rise(samples: Sequence[Sample], *, long: bool) -> Rise:
    """In KiB. ``long``: the run was long enough to be warm in its second half."""
    share = MEMORY_SHARE if long else SHORT_MEMORY_SHARE
    return rise([s.at for s in samples], [s.memory_kib for s in samples], share, MEMORY_KIB)


def descriptor_rise(samples: Sequence[Sample]) -> Rise:
    """In descriptors."""
    return rise([s.at for s in samples], [s.descriptors for s in samples], FILES_SHARE, FILES)
