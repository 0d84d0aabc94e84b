"""`make abuse`: one attack after the other on a running daemon, a canary beside it; a table, and whether it held."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path

from bench.abuse import pointers
from bench.abuse.aim import HOSTILE, PUBLISHERS, Report
from bench.abuse.attacker import ATTACKS, Attack
from bench.abuse.canary import FLOORS, Canaries, Sung, floor_of
from bench.client import ClientFailed, Route, build
from bench.daemon import LANES, LoadedDaemon
from bench.flatness import Sampler
from bench.load import KNOWN
from bench.machine import describe, descriptor_limit, memory_kib, most_descriptors
from bench.origin import Origin
from tests.harness.pki import Authority
from tests.harness.processes import free_port

QUIET_SECONDS = 6.0
CANARY_MS = 50.0
"""How much the canary's p99 may be above what it is in quiet."""
IDLE_KIB = 85
"""Memory that an idle connection may cost, with what the tree needs to open it."""
RECOVERY_SECONDS = 15
NOT_OURS = ("nice", "-n", "15")
"""What an attacker is started with. In the field its processor is not ours: here, the canary goes first."""
REPOSITORY = Path(__file__).parents[2]


@dataclass
class Outcome:
    """One attack on one lane."""

    name: str
    lane: str
    quiet: Sung
    during: Sung
    quiet_kib: int
    peak_kib: int
    allowed_kib: int
    report: Report
    problems: list[str]


