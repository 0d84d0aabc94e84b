"""hang: the key manager hangs. Who asks for hosts that have a leaf notices nothing; who comes for a new one is told."""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from operator import attrgetter

from bench.abuse.canary import FLOORS, Canaries, Sung, floor_of
from bench.client import Trouble
from bench.daemon import LANES
from bench.kmip import fake
from bench.kmip.managers import Fake, Manager, PyKmip
from bench.kmip.stage import PATTERN, SIGNING_SECONDS, Outcome, Stage, Standing, say
from bench.load import KNOWN
from tests.harness.processes import wait_for

CANARY_MS = 50.0
"""How much a canary's p99 may be above what it is in quiet."""
SECONDS = 12
RATE = 4
"""New hosts a second."""
SLACK_SECONDS = 1.0
KNOWN_DOWN_SECONDS = SIGNING_SECONDS + 2 / RATE + 2 + SLACK_SECONDS
"""After so long it is known that there is nobody to sign: two have waited in vain, and workers asked, as they do every
two seconds."""
RECOVERY_SECONDS = 20.0
"""A host that broke by requests is left alone for 5 s, looked at every 2, and a look may take its time."""


@dataclass(frozen=True)
class New:
    """What came of those who asked for new hosts meanwhile."""

    told: int
    """That were refused with 502 in the answer to the CONNECT."""
    alerted: int
    """That got an alert in the handshake: nobody knew better when they came."""
    other: tuple[Trouble, ...]
    late: int
    """Of those alerted, who came when it should have been known."""
    longest: float
    """Seconds that one had to wait."""


@dataclass(frozen=True)
class Round:
    """Quiet, then hanging. ``served``: new hosts that were, by nobody knows whom; ``back``: seconds until they were."""

    quiet: Sung
    during: Sung
    new: New
    served: int
    back: float


def sorted_out(troubles: Sequence[Trouble], known_at: float) -> New:
    """The answers, by kind. ``known_at``: from then on it should have been known."""
    told = [each for each in troubles if each.stage == "connect" and " 502" in each.what]
    alerted = [each for each in troubles if each.stage == "handshake" and "alert" in each.what]
    other = tuple(each for each in troubles if each not in told and each not in alerted)
    late = sum(each.start > known_at for each in alerted)
    return New(len(told), len(alerted), other, late, max((each.end - each.start for each in troubles), default=0.0))


def stopped(stage: Stage) -> Outcome:
    """All processes of PyKMIP's server are stopped in whatever they do (SIGSTOP)."""
    return _hanging(stage, "hang-stopped", PyKmip(stage.fresh_folder("kmip")))


def silent(stage: Stage) -> Outcome:
    """A key manager that accepts, speaks TLS, and answers nothing."""
    return _hanging(stage, "hang-silent", Fake(stage.fresh_folder("kmip"), fake.SILENT))


def no_signature(stage: Stage) -> Outcome:
    """A key manager that answers everything but SIGN: each look at it finds it well, and nothing is signed."""
    # What is found well is asked again now and then, and whoever is the first then waits.
    return _hanging(stage, "hang-no-signature", Fake(stage.fresh_folder("kmip"), fake.NO_SIGNATURE), always_known=False)


def _hanging(stage: Stage, name: str, manager: Manager, always_known: bool = True) -> Outcome:
    outcome = Outcome(name)
    with manager, stage.standing([manager]) as standing:
        for domain in LANES.values():
            standing.route.run(
                *("--pattern", f"h%d.{domain}", "--hosts", str(KNOWN), "--connections", str(2 * KNOWN), "--quiet")
            )
        rounds = [_round(standing, manager, 100 + number * 500) for number in range(stage.scaled(3, 1))]
    _judge_canaries(outcome, rounds)
    _judge_new(outcome, rounds, always_known)
    return outcome


