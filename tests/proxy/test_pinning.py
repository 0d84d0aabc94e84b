from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from config.settings import Bypass, Settings
from control import audit_log
from control import bypass_rules as by_hand
from control.installation import Installation
from proxy.log import Log
from proxy.pinning import (
    FOUND,
    FOUND_EACH,
    REMEMBERED_SECONDS,
    WAITING_EACH,
    Client,
    Pair,
    Pinning,
    Recorder,
    Refusals,
    refuses_certificate,
)
from store import bypass_rules, refusals
from tests.harness.pki import NOW


class Clock:
    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def pinning(clock: Clock) -> Pinning:
    return Pinning(clock)


def client(tenant: str, address: str) -> Client:
    return Client(tenant, address, "")


PINNED = Pair(client("default", "192.0.2.1"), "app.example")


def found(pinning: Pinning) -> dict[Pair, tuple[int, str]]:
    return {pair: (refusals.count, refusals.how) for pair, refusals in pinning.found().items()}


def test_who_takes_others_and_refuses_one_is_found_once(pinning: Pinning) -> None:
    pinning.took(client("default", "192.0.2.1"), "web.example")
    pinning.refused(client("default", "192.0.2.1"), "app.example", "alert")
    pinning.refused(client("default", "192.0.2.1"), "app.example", "closed")
    assert found(pinning) == {PINNED: (2, "alert")}
    assert found(pinning) == {}


def test_who_refuses_first_is_found_when_it_takes_another(pinning: Pinning) -> None:
    for _ in range(3):
        pinning.refused(client("default", "192.0.2.1"), "app.example", "closed")
    assert found(pinning) == {}
    pinning.took(client("default", "192.0.2.1"), "web.example")
    assert found(pinning) == {PINNED: (3, "closed")}


@pytest.mark.parametrize(
    ("tenant", "address"), [("other", "192.0.2.1"), ("default", "192.0.2.2")], ids=["tenant", "client"]
)
def test_what_another_takes_says_nothing(pinning: Pinning, tenant: str, address: str) -> None:
    pinning.took(client(tenant, address), "web.example")
    pinning.refused(client("default", "192.0.2.1"), "app.example", "alert")
    pinning.took(client(tenant, address), "more.example")
    assert found(pinning) == {}


def test_who_takes_nothing_does_not_trust_the_root(pinning: Pinning) -> None:
    for host in ("a.example", "b.example", "c.example"):
        pinning.refused(client("default", "192.0.2.1"), host, "alert")
    assert found(pinning) == {}


def test_one_device_may_have_an_app_that_refuses_a_host_and_a_browser_that_takes_it(pinning: Pinning) -> None:
    for host in ("web.example", "app.example"):
        pinning.took(client("default", "192.0.2.1"), host)
    pinning.refused(client("default", "192.0.2.1"), "app.example", "closed")  # any connection may be closed
    assert found(pinning) == {}
    pinning.refused(client("default", "192.0.2.1"), "app.example", "alert")
    assert found(pinning) == {PINNED: (1, "alert")}


def test_what_was_long_ago_does_not_belong_together(pinning: Pinning, clock: Clock) -> None:
    pinning.took(client("default", "192.0.2.1"), "web.example")
    clock.now += REMEMBERED_SECONDS
    pinning.refused(client("default", "192.0.2.1"), "app.example", "alert")
    assert found(pinning) == {}
    clock.now += REMEMBERED_SECONDS
    pinning.took(client("default", "192.0.2.1"), "web.example")
    assert found(pinning) == {}


def test_taking_many_hosts_keeps_the_last_ones(pinning: Pinning) -> None:
    for number in range(10):
        pinning.took(client("default", "192.0.2.1"), f"h{number}.example")
    pinning.refused(client("default", "192.0.2.1"), "h9.example", "alert")
    pinning.refused(client("default", "192.0.2.1"), "h8.example", "alert")
    assert {pair.host for pair in pinning.found()} == {"h9.example", "h8.example"}


