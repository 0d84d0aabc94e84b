"""The way from a process's counts to the files that a scrape reads."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from issuer.metric_files import FOLDER, Measure, MetricFiles
from proxy.log import ERROR, Log
from proxy.metrics import (
    SUPERVISOR_COUNTERS,
    WORKER_COUNTERS,
    WORKER_HISTOGRAMS,
    Metrics,
    NullSink,
    Sink,
)

if TYPE_CHECKING:
    from prometheus_client import Counter, Histogram

    from config.settings import Settings


def open_sink(settings: Settings, role: str, log: Log) -> Sink:
    """The sink of a process: ``worker`` or ``supervisor``.

    Where the files cannot be made (a full disk, say) the process does without, and says so: its work matters more.
    """
    if not settings.metrics.enabled:
        return NullSink()
    try:
        files = MetricFiles(settings.state_dir.joinpath(*FOLDER), role)
    except OSError as error:
        log.event(ERROR, "metrics cannot be kept", reason=error.strerror or str(error), process_role=role)
        return NullSink()
    if role == "supervisor":
        return PrometheusSink(files, SUPERVISOR_COUNTERS, ())
    return PrometheusSink(files, WORKER_COUNTERS, WORKER_HISTOGRAMS)


class PrometheusSink:
    """Adds to the files what was counted since the last time. Labelled children are looked up once and kept."""

    def __init__(self, files: MetricFiles, counters: Sequence[Measure], histograms: Sequence[Measure]) -> None:
        self._counters = files.counters(counters)
        self._histograms = {measure.name: files.histogram(measure) for measure in histograms}
        self._counted: dict[tuple[str, ...], tuple[Counter, int]] = {}
        self._timed: dict[tuple[str, ...], Histogram] = {}

    def flush(self, metrics: Metrics) -> None:
        """Add it."""
        for key, now in metrics.totals().items():
            child, before = self._counted.get(key) or (self._child(key), 0)
            if child is None:
                continue  # another process's: the supervisor counts restarts alone
            if now != before or key not in self._counted:
                child.inc(now - before)
                self._counted[key] = (child, now)
        times, metrics.times = metrics.times, []
        for key, seconds in times:
            histogram = self._timed.get(key)
            if histogram is None:
                whole = self._histograms[key[0]]
                histogram = self._timed[key] = whole.labels(*key[1:]) if len(key) > 1 else whole
            histogram.observe(seconds)

    def _child(self, key: tuple[str, ...]) -> Counter | None:
        counter = self._counters.get(key[0])
        return counter.labels(*key[1:]) if counter is not None and len(key) > 1 else counter
