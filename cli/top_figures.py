"""From two looks at the workers to what ``sallyport top`` shows: a pure function of what they answered."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

type Answer = Mapping[str, Any]

RATES = ("connections", "requests", "verdicts", "refused", "abuse", "leaf_cache_hits", "leaves_asked", "faults")
"""Counts whose growth is shown; bytes beside them, each direction for itself."""


@dataclass(frozen=True, slots=True)
class Look:
    """What the workers said at one moment, ``at`` on a clock that nobody sets, in seconds."""

    at: float
    health: Sequence[Answer]
    live: Sequence[Answer] = ()

    def counts(self, pids: frozenset[int]) -> Counter[tuple[str, ...]]:
        """The counts of these processes, added up."""
        total: Counter[tuple[str, ...]] = Counter()
        for worker in self.health:
            if worker["pid"] in pids:
                for *name, count in worker["counts"]:
                    total[tuple(name)] += count
        return total

    @property
    def pids(self) -> frozenset[int]:
        """The workers' process numbers."""
        return frozenset(worker["pid"] for worker in self.health)


@dataclass(frozen=True, slots=True)
class Figures:
    """What is shown. Rates are per second, sizes bytes, times seconds."""

    workers: list[dict[str, Any]]
    rates: dict[str, float]
    verdicts: dict[str, int]
    refused: dict[str, int]
    hosts: dict[str, int]
    sessions: int
    connections: list[dict[str, Any]] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """For programs."""
        return {
            "sessions": self.sessions,
            "rates": self.rates,
            "verdicts": self.verdicts,
            "refused": self.refused,
            "hosts": self.hosts,
            "workers": self.workers,
            "connections": self.connections,
        }


def figures(before: Look, now: Look, most: int) -> Figures:
    """What has happened between two looks, and how things are at the second one."""
    # A worker that came or went in between has no rate.
    both = before.pids & now.pids
    seconds = max(now.at - before.at, 1e-6)
    grown = now.counts(both)
    grown.subtract(before.counts(both))
    rates = {name: _sum(grown, name) / seconds for name in RATES}
    rates["bytes_to_server"] = grown["bytes", "to_server"] / seconds
    rates["bytes_to_client"] = grown["bytes", "to_client"] / seconds
    total = now.counts(now.pids)
    hosts: Counter[str] = Counter()
    connections: list[dict[str, Any]] = []
    for worker in now.live:
        hosts.update(worker["hosts"])
        connections += [{**connection, "worker": worker["number"]} for connection in worker["connections"]]
    connections.sort(key=lambda connection: connection["to_server"] + connection["to_client"], reverse=True)
    return Figures(
        workers=[
            {name: worker[name] for name in ("number", "pid", "draining", "sessions", "memory", "loop_lag")}
            | {"store": worker["store"]["problem"], "age": worker["store"]["age"]}
            for worker in now.health
        ],
        rates={name: round(rate, 3) for name, rate in rates.items()},
        verdicts=_by(total, "verdicts", 2),
        refused=_by(total, "refused", 1),
        hosts=dict(hosts.most_common(most)),
        sessions=sum(worker["sessions"] for worker in now.health),
        connections=connections[:most],
    )


def _sum(counts: Counter[tuple[str, ...]], name: str) -> int:
    return sum(count for key, count in counts.items() if key[0] == name)


def _by(counts: Counter[tuple[str, ...]], name: str, place: int) -> dict[str, int]:
    """A count by one of its labels, the largest first."""
    found: Counter[str] = Counter()
    for key, count in counts.items():
        if key[0] == name:
            found[key[place]] += count
    return dict(found.most_common())
