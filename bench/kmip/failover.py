"""primary-killed, primary-hangs: one of two key managers goes, and comes back, under a load of new hosts."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from bench.client import Result, Trouble
from bench.daemon import LoadedDaemon
from bench.kmip.managers import PyKmip
from bench.kmip.stage import PATTERN, SIGNING_SECONDS, Outcome, Stage
from tests.harness.processes import wait_for

CLIENTS, RATE_EACH = 4, 5
BACK_SECONDS = 10.0
"""After it listens again the primary is asked again within it."""
SLACK_SECONDS = 1.0


@dataclass(frozen=True)
class Failed:
    """Handshakes that failed: before the primary went, those that waited when it did, and those that came later."""

    before: tuple[Trouble, ...]
    waiting: tuple[Trouble, ...]
    later: tuple[Trouble, ...]


def sorted_out(troubles: Sequence[Trouble], gone_at: float) -> Failed:
    """Whom the primary's going may explain: who had asked, and had no answer yet."""
    waiting = tuple(each for each in troubles if each.start <= gone_at <= each.end)
    return Failed(
        tuple(each for each in troubles if each.end < gone_at),
        waiting,
        tuple(each for each in troubles if each.start > gone_at),
    )


def killed(stage: Stage) -> Outcome:
    """SIGKILL to the primary's processes, which are then started again."""
    return _without_primary(stage, "primary-killed", PyKmip.kill, PyKmip.start)


def hangs(stage: Stage) -> Outcome:
    """SIGSTOP to the primary's processes, which then go on."""
    return _without_primary(stage, "primary-hangs", PyKmip.stop, PyKmip.go_on)


def _without_primary(
    stage: Stage, name: str, go: Callable[[PyKmip], None], come_back: Callable[[PyKmip], None]
) -> Outcome:
    outcome = Outcome(name)
    before, without = stage.scaled(8, 4), stage.scaled(10, 6)
    # The primary is given the time to start, and to be found well, while hosts are asked for.
    seconds = before + without + 18
    primary, alternate = PyKmip(stage.fresh_folder("primary")), PyKmip(stage.fresh_folder("alternate"))
    with primary, alternate, stage.standing([primary, alternate]) as standing:
        began = time.monotonic()
        at_first = primary.signed(), alternate.signed()
        each = 2000 // CLIENTS
        running = [
            standing.route.start(
                *PATTERN,
                *("--first", str(number * each), "--hosts", str(each), "--connections", str(each)),
                "--named",
                *("--rate", str(RATE_EACH), "--threads", "16", "--seconds", f"{seconds:.0f}"),
            )
            for number in range(CLIENTS)
        ]
        time.sleep(max(0.0, began + before - time.monotonic()))
        by_primary = primary.signed() - at_first[0]
        go(primary)
        gone_at = time.monotonic()
        time.sleep(without)
        by_alternate = alternate.signed() - at_first[1]
        come_back(primary)
        back = _asked_again(standing.daemon, primary)
        results = [one.finish(seconds + 60) for one in running]
        down, up = len(standing.daemon.log("kmip_host_down")), len(standing.daemon.log("kmip_host_up"))
    _judge(outcome, results, gone_at, back)
    outcome.told.append(f"signed by the primary before: {by_primary}; by the alternate meanwhile: {by_alternate}")
    outcome.told.append(f"asked again {back:.1f} s after it was back; in the log: {down} times down, {up} times up")
    outcome.must(by_primary > 0, "the primary signed nothing before")
    outcome.must(by_alternate > 0, "the alternate signed nothing meanwhile")
    return outcome


def _asked_again(daemon: LoadedDaemon, primary: PyKmip) -> float:
    """Seconds until the primary is asked for signatures again, from now on; more than can hold where it is not."""
    began = time.monotonic()
    with contextlib.suppress(AssertionError):
        # What had come to it before it was stopped it still signs: that is no traffic of now.
        wait_for("the primary to be found well", lambda: daemon.log("kmip_host_up"), BACK_SECONDS * 1.5, pause=0.1)
        asked = primary.signed()
        wait_for("the primary to be asked again", lambda: primary.signed() > asked, BACK_SECONDS, pause=0.1)
        return time.monotonic() - began
    return float("inf")


def _judge(outcome: Outcome, results: Sequence[Result], gone_at: float, back: float) -> None:
    failed = sorted_out([trouble for one in results for trouble in one.troubles], gone_at)
    longest = max((each.end - each.start for each in failed.waiting), default=0.0)
    slowest = max(one.request_ms.max for one in results)
    served, wrong = sum(one.requests for one in results), sum(one.wrong for one in results)
    missed = sum(one.missed for one in results)
    outcome.told += [
        f"{served} new hosts served, {CLIENTS * RATE_EACH} a second ({missed} turns missed), the slowest in"
        f" {slowest:.0f} ms",
        f"failed: {len(failed.waiting)} that waited at that moment (the longest {longest:.2f} s), {len(failed.before)}"
        f" before, {len(failed.later)} later",
    ]
    outcome.must(
        not failed.before,
        f"{len(failed.before)} handshakes failed before the primary went: {CLIENTS * RATE_EACH} new hosts a second are"
        " too many for this machine now, and the rest says nothing",
    )
    outcome.must(not failed.later, f"{len(failed.later)} handshakes failed, the first: {failed.later[:1]}")
    outcome.must(
        longest <= SIGNING_SECONDS + SLACK_SECONDS, f"one waited {longest:.2f} s, the deadline is {SIGNING_SECONDS:g} s"
    )
    outcome.must(not wrong, f"{wrong} wrong answers")
    outcome.must(back <= BACK_SECONDS, f"the primary was asked again after {back:.1f} s only")
