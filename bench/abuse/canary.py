"""The canary: 20 requests a second on an open connection and 20 new connections a second, in both lanes, all checked.

One more of either kind goes to the origin without a proxy. They show what the machine alone does to it while an attack
runs: the floor.
"""

from __future__ import annotations

from dataclasses import dataclass

from bench.client import Result, Route, Running
from bench.daemon import LANES

RATE = 20
THREADS_OF_NEW = 4


@dataclass(frozen=True)
class Sung:
    """What each canary told, by its name."""

    by: dict[str, Result]

    def p99(self, name: str) -> float:
        return self.by[name].request_ms.p99

    def p50(self, name: str) -> float:
        return self.by[name].request_ms.p50


class Canaries:
    """Started together; they sing for so many seconds."""

    def __init__(self, route: Route, floor: Route, seconds: float) -> None:
        self.running: dict[str, Running] = {}

        def some(domain: str) -> list[str]:
            pace = ["--seconds", f"{seconds:.1f}", "--rate", str(RATE), "--patience", "10", "--gate"]
            return ["--pattern", f"h%d.{domain}", *pace]

        open_one = ["--hosts", "1", "--threads", "1", "--open", "1", "--over"]
        new = ["--hosts", "20", "--threads", str(THREADS_OF_NEW)]
        for lane, domain in LANES.items():
            self.running[f"{lane}, open"] = route.start(*some(domain), *open_one)
            self.running[f"{lane}, new"] = route.start(*some(domain), *new)
        self.running[FLOOR] = floor.start(*some(LANES["fast"]), *open_one)
        self.running[FLOOR_NEW] = floor.start(*some(LANES["fast"]), *new)
        for each in self.running.values():
            each.ready()

    def sing(self) -> None:
        """Begin. Connections are open by now: making them belongs to no measurement."""
        for each in self.running.values():
            each.begin()

    def finish(self) -> Sung:
        """When their time is over."""
        sung = Sung({name: each.told() for name, each in self.running.items()})
        for each in self.running.values():
            each.end()
        return sung


FLOOR, FLOOR_NEW = "floor, open", "floor, new"
FLOORS = (FLOOR, FLOOR_NEW)


def floor_of(name: str) -> str:
    """The canary without a proxy that does what the one of that name does."""
    return FLOOR_NEW if name.endswith("new") else FLOOR
