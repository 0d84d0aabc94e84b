from __future__ import annotations

from datetime import datetime

import pytest

from store import tenants, traffic_figures
from store.engine import Store
from store.records import Tenant, VerdictCount
from store.traffic_figures import AGE, HOUR, STEP
from tests.harness.pki import NOW
from tests.store.conftest import add_tenant

BEGIN = NOW.replace(minute=0, second=0, microsecond=0)


def block(store: Store, tenant: Tenant, begins: datetime = BEGIN, **hosts: int) -> None:
    counts = {(begins, f"{name}.example", "expired"): count for name, count in hosts.items()}
    with store.transaction() as c:
        traffic_figures.add_blocked(c, tenant.id, counts)


def top(store: Store, tenant: Tenant, since: datetime = BEGIN, most: int = 10) -> list[tuple[str, int]]:
    with store.reading() as c:
        return [(one.host, one.count) for one in traffic_figures.top_blocked(c, tenant.id, since, most)]


def verdicts(store: Store, tenant: Tenant, since: datetime = BEGIN, until: datetime = NOW + AGE) -> list[VerdictCount]:
    with store.reading() as c:
        return traffic_figures.verdict_counts(c, tenant.id, since, until)


def test_what_several_workers_count_is_added_up(store: Store, tenant: Tenant) -> None:
    for count in (2, 3):
        with store.transaction() as c:
            traffic_figures.add_verdicts(c, tenant.id, {
                (BEGIN, "expired", "block"): count, (BEGIN, "none", "allow"): 1, (BEGIN + STEP, "expired", "block"): 1,
            })  # fmt: skip
        block(store, tenant, a=count)
    assert verdicts(store, tenant) == [
        VerdictCount(BEGIN, "expired", "block", 5), VerdictCount(BEGIN, "none", "allow", 2),
        VerdictCount(BEGIN + STEP, "expired", "block", 2),
    ]  # fmt: skip
    assert verdicts(store, tenant, BEGIN + STEP) == [VerdictCount(BEGIN + STEP, "expired", "block", 2)]
    assert [one.count for one in verdicts(store, tenant, BEGIN, BEGIN + STEP)] == [5, 2]
    assert top(store, tenant) == [("a.example", 5)]


def test_hosts_come_by_their_sum_over_hours_and_defects(store: Store, tenant: Tenant) -> None:
    block(store, tenant, a=2, b=4)
    block(store, tenant, BEGIN + HOUR, a=3)
    with store.transaction() as c:
        traffic_figures.add_blocked(c, tenant.id, {(BEGIN, "b.example", "self_signed"): 9})
        traffic_figures.add_blocked(c, add_tenant(c, "other").id, {(BEGIN, "theirs.example", "expired"): 99})
    with store.reading() as c:
        first, second = traffic_figures.top_blocked(c, tenant.id, BEGIN, 10)
    assert (first.host, first.count, first.last_at) == ("b.example", 13, BEGIN)
    assert list(first.defects.items()) == [("self_signed", 9), ("expired", 4)]
    assert (second.host, second.count, second.last_at) == ("a.example", 5, BEGIN + HOUR)
    assert top(store, tenant, most=1) == [("b.example", 13)]
    assert top(store, tenant, BEGIN + HOUR) == [("a.example", 3)]
    assert top(store, tenant, BEGIN + 2 * HOUR) == []


def test_of_an_hour_the_highest_stay_and_other_hours_are_left_alone(
    store: Store, tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(traffic_figures, "MOST_BLOCKED", 3)
    block(store, tenant, BEGIN - HOUR, before=1)
    block(store, tenant, a=5, b=4)
    block(store, tenant, c=1, d=1, e=1)
    assert top(store, tenant) == [("a.example", 5), ("b.example", 4), ("c.example", 1)]
    block(store, tenant, f=2)
    assert top(store, tenant) == [("a.example", 5), ("b.example", 4), ("f.example", 2)]
    assert ("before.example", 1) in top(store, tenant, BEGIN - HOUR)


def test_what_is_too_old_goes_and_so_does_what_is_named(store: Store, tenant: Tenant) -> None:
    block(store, tenant, BEGIN - HOUR, old=1, a=1)
    block(store, tenant, a=1, b=1, c=1)
    with store.transaction() as c:
        traffic_figures.add_verdicts(c, tenant.id, {(BEGIN - STEP, "none", "allow"): 1, (BEGIN, "none", "allow"): 1})
        traffic_figures.forget_before(c, BEGIN)
    assert top(store, tenant, BEGIN - HOUR) == [("a.example", 1), ("b.example", 1), ("c.example", 1)]
    assert len(verdicts(store, tenant, BEGIN - AGE)) == 1
    with store.transaction() as c:
        assert sorted(traffic_figures.blocked(c)) == ["a.example", "b.example", "c.example"]
        traffic_figures.forget_blocked(c, ["a.example", "of.nobody"])
    assert [host for host, _ in top(store, tenant)] == ["b.example", "c.example"]
    with store.transaction() as c:
        traffic_figures.forget_blocked(c)
    assert top(store, tenant) == []
    assert len(verdicts(store, tenant)) == 1


def test_they_go_with_their_tenant(store: Store, tenant: Tenant) -> None:
    with store.transaction() as c:
        other = add_tenant(c, "other")
        traffic_figures.add_verdicts(c, other.id, {(BEGIN, "none", "allow"): 1})
    block(store, other, a=1)
    with store.transaction() as c:
        tenants.delete(c, other.id)
    with store.reading() as c:
        for table in ("verdict_counts", "blocked_hosts"):
            assert c.exec_driver_sql(f"SELECT count(*) FROM {table}").scalar_one() == 0  # noqa: S608 - names of ours


def test_nothing_to_add_adds_nothing(store: Store, tenant: Tenant) -> None:
    with store.transaction() as c:
        traffic_figures.add_verdicts(c, tenant.id, {})
        traffic_figures.add_blocked(c, tenant.id, {})
    assert verdicts(store, tenant) == []
