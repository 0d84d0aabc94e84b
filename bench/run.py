"""`make bench`: Sallyport beside its peers, with more workers, and with many open connections; medians over rounds."""

from __future__ import annotations

import argparse
import datetime
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from bench import table
from bench.client import ClientFailed, Route, build
from bench.daemon import LANES
from bench.machine import describe, descriptor_limit, most_descriptors
from bench.origin import Origin
from bench.peers import PEERS, Peer, Standing, inspecting, sallyport
from bench.scenarios import ALL, BY_NAME, Crowded, Measured, Scenario, Scene, crowded

PAGE = Path(__file__).parents[1] / "docs" / "performance.md"
WARM_UP = 60
CROWDS = (10, 1000, 10_000)


class Bench:
    """One run. ``size`` scales the amount of work; ``seconds`` is when no further round is begun."""

    def __init__(self, folder: Path, origin: Origin, program: Path, size: float, rounds: int, seconds: float) -> None:
        self.folder = folder
        self.origin = origin
        self.program = program
        self.size = size
        self.rounds = rounds
        self.until = time.monotonic() + seconds
        self.errors = 0
        self._runs = 0

    def scene(self, standing: Standing, domain: str, fresh: int = 0) -> Scene:
        """The way to a proxy."""
        proxy, target = standing.address, self.origin.address
        if standing.speaks_connect:
            route = Route(self.program, target, standing.root, proxy)
        else:
            # Clients name the origin's port all the same; the proxy passes on whatever it is sent.
            route = Route(self.program, proxy, standing.root, None, standing.client)
        return Scene(standing.pid, route, domain, self.size, fresh)

    def measure(self, peer: Peer, scenarios: Sequence[Scenario]) -> dict[str, Measured]:
        """One round of a peer, started for it."""
        self._runs += 1
        found: dict[str, Measured] = {}
        with peer.standing(self.folder / f"run-{self._runs}", self.origin) as standing:
            scene = self.scene(standing, peer.domain, fresh=100)
            scene.route.run(*scene.hosts(0, 20), "--connections", str(WARM_UP), "--threads", "4")
            for each in scenarios:
                if each.http2 and not peer.http2:
                    continue
                try:
                    one = each.measure(scene)
                except ClientFailed as error:
                    say(f"  {each.name}: {error}")
                    self.errors += 1
                    continue
                found[each.name] = one
                self.errors += one.errors if "Sallyport" in peer.name else 0
                rate = f"{one.rate:8.0f}/s  p99 {one.p99_ms:7.1f} ms" if one.rate else ""
                say(f"  {each.name:10s} {one.cost:9.3f} {each.unit:4s} {rate}  errors {one.errors} {one.note}")
        return found

    def side_by_side(self, names: Sequence[str], scenarios: Sequence[Scenario]) -> dict[str, dict[str, list[Measured]]]:
        """All peers, in turn, for the rounds."""
        found: dict[str, dict[str, list[Measured]]] = {name: {} for name in names}
        for number in range(self.rounds):
            if number and time.monotonic() > self.until:
                say(f"time is up after {number} rounds")
                break
            for name in names:
                say(f"round {number + 1}: {PEERS[name].name.replace('*', '')}")
                for scenario, one in self.measure(PEERS[name], scenarios).items():
                    found[name].setdefault(scenario, []).append(one)
        return found

    def workers(
        self, make: Callable[[int], Peer], counts: Sequence[int], scenarios: Sequence[Scenario]
    ) -> dict[int, dict[str, list[Measured]]]:
        """A lane with one to four workers, in turn, for the rounds."""
        found: dict[int, dict[str, list[Measured]]] = {count: {} for count in counts}
        for _ in range(self.rounds):
            for count in counts:
                peer = make(count)
                say(peer.name)
                for scenario, one in self.measure(peer, scenarios).items():
                    found[count].setdefault(scenario, []).append(one)
        return found

    def crowds(self, sizes: Sequence[int], requests: int) -> list[Crowded]:
        """The cost of work beside open connections, as many as the descriptors allow."""
        # Two descriptors for each connection in the one worker, and some to live on.
        most = (most_descriptors() - 500) // 2
        rows: list[Crowded] = []
        for wanted in sizes:
            number = min(wanted, most)
            if number < wanted:
                say(
                    f"{wanted} open connections are not possible here: each takes two of the worker's descriptors, and"
                    f" a process may have {most_descriptors()}; {number} are opened"
                )
            self._runs += 1
            with PEERS["sallyport"].standing(self.folder / f"run-{self._runs}", self.origin) as standing:
                scene = self.scene(standing, LANES["fast"])
                scene.route.run(*scene.hosts(0, 20), "--connections", str(WARM_UP), "--threads", "4")
                row = crowded(scene, number, requests=requests, connections=scene.scaled(400))
            say(f"  {row.open} open: {row.request_ms:.3f} ms a request, {row.connection_ms:.3f} ms a connection, "
                f"{row.memory_kib:.0f} KiB each, errors {row.errors}")  # fmt: skip
            self.errors += row.errors
            rows.append(row)
        return rows


