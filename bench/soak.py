"""`make soak`: everything at once at 80% of capacity, with faults in between; answers are checked, errors explained.

Processes are replaced in the first half alone, so that the second one shows whether memory and descriptors stay flat.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from bench import faults, flatness
from bench.client import Result, Route, Trouble, build
from bench.daemon import LoadedDaemon, generous
from bench.faults import Fault, Stage
from bench.load import Load, Mix, domains
from bench.machine import describe, descriptor_limit, most_descriptors
from bench.origin import Origin

SHARE = 0.8
WORKERS = 2
MEASURE_SECONDS = 6.0
CACHED_HOSTS = 300
"""Small, so that caches are full long before memory is judged."""
SHOWN = 25


def say(text: str = "") -> None:
    """Progress, at once."""
    print(text, flush=True)


class Soak:
    """One soak."""

    def __init__(self, stage: Stage, mix: Mix, minutes: float, seed: int) -> None:
        self.stage = stage
        self.mix = mix
        self.seconds = minutes * 60
        self.random = random.Random(seed)  # noqa: S311 - an order of faults that can be had again
        self.faults: list[Fault] = []
        self.samples: list[flatness.Sample] = []

    def run(self) -> list[tuple[Load, Result]]:
        """The load with the faults in between; what each client came to."""
        capacity = self.mix.capacity(MEASURE_SECONDS)
        say(f"capacity, all ways at once: {sum(capacity.values()):.0f} turns a second; now at {SHARE:.0%} of it")
        begun = time.monotonic()
        loads = self.mix.start(self.seconds, SHARE, capacity)
        sampler = flatness.Sampler(self.stage.daemon.process.pid)
        try:
            self._disturb(begun)
        finally:
            time.sleep(max(0.0, begun + self.seconds - time.monotonic()))
            self.samples = sampler.stop()
        return [(load, load.finish(120)) for load in loads]

    def _disturb(self, begun: float) -> None:
        first: list[faults.Doing] = [*faults.REPLACING]
        if faults.can_upgrade(self.stage.daemon):
            first.append(faults.UPGRADE)
        else:
            say("this version has no `reload --exec`: no upgrade in the middle")
        pause = min(20.0, max(1.0, self.seconds / 60))
        done = 0
        # The last fault has to end before the load does: nothing would show what it broke.
        while (passed := time.monotonic() - begun) < self.seconds - 12:
            early = passed < self.seconds * 0.42
            pool = first if early else []
            chosen = self._next(done, pool)
            done += 1
            time.sleep(pause)
            fault = faults.do(self.stage, chosen)
            self.faults.append(fault)
            took = time.monotonic() - fault.start
            came = fault.problem or fault.note or "done"
            say(f"  {fault.start - begun:7.1f} s, {took:.1f} s long: {fault.kind}: {came}")

    def _next(self, done: int, pool: list[faults.Doing]) -> faults.Doing:
        """Replacing and lasting ones in turn while there are both; each as often as the others."""
        if pool and done % 2 == 0:
            return pool[done // 2 % len(pool)]
        counted = Counter(each.kind for each in self.faults)
        least = min(counted[each[0]] for each in faults.LASTING)
        return self.random.choice([each for each in faults.LASTING if counted[each[0]] == least])


def judge(soak: Soak, results: list[tuple[Load, Result]]) -> list[str]:
    """Print what came of it; what is wrong."""
    problems: list[str] = []
    say(
        f"\n{'lane':10s} {'way':28s} {'turns/s':>8s} {'requests':>9s} {'errors':>7s} {'wrong':>6s}"
        f" {'p50 ms':>8s} {'p99 ms':>8s}   (of one answer)"
    )
    troubles: list[tuple[Load, Trouble]] = []
    for load, one in results:
        say(
            f"{load.lane:10s} {load.way.name:28s} {load.rate:8.1f} {one.requests:9d} {one.errors:7d} {one.wrong:6d}"
            f" {one.request_ms.p50:8.1f} {one.request_ms.p99:8.1f}"
        )
        troubles += [(load, each) for each in one.troubles]
        if one.wrong:
            problems.append(f"{one.wrong} wrong answers: {load.lane}, {load.way.name}")
        if not one.requests and not one.cuts:
            problems.append(f"nothing was answered: {load.lane}, {load.way.name}")
    requests = sum(one.requests for _, one in results)
    say(f"{requests} requests answered and checked, {sum(one.cuts for _, one in results)} clients cut")
    problems += _explain(soak, troubles)
    problems += [f"{fault.kind}: {fault.problem}" for fault in soak.faults if fault.problem]
    for name, unit, found in (
        ("memory", "KiB", flatness.memory_rise(soak.samples, long=soak.seconds >= flatness.LONG)),
        ("descriptors", "", flatness.descriptor_rise(soak.samples)),
    ):
        say(
            f"{name}: {found.mean:.0f} {unit} in the second half, a line through it rises by {found.rise:+.0f}"
            f" (at most {found.allowed:.0f})"
        )
        if not found.flat:
            problems.append(f"{name} rises by {found.rise:.0f} {unit} over the second half")
    return problems


def _explain(soak: Soak, troubles: list[tuple[Load, Trouble]]) -> list[str]:
    explained: Counter[tuple[str, str]] = Counter()
    rest: list[tuple[Load, Trouble]] = []
    for load, trouble in troubles:
        fault = faults.blamed(trouble, soak.faults) if trouble.stage != "wrong" else None
        if fault is None:
            rest.append((load, trouble))
        else:
            explained[fault.kind, trouble.stage] += 1
    say(f"\n{len(troubles)} errors, of them explained by faults: {explained.total()}")
    for (kind, stage), count in sorted(explained.items()):
        say(f"  {kind}: {stage}: {count}")
    begun = soak.samples[0].at if soak.samples else 0.0
    for load, trouble in rest[:SHOWN]:
        say(
            f"  NOT EXPLAINED from {trouble.start - begun:.1f} to {trouble.end - begun:.1f} s: {load.lane},"
            f" {load.way.name}: {trouble.stage} {trouble.host} {trouble.what}"
        )
    return [f"{len(rest)} errors that no fault explains"] if rest else []


def after(daemon: LoadedDaemon) -> list[str]:
    """What the daemon's log and its end say."""
    problems = []
    events = Counter(str(entry.get("event")) for entry in daemon.log() if entry.get("level") == "error")
    if events:
        say("errors in the log: " + ", ".join(f"{name} {count}" for name, count in events.most_common()))
    if "Traceback" in daemon.stderr_text():
        problems.append("a traceback in the log")
    try:
        daemon.stop()
    except AssertionError as error:
        problems.append(f"the daemon did not end as it should: {str(error).split(chr(10), 1)[0]}")
        daemon.kill()
    return problems


