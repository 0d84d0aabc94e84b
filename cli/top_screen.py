"""``sallyport top`` for people: figures as lines that fit a terminal."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from cli.output import clean, width
from cli.top_figures import Figures

UNITS = ("B", "KiB", "MiB", "GiB", "TiB")
SHOWN_HOSTS = 5


def lines(figures: Figures, columns: int, rows: int | None) -> list[str]:
    """The screen; ``rows`` None: as many as there are."""
    rates = figures.rates
    said = [
        f"{figures.sessions} connections   {rates['connections']:.1f} new/s   {rates['requests']:.1f} requests/s   "
        f"{size(rates['bytes_to_client'])}/s to clients   {size(rates['bytes_to_server'])}/s to servers",
        f"leaves at hand {rates['leaf_cache_hits']:.1f}/s, asked for {rates['leaves_asked']:.1f}/s   "
        f"refused {rates['refused']:.1f}/s   abuse {rates['abuse']:.1f}/s   faults {rates['faults']:.1f}/s",
        f"verdicts since the start: {_counts(figures.verdicts.items())}",
        f"refused since the start: {_counts(figures.refused.items())}",
        f"hosts: {_counts(list(figures.hosts.items())[:SHOWN_HOSTS])}",
        "",
        *_table(
            ("worker", "pid", "connections", "memory", "lag", ""),
            [
                (
                    worker["number"], worker["pid"], worker["sessions"], size(worker["memory"]),
                    f"{worker['loop_lag'] * 1e3:.0f} ms", _state(worker["draining"], worker["store"], worker["age"]),
                )
                for worker in figures.workers
            ],
        ),
        "",
        *_table(
            ("id", "tenant", "client", "host", "state", "lane", "age", "to client", "to server", "verdict"),
            [
                (
                    one["id"], one["tenant"], one["client"], one["host"] or "", one["state"], one["lane"] or "",
                    age(one["age"]), size(one["to_client"]), size(one["to_server"]),
                    ",".join(one["defects"]) + (f" ({one['action']})" if one["action"] else ""),
                )
                for one in figures.connections
            ],
        ),
    ]  # fmt: skip
    return [_fitting(line, columns) for line in said[:rows]]


def size(count: float) -> str:
    """``1.5 MiB``."""
    unit = 0
    while count >= 1024 and unit < len(UNITS) - 1:
        count, unit = count / 1024, unit + 1
    return f"{count:.0f} {UNITS[unit]}" if unit == 0 else f"{count:.1f} {UNITS[unit]}"


def age(seconds: float) -> str:
    """``12 s``, ``3 min``, ``2 h``."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.0f} h"


def _state(draining: bool, problem: str | None, store_age: float) -> str:
    said = ["draining"] if draining else []
    if problem is not None:
        said.append(f"store not readable for {age(store_age)}")
    return ", ".join(said)


def _counts(counts: Iterable[tuple[str, int]]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counts) or "none"


def _table(headings: Sequence[str], rows: Iterable[Sequence[object]]) -> list[str]:
    cells = [[heading.upper() for heading in headings], *([clean(cell) for cell in row] for row in rows)]
    widths = [max(width(line[column]) for line in cells) for column in range(len(headings))]
    return [
        "  ".join(cell + " " * (widths[column] - width(cell)) for column, cell in enumerate(line)).rstrip()
        for line in cells
    ]


def _fitting(line: str, columns: int) -> str:
    """The line without control characters, cut where the terminal ends."""
    line = clean(line)
    while width(line) > columns:
        line = line[:-1]
    return line