class Abuse:
    """The attacks of one run, each on a daemon of its own: what one leaves behind must not count for the next."""

    def __init__(self, folder: Path, origin: Origin, program: Path, workers: int) -> None:
        self.folder = folder
        self.origin = origin
        self.program = program
        self.workers = workers
        self._runs = 0

    def run(self, name: str, lane: str) -> Outcome:
        """One attack."""
        attack = ATTACKS[name]
        self._runs += 1
        published = free_port(pointers.AT)
        daemon = LoadedDaemon(
            self.folder / f"daemon-{self._runs}",
            self.origin,
            workers=self.workers,
            limits={},
            descriptors=attack.descriptors,
            hosts=dict.fromkeys(PUBLISHERS, pointers.AT),
            extra=_asking(published) if attack.points else None,
        )
        ca = self._hostile_ca(daemon) if attack.points else None
        with daemon:
            route = Route(self.program, self.origin.address, daemon.root, daemon.proxy)
            floor = Route(self.program, self.origin.address, self.origin.root_file, None)
            for domain in LANES.values():
                route.run("--pattern", f"h%d.{domain}", "--hosts", str(KNOWN), "--connections", "40", "--quiet")
            before = Canaries(route, floor, QUIET_SECONDS)
            before.sing()
            quiet = before.finish()
            quiet_kib = memory_kib(daemon.process.pid)
            sampler = Sampler(daemon.process.pid, 0.3)
            canaries = Canaries(route, floor, attack.seconds)
            canaries.sing()
            time.sleep(0.5)
            try:
                report = self._attack(name, attack, lane, daemon, route, ca, published)
            finally:
                during = canaries.finish()
                sampler.stop()
            allowed = quiet_kib + (attack.kib or report.opened * IDLE_KIB + 64 * 1024)
            outcome = Outcome(name, lane, quiet, during, quiet_kib, sampler.peak_kib, allowed, report, [])
            self._judge(outcome, attack, route)
        return outcome

    @staticmethod
    def _hostile_ca(daemon: LoadedDaemon) -> Path:
        """A CA that the tenant trusts; below it whatever nobody tells of is blocked. Its certificate and key."""
        ca = Authority.root("Hostile")
        file, both = daemon.folder / "hostile.pem", daemon.folder / "hostile-both.pem"
        file.write_bytes(ca.pem())
        both.write_bytes(ca.pem() + ca.key_pem())
        daemon.told("trusted-ca", "add", "hostile", str(file))
        daemon.told(
            "errors", "except", f"*.{HOSTILE}", "--defect", "revocation_unknown", "--action", "block",
            "--reason", "nobody there is believed",
        )  # fmt: skip
        return both

    def _attack(
        self, name: str, attack: Attack, lane: str, daemon: LoadedDaemon, route: Route, ca: Path | None, published: int
    ) -> Report:
        host = f"h0.{LANES[lane]}"
        if attack.run is None:
            return self._idle(attack, lane, route)
        address, port = daemon.proxy.split(":")
        aim = {
            "proxy": [address, int(port)],
            "target": ["127.0.0.1", self.origin.port],
            "root": str(daemon.root),
            "host": host,
            "seconds": attack.seconds - 2,
            "descriptors": most_descriptors(),
            "ca": str(ca or ""),
            "published": published,
        }
        done = subprocess.run(
            [*NOT_OURS, sys.executable, "-m", "bench.abuse.attacker", name, json.dumps(aim)],
            cwd=REPOSITORY,
            capture_output=True,
            text=True,
            timeout=180,
            check=False,
        )
        if done.returncode != 0:
            raise ClientFailed(f"the attacker failed: {done.stderr[-1500:]}")
        return Report(**json.loads(done.stdout))

    def _idle(self, attack: Attack, lane: str, route: Route) -> Report:
        # Each connection takes two descriptors of its worker, and workers do not share them out evenly.
        most = int(min(10_000, (most_descriptors() - 500) // 2 * (self.workers * 0.9 if self.workers > 1 else 1)))
        held = replace(route, prefix=NOT_OURS).start(
            "--pattern", f"h%d.{LANES[lane]}", "--hosts", str(KNOWN), "--source", "127.1.0.1:0", "--quiet", "--gate",
            "--open", str(most), "--threads", "16", "--open-seconds", str(attack.seconds - 8),
        )  # fmt: skip
        try:
            opened = held.ready()
            time.sleep(3)
        finally:
            held.end()
        report = Report(f"{opened} idle connections", opened=opened)
        if most < 10_000:
            report.notes.append(f"{most_descriptors()} descriptors allow {most}")
        if opened < most:
            report.notes.append(f"{attack.seconds - 8:.0f} s were over before {most}")
        return report

    def _judge(self, outcome: Outcome, attack: Attack, route: Route) -> None:
        problems = outcome.problems
        for name, during in outcome.during.by.items():
            if name in FLOORS or (attack.descriptors is not None and name.endswith("new")):
                continue  # without descriptors nobody new can be let in; what counts is that they are afterwards
            worse, floor = (outcome.during.p99(each) - outcome.quiet.p99(each) for each in (name, floor_of(name)))
            if worse > CANARY_MS:
                problems.append(f"canary ({name}) p99 is {worse:.0f} ms above quiet (the floor: {floor:+.0f} ms)")
            if during.errors:
                problems.append(f"canary ({name}): {during.errors} errors: {_first(during.troubles)}")
        if outcome.peak_kib > outcome.allowed_kib:
            problems.append(
                f"memory peaked at {outcome.peak_kib // 1024} MiB, {outcome.allowed_kib // 1024} are allowed"
            )
        if outcome.report.through:
            problems.append(f"{outcome.report.through} requests reached what has to be blocked")
        if outcome.report.left:
            problems.append(f"{outcome.report.left} of {outcome.report.slow} slow clients were not gone in their time")
        if not self._recovers(route):
            problems.append(f"no new connection within {RECOVERY_SECONDS} s behind it")

    def _recovers(self, route: Route) -> bool:
        until = time.monotonic() + RECOVERY_SECONDS
        while time.monotonic() < until:
            result = route.run("--pattern", f"h0.{LANES['fast']}", "--connections", "1", "--threads", "1", "--quiet")
            if not result.errors:
                return True
            time.sleep(0.5)
        return False


def _asking(published: int) -> dict[str, object]:
    """The settings by which the attacker's hosts are asked about revocation, and for issuers."""
    fetch = {"ports": [80, published], "private": [f"{pointers.AT}/32"]}
    return {"verification": {"revocation": "soft", "fetch": fetch}}


def _first(troubles: tuple[object, ...]) -> str:
    first = troubles[0] if troubles else None
    return f"{getattr(first, 'stage', '')} {getattr(first, 'what', '')}"


def say(text: str = "") -> None:
    """Progress, at once."""
    print(text, flush=True)


def table(outcomes: list[Outcome]) -> str:
    """The figures, as markdown."""
    lines = [
        "| attack | lane | canary p50, ms: quiet, during | canary p99, ms: quiet, during | floor p99, ms: open; new"
        " | peak memory, MiB (quiet) | what was done | |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for one in outcomes:
        names = [name for name in one.during.by if name not in FLOORS]
        middle = "; ".join(f"{name} {one.quiet.p50(name):.0f}, {one.during.p50(name):.0f}" for name in names)
        late = "; ".join(f"{name} {one.quiet.p99(name):.0f}, {one.during.p99(name):.0f}" for name in names)
        floor = "; ".join(f"{one.quiet.p99(name):.0f}, {one.during.p99(name):.0f}" for name in FLOORS)
        did = "; ".join([one.report.did, *one.report.notes])
        verdict = "held" if not one.problems else "**" + "; ".join(one.problems) + "**"
        memory = f"{one.peak_kib // 1024} ({one.quiet_kib // 1024})"
        lines.append(f"| {one.name} | {one.lane} | {middle} | {late} | {floor} | {memory} | {did} | {verdict} |")
    return "\n".join(lines)


def main() -> int:
    """Run them; 0 where all held, else 1."""
    parser = argparse.ArgumentParser(prog="make abuse", description=__doc__)
    parser.add_argument("--only", default=",".join(ATTACKS), help="attacks, comma-separated")
    parser.add_argument("--lanes", default=",".join(LANES))
    parser.add_argument("--workers", type=int, default=2)
    arguments = parser.parse_args()
    names = arguments.only.split(",")
    if unknown := {*names} - {*ATTACKS}:
        parser.error(f"unknown: {', '.join(sorted(unknown))}; there are {', '.join(ATTACKS)}")
    outcomes: list[Outcome] = []
    failed: list[str] = []
    with tempfile.TemporaryDirectory(prefix="sallyport-abuse-") as scratch, descriptor_limit():
        folder = Path(scratch).resolve()
        program = build(folder)
        origin = Origin(folder, connections=min(24_000, most_descriptors() - 200))
        for domain in LANES.values():
            origin.add(f"h{number}.{domain}" for number in range(KNOWN))
        say(describe())
        with origin:
            abuse = Abuse(folder, origin, program, arguments.workers)
            for name in names:
                for lane in [each for each in ATTACKS[name].lanes if each in arguments.lanes.split(",")]:
                    try:
                        one = abuse.run(name, lane)
                    except (ClientFailed, AssertionError, subprocess.TimeoutExpired) as error:
                        failed.append(f"{name}, {lane}: {error}")
                        say(f"{name}, {lane}: FAILED: {error}")
                        continue
                    outcomes.append(one)
                    say(f"{name}, {lane}: {one.report.did}: {'; '.join(one.problems) or 'held'}")
    say("\n" + table(outcomes))
    bad = sum(bool(each.problems) for each in outcomes) + len(failed)
    say(f"\n{len(outcomes) - sum(bool(each.problems) for each in outcomes)} held, {bad} did not")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
