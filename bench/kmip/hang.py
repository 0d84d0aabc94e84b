"""hang: the key manager hangs. Who asks for hosts that have a leaf notices nothing; who comes for a new one is told."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from bench.abuse.canary import FLOOR, Canaries, Sung
from bench.client import Trouble
from bench.daemon import LANES
from bench.kmip import fake
from bench.kmip.managers import Fake, Manager, PyKmip
from bench.kmip.stage import PATTERN, SIGNING_SECONDS, Outcome, Stage, Standing, say
from bench.load import KNOWN
from tests.harness.processes import wait_for

CANARY_MS = 50.0
"""How much a canary's p99 may be above what it is in quiet."""
RATE = 4
"""New hosts a second."""
SLACK_SECONDS = 0.5
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
    seconds = stage.scaled(24, 14)
    with manager, stage.standing([manager]) as standing:
        route = standing.route
        for domain in LANES.values():
            route.run("--pattern", f"h%d.{domain}", "--hosts", str(KNOWN), "--connections", str(2 * KNOWN), "--quiet")
        before = Canaries(route, standing.floor, stage.scaled(8, 4))
        before.sing()
        quiet = before.finish()
        canaries = Canaries(route, standing.floor, seconds)
        canaries.sing()
        time.sleep(0.5)
        manager.stop()
        began = time.monotonic()
        try:
            asking = route.start(
                *PATTERN,
                *("--first", "100", "--hosts", "1000", "--named", "--rate", str(RATE), "--threads", "16"),
                *("--seconds", f"{seconds - 4:.0f}", "--patience", "10"),
            )
            new = asking.finish(seconds + 30)
            during = canaries.finish()
        finally:
            manager.go_on()
        back = _back(standing)
    _judge_canaries(outcome, quiet, during)
    found = sorted_out(new.troubles, began + KNOWN_DOWN_SECONDS)
    outcome.told.append(
        f"new hosts meanwhile: {found.told} told with 502, {found.alerted} by an alert, {len(found.other)} otherwise,"
        f" {new.requests} served; the longest waited {found.longest:.2f} s"
    )
    outcome.told.append(f"new hosts again {back:.1f} s after it went on")
    outcome.must(new.requests == 0, f"{new.requests} new hosts were served by nobody knows whom")
    outcome.must(found.told > 0, "nobody was told with 502")
    outcome.must(not found.other, f"{len(found.other)} ended otherwise, the first: {found.other[:1]}")
    outcome.must(
        found.longest <= SIGNING_SECONDS + SLACK_SECONDS,
        f"one waited {found.longest:.2f} s, the deadline is {SIGNING_SECONDS:g} s",
    )
    if always_known:
        outcome.must(
            found.late == 0,
            f"{found.late} were let into the tunnel {KNOWN_DOWN_SECONDS:g} s after it had begun to hang",
        )
    outcome.must(back <= RECOVERY_SECONDS, f"new hosts only {back:.1f} s after it went on")
    return outcome


def _judge_canaries(outcome: Outcome, quiet: Sung, during: Sung) -> None:
    floor = during.p99(FLOOR) - quiet.p99(FLOOR)
    for name, one in during.by.items():
        outcome.told.append(
            f"canary {name}: p50 {quiet.p50(name):.1f}, {during.p50(name):.1f} ms; p99 {quiet.p99(name):.1f},"
            f" {during.p99(name):.1f} ms; {one.requests} requests, {one.errors} errors"
        )
        if name == FLOOR:
            continue
        worse = during.p99(name) - quiet.p99(name)
        outcome.must(
            worse <= CANARY_MS, f"canary ({name}) p99 is {worse:.0f} ms above quiet (the floor: {floor:+.0f} ms)"
        )
        outcome.must(not one.errors, f"canary ({name}): {one.errors} errors: {one.troubles[:1]}")


def _back(standing: Standing) -> float:
    """Seconds until a new host is served again."""
    began = time.monotonic()
    number = iter(range(1200, 2000))

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
