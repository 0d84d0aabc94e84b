"""Whether a worker is at its limit of memory or processor: then new connections are refused, and the open ones go on.

Decisions only: the worker brings what was measured, once for each tick. What begins and ends at one and the same value
would flutter, so each end is below its beginning.
"""

from __future__ import annotations

import os
from pathlib import Path

LAGS = 3
"""So many measurements in a row begin or end the shedding: one long turn of the loop is no overload."""
LATE_SECONDS = 3.0
"""For so long it has to be late before it sheds: hundreds of clients that come at once are served, only later."""
CALM = 0.5
"""Of the limit of lag: below it the worker has caught up."""
RELIEVED = 0.9
"""Of the limit of memory: below it new connections are served again."""
TIGHT = 0.95
"""Of the limit of memory: from here on connections that rest are closed, those that rest longest first."""
SHARE = 0.7
"""Of the machine's memory: for all workers together, where the configuration names no limit. The rest is for the
system, the issuer, the supervisor, and what sockets hold in the kernel."""
LEAST = 128 << 20
"""Bytes that a worker is given at least, where the configuration names no limit."""
_PAGE = os.sysconf("SC_PAGE_SIZE")


class Overload:
    """The state of a worker. ``memory``: bytes at which it is full; ``lag``: seconds that its loop may be late."""

    __slots__ = ("_beyond", "_full", "_late", "_since", "_within", "lag", "memory", "used")

    def __init__(self, memory: int, lag: float) -> None:
        self.memory = memory
        self.lag = lag
        self.used = 0
        """Bytes, when last measured."""
        self._full = False
        self._late = False
        self._beyond = 0
        self._since = 0.0
        self._within = 0

    @property
    def shedding(self) -> str | None:
        """Why new connections are refused: ``memory``, ``overload``; None where they are not."""
        if self._full:
            return "memory"
        return "overload" if self._late else None

    @property
    def tight(self) -> bool:
        """Connections that rest are to make room."""
        return self.used >= self.memory * TIGHT

    def late(self, seconds: float, now: float) -> None:
        """The loop came to its timer ``now``, so many seconds later than it should have."""
        if seconds > self.lag:
            if not self._beyond:
                self._since = now - seconds
            self._beyond, self._within = self._beyond + 1, 0
        elif seconds < self.lag * CALM:
            self._beyond, self._within = 0, self._within + 1
        else:
            self._beyond = self._within = 0
        if self._beyond >= LAGS and now - self._since >= LATE_SECONDS:
            self._late = True
        elif self._within >= LAGS:
            self._late = False

    def uses(self, memory: int) -> None:
        """The worker has so many bytes in memory."""
        self.used = memory
        if memory >= self.memory:
            self._full = True
        elif memory < self.memory * RELIEVED:
            self._full = False


def share_of(memory: int, workers: int) -> int:
    """Bytes for each worker, of the machine's or the group's ``memory``."""
    return max(LEAST, int(memory * SHARE) // workers)


def resident() -> int:
    """Bytes of this process that are in memory (proc(5): statm)."""
    with open("/proc/self/statm", "rb") as file:
        return int(file.read().split()[1]) * _PAGE


def available(proc: Path = Path("/proc"), groups: Path = Path("/sys/fs/cgroup")) -> int:
    """Bytes of memory of this machine, or that its control group (cgroups(7)) may take, where that is less.

    What cannot be read is no limit.
    """
    total = int(
        next(
            line.split()[1]
            for line in (proc / "meminfo").read_text("ascii").splitlines()
            if line.startswith("MemTotal:")
        )
    )
    found = [total * 1024]
    try:
        memberships = (proc / "self/cgroup").read_text("utf-8", "replace").splitlines()
    except OSError:
        memberships = []
    for membership in memberships:
        _, _, rest = membership.partition(":")
        controllers, _, path = rest.partition(":")
        if controllers == "":
            root, name = groups, "memory.max"
        elif "memory" in controllers.split(","):
            root, name = groups / "memory", "memory.limit_in_bytes"
        else:
            continue
        # Inside a container the path is often that of the host, and what limits us stands at the root.
        here = root / path.lstrip("/")
        for folder in (here, *here.parents):
            if folder == root.parent:
                break
            found += _limit(folder / name)
        found += _limit(root / name)
    return min(found)


def _limit(file: Path) -> list[int]:
    try:
        text = file.read_text("ascii").strip()
    except (OSError, UnicodeDecodeError):
        return []
    return [int(text)] if text.isdigit() else []  # "max": none
