"""economy: each new host costs one signature, however many ask for it at once, and none after a restart."""

from __future__ import annotations

from collections.abc import Sequence

from bench.client import Result, Route
from bench.kmip.managers import PyKmip
from bench.kmip.stage import PATTERN, Outcome, Stage

CLIENTS, THREADS = 8, 8
"""Processes, and clients in each. All go through the hosts in the same order, and so ask for the same at once."""


def economy(stage: Stage) -> Outcome:
    """64 clients, each host asked for by eight of them."""
    outcome = Outcome("economy")
    hosts = stage.scaled(1000, 200)
    manager = PyKmip(stage.fresh_folder("kmip"))
    with manager, stage.standing([manager]) as standing:
        before = manager.signed()
        running = [standing.route.start(*_asking(hosts, THREADS)) for _ in range(CLIENTS)]
        results = [one.finish(600) for one in running]
        first = manager.signed() - before
        standing.again()
        results.append(_once_more(standing.route, hosts))
        second = manager.signed() - before - first
    _tell(outcome, hosts, results)
    outcome.told.append(f"the key manager counted {first} signatures for {hosts} hosts, and {second} after the restart")
    outcome.must(first == hosts, f"{first} signatures for {hosts} hosts")
    outcome.must(second == 0, f"{second} signatures for hosts that had a leaf, after a restart")
    return outcome


def _asking(hosts: int, threads: int) -> list[str]:
    return [*PATTERN, "--named", "--hosts", str(hosts), "--connections", str(hosts), "--threads", str(threads)]


def _once_more(route: Route, hosts: int) -> Result:
    return route.run(*_asking(hosts, THREADS))


def _tell(outcome: Outcome, hosts: int, results: Sequence[Result]) -> None:
    *first, again = results
    served, seconds = sum(one.requests for one in first), max(one.seconds for one in first)
    outcome.told.append(
        f"{CLIENTS * THREADS} clients, {served} requests for {hosts} hosts in {seconds:.0f} s (p50"
        f" {max(one.request_ms.p50 for one in first):.0f}, p99 {max(one.request_ms.p99 for one in first):.0f} ms);"
        f" after a restart {again.requests} in {again.seconds:.0f} s"
    )
    troubles = [trouble for one in results for trouble in one.troubles]
    outcome.must(not troubles, f"{len(troubles)} errors of clients, the first: {troubles[:1]}")
    outcome.must(served == hosts * CLIENTS and again.requests == hosts, "not all requests were answered")
