"""What the machine tells: processor time, memory and descriptors of a process tree, and how many there may be."""

from __future__ import annotations

import os
import platform
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.harness.processes import pss_kib, tree

_TICK = os.sysconf("SC_CLK_TCK")


def cpu_seconds(root: int) -> float:
    """User and system time of a process and all below it, children that ended and were waited for included."""
    ticks = 0
    for pid in tree(root):
        try:
            stat = Path(f"/proc/{pid}/stat").read_text()
        except OSError:
            continue  # it ended while we looked; its parent has its time then
        ticks += sum(map(int, stat[stat.rindex(")") + 2 :].split()[11:15]))
    return ticks / _TICK


def memory_kib(root: int) -> int:
    """The memory (PSS) of the tree."""
    return sum(pss_kib(pid) for pid in tree(root))


def descriptors(root: int) -> int:
    """The open descriptors of the tree."""
    total = 0
    for pid in tree(root):
        try:
            total += len(os.listdir(f"/proc/{pid}/fd"))
        except OSError:
            continue  # it ended while we looked
    return total


def most_descriptors() -> int:
    """What a process may have open at most here."""
    return resource.getrlimit(resource.RLIMIT_NOFILE)[1]


@contextmanager
def descriptor_limit(soft: int | None = None) -> Iterator[int]:
    """What is started inside may have so many descriptors open; None: as many as the hard limit allows."""
    before, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = hard if soft is None else min(soft, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    try:
        yield wanted
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (before, hard))


def describe() -> str:
    """The machine in a line, for the foot of a table."""
    cpus = [line.split(":", 1)[1].strip() for line in _cpuinfo() if line.startswith("model name")]
    name = cpus[0] if cpus else platform.machine()
    cores = len(os.sched_getaffinity(0))
    return f"{cores} cores ({name}), Python {platform.python_version()}, load {os.getloadavg()[0]:.1f}"


def _cpuinfo() -> list[str]:
    try:
        return Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return []