def main() -> int:
    """Run it; 0 where everything held, else 1."""
    parser = argparse.ArgumentParser(prog="make soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--seed", type=int, default=None, help="of the order of faults")
    parser.add_argument("--keep", type=Path, help="copy the daemon's log there")
    arguments = parser.parse_args()
    seed = arguments.seed if arguments.seed is not None else random.SystemRandom().randrange(10_000)
    fresh = int(arguments.minutes * 60 * 2.5) + 50
    with tempfile.TemporaryDirectory(prefix="sallyport-soak-") as scratch, descriptor_limit():
        folder = Path(scratch).resolve()
        say(f"{describe()}; seed {seed}")
        program = build(folder)
        origin = Origin(folder, connections=min(16_000, most_descriptors() - 200))
        names = domains(fresh)
        say(f"making {len(names)} certificates")
        origin.add(names)
        private = faults.prepare(origin, folder)
        known = dict.fromkeys([*names, faults.PRIVATE, faults.SELF_SIGNED], "127.0.0.1")
        limits = generous() | {"cached_hosts": CACHED_HOSTS}
        daemon = LoadedDaemon(folder / "daemon", origin, workers=WORKERS, limits=limits, hosts=known)
        with origin, daemon:
            signing, trusted = faults.prepare_signing(daemon)
            route = Route(program, origin.address, trusted, daemon.proxy)
            soak = Soak(Stage(daemon, origin, route, private, signing), Mix(route, fresh), arguments.minutes, seed)
            results = soak.run()
            problems = judge(soak, results) + after(daemon)
            if arguments.keep:
                arguments.keep.write_text(daemon.stderr_text())
    say()
    for problem in problems:
        say(f"FAILED: {problem}")
    say("it held" if not problems else f"it did not hold (seed {seed})")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
