"""figures: signatures a second by connections, and what a new host costs in time beside a key that is here."""

from __future__ import annotations

import asyncio
import contextlib
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from bench.client import Times
from bench.kmip.managers import KEY_NAME, Fake, Manager, PyKmip
from bench.kmip.stage import PATTERN, Outcome, Stage, say
from bench.table import number
from kms.kmip.pool import Pool, PoolLimits
from kms.kmip.signer import KmipSigner
from tests.kms.kmip.rig import SIGNING_KEY, at, identity_of, reach

CONNECTIONS = (1, 2, 4, 8)
DATA = bytes(900)
"""As much as there is to be signed of a leaf."""
COLD_RATE = 10
WARM_UP = 20
KINDS: dict[str, Callable[[Path], Manager]] = {"PyKMIP": PyKmip, "the fake": Fake}


@dataclass(frozen=True)
class Signing:
    """What was measured of so many connections. Times in milliseconds; ``ours``: processor time of this process."""

    connections: int
    rate: float
    p50: float
    p99: float
    ours: float


def figures(stage: Stage) -> Outcome:
    """Tables for docs/performance.md; the fake shows our own limit, PyKMIP's is its own."""
    outcome = Outcome("figures")
    rates: dict[str, list[Signing]] = {}
    for name, kind in KINDS.items():
        with kind(stage.fresh_folder("kmip")) as manager, stage.forwarded([manager]) as (port,):
            rates[name] = [asyncio.run(_signing(stage, port, many)) for many in CONNECTIONS]
        say(f"  {name}: " + ", ".join(f"{one.connections}: {one.rate:.0f}/s" for one in rates[name]))
    cold = {"here (RSA 2048)": _cold(stage, outcome, None, forwarder=False)}
    for name, kind in KINDS.items():
        for forwarder in (False, True):
            title = f"{name}, through the forwarder" if forwarder else name
            cold[title] = _cold(stage, outcome, kind, forwarder=forwarder)
            say(f"  a new host, {title}: p50 {cold[title].p50:.0f} ms, p99 {cold[title].p99:.0f} ms")
    outcome.table = tables(rates, cold)
    return outcome


async def _signing(stage: Stage, port: int, connections: int) -> Signing:
    """As many callers as connections, each asking as soon as it has its answer."""
    ours, theirs = stage.identity()
    limits = PoolLimits(connections, timeout=30.0, signatures=100_000)
    pool = Pool([at(port)], reach(identity_of(ours, server_ca=theirs)), limits, time.monotonic)
    signer = KmipSigner(pool, KEY_NAME, SIGNING_KEY.public_key())
    seconds = stage.scaled(8, 2)
    took: list[float] = []

    async def call(until: float) -> None:
        while (began := time.monotonic()) < until:
            await signer.signature(DATA)
            took.append((time.monotonic() - began) * 1000)

    with contextlib.ExitStack() as ending:
        ending.callback(pool.stop)
        await asyncio.gather(*(call(time.monotonic() + 1) for _ in range(connections)))
        took.clear()
        began, busy = time.monotonic(), time.process_time()
        await asyncio.gather(*(call(began + seconds) for _ in range(connections)))
        passed, busy = time.monotonic() - began, time.process_time() - busy
    cuts = statistics.quantiles(took, n=100)
    return Signing(connections, len(took) / passed, cuts[49], cuts[98], busy * 1000 / len(took))


def _cold(stage: Stage, outcome: Outcome, kind: Callable[[Path], Manager] | None, *, forwarder: bool) -> Times:
    """New hosts, ten a second: from the client's connection to the end of its answer."""
    on = replace(stage, forwarder=forwarder)
    hosts = stage.scaled(300, 60)
    with contextlib.ExitStack() as ending:
        managers: Sequence[Manager] = [] if kind is None else [ending.enter_context(kind(on.fresh_folder("kmip")))]
        route = ending.enter_context(on.standing(managers)).route
        route.run(*PATTERN, "--named", "--hosts", str(WARM_UP), "--connections", str(WARM_UP), "--threads", "4")
        result = route.run(
            *PATTERN, "--named", "--first", str(WARM_UP), "--hosts", str(hosts), "--connections", str(hosts),
            "--rate", str(COLD_RATE), "--threads", "8",
        )  # fmt: skip
    outcome.must(not result.errors, f"{result.errors} errors with new hosts, the first: {result.troubles[:1]}")
    return result.request_ms


def tables(rates: dict[str, list[Signing]], cold: dict[str, Times]) -> str:
    """The figures as markdown."""
    lines = [
        "| key manager | connections | SIGN a second | p50, ms | p99, ms | processor time of ours, ms each |",
        "|---|---|---|---|---|---|",
    ]
    for name, rows in rates.items():
        lines += [
            f"| {name} | {one.connections} | {one.rate:.0f} | {one.p50:.1f} | {one.p99:.1f} | {number(one.ours)} |"
            for one in rows
        ]
    lines += ["", "| a new host, signed by | p50, ms | p99, ms | hosts |", "|---|---|---|---|"]
    lines += [f"| {name} | {times.p50:.1f} | {times.p99:.1f} | {times.count} |" for name, times in cold.items()]
    return "\n".join(lines)