def _round(standing: Standing, manager: Manager, first: int) -> Round:
    """Quiet, then hanging, then well again. ``first``: the number of the first of five hundred hosts that are new."""
    seconds, asks = SECONDS + 2, str(SECONDS)
    before = Canaries(standing.route, standing.floor, seconds)
    before.sing()
    # As much is asked for as meanwhile: what is to show is the key manager's hanging, and not the load.
    known = standing.route.start(*_asking(0, KNOWN, asks))
    known.finish(seconds + 30)
    quiet = before.finish()
    canaries = Canaries(standing.route, standing.floor, seconds)
    canaries.sing()
    manager.stop()
    began = time.monotonic()
    try:
        new = standing.route.start(*_asking(first, 90, asks)).finish(seconds + 30)
        during = canaries.finish()
    finally:
        manager.go_on()
    found = sorted_out(new.troubles, began + KNOWN_DOWN_SECONDS)
    return Round(quiet, during, found, new.requests, _back(standing, first + 100))


def _asking(first: int, hosts: int, seconds: str) -> list[str]:
    pace = ["--rate", str(RATE), "--threads", "16", "--seconds", seconds, "--patience", "10"]
    return [*PATTERN, "--first", str(first), "--hosts", str(hosts), "--named", *pace]


def _judge_new(outcome: Outcome, rounds: list[Round], always_known: bool) -> None:
    found = [one.new for one in rounds]
    told, alerted, late = (sum(map(attrgetter(name), found)) for name in ("told", "alerted", "late"))
    other = [trouble for one in found for trouble in one.other]
    served, back = sum(one.served for one in rounds), max(one.back for one in rounds)
    longest = max(one.longest for one in found)
    outcome.told.append(
        f"new hosts meanwhile: {told} told with 502, {alerted} by an alert, {len(other)} otherwise, {served} served;"
        f" the longest waited {longest:.2f} s; again served {back:.1f} s after it went on"
    )
    outcome.must(served == 0, f"{served} new hosts were served by nobody knows whom")
    outcome.must(told > 0, "nobody was told with 502")
    outcome.must(not other, f"{len(other)} ended otherwise, the first: {other[:1]}")
    most = SIGNING_SECONDS + SLACK_SECONDS
    outcome.must(longest <= most, f"one waited {longest:.2f} s, the deadline is {SIGNING_SECONDS:g} s")
    if always_known:
        what = f"were let into the tunnel more than {KNOWN_DOWN_SECONDS:g} s after it had begun to hang"
        outcome.must(late == 0, f"{late} {what}")
    outcome.must(back <= RECOVERY_SECONDS, f"new hosts only {back:.1f} s after it went on")


def _judge_canaries(outcome: Outcome, rounds: list[Round]) -> None:
    for name in rounds[0].during.by:
        p99s = ", ".join(f"{one.quiet.p99(name):.0f} and {one.during.p99(name):.0f}" for one in rounds)
        requests, errors = (
            sum(getattr(one.during.by[name], what) for one in rounds) for what in ("requests", "errors")
        )
        worse = _worse(rounds, name)
        outcome.told.append(
            f"canary {name}: p99 in quiet and meanwhile {p99s} ms; by the median {worse:+.0f} ms; {requests} requests,"
            f" {errors} errors"
        )
        if name not in FLOORS:
            floor = _worse(rounds, floor_of(name))
            what = f"canary ({name}) p99 is {worse:.0f} ms above quiet (the floor: {floor:+.0f} ms)"
            outcome.must(worse <= CANARY_MS, what)
            outcome.must(not errors, f"canary ({name}): {errors} errors")


def _worse(rounds: list[Round], name: str) -> float:
    """How much the p99 is above quiet: the median of the rounds, since a busy machine has its moments."""
    return statistics.median(one.during.p99(name) - one.quiet.p99(name) for one in rounds)


def _back(standing: Standing, first: int) -> float:
    """Seconds until a new host is served again."""
    began = time.monotonic()
    number = itertools.count(first)

    def served() -> bool:
        one = standing.route.run(
            *PATTERN, "--named", "--first", str(next(number)), "--connections", "1", "--threads", "1", "--quiet"
        )
        return not one.errors

    try:
        wait_for("a new host to be served", served, RECOVERY_SECONDS * 3, pause=0.2)
    except AssertionError as error:
        say(f"  {error}")
    return time.monotonic() - began
