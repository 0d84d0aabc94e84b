from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.hashes import SHA256

from certs.failures import wants_certificate
from certs.mentions import Mentions
from certs.names import parse_host
from certs.scope import OwnCa, TrustByHost
from certs.verdict import Action, Verdict
from certs.verify import Handshake, judge
from config.settings import Settings
from control.installation import Installation
from proxy import recent
from proxy.figures import Figures, Gathered
from proxy.log import Log
from proxy.recent import AGAIN_SECONDS, GATHERED, Judged, RecentServers, Recorder, Server
from store import recent_servers, traffic_figures
from store.engine import StoreError
from store.records import RecentServer
from tests.harness.pki import NOW, Authority

ROOT = Authority.root("Root")
ISSUING = ROOT.intermediate("Issuing")
LEAF = ISSUING.leaf(["a.example", "b.example"])
TRUST = TrustByHost((), [OwnCa((ROOT.raw,))])
SHOWN = Handshake((LEAF.certificate, ISSUING.certificate))
GOOD = judge(SHOWN, parse_host("a.example"), TRUST.at(parse_host("a.example")).store, NOW)
ME, ANOTHER = "192.0.2.1", "192.0.2.2"
START = NOW.timestamp()


class Clock:
    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def log(tmp_path: Path) -> Log:
    return Log(os.open(tmp_path / "log", os.O_WRONLY | os.O_CREAT), "info", "test", lambda: 0.0)


@pytest.fixture
def servers(clock: Clock, log: Log) -> RecentServers:
    return RecentServers(clock, log)


def visit(
    servers: RecentServers, host: str = "a.example", client: str = ME, verdict: Verdict = GOOD,
    handshake: Handshake | None = SHOWN, action: Action = Action.ALLOW, port: int = 443,
) -> None:  # fmt: skip
    servers.judged("default", client, parse_host(host), port, handshake, verdict, action, TRUST)


def hosts(servers: RecentServers) -> list[str]:
    return [server.host for server in servers.gathered()]


# --- what is gathered


def test_a_server_that_is_as_it_was_is_gathered_again_after_ten_minutes(servers: RecentServers, clock: Clock) -> None:
    for _ in range(2):
        visit(servers)
        visit(servers, client=ANOTHER)
    assert list(servers.gathered()) == [Server("default", "a.example", 443)]
    clock.now += AGAIN_SECONDS - 1
    visit(servers)
    assert hosts(servers) == []
    clock.now += 1
    visit(servers)
    ((_, judged),) = servers.gathered().items()
    assert judged.at == clock.now


@pytest.mark.parametrize("what", ["chain", "defects", "action", "port"])
def test_one_that_is_other_than_it_was_is_gathered_at_once(servers: RecentServers, what: str) -> None:
    visit(servers)
    servers.gathered()
    match what:
        case "chain":
            visit(servers, handshake=Handshake((LEAF.certificate,)))
        case "defects":
            visit(servers, verdict=GOOD.also(wants_certificate()))
        case "action":
            visit(servers, action=Action.WARN)
        case _:
            visit(servers, port=8443)
    assert hosts(servers) == ["a.example"]


def test_hosts_of_which_nothing_is_logged_are_not_gathered(servers: RecentServers, log: Log) -> None:
    log.never = Mentions(["*.bank.example"])
    visit(servers, "www.bank.example")
    visit(servers, "bank.example")
    assert hosts(servers) == ["bank.example"]


def test_one_client_takes_half_of_the_places_at_most_and_its_known_servers_go_on(
    servers: RecentServers, clock: Clock, log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recent_servers, "MOST", 20)
    servers, of_two = RecentServers(clock, log), RecentServers(clock, log, workers=2)
    for number in range(12):
        visit(servers, f"h{number}.example")
        visit(of_two, f"h{number}.example", "2001:db8::1")
        visit(of_two, f"g{number}.example", "2001:db8::2")  # the same /64
    visit(servers, "other.example", ANOTHER)
    assert hosts(servers) == [*(f"h{number}.example" for number in range(10)), "other.example"]
    assert len(of_two.gathered()) == 5
    clock.now += AGAIN_SECONDS
    visit(servers, "h0.example")
    visit(servers, "h11.example")
    assert hosts(servers) == ["h0.example"]
    clock.now += recent_servers.AGE.total_seconds()
    visit(servers, "h11.example")
    assert hosts(servers) == ["h11.example"]


