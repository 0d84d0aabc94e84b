from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from config.settings import Bypass, Settings
from control import audit_log
from control import bypass_rules as by_hand
from control import pinning as proposed
from control.installation import Installation
from proxy import pinning as pinning_module
from proxy.log import Log
from proxy.pinning import (
    FOUND,
    FOUND_EACH,
    MOST_LEARNED_HOURLY,
    REMEMBERED_SECONDS,
    TAKERS,
    TAKING_EACH,
    TAKING_SECONDS,
    WAITING_EACH,
    Client,
    How,
    Pair,
    Pinning,
    Recorder,
    Refusals,
    refuses_certificate,
)
from store import bypass_rules, refusals
from store.engine import DATABASE_FILE, Store
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


THREE = ("192.0.2.1", "192.0.2.2", "192.0.2.3")
LEARNING = Bypass(learned_for=3600.0)


def recorder(inst: Installation, settings: Bypass = LEARNING, pinning: Pinning | None = None) -> Recorder:
    log = Log(os.open(os.devnull, os.O_WRONLY), "error", "test", lambda: 0.0)
    return Recorder(pinning or Pinning(lambda: 0.0), inst.store, log, settings)


def told(address: str) -> Client:
    return Client("default", address, address)


def refusing(
    addresses: Iterable[str], *hosts: str, at: datetime = NOW, how: How = "alert", count: int = 1
) -> dict[Pair, Refusals]:
    """What a worker found: each of these has refused each of the hosts."""
    return {
        Pair(told(address), host): Refusals(count, how, at.timestamp())
        for address in addresses
        for host in hosts or ("app.example",)
    }


def recorded(inst: Installation, settings: Bypass, clients: int, at: datetime) -> None:
    recorder(inst, settings).write(refusing((f"192.0.2.{n}" for n in range(clients)), at=at))


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


def learned(inst: Installation) -> list[str]:
    return [pattern for pattern, _, _ in rules(inst)]


@pytest.mark.parametrize(
    ("addresses", "counts"),
    [
        (("2001:db8:1:2::1", "2001:db8:1:2::2", "2001:db8:1:2:ffff::3"), False),
        (("2001:db8:1:2::1", "2001:db8:1:3::1", "2001:db8:1:4::1"), True),
        (("2001:db8:1:2::1", "192.0.2.1", "192.0.2.2"), True),
        (("fe80::1%eth0", "fe80::2%eth0", "192.0.2.2"), False),
    ],
)
def test_whoever_has_an_ipv6_network_is_one_client(
    inst: Installation, addresses: tuple[str, ...], counts: bool
) -> None:
    for each in addresses:
        recorder(inst).write(refusing([each]))
    assert learned(inst) == (["app.example"] if counts else [])


def test_one_network_does_not_take_up_what_is_found_of_all(pinning: Pinning) -> None:
    for last in range(20):
        pinning.took(client("default", f"2001:db8:1:2::{last:x}"), "web.example")
        for number in range(FOUND_EACH):
            pinning.refused(client("default", f"2001:db8:1:2::{last:x}"), f"h{last}-{number}.example", "alert")
    assert len(pinning.found()) == FOUND_EACH


def test_closing_a_connection_makes_no_rule(inst: Installation) -> None:
    recorder(inst).write(refusing(THREE, how="closed", count=50))
    assert learned(inst) == []
    assert [one.enough for one in proposed.proposals(inst, "default", NOW)] == [True]
    recorder(inst).write(refusing(THREE))
    assert learned(inst) == ["app.example"]


@pytest.mark.parametrize("takers", [2, 3])
def test_what_as_many_others_take_is_proposed_and_not_bypassed(inst: Installation, takers: int) -> None:
    pinning = Pinning(NOW.timestamp)
    for number in range(takers):
        pinning.took(told(f"198.51.100.{number}"), "app.example")
        pinning.took(told(f"198.51.100.{number}"), "web.example")
    for address in THREE:
        pinning.took(told(address), "web.example")
        # Nobody can have it forgotten what others take.
        for number in range(TAKING_EACH + 5):
            pinning.took(told(address), f"h{number}.evil.example")
        pinning.refused(told(address), "app.example", "alert")
    recorder(inst, pinning=pinning).write(pinning.found())
    assert learned(inst) == (["app.example"] if takers < 3 else [])
    assert [one.host for one in proposed.proposals(inst, "default", NOW)] == ([] if takers < 3 else ["app.example"])


def test_what_so_many_take_is_not_bypassed_however_many_refuse_it(inst: Installation) -> None:
    found = refusing(f"192.0.2.{n}" for n in range(TAKERS + 20))
    for one in found.values():
        one.takers = TAKERS
    recorder(inst).write(found)
    assert learned(inst) == []


def test_what_was_taken_long_ago_says_nothing(pinning: Pinning, clock: Clock) -> None:
    pinning.took(told("198.51.100.1"), "app.example")
    clock.now += TAKING_SECONDS
    pinning.took(told(THREE[0]), "web.example")
    pinning.refused(told(THREE[0]), "app.example", "alert")
    assert [one.takers for one in pinning.found().values()] == [0]


def test_few_rules_are_learned_in_an_hour_and_each_round_is_one_change(inst: Installation) -> None:
    with inst.reading("default") as (_, tenant):
        before = tenant.generation
    hosts = [f"h{number}.example" for number in range(MOST_LEARNED_HOURLY + 3)]
    recorder(inst).write(refusing(THREE, *hosts))
    recorder(inst).write(refusing((*THREE, "192.0.2.4"), *hosts, at=NOW + timedelta(minutes=59)))
    assert learned(inst) == hosts[:MOST_LEARNED_HOURLY]
    with inst.reading("default") as (_, tenant):
        assert tenant.generation == before + 1
    assert len({entry.generation for entry in audit_log.newest(inst) if entry.action == "bypass_rule.add"}) == 1
    recorder(inst).write(refusing(THREE, "another.example", at=NOW + timedelta(minutes=61)))
    # Those of the first hour have ended, and are taken out.
    assert learned(inst) == ["another.example"]


def test_few_learned_rules_stand_at_a_time_beside_those_that_somebody_made(
    inst: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pinning_module, "MOST_LEARNED", 2)
    by_hand.add(inst, "default", ["a.example", "b.example", "c.example"], NOW, "by hand", None)
    recorder(inst).write(refusing(THREE, "x.example", "y.example", "z.example"))
    assert learned(inst) == ["a.example", "b.example", "c.example", "x.example", "y.example"]


def test_nobody_is_kept_from_writing_while_it_is_found_out_what_is_refused(
    inst: Installation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, asked = refusals.by_alert, 0

    def by_alert(*args: Any) -> dict[str, int]:
        nonlocal asked
        asked += 1
        with Store.open(tmp_path / "var" / DATABASE_FILE, create=False) as other, other.transaction():
            return real(*args)

    monkeypatch.setattr(refusals, "by_alert", by_alert)
    recorder(inst).write(refusing(THREE, *(f"h{number}.example" for number in range(20))))
    assert asked == 1
    assert len(learned(inst)) == MOST_LEARNED_HOURLY


def test_a_rule_that_somebody_made_stays_as_it_is(inst: Installation) -> None:
    by_hand.add(inst, "default", ["app.example"], NOW, "by hand", None)
    recorded(inst, Bypass(learned_for=3600.0), 5, NOW)
    assert rules(inst) == [("app.example", "by hand", None)]
