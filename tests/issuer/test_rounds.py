"""Where a new leaf is made, on the loop or on the thread, and when the store is looked into for it."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.types import CertificateIssuerPublicKeyTypes

from certs.mint import mint
from certs.signer import Signer
from control import tenants
from control.installation import Installation
from issuer import log
from issuer.client import IssuerClient
from issuer.recorded import RecordedHosts
from store import leaves
from store.engine import Connection, Store, StoreError
from store.records import Leaf
from tests.issuer.rig import Clock, count_leaves, installation, issuer_here, locked_store, settings_for, until


class Watch:
    """Which hosts were looked up in the store, and on which thread each leaf was signed."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.looked_up: list[str] = []
        self.signed: list[str] = []
        newest = leaves.newest

        def looked(c: Connection, tenant_id: int, signing_ca_id: int, leaf_key_id: int, host: str) -> Leaf | None:
            self.looked_up.append(host)
            return newest(c, tenant_id, signing_ca_id, leaf_key_id, host)

        def signed(*arguments: object) -> x509.Certificate:
            self.signed.append(threading.current_thread().name)
            return mint(*arguments)  # type: ignore[arg-type]  # they are passed on

        patch.setattr(leaves, "newest", looked)
        patch.setattr(log, "mint", signed)


@pytest.fixture
def watch(monkeypatch: pytest.MonkeyPatch) -> Watch:
    return Watch(monkeypatch)


async def ask(client: IssuerClient, *hosts: str) -> list[bytes]:
    found = await asyncio.gather(*(client.leaf("default", host, "ecdsa", None) for host in hosts))
    return [leaf.certificate for leaf in found]


def test_a_host_that_is_new_is_not_looked_up_and_signed_on_the_loop(
    inst: Installation, clock: Clock, watch: Watch
) -> None:
    async def run() -> None:
        async with issuer_here(inst, clock) as (_, client):
            await ask(client, "a.example", "b.example")
            await ask(client, "c.example")

    asyncio.run(run())
    assert watch.looked_up == []
    assert watch.signed == ["MainThread"] * 3


