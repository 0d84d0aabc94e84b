"""Counters of several processes as one: files in a folder, which whoever answers a scrape adds up.

prometheus_client's multiprocess mode maps a file per process into memory, so that a count is an addition there and no
message to anybody. A file is named after a place, not after a process: a process takes the first free place of its
role and holds a lock on it, and the next one after its end goes on with what it has counted. So nothing that was
counted is lost with a process (but what it had not put there yet), and a child that dies again and again leaves no
heap of files behind.

Only counters and histograms are kept so. What is true of a process at the moment is asked of that process.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from prometheus_client import Counter, Histogram

FOLDER = ("run", "metrics")
"""Below the state directory."""
PREFIX = "sallyport"
FOLDER_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
MOST_PLACES = 4096
COUNTER_BYTES = 4 << 20
HISTOGRAM_BYTES = 1 << 20
"""Allocated at once: a page of a mapped file for which the disk has no room ends the process (SIGBUS, mmap(2))."""
SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Upper bounds of a histogram's buckets."""


@dataclass(frozen=True, slots=True)
class Measure:
    """One metric as it is documented: its name without the prefix, what it says, its labels. Buckets: a histogram."""

    name: str
    help: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()

    @property
    def full_name(self) -> str:
        """The name with its prefix. Prometheus shows a counter's with ``_total`` behind it."""
        return f"{PREFIX}_{self.name}"


def clear(folder: Path) -> None:
    """Make the folder (0700), without what an earlier daemon has counted. Raises OSError.

    To be called while no process of this installation runs.
    """
    folder.mkdir(mode=0o700, exist_ok=True)
    for path in folder.iterdir():
        path.unlink()


class MetricFiles:
    """A place in the folder, held until the process ends. One for each process; prometheus_client is imported here."""

    def __init__(self, folder: Path, role: str) -> None:
        """Take the first free place of a role (``worker``, say). Raises OSError, on a full disk for example."""
        self.place, self._lock = _take_place(folder, role)
        for kind, size in (("counter", COUNTER_BYTES), ("histogram", HISTOGRAM_BYTES)):
            _allocate(folder / f"{kind}_{self.place}.db", size)
        # The library looks at the variable while it is imported, and at the class when a metric is made.
        os.environ[FOLDER_VARIABLE] = str(folder)
        from prometheus_client import CollectorRegistry, values

        values.ValueClass = values.MultiProcessValue(lambda: self.place)  # type: ignore[no-untyped-call] # it has no types
        self._registry = CollectorRegistry(auto_describe=False)

    def counter(self, measure: Measure) -> Counter:
        """The counter of that description; to be made once."""
        from prometheus_client import Counter

        return Counter(measure.full_name, measure.help, measure.labels, registry=self._registry)

    def histogram(self, measure: Measure) -> Histogram:
        """The histogram of that description; to be made once."""
        from prometheus_client import Histogram

        return Histogram(
            measure.full_name, measure.help, measure.labels, registry=self._registry, buckets=measure.buckets
        )

    def counters(self, measures: Sequence[Measure]) -> dict[str, Counter]:
        """All of them, by their names without the prefix."""
        return {measure.name: self.counter(measure) for measure in measures}


def _take_place(folder: Path, role: str) -> tuple[str, int]:
    for number in range(MOST_PLACES):
        place = f"{role}-{number}"
        fd = os.open(folder / f"{place}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(fd)
        except BaseException:
            os.close(fd)
            raise
        else:
            return place, fd
    raise OSError(f"{folder}: all {MOST_PLACES} places of {role} are taken")


def _allocate(path: Path, size: int) -> None:
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        os.posix_fallocate(fd, 0, size)
    except OSError:
        if os.fstat(fd).st_size == 0:
            path.unlink()
        raise
    finally:
        os.close(fd)
