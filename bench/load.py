"""The mix of the soak: every way of asking, in both lanes, each by a client of its own that can be paced."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bench.client import Result, Route, Running
from bench.daemon import LANES

KNOWN = 20
"""Hosts of a lane that everybody asks for."""
FRESH_FROM = 100
"""The first number of the hosts that are asked for once."""


@dataclass(frozen=True)
class Way:
    """A way of asking. ``arguments`` are the client's; ``each``: requests that one turn of the pacing stands for."""

    name: str
    arguments: tuple[str, ...]
    each: int = 1
    fresh: bool = False
    paced: float | None = None
    """Turns a second whatever the capacity is; None: its share of the capacity."""


WAYS = (
    Way("new connections", ("--threads", "4")),
    Way("TLS 1.2", ("--threads", "1", "--tls12")),
    Way("new hosts", ("--threads", "2"), fresh=True, paced=2.0),
    Way("resumed", ("--threads", "2", "--resume")),
    Way("keep-alive", ("--threads", "4", "--requests", "200")),
    Way("keep-alive, longer answers", ("--threads", "2", "--requests", "50", "--kind", "r")),
    Way("HTTP/2, many streams", ("--threads", "2", "--requests", "20", "--streams", "20"), each=20),
    Way("HTTP/2, longer answers", ("--threads", "1", "--requests", "10", "--streams", "8", "--kind", "r"), each=8),
    Way("idle", ("--threads", "25", "--requests", "1000"), paced=1.0),
    Way("cut at random bytes", ("--threads", "2", "--cut", "1.1"), paced=5.0),
)


class Mix:
    """All ways in all lanes, through one proxy."""

    def __init__(self, route: Route, fresh: int) -> None:
        self.route = route
        self.fresh = fresh

    def _command(self, lane: str, way: Way, seconds: float, rate: float | None) -> list[str]:
        first, hosts = (FRESH_FROM, self.fresh) if way.fresh else (0, KNOWN)
        arguments = ["--pattern", f"h%d.{LANES[lane]}", "--first", str(first), "--hosts", str(hosts), "--named"]
        arguments += [*way.arguments, "--seconds", f"{seconds:.1f}", "--patience", "30"]
        return arguments if rate is None else [*arguments, "--rate", f"{rate:.3f}"]

    def capacity(self, seconds: float) -> dict[tuple[str, str], float]:
        """Turns a second of each way, all at once and as fast as they go (those with a pace of their own: at that)."""
        some = [(lane, way) for lane in LANES for way in WAYS]
        running = [self.route.start(*self._command(lane, way, seconds, way.paced)) for lane, way in some]
        rates: dict[tuple[str, str], float] = {}
        for (lane, way), each in zip(some, running, strict=True):
            result = each.finish(seconds + 60)
            rates[lane, way.name] = result.requests / way.each / result.seconds
        return rates

    def start(self, seconds: float, share: float, capacity: dict[tuple[str, str], float]) -> list[Load]:
        """Everything at ``share`` of the capacity, for so many seconds."""
        loads = []
        for lane in LANES:
            for way in WAYS:
                rate = way.paced if way.paced is not None else max(0.2, share * capacity[lane, way.name])
                running = self.route.start(*self._command(lane, way, seconds, rate))
                loads.append(Load(lane, way, rate, running))
        return loads


@dataclass(frozen=True)
class Load:
    """A client at work."""

    lane: str
    way: Way
    rate: float
    running: Running

    def finish(self, seconds: float) -> Result:
        """What it came to."""
        return self.running.finish(seconds)


def domains(fresh: int) -> Sequence[str]:
    """The names that the mix asks for, for the origin's certificates."""
    numbers = [*range(KNOWN), *range(FRESH_FROM, FRESH_FROM + fresh)]
    return [f"h{number}.{domain}" for domain in LANES.values() for number in numbers]