@pytest.mark.parametrize("most", [50_000, 2])
def test_after_a_restart_what_is_in_the_store_is_found_however_much_it_is(
    inst: Installation, clock: Clock, watch: Watch, monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    hosts = [f"h{number}.example" for number in range(5)]

    async def run(*hosts: str) -> list[bytes]:
        async with issuer_here(inst, clock) as (_, client):
            return await ask(client, *hosts)

    first = asyncio.run(run(*hosts))
    monkeypatch.setattr("issuer.keyring.MOST_HOSTS", most)
    monkeypatch.setattr("issuer.recorded.MOST_HOSTS", most)
    watch.signed.clear()
    clock.later(timedelta(hours=1))
    assert asyncio.run(run(*hosts)) == first
    assert (watch.signed, sorted(watch.looked_up)) == ([], hosts)
    watch.looked_up.clear()
    asyncio.run(run("new.example"))
    assert len(watch.signed) == 1
    assert watch.looked_up == ([] if most > 5 else ["new.example"])


def test_what_memory_has_no_room_for_is_found_in_the_store(inst: Installation, clock: Clock, watch: Watch) -> None:
    settings = inst.settings.model_copy(update={"limits": inst.settings.limits.model_copy(update={"cached_hosts": 16})})
    hosts = [f"h{number}.example" for number in range(40)]

    async def run(inst: Installation) -> None:
        async with issuer_here(inst, clock) as (_, client):
            assert await ask(client, *hosts) == await ask(client, *hosts)

    with installation(settings, clock) as small:
        asyncio.run(run(small))
    assert len(watch.signed) == 40
    assert count_leaves(settings) == 40


def test_a_store_that_can_only_be_read_still_gives_what_is_in_it(
    inst: Installation, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def run() -> list[bytes]:
        async with issuer_here(inst, clock) as (_, client):
            return await ask(client, "known.example")

    first = asyncio.run(run())

    @contextmanager
    def refused(store: Store) -> Iterator[Connection]:
        raise StoreError("it cannot be written")
        yield

    monkeypatch.setattr(Store, "transaction_now", refused)
    assert asyncio.run(run()) == first


def test_while_the_store_is_locked_hosts_in_memory_are_answered_and_the_others_wait_signed_once(
    inst: Installation, clock: Clock, watch: Watch
) -> None:
    async def run() -> None:
        async with issuer_here(inst, clock) as (_, client):
            known = await ask(client, "known.example")
            await ask(client, *(f"old{number}.example" for number in range(3)))
            watch.signed.clear()
            with locked_store(inst.settings):
                waiting = []
                for number in range(6):
                    waiting.append(asyncio.ensure_future(ask(client, f"new{number}.example", "shared.example")))
                    began = time.monotonic()
                    assert await ask(client, "known.example") == known
                    assert time.monotonic() - began < 0.5
                await asyncio.sleep(0.1)
                assert count_leaves(inst.settings) == 4
                assert not any(task.done() for task in waiting)
            answers = await asyncio.gather(*waiting)
            assert len({shared for _, shared in answers}) == 1
            assert count_leaves(inst.settings) == 11
            # The first were signed on the loop, and only their record waited; what came then went to the thread.
            assert watch.signed == ["MainThread"] * 2 + ["issuing"] * 5
            await ask(client, "later.example")
            assert watch.signed[-1] == "MainThread"

    asyncio.run(run())


def test_what_was_signed_while_the_store_was_locked_is_in_it_for_the_next_issuer(
    inst: Installation, clock: Clock, watch: Watch
) -> None:
    async def first() -> list[bytes]:
        async with issuer_here(inst, clock) as (_, client):
            await ask(client, "known.example")
            with locked_store(inst.settings):
                waiting = asyncio.ensure_future(ask(client, "new.example"))
                await asyncio.sleep(0.1)
            return await waiting

    async def second() -> list[bytes]:
        async with issuer_here(inst, clock) as (_, client):
            return await ask(client, "new.example")

    made = asyncio.run(first())
    assert asyncio.run(second()) == made
    assert len(watch.signed) == 2


class Elsewhere:
    """A signer that takes its time, as one behind a network does. It must not be asked on the loop."""

    def __init__(self, signer: Signer) -> None:
        self._signer = signer
        self.asked = threading.Event()
        self.answer = threading.Event()

    def public_key(self) -> CertificateIssuerPublicKeyTypes:
        return self._signer.public_key()

    def sign_certificate(self, builder: x509.CertificateBuilder) -> x509.Certificate:
        assert threading.current_thread() is not threading.main_thread()
        self.asked.set()
        assert self.answer.wait(5)
        return self._signer.sign_certificate(builder)


def test_a_signer_elsewhere_keeps_neither_the_loop_nor_other_writers_waiting(inst: Installation, clock: Clock) -> None:
    async def run() -> None:
        async with issuer_here(inst, clock) as (service, client):
            known = await ask(client, "known.example")
            working = service.issuance.keyring.held("default")
            assert working is not None
            signer = working.signer = Elsewhere(working.signer)
            waiting = asyncio.ensure_future(ask(client, "new.example"))
            await until("the signer", signer.asked.is_set)
            assert await ask(client, "known.example") == known
            with inst.store.transaction_now() as connection:
                tenants_there = connection.exec_driver_sql("SELECT count(*) FROM tenants").scalar()
            assert tenants_there == 1
            assert not waiting.done()
            signer.answer.set()
            assert len(await waiting) == 1
        assert count_leaves(inst.settings) == 2

    asyncio.run(run())


def test_rsa_signatures_are_not_made_on_the_loop(inst: Installation, clock: Clock, watch: Watch) -> None:
    tenants.create(inst, "old-clients", clock(), algorithm="rsa")

    async def run() -> None:
        async with issuer_here(inst, clock) as (_, client):
            await client.leaf("old-clients", "www.example", "ecdsa", None)

    asyncio.run(run())
    assert watch.signed == ["issuing"]


def test_the_stores_log_is_moved_into_the_database_now_and_then(
    inst: Installation, clock: Clock, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("issuer.issuing.LEAVES_PER_CHECKPOINT", 10)
    on: list[str] = []
    move_log = Store.move_log

    def noted(store: Store) -> None:
        on.append(threading.current_thread().name)
        move_log(store)
        if len(on) == 2:
            raise StoreError("the disk failed")

    monkeypatch.setattr(Store, "move_log", noted)

    async def run() -> None:
        async with issuer_here(inst, clock) as (_, client):
            await ask(client, *(f"h{number}.example" for number in range(9)))
            assert on == []
            await ask(client, *(f"i{number}.example" for number in range(25)))
            await until("three times", lambda: len(on) == 3)

    asyncio.run(run())
    assert on == ["tidying"] * 3
    assert capsys.readouterr().err.count("store_log_not_moved") == 1


def test_hosts_are_remembered_as_long_as_they_are_not_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("issuer.recorded.MOST_HOSTS", 3)
    hosts = RecordedHosts(["a.example", "b.example"])
    hosts.add("b.example")
    hosts.add("c.example")
    assert [hosts.may_have(f"{letter}.example") for letter in "abcd"] == [True, True, True, False]
    hosts.add("d.example")
    assert hosts.may_have("e.example"), "they are not remembered any more"
    hosts.add("e.example")
    assert RecordedHosts(None).may_have("a.example")
    assert not RecordedHosts(()).may_have("a.example")


def test_the_memory_of_hosts_is_of_one_tenants_key(inst: Installation, clock: Clock, watch: Watch) -> None:
    tenants.create(inst, "other", clock())

    async def run() -> None:
        async with issuer_here(inst, clock) as (_, client):
            one, other = [await client.leaf(tenant, "www.example", "ecdsa", None) for tenant in ("default", "other")]
            assert one.signing_ca != other.signing_ca
            assert one.leaf_key != other.leaf_key

    asyncio.run(run())
    assert watch.looked_up == []
    assert count_leaves(settings_for(inst.state_dir.parent)) == 2
