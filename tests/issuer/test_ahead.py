"""Leaves that are made anew before anybody waits for it: which, when, in what order, and by how many signatures."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from certs.names import parse_host
from config.settings import Settings
from issuer import ahead, reuse
from issuer.ahead import RETRY, Ahead
from issuer.client import IssuerClient
from issuer.errors import Refusal
from issuer.log import Job, KeptLeaf
from issuer.protocol import Code
from store import leaves
from tests.issuer.rig import DAY, Clock, count_leaves, settings_for, socket_path, until
from tests.issuer.test_elsewhere import Elsewhere, issuing

HOUR = timedelta(hours=1)
WEEK = 7 * DAY


def run(work: Any) -> None:
    async def within() -> None:
        async with asyncio.timeout(60):
            await work

    asyncio.run(within())


async def settled() -> None:
    """Whatever needs no waiting is done."""
    for _ in range(20):
        await asyncio.sleep(0)


class Working:
    """What is read of a working set."""

    def __init__(self, signer: Elsewhere) -> None:
        self.ca_id, self.signer, self.tenant = 1, signer, "default"


class Rig:
    """What decides, on a clock of the test's; a signature is a word in a list."""

    def __init__(self, clock: Clock, size: int = 1000) -> None:
        self.clock = clock
        self.signer = Elsewhere()
        self.working: Any = Working(self.signer)
        self.held = True
        self.renewed: list[str] = []
        self.fails: Refusal | None = None
        self.ends: dict[str, Any] = {}
        self.ahead = Ahead(size, clock, self._limit, self._renew, lambda _: self.held)

    def _limit(self, job: Job, now: Any) -> Any:
        return self.ends.get(job.host.text, now + WEEK)

    async def _renew(self, job: Job) -> KeptLeaf:
        self.renewed.append(job.host.text)
        if self.fails is not None:
            raise self.fails
        return self.leaf(f"{job.host.text} again")

    def leaf(self, name: str) -> KeptLeaf:
        return KeptLeaf(name.encode(), self.clock.now + WEEK, self.clock.now)

    def uses(self, host: str, leaf: KeptLeaf | None = None) -> KeptLeaf:
        found = leaf or self.leaf(host)
        key: Any = SimpleNamespace(kind="rsa")
        self.ahead.used(Job(self.working, key, parse_host(host), None), found, self.clock.now)
        return found

    async def looks(self) -> list[str]:
        self.ahead.look()
        await settled()
        done, self.renewed = self.renewed, []
        return done


def hosts(count: int) -> list[str]:
    return [f"host{number}.example" for number in range(count)]


def test_hosts_in_use_get_theirs_within_the_twelfth_before_it_is_due_and_not_all_at_once() -> None:
    async def work() -> None:
        rig = Rig(Clock())
        begin = rig.clock.now
        had = {host: rig.uses(host) for host in hosts(200)}
        found: list[str] = []
        each_hour: list[int] = []
        while rig.clock.now - begin < WEEK * 2 / 3:
            rig.clock.later(HOUR)
            for host in had:
                if host not in found:
                    rig.uses(host, had[host])
            before = len(found)
            found += await rig.looks()
            each_hour.append(len(found) - before)
        assert sorted(found) == sorted(had), "each once"
        first = next(number for number, count in enumerate(each_hour) if count)
        assert (first + 1) * HOUR >= WEEK * 7 / 12
        assert max(each_hour) < 40, "two hundred in fourteen hours are about fourteen in each"

    run(work())


def test_hosts_that_nobody_has_asked_for_in_a_day_get_none() -> None:
    async def work() -> None:
        rig = Rig(Clock())
        had = {host: rig.uses(host) for host in hosts(4)}
        rig.clock.later(WEEK * 7 / 12 - 2 * HOUR)
        rig.uses("host1.example", had["host1.example"])
        rig.clock.later(16 * HOUR)
        assert await rig.looks() == ["host1.example"]
        rig.clock.later(12 * HOUR)
        assert await rig.looks() == []

    run(work())


def test_what_ends_first_is_first() -> None:
    async def work() -> None:
        rig = Rig(Clock())
        rig.signer.down = "for now"
        for host in ("b.example", "a.example", "c.example"):
            rig.uses(host)
            rig.clock.later(HOUR)
        rig.clock.later(WEEK * 3 / 4)
        for host, since in (("c.example", 1), ("a.example", 2), ("b.example", 3)):
            born = rig.clock.now - WEEK * 3 / 4 - since * HOUR
            rig.uses(host, KeptLeaf(host.encode(), born + WEEK, born))
        assert await rig.looks() == [], "one that is down is not asked"
        rig.signer.down = None
        assert await rig.looks() == ["b.example", "a.example", "c.example"]

    run(work())


def test_whoever_waits_for_a_first_leaf_goes_before(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ahead, "PAUSE_SECONDS", 0.001)

    async def work() -> None:
        rig = Rig(Clock())
        leaf = rig.uses("www.example")
        rig.clock.later(WEEK * 2 / 3)
        rig.signer.room = False
        rig.uses("www.example", leaf)
        await asyncio.sleep(0.02)
        assert rig.renewed == []
        rig.signer.room = True
        await until("it is renewed", lambda: rig.renewed == ["www.example"])

    run(work())


