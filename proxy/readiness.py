"""Whether the daemon can do its work, and why not, in words: a decision on what its processes say of themselves."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

SILENT_SECONDS = 10.0
"""Workers look at the store four times a second; one that has not for so long waits for a disk that does not answer."""


def reasons(health: Sequence[dict[str, Any]], expected: int) -> list[str]:
    """Why the daemon is not ready, one line each; empty where it is. ``health``: what each worker says of itself."""
    # Several workers have the same reasons; each is said once.
    return list(dict.fromkeys(_reasons(health, expected)))


def of_tunnels(health: Sequence[dict[str, Any]]) -> list[str]:
    """The same of what ends the tunnels of WireGuard listeners, where there are such; what it says of itself."""
    if not health:
        return ["the process that ends WireGuard tunnels is not there, or does not answer"]
    return list(dict.fromkeys(_of_tunnels(health)))


def _of_tunnels(health: Sequence[dict[str, Any]]) -> Iterator[str]:
    for process in health:
        if process["store"] is not None:
            yield f"WireGuard peers stay as they were, since the store cannot be read: {process['store']}"
        for tenant, told in process["tenants"].items():
            if told["no_key"] is not None:
                yield f"WireGuard lets no peer of tenant {tenant} in, since there is no private key: {told['no_key']}"


def _reasons(health: Sequence[dict[str, Any]], expected: int) -> Iterator[str]:
    yield from _workers(health, expected)
    at_work = [worker for worker in health if not worker["draining"]] or list(health)
    if not at_work:
        return
    yield from _store([worker["store"] for worker in at_work])
    for issuer in (worker["issuer"] for worker in at_work):
        if issuer["unreachable"] is not None:
            yield f"the issuer cannot be reached: {issuer['unreachable']}"
        for tenant, problem in issuer["tenants"].items():
            yield f"no leaf can be made for tenant {tenant}: {problem}"
        if issuer["failed"] is not None:
            yield f"the last leaf that was wanted could not be had: {issuer['failed']}"
    for worker in at_work:
        for tenant in worker["missing_tenants"]:
            yield f"tenant {tenant} of a listener cannot be served: it is gone"


def _workers(health: Sequence[dict[str, Any]], expected: int) -> Iterator[str]:
    numbers = {worker["number"] for worker in health if not worker["draining"]}
    draining = {worker["number"] for worker in health if worker["draining"]}
    for number in range(1, expected + 1):
        if number in numbers:
            continue
        if number in draining:
            yield f"worker {number} of {expected} is draining: it takes no new connections"
        else:
            yield f"worker {number} of {expected} is not there, or does not answer"


def _store(stores: Sequence[dict[str, Any]]) -> Iterator[str]:
    worst = max(stores, key=lambda store: float(store["age"]))
    age = round(worst["age"])
    if worst["problem"] is not None:
        yield f"the store has not been readable for {age} s: {worst['problem']}"
    elif worst["age"] > SILENT_SECONDS:
        yield f"the store has not answered for {age} s"
    if worst["outdated"]:
        yield (
            f"the working set is {age} s old, and limits.store_outage is {worst['patience']:g} s: "
            "new connections are refused"
        )
