"""Ready or not, decided on what workers say of themselves."""

from __future__ import annotations

from typing import Any

import pytest

from proxy.readiness import of_tunnels, reasons


def worker(number: int = 1, **changes: Any) -> dict[str, Any]:
    """A worker that is well."""
    well: dict[str, Any] = {
        "number": number,
        "draining": False,
        "missing_tenants": [],
        "store": {"problem": None, "age": 0.2, "outdated": False, "patience": 3600.0},
        "issuer": {"unreachable": None, "tenants": {}, "failed": None},
    }
    for name, change in changes.items():
        well[name] = {**well[name], **change} if isinstance(change, dict) else change
    return well


def test_it_is_ready_where_every_worker_is_there_and_well() -> None:
    assert reasons([worker(1), worker(2)], 2) == []


@pytest.mark.parametrize(
    ("health", "expected", "said"),
    [
        ([worker(1)], 2, ["worker 2 of 2 is not there, or does not answer"]),
        ([], 1, ["worker 1 of 1 is not there, or does not answer"]),
        ([worker(1, draining=True)], 1, ["worker 1 of 1 is draining: it takes no new connections"]),
        (
            [worker(store={"problem": "x.db: it is damaged; restore a backup", "age": 12.3})],
            1,
            ["the store has not been readable for 12 s: x.db: it is damaged; restore a backup"],
        ),
        ([worker(store={"age": 11.0})], 1, ["the store has not answered for 11 s"]),
        (
            [worker(store={"problem": "gone", "age": 4000.0, "outdated": True})],
            1,
            [
                "the store has not been readable for 4000 s: gone",
                "the working set is 4000 s old, and limits.store_outage is 3600 s: new connections are refused",
            ],
        ),
        (
            [worker(issuer={"unreachable": "no answer within 5 s"})],
            1,
            ["the issuer cannot be reached: no answer within 5 s"],
        ),
        (
            [worker(issuer={"tenants": {"default": "the signing CA has expired"}})],
            1,
            ["no leaf can be made for tenant default: the signing CA has expired"],
        ),
        (
            [worker(issuer={"failed": "the disk is full"})],
            1,
            ["the last leaf that was wanted could not be had: the disk is full"],
        ),
        (
            [worker(missing_tenants=["other"])],
            1,
            ["tenant other of a listener cannot be served: it is gone"],
        ),
    ],
)
def test_what_is_wrong_is_said_in_words(health: list[dict[str, Any]], expected: int, said: list[str]) -> None:
    assert reasons(health, expected) == said


def test_what_several_workers_say_is_said_once() -> None:
    both = [worker(number, issuer={"unreachable": "no answer"}) for number in (1, 2)]
    assert reasons(both, 2) == ["the issuer cannot be reached: no answer"]


def test_an_old_worker_that_drains_beside_its_successor_does_not_count() -> None:
    old = worker(1, draining=True, store={"problem": "gone", "age": 60.0})
    assert reasons([old, worker(1)], 1) == []


def tunnels(store: str | None = None, **no_key: str | None) -> dict[str, Any]:
    """What ends WireGuard tunnels, and why it has no keys of tenants."""
    told = {tenant: {"no_key": why, "peers": 2, "tunnels": 1, "streams": 5} for tenant, why in no_key.items()}
    return {"pid": 17, "store": store, "tenants": told}


@pytest.mark.parametrize(
    ("health", "said"),
    [
        ([tunnels(default=None)], []),
        ([], ["the process that ends WireGuard tunnels is not there, or does not answer"]),
        (
            [tunnels(default=None, other="no answer within 5 s")],
            ["WireGuard lets no peer of tenant other in, since there is no private key: no answer within 5 s"],
        ),
        (
            [tunnels("the disk is gone", default=None), tunnels("the disk is gone")],
            ["WireGuard peers stay as they were, since the store cannot be read: the disk is gone"],
        ),
    ],
)
def test_what_is_wrong_with_tunnels_is_said_too(health: list[dict[str, Any]], said: list[str]) -> None:
    assert of_tunnels(health) == said