def test_one_that_would_not_last_longer_costs_no_signature() -> None:
    async def work() -> None:
        rig = Rig(Clock())
        leaf = rig.uses("www.example")
        rig.clock.later(WEEK * 2 / 3)
        rig.ends["www.example"] = leaf.not_after + timedelta(seconds=1)
        rig.uses("www.example", leaf)
        assert await rig.looks() == []
        rig.ends["www.example"] = leaf.not_after + HOUR
        assert await rig.looks() == ["www.example"]

    run(work())


def test_one_that_failed_is_tried_again_after_a_minute_and_the_others_meanwhile() -> None:
    async def work() -> None:
        rig = Rig(Clock())
        leaf = rig.uses("www.example")
        rig.clock.later(WEEK * 2 / 3)
        rig.fails = Refusal(Code.SIGNING_FAILED, "no leaf: nobody answers")
        rig.uses("www.example", leaf)
        assert await rig.looks() == ["www.example"]
        rig.uses("www.example", leaf)
        assert await rig.looks() == []
        rig.fails = None
        rig.clock.later(RETRY)
        assert await rig.looks() == ["www.example"]
        assert await rig.looks() == [], "it has a new one"

    run(work())


def test_a_working_set_that_is_gone_is_worked_for_no_more() -> None:
    async def work() -> None:
        rig = Rig(Clock())
        rig.uses("www.example")
        rig.clock.later(WEEK * 2 / 3)
        rig.held = False
        assert await rig.looks() == []
        rig.held = True
        rig.ahead.forget(rig.working)
        assert await rig.looks() == []

    run(work())


def test_only_so_many_hosts_are_remembered_those_that_were_used_last() -> None:
    async def work() -> None:
        rig = Rig(Clock(), size=2)
        rig.signer.down = "for now"
        had = {host: rig.leaf(host) for host in ("a.example", "b.example", "c.example")}
        rig.clock.later(WEEK * 2 / 3)
        for host in ("a.example", "b.example"):
            rig.uses(host, had[host])
        rig.ahead.look()  # which is no use
        for host in ("a.example", "c.example"):
            rig.uses(host, had[host])
        rig.signer.down = None
        assert sorted(await rig.looks()) == ["a.example", "c.example"]

    run(work())


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return settings_for(tmp_path)


def test_through_the_issuer_one_signature_for_each_leaf_whoever_asks_and_the_next_leaf_is_there_before_it_is_needed(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()

    async def work() -> None:
        async with issuing(settings, clock, monkeypatch) as (signer, client, _):
            other = IssuerClient(socket_path(settings), 10)
            far = clock.after(90 * DAY)
            first = {host: await client.leaf("default", host, "rsa", far) for host in hosts(5)}
            told = next(iter(first.values())).reuse_until
            assert told <= clock.after(reuse.IN_USE / 4), "so that it is known what is in use"
            clock.later(WEEK * 2 / 3 - HOUR)
            asked = (each.leaf("default", host, "rsa", far) for host in hosts(4) for each in (client, other))
            for one in await asyncio.gather(*asked):
                assert one.certificate in {leaf.certificate for leaf in first.values()}, "nobody waits"
            clock.later(HOUR - timedelta(seconds=1))
            assert signer.issuance is not None
            signer.issuance.ahead.look()
            await until("four are made ahead", lambda: count_leaves(settings) == 9)
            assert signer.signed == 9, "and for the host that nobody asked for none"
            signer.down = "for now"
            for host in hosts(4):
                leaf = await other.leaf("default", host, "rsa", far)
                assert leaf.not_after > first[host].not_after + 4 * 86_400
            assert signer.signed == 9
            await other.close()

    run(work())


def test_another_leaf_key_is_no_reason_to_sign_all_leaves_anew_at_once(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()

    async def work() -> None:
        async with issuing(settings, clock, monkeypatch) as (signer, client, inst):
            far = clock.after(90 * DAY)
            first = await client.leaf("default", "www.example", "rsa", far)
            clock.later(timedelta(seconds=settings.signing.leaf_key_lifetime) + HOUR)
            again = await client.leaf("default", "www.example", "rsa", far)
            assert again.certificate == first.certificate
            clock.later(WEEK * 2 / 3 - timedelta(seconds=settings.signing.leaf_key_lifetime) - HOUR)
            await client.leaf("default", "www.example", "rsa", far)
            await until("it is made ahead", lambda: count_leaves(settings) == 2)
            assert signer.signed == 2
            with inst.store.reading() as connection:
                newest = leaves.newest_key(connection, 1, again.signing_ca, "rsa")
            renewed = await client.leaf("default", "www.example", "rsa", far)
            assert newest is not None
            assert renewed.leaf_key == newest.id != first.leaf_key

    run(work())