def test_one_client_takes_half_of_the_bytes_at_most(clock: Clock, log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    size = sum(map(len, SHOWN.encoded))
    monkeypatch.setattr(recent_servers, "MOST_BYTES", 5 * size)
    servers = RecentServers(clock, log)
    for number in range(5):
        visit(servers, f"h{number}.example")
    assert len(servers.gathered()) == 2
    clock.now += AGAIN_SECONDS
    visit(servers, "h0.example")  # what was kept of it before takes no more
    visit(servers, "h0.example", handshake=Handshake((LEAF.certificate, ISSUING.certificate, ROOT.certificate)))
    visit(servers, "h9.example", ANOTHER)
    ((_, first), (second, _)) = servers.gathered().items()
    assert first.handshake is SHOWN
    assert second.host == "h9.example"


def test_a_worker_holds_so_many_between_two_writings(servers: RecentServers, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(GATHERED + 10):
        visit(servers, f"h{number}.example", f"192.0.2.{number % 200}")
    assert len(servers.gathered()) == GATHERED
    monkeypatch.setattr(recent, "GATHERED_BYTES", sum(map(len, SHOWN.encoded)) + 1)
    visit(servers, "one.example")
    visit(servers, "two.example")
    assert hosts(servers) == ["one.example"]
    visit(servers, "two.example")  # it was not taken for written down
    assert hosts(servers) == ["two.example"]


# --- what is written


@pytest.fixture
def inst(tmp_path: Path) -> Iterator[Installation]:
    with Installation.open(Settings(state_dir=tmp_path / "var"), NOW) as opened:
        yield opened


def known(inst: Installation) -> list[RecentServer]:
    with inst.reading("default") as (connection, tenant):
        return recent_servers.listing(connection, tenant.id, NOW - 2 * recent_servers.AGE)


def recorder(inst: Installation, servers: RecentServers | None, log: Log) -> Recorder:
    return Recorder(servers, Figures(NOW.timestamp, log, hosts=servers is not None), inst.store, log, lambda: NOW)


def test_what_it_takes_to_judge_again_is_written(inst: Installation, servers: RecentServers, log: Log) -> None:
    visit(servers)
    visit(servers, "b.example", verdict=Verdict.of([wants_certificate()]), handshake=None, action=Action.BLOCK)
    servers.judged("gone", ME, parse_host("c.example"), 443, SHOWN, GOOD, Action.ALLOW, TRUST)
    recorder(inst, servers, log).write(servers.gathered(), Gathered())
    good, failed = known(inst)
    assert good == RecentServer(
        "a.example", 443, NOW, True, ROOT.certificate.fingerprint(SHA256()), (),
        "allow", (LEAF.raw, ISSUING.raw),
    )  # fmt: skip
    assert failed == RecentServer("b.example", 443, NOW, False, None, ("protocol",), "block")


def test_who_completed_a_chain_is_written_and_what_was_not_read_is_not(
    inst: Installation, servers: RecentServers, log: Log
) -> None:
    alone = Handshake((LEAF.certificate,))
    visit(servers, "a.example", handshake=alone, verdict=replace(GOOD, completed="from elsewhere"))
    visit(servers, "b.example", handshake=replace(SHOWN, unread=("odd",)))
    visit(servers, "c.example", handshake=alone, verdict=replace(GOOD, leaf_unread=True))
    large = Handshake((LEAF.certificate,), encoded=(bytes(recent_servers.LARGEST + 1),))
    visit(servers, "d.example", handshake=large)
    recorder(inst, servers, log).write(servers.gathered(), Gathered())
    assert [(one.host, one.shown, one.presented, one.added) for one in known(inst)] == [
        ("a.example", True, (LEAF.raw,), (ISSUING.raw,)),
        ("b.example", True, None, ()),
        ("c.example", False, None, ()),
        ("d.example", True, None, ()),
    ]


def test_an_anchor_is_one_only_where_it_is_trusted_for_the_host(
    inst: Installation, servers: RecentServers, log: Log
) -> None:
    elsewhere = TrustByHost((), [OwnCa((ROOT.raw,), ("b.example",))])
    for host in ("a.example", "b.example"):
        verdict = judge(SHOWN, parse_host(host), elsewhere.at(parse_host(host)).store, NOW)
        servers.judged("default", ME, parse_host(host), 443, SHOWN, verdict, Action.ALLOW, elsewhere)
    recorder(inst, servers, log).write(servers.gathered(), Gathered())
    assert [one.anchor_sha256 is not None for one in known(inst)] == [False, True]


def test_an_anchor_that_was_sent_behind_what_cannot_be_read_vouches_for_nothing(
    inst: Installation, servers: RecentServers, log: Log
) -> None:
    behind = Handshake((ISSUING.certificate, ROOT.certificate), unread=("odd",), leaf_unread=True)
    host = parse_host("a.example")
    visit(servers, handshake=behind, verdict=judge(behind, host, TRUST.at(host).store, NOW))
    recorder(inst, servers, log).write(servers.gathered(), Gathered())
    assert [one.anchor_sha256 for one in known(inst)] == [None]


def test_what_is_not_to_be_remembered_any_more_is_forgotten(
    inst: Installation, servers: RecentServers, log: Log
) -> None:
    for host in ("a.example", "www.bank.example"):
        visit(servers, host)
    recorder(inst, servers, log).write(servers.gathered(), Gathered())
    recorder(inst, servers, log).tidy()
    assert len(known(inst)) == 2
    log.never = Mentions(["*.bank.example"])
    recorder(inst, servers, log).tidy()
    assert [one.host for one in known(inst)] == ["a.example"]
    recorder(inst, None, log).tidy()
    assert known(inst) == []


def test_what_was_not_seen_for_a_day_is_forgotten_without_any_traffic(
    inst: Installation, servers: RecentServers, log: Log
) -> None:
    old = RecentServer("old.example", 443, NOW - recent_servers.AGE - timedelta(seconds=1), False, None, (), "allow")
    with inst.changing("default") as (connection, tenant):
        recent_servers.add(connection, tenant.id, [old, replace(old, host="a.example", last_at=NOW)])
    recorder(inst, servers, log).tidy()
    assert [one.host for one in known(inst)] == ["a.example"]


def test_a_store_that_fails_is_logged_and_what_comes_next_is_written(
    inst: Installation, servers: RecentServers, log: Log, tmp_path: Path
) -> None:
    async def until_it_is_written() -> None:
        loop, written = asyncio.get_running_loop(), asyncio.Event()

        class Broken(Recorder):
            def tidy(self) -> None:
                raise StoreError("the disk is full")

            def write(self, gathered: Mapping[Server, Judged], figures: Gathered) -> None:
                super().write(gathered, figures)
                loop.call_soon_threadsafe(written.set)

        counts = Figures(NOW.timestamp, log)
        following = loop.create_task(Broken(servers, counts, inst.store, log, lambda: NOW).follow())
        await written.wait()
        following.cancel()

    visit(servers)
    asyncio.run(until_it_is_written())
    assert len(known(inst)) == 1
    line = json.loads((tmp_path / "log").read_text())
    assert (line["event"], line["reason"]) == ("servers cannot be recorded", "the disk is full")


# --- figures, which are written with it


def blocked(inst: Installation) -> dict[str, int]:
    with inst.reading("default") as (connection, tenant):
        found = traffic_figures.top_blocked(connection, tenant.id, NOW - 2 * traffic_figures.AGE, 10)
    return {one.host: one.count for one in found}


def counted(log: Log, *hosts: str, tenant: str = "default") -> Figures:
    counts = Figures(NOW.timestamp, log)
    for host in hosts:
        counts.judged(tenant, ME, parse_host(host), "expired", Action.BLOCK)
    return counts


def test_figures_are_written_with_the_servers_or_neither_is(
    inst: Installation, servers: RecentServers, log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    visit(servers)
    counts = counted(log, "a.example", "a.example")
    counts.judged("gone", ME, parse_host("b.example"), "expired", Action.BLOCK)
    writes = Recorder(servers, counts, inst.store, log, lambda: NOW)
    with monkeypatch.context() as broken:
        broken.setattr(traffic_figures, "add_blocked", lambda *_: (_ for _ in ()).throw(StoreError("the disk is full")))
        asyncio.run(writes.write_gathered())
    assert (known(inst), blocked(inst)) == ([], {})
    asyncio.run(writes.write_gathered())  # counts come again by themselves, a server when it is visited again
    assert blocked(inst) == {"a.example": 2}
    asyncio.run(writes.write_gathered())
    assert blocked(inst) == {"a.example": 2}


def test_figures_end_in_a_week_and_hosts_that_are_not_to_be_known_at_once(inst: Installation, log: Log) -> None:
    counts = counted(log, "a.example", "www.bank.example")
    asyncio.run(Recorder(None, counts, inst.store, log, lambda: NOW).write_gathered())
    log.never = Mentions(["*.bank.example"])
    Recorder(None, counts, inst.store, log, lambda: NOW + timedelta(days=6)).tidy()
    assert blocked(inst) == {"a.example": 1}
    Recorder(None, counts, inst.store, log, lambda: NOW + timedelta(days=8)).tidy()
    assert blocked(inst) == {}
    asyncio.run(Recorder(None, counted(log, "a.example"), inst.store, log, lambda: NOW).write_gathered())
    recorder(inst, None, log).tidy()
    assert blocked(inst) == {}