def test_a_stranger_cannot_fill_the_memory_nor_keep_others_from_being_found(pinning: Pinning) -> None:
    for address in ("192.0.2.1", "192.0.2.2"):
        pinning.took(client("default", address), "web.example")
    for number in range(FOUND_EACH + 50):
        pinning.refused(client("default", "192.0.2.1"), f"h{number}.example", "alert")
    pinning.refused(client("default", "192.0.2.2"), "app.example", "alert")
    pinning.refused(client("default", "192.0.2.1"), "h0.example", "alert")  # known already: it adds up
    found_now = pinning.found()
    assert len(found_now) == FOUND_EACH + 1
    assert found_now[Pair(client("default", "192.0.2.1"), "h0.example")].count == 2
    for number in range(FOUND + 50):
        pinning.took(client("default", f"c{number}"), "web.example")
        pinning.refused(client("default", f"c{number}"), "app.example", "alert")
    assert len(pinning.found()) == FOUND
    for number in range(WAITING_EACH + 50):
        pinning.refused(client("default", "192.0.2.9"), f"h{number}.example", "alert")
    pinning.took(client("default", "192.0.2.9"), "web.example")
    assert len(pinning.found()) == WAITING_EACH


def test_clients_are_told_apart_whatever_may_be_told_of_them(pinning: Pinning) -> None:
    pinning.took(Client("default", "192.0.2.1", ""), "web.example")
    pinning.refused(Client("default", "192.0.2.2", ""), "app.example", "alert")
    assert pinning.found() == {}


@pytest.mark.parametrize(
    ("reason", "refuses"),
    [
        ("tlsv1 alert unknown ca", True),
        ("ssl/tls alert bad certificate", True),
        ("ssl/tls alert certificate unknown", True),
        ("ssl/tls alert unsupported certificate", True),
        ("tlsv1 alert protocol version", False),
        ("tlsv1 alert user cancelled", False),
        ("no shared cipher", False),
        ("unknown ca", False),
    ],
)
def test_which_alerts_refuse_a_certificate(reason: str, refuses: bool) -> None:
    assert refuses_certificate(reason) is refuses


# --- what the operator lets it do ---


def recorded(inst: Installation, settings: Bypass, clients: int, at: datetime) -> None:
    log = Log(os.open(os.devnull, os.O_WRONLY), "error", "test", lambda: 0.0)
    found = {
        Pair(Client("default", f"192.0.2.{n}", f"192.0.2.{n}"), "app.example"): Refusals(1, "alert", at.timestamp())
        for n in range(clients)
    }
    Recorder(Pinning(lambda: 0.0), inst.store, log, settings).write(found)


@pytest.fixture
def inst(tmp_path: Path) -> Iterator[Installation]:
    with Installation.open(Settings(state_dir=tmp_path / "var"), NOW) as opened:
        yield opened


def rules(inst: Installation) -> list[tuple[str, str | None, datetime | None]]:
    with inst.reading("default") as (connection, tenant):
        return [(rule.pattern, rule.reason, rule.expires_at) for rule in bypass_rules.listing(connection, tenant.id)]


def test_nothing_is_bypassed_by_itself(inst: Installation) -> None:
    recorded(inst, Bypass(), 50, NOW)
    assert rules(inst) == []


def test_where_the_operator_says_so_enough_refusals_make_a_rule_for_a_time_and_are_forgotten(
    inst: Installation,
) -> None:
    settings = Bypass(learned_for=3600.0)
    recorded(inst, settings, 2, NOW)
    assert rules(inst) == []
    recorded(inst, settings, 3, NOW)
    made = ("app.example", "learned: 3 clients refuse our certificate for it", NOW + timedelta(hours=1))
    assert rules(inst) == [made]
    (entry, *_) = audit_log.newest(inst)
    assert (entry.actor, entry.origin, entry.action, entry.subject) == (
        "sallyport", "the data plane", "bypass_rule.add", "app.example",
    )  # fmt: skip
    with inst.reading("default") as (connection, tenant):
        assert refusals.listing(connection, tenant.id, NOW - timedelta(days=1)) == []
        assert entry.generation == tenant.generation
    # It is tried again when the time is over, and found anew.
    recorded(inst, settings, 3, NOW + timedelta(minutes=59))
    assert rules(inst) == [made]
    recorded(inst, settings, 3, NOW + timedelta(hours=2))
    assert rules(inst) == [(*made[:2], NOW + timedelta(hours=3))]


def test_a_rule_that_somebody_made_stays_as_it_is(inst: Installation) -> None:
    by_hand.add(inst, "default", ["app.example"], NOW, "by hand", None)
    recorded(inst, Bypass(learned_for=3600.0), 5, NOW)
    assert rules(inst) == [("app.example", "by hand", None)]
