"""What a worker and the supervisor count, and the names of it.

:class:`Metrics` counts in plain Python, always: a connection costs it a few additions. Once a second the worker hands
it to a sink: :class:`NullSink` where metrics are off, :class:`proxy.metrics_sink.PrometheusSink` where they are on.
``sallyport top`` reads the same counts from the worker's status socket.

Every label has few values: tenants, listeners' modes, lanes, defects, names of our own. Nothing that a stranger sends
becomes a label.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Protocol

from issuer.metric_files import SECONDS, Measure

MOST_PENDING = 20_000
"""Times that wait for the sink; more in one second are not put into histograms."""

WORKER_COUNTERS = (
    Measure("connections", "Client connections, when they came to a lane, or ended before one (none).",
            ("tenant", "mode", "lane")),
    Measure("verdicts", "Verdicts on servers; defect is the first that was found, none where there was none.",
            ("tenant", "defect", "action")),
    Measure("requests", "HTTP requests that have ended; status_class is none where no answer began.",
            ("tenant", "lane", "status_class")),
    Measure("refused", "Connections and requests that were not taken on, by the limit or state that forbade it.",
            ("reason",)),
    Measure("abuse", "Connections that were ended because a peer misused the protocol.", ("kind",)),
    Measure("bytes", "Payload passed on, in bytes, TLS taken off; direction is to_server or to_client.",
            ("direction",)),
    Measure("leaf_cache_hits", "Leaves that a worker had at hand."),
    Measure("leaves_asked", "Leaves that a worker had to ask the issuer for."),
    Measure("chains_completed", "Chains whose missing issuers were looked for, by what came of it.", ("outcome",)),
    Measure("fetches", "What certificates point to, fetched: issuers (aia), CRLs (crl), OCSP answers (ocsp).",
            ("kind", "result")),
    Measure("revocation_answers", "What was heard of certificates in verdicts, by the first who told it.",
            ("source", "result")),
    Measure("inspector_failures", "Inspectors that failed; kind is error, timeout or blocks.", ("inspector", "kind")),
    Measure("log_lines_dropped", "Log lines that whoever reads the log was too slow for."),
    Measure("faults", "Faults of Sallyport's own; each has a line in the log."),
)  # fmt: skip
"""Prometheus shows each with ``_total`` behind it."""
WORKER_HISTOGRAMS = (
    Measure("handshake_seconds", "TLS handshakes that were finished, from their first byte; leg is client or server.",
            ("leg",), SECONDS),
    Measure("fetch_seconds", "Fetches that were begun, to their end, whatever that was.", ("kind",), SECONDS),
    Measure("purge_seconds", "From a change in the store to a worker's having dropped what was derived from before.",
            (), SECONDS),
)  # fmt: skip
SUPERVISOR_COUNTERS = (
    Measure("process_restarts", "Processes that ended unasked and were started again.", ("process",)),
)


class Metrics:
    """The counts of a process, from its start. Used on the event loop alone."""

    __slots__ = ("counts", "down", "faults", "leaf_hits", "leaves_asked", "log_dropped", "times", "up")

    def __init__(self) -> None:
        self.counts: defaultdict[tuple[str, ...], int] = defaultdict(int)
        """By the metric's name and its labels' values."""
        self.times: list[tuple[tuple[str, ...], float]] = []
        """What histograms are to take up next: name and labels' values, seconds."""
        self.up = 0
        """Bytes of payload passed on to servers."""
        self.down = 0
        """Bytes of payload passed on to clients."""
        self.leaf_hits = 0
        self.leaves_asked = 0
        self.faults = 0
        self.log_dropped = 0

    def connection(self, tenant: str, mode: str, lane: str) -> None:
        """A connection has come to a lane, or ended before one (``none``)."""
        self.counts["connections", tenant, mode, lane] += 1

    def verdict(self, tenant: str, defect: str, action: str) -> None:
        """A server was judged. ``defect`` is the first of the verdict, or ``none``."""
        self.counts["verdicts", tenant, defect, action] += 1

    def request(self, tenant: str, lane: str, status: int) -> None:
        """A request has ended; ``status`` 0 where no answer began."""
        self.counts["requests", tenant, lane, STATUS_CLASSES[status // 100] if 100 <= status < 600 else "none"] += 1

    def refused(self, reason: str) -> None:
        """Something was not taken on. ``reason`` is a name of our own, such as ``limit:client``, ``limit:memory``."""
        self.counts["refused", reason] += 1

    def abuse(self, kind: str) -> None:
        """A peer misused the protocol and was cut off. ``kind`` is a name of our own, such as ``h2_resets``."""
        self.counts["abuse", kind] += 1

    def completed(self, outcome: str) -> None:
        """A chain's missing issuers were looked for. ``outcome`` is ``completed``, or a name of our own for why not."""
        self.counts["chains_completed", outcome] += 1

    def fetched(self, kind: str, result: str, seconds: float | None) -> None:
        """A fetch has ended: ``ok``, ``failed``, ``timed_out``; or was not begun (``busy``, ``seconds`` None)."""
        self.counts["fetches", kind, result] += 1
        if seconds is not None and len(self.times) < MOST_PENDING:
            self.times.append((("fetch_seconds", kind), seconds))

    def revocation(self, source: str, result: str) -> None:
        """What a verdict knows of a certificate: ``good``, ``revoked``, or ``unknown`` with the ``source`` ``none``."""
        self.counts["revocation_answers", source, result] += 1

    def inspector_failed(self, inspector: str, kind: str) -> None:
        """An inspector failed: ``error``, ``timeout``, or ``blocks`` (it holds up the worker, and goes on)."""
        self.counts["inspector_failures", inspector, kind] += 1

    def handshake(self, leg: str, seconds: float) -> None:
        """A handshake was finished; ``leg`` is ``client`` or ``server``."""
        if len(self.times) < MOST_PENDING:
            self.times.append((("handshake_seconds", leg), seconds))

    def purged(self, seconds: float) -> None:
        """A tenant's working set was replaced, so long after the change was made."""
        if len(self.times) < MOST_PENDING:
            self.times.append((("purge_seconds",), seconds))

    def restarted(self, process: str) -> None:
        """A child ended unasked and is started again."""
        self.counts["process_restarts", process] += 1

    def totals(self) -> dict[tuple[str, ...], int]:
        """Every count by name and labels' values, the plain ones too."""
        return {
            **self.counts,
            ("bytes", "to_server"): self.up,
            ("bytes", "to_client"): self.down,
            ("leaf_cache_hits",): self.leaf_hits,
            ("leaves_asked",): self.leaves_asked,
            ("log_lines_dropped",): self.log_dropped,
            ("faults",): self.faults,
        }


STATUS_CLASSES = ("none", "1xx", "2xx", "3xx", "4xx", "5xx")


class Sink(Protocol):
    """Where counts go once a second."""

    def flush(self, metrics: Metrics) -> None:
        """Take up what was counted since the last time."""


class NullSink:
    """Metrics are off: nobody else wants to know."""

    def flush(self, metrics: Metrics) -> None:
        """Forget the times; the counts stay for ``sallyport top``."""
        metrics.times.clear()
