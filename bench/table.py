"""The bench's figures as markdown, and where they are written."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path

from bench.scenarios import Crowded, Measured, Scenario

BEGIN = "<!-- {}: begin -->"
END = "<!-- {}: end -->"

Rounds = Mapping[str, Mapping[str, Sequence[Measured]]]
"""Peer and scenario to its rounds."""


def number(value: float) -> str:
    """Three digits that matter."""
    return f"{value:.0f}" if value >= 100 else f"{value:.2f}" if value >= 1 else f"{value:.3f}"


def costs(rounds: Rounds, names: Mapping[str, str], scenarios: Sequence[Scenario], ours: str) -> str:
    """A row for each peer; in brackets, how many times our cost it is."""
    lines = ["| | " + " | ".join(f"{each.title}, {each.unit}" for each in scenarios) + " |"]
    lines.append("|---|" + "---|" * len(scenarios))
    for peer, by in rounds.items():
        cells = []
        for each in scenarios:
            if each.name not in by:
                cells.append("-")
                continue
            cost = median(by[each.name])
            base = median(rounds[ours][each.name]) if peer != ours and each.name in rounds.get(ours, {}) else 0.0
            cells.append(number(cost) + (f" ({cost / base:.2f}x)" if base > 0 else ""))
        lines.append(f"| {names[peer]} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def median(rounds: Sequence[Measured]) -> float:
    """The median cost of the rounds."""
    return statistics.median(each.cost for each in rounds)


def workers(rates: Mapping[int, Mapping[str, Sequence[Measured]]], scenarios: Sequence[Scenario]) -> str:
    """What more workers get done in a second (in brackets, how many times what one does), and what it costs."""
    one = rates[min(rates)]
    lines = ["| workers | " + " | ".join(f"{each.title}: a second, ms each" for each in scenarios) + " |"]
    lines.append("|---|" + "---|" * len(scenarios))
    for count, by in rates.items():
        cells = [
            f"{_rate(by[each.name]):.0f}{_times(_rate(by[each.name]), _rate(one[each.name]), by is one)}, "
            f"{number(median(by[each.name]))}"
            for each in scenarios
        ]
        lines.append(f"| {count} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _rate(rounds: Sequence[Measured]) -> float:
    return statistics.median(each.rate for each in rounds)


def crowds(rows: Sequence[Crowded]) -> str:
    """What open connections make of the cost of work."""
    lines = [
        "| open connections | one more request, ms | a new connection, ms | memory of each, KiB | errors |",
        "|---|---|---|---|---|",
    ]
    few = rows[0]
    for each in rows:
        request = number(each.request_ms) + _times(each.request_ms, few.request_ms, each is few)
        connection = number(each.connection_ms) + _times(each.connection_ms, few.connection_ms, each is few)
        lines.append(f"| {each.open} | {request} | {connection} | {number(each.memory_kib)} | {each.errors} |")
    return "\n".join(lines)


def _times(value: float, base: float, first: bool) -> str:
    return "" if first or base <= 0 else f" ({value / base:.2f}x)"


def write(text: str, path: Path, whose: str = "bench") -> None:
    """Put the text between the markers of the file; raises ValueError where they are not there."""
    begin, end = BEGIN.format(whose), END.format(whose)
    before, found, rest = path.read_text().partition(begin)
    _, closed, after = rest.partition(end)
    if not found or not closed:
        raise ValueError(f"{path}: expected the lines {begin} and {end}")
    path.write_text(f"{before}{begin}\n\n{text.strip()}\n\n{end}{after}")
