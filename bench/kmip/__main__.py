"""`make kmip`: signing through a key manager that hangs, dies, is cut off or is slow, and whether it held."""

from __future__ import annotations

import argparse
import datetime
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from bench import table
from bench.client import ClientFailed, build
from bench.kmip import cut, economy, failover, figures, hang
from bench.kmip.stage import Outcome, Stage, names, say
from bench.machine import describe, descriptor_limit
from bench.origin import Origin
from bench.run import PAGE

SCENARIOS: dict[str, Callable[[Stage], Outcome]] = {
    "hang-stopped": hang.stopped,
    "hang-silent": hang.silent,
    "hang-no-signature": hang.no_signature,
    "primary-killed": failover.killed,
    "primary-hangs": failover.hangs,
    "economy": economy.economy,
    "cut": cut.cut,
    "figures": figures.figures,
}


def tell(outcome: Outcome, seconds: float) -> None:
    """What came of it."""
    for line in outcome.told:
        say(f"  {line}")
    if outcome.table:
        say("\n" + outcome.table + "\n")
    for problem in outcome.problems:
        say(f"  NOT HELD: {problem}")
    say(f"{outcome.name}: {'not held' if outcome.problems else 'ok'} ({seconds:.0f} s)")


def main() -> int:
    """Run them; 0 where all held, else 1."""
    parser = argparse.ArgumentParser(prog="make kmip", description=__doc__)
    parser.add_argument("--only", default=",".join(SCENARIOS), help="scenarios, comma-separated")
    parser.add_argument("--quick", action="store_true", help="less of everything")
    parser.add_argument("--forwarder", action="store_true", help="a forwarder before each key manager")
    parser.add_argument("--write", action="store_true", help="put the figures into docs/performance.md")
    arguments = parser.parse_args()
    wanted = arguments.only.split(",")
    if unknown := {*wanted} - {*SCENARIOS}:
        parser.error(f"unknown: {', '.join(sorted(unknown))}; there are {', '.join(SCENARIOS)}")
    outcomes: list[Outcome] = []
    with tempfile.TemporaryDirectory(prefix="sallyport-kmip-") as scratch, descriptor_limit():
        folder = Path(scratch).resolve()
        machine = describe()
        say(machine + (", through the forwarder" if arguments.forwarder else ""))
        program = build(folder)
        origin = Origin(folder)
        origin.add(names())
        with origin:
            stage = Stage(folder, origin, program, arguments.quick, arguments.forwarder)
            for name in wanted:
                say(f"{name}: {(SCENARIOS[name].__doc__ or '').splitlines()[0]}")
                began = time.monotonic()
                try:
                    outcome = SCENARIOS[name](stage)
                except (ClientFailed, AssertionError, subprocess.TimeoutExpired, TimeoutError) as error:
                    outcome = Outcome(name, problems=[f"it could not be done: {error}"])
                outcomes.append(outcome)
                tell(outcome, time.monotonic() - began)
    bad = [each.name for each in outcomes if each.problems]
    say(f"\n{len(outcomes) - len(bad)} held, {len(bad)} did not{': ' if bad else ''}{', '.join(bad)}")
    if arguments.write and (figured := "\n\n".join(each.table for each in outcomes if each.table)):
        today = datetime.datetime.now(datetime.UTC)  # noqa: TID251 - the date of a measurement
        table.write(f"Measured by `make kmip` on {today:%Y-%m-%d}: {machine}.\n\n{figured}", PAGE, "kmip")
        say(f"written to {PAGE}")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