def say(text: str) -> None:
    """Progress, at once."""
    print(text, flush=True)


def main() -> int:
    """Run it; 0, or 1 where Sallyport gave errors or wrong answers."""
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="about two minutes: less work, one round, no mitmdump")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", default=",".join(PEERS), help="peers, comma-separated")
    parser.add_argument("--scenarios", default=",".join(BY_NAME))
    parser.add_argument("--parts", default="peers,workers,crowds")
    parser.add_argument("--write", action="store_true", help="put the tables into docs/performance.md")
    arguments = parser.parse_args()
    unknown = {*arguments.only.split(",")} - {*PEERS} | {*arguments.scenarios.split(",")} - {*BY_NAME}
    if unknown:
        parser.error(
            f"unknown: {', '.join(sorted(unknown))}; peers: {', '.join(PEERS)}; scenarios: {', '.join(BY_NAME)}"
        )
    size, rounds = (0.3, 1) if arguments.quick else (1.0, arguments.rounds)
    scenarios = [each for each in ALL if each.name in arguments.scenarios.split(",")]
    wanted = [name for name in arguments.only.split(",") if not (arguments.quick and name == "mitmdump")]
    names = []
    for name in wanted:
        if missing := PEERS[name].missing():
            say(f"left out: {name}: {missing}")
        else:
            names.append(name)
    parts = arguments.parts.split(",")
    with tempfile.TemporaryDirectory(prefix="sallyport-bench-") as scratch, descriptor_limit():
        folder = Path(scratch).resolve()
        program = build(folder)
        origin = Origin(folder, connections=min(24_000, most_descriptors() - 200))
        say("making certificates")
        for domain in LANES.values():
            origin.add(f"h{number}.{domain}" for number in range(100 + 320))
        with origin:
            bench = Bench(folder, origin, program, size, rounds, seconds=30 if arguments.quick else 1200)
            text = report(bench, parts, names, scenarios, quick=arguments.quick)
    say("\n" + text)
    if arguments.write:
        table.write(text, PAGE)
        say(f"\nwritten to {PAGE}")
    if bench.errors:
        say(f"\n{bench.errors} errors of Sallyport's; see above")
    return 1 if bench.errors else 0


def report(
    bench: Bench, parts: Sequence[str], names: Sequence[str], scenarios: Sequence[Scenario], *, quick: bool
) -> str:
    """Measure, and the markdown of it."""
    out = [f"Measured by `make bench` on {datetime.datetime.now(datetime.UTC):%Y-%m-%d}: {describe()}."]  # noqa: TID251 - the date of a measurement
    if "peers" in parts and names:
        found = bench.side_by_side(names, scenarios)
        titles = {name: PEERS[name].name for name in names}
        out.append(table.costs(found, titles, scenarios, "sallyport"))
        out.append("\n".join(f"- **{each.title}**: {each.meaning}" for each in scenarios))
    if "workers" in parts:
        counts = (1, 2) if quick else (1, 2, 3, 4)
        some = [BY_NAME[name] for name in ("warm", "keepalive", "http2")]
        out.append(table.workers(bench.workers(sallyport, counts, some), some))
        out.append("And in the inspection lane:")
        out.append(table.workers(bench.workers(inspecting, counts, some), some))
    if "crowds" in parts:
        rows = bench.crowds((10, 1000) if quick else CROWDS, requests=2000 if quick else 10_000)
        out.append(table.crowds(rows))
    return "\n\n".join(out)


if __name__ == "__main__":
    sys.exit(main())
