"""Leaves that are signed elsewhere: one signature each, whoever asks and how often, and what is shown without one.

The signer is a stand-in whose key is here: it answers when the test says so.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256

from certs.signer import Health, HostHealth, RemoteSigner, SigningError
from config.settings import Settings
from control.installation import Installation
from issuer.client import IssuerClient, IssuerUnavailable
from issuer.issuing import Issuance
from issuer.key_managers import KeyManagers
from store import changes, kmip
from store import signing_cas as stored
from store.records import ChangeKind, KmipKey
from tests.harness.pki import NOW, Authority, kept_key
from tests.issuer.rig import DAY, Clock, count_leaves, installation, issuer_here, settings_for

ABOVE = Authority.root("Organisation Root")
ISSUING = ABOVE.intermediate("Organisation Proxy", key=kept_key("rsa2048", 7))


DOWN = "no key manager can be asked"


class Elsewhere(RemoteSigner):
    """A signer for which nothing but the waiting is made up."""

    pss = False
    down: str | None = None
    crowded: str | None = None

    def __init__(self) -> None:
        self.signed = 0
        self.room = True
        self.wrong = False
        self.may_go_on = asyncio.Event()
        self.may_go_on.set()
        self.running = 0
        self.stopped = asyncio.Event()
        self.issuance: Issuance | None = None
        """What asks it."""

    def public_key(self) -> rsa.RSAPublicKey:
        key = ISSUING.key.public_key()
        assert isinstance(key, rsa.RSAPublicKey)
        return key

    async def signature(self, data: bytes) -> bytes:
        self.signed += 1
        await self.may_go_on.wait()
        if self.down or self.crowded:
            raise SigningError(self.down or self.crowded or "", crowded=not self.down)
        key = kept_key("rsa2048", 8) if self.wrong else ISSUING.key
        assert isinstance(key, rsa.RSAPrivateKey)
        return key.sign(data, padding.PKCS1v15(), SHA256())

    def health(self) -> Health:
        return Health((HostHealth("kms.example:5696", connections=2, signed_ago=3.0, seconds=0.04),), 1)

    def has_room(self) -> bool:
        return self.room

    def start(self) -> None:
        self.running += 1

    def stop(self) -> None:
        self.running -= 1
        self.stopped.set()


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return settings_for(tmp_path)


@asynccontextmanager
async def issuing(
    settings: Settings, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[tuple[Elsewhere, IssuerClient, Installation]]:
    """An issuer whose tenant's active CA is one on premises."""
    signer = Elsewhere()
    monkeypatch.setattr(KeyManagers, "signer", lambda *_: signer)
    with installation(settings, clock) as inst:
        with inst.store.transaction() as connection:
            chain = [ISSUING.raw, ABOVE.raw]
            ca = stored.add(connection, 1, "hsm", "on_premises", chain, None, None, NOW, "test")
            kmip.set_key(connection, ca.id, KmipKey("signing", "kms.example", 5696))
            stored.activate(connection, 1, ca.id, NOW, "test")
        async with issuer_here(inst, clock) as (service, client):
            signer.issuance = service.issuance
            yield signer, client, inst
        assert signer.running == 0


def run(work: Any) -> None:
    async def within() -> None:
        async with asyncio.timeout(60):
            await work

    asyncio.run(within())


def test_a_leaf_is_signed_once_however_many_ask(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()

    async def work() -> None:
        async with issuing(settings, clock, monkeypatch) as (signer, client, _):
            signer.may_go_on.clear()
            asked = [
                asyncio.ensure_future(client.leaf("default", f"host{number % 10}.example", "rsa", None))
                for number in range(100)
            ]
            await asyncio.sleep(0.2)
            signer.may_go_on.set()
            issued = await asyncio.gather(*asked)
            assert signer.signed == count_leaves(settings) == 10
            for one in issued:
                leaf = x509.load_der_x509_certificate(one.certificate)
                leaf.verify_directly_issued_by(ISSUING.certificate)
                assert one.chain == (ISSUING.raw,)
        # Another process finds them in the store.
        async with issuer_again(settings, clock) as (again, client):
            for number in range(10):
                await client.leaf("default", f"host{number}.example", "rsa", None)
            assert again.signed == 0

    @asynccontextmanager
    async def issuer_again(settings: Settings, clock: Clock) -> AsyncIterator[tuple[Elsewhere, IssuerClient]]:
        signer = Elsewhere()
        monkeypatch.setattr(KeyManagers, "signer", lambda *_: signer)
        with installation(settings, clock) as inst:
            async with issuer_here(inst, clock) as (_, client):
                yield signer, client

    run(work())


def test_a_signer_that_hangs_holds_up_nobody_who_has_a_leaf(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()

    async def work() -> None:
        async with issuing(settings, clock, monkeypatch) as (signer, client, _):
            await client.leaf("default", "known.example", "rsa", None)
            signer.may_go_on.clear()
            waiting = asyncio.ensure_future(client.leaf("default", "new.example", "rsa", None))
            await asyncio.sleep(0.1)
            async with asyncio.timeout(5):
                await client.leaf("default", "known.example", "rsa", None)
            assert not waiting.done()
            signer.may_go_on.set()
            await waiting

    run(work())


def test_what_does_not_verify_is_neither_recorded_nor_shown(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()

    async def work() -> None:
        async with issuing(settings, clock, monkeypatch) as (signer, client, _):
            signer.wrong = True
            with pytest.raises(IssuerUnavailable) as caught:
                await client.leaf("default", "www.example", "rsa", None)
            assert caught.value.code == "signing_failed"
            assert "does not verify" in str(caught.value)
            assert count_leaves(settings) == 0

    run(work())


def test_a_key_manager_that_is_asked_too_much_is_told_from_one_that_is_down(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()

    async def work() -> None:
        async with issuing(settings, clock, monkeypatch) as (signer, client, _):
            await client.check("default")
            signer.crowded = "more than kmip.signatures_per_second (100) are wanted"
            for asked in (client.leaf("default", "www.example", "rsa", None), client.check("default")):
                with pytest.raises(IssuerUnavailable, match="signatures_per_second") as caught:
                    await asked
                assert caught.value.code == "key_manager_busy"
            signer.down = DOWN
            with pytest.raises(IssuerUnavailable) as caught:
                await client.check("default")
            assert caught.value.code == "key_manager_down"

    run(work())


def test_a_leaf_that_is_due_serves_on_while_nobody_signs(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()

    async def work() -> None:
        async with issuing(settings, clock, monkeypatch) as (signer, client, _):
            far = clock.after(90 * DAY)
            first = await client.leaf("default", "www.example", "rsa", far)
            clock.later(5 * DAY)  # past two thirds of its seven days
            signer.down = DOWN
            served = await client.leaf("default", "www.example", "rsa", far)
            assert served.certificate == first.certificate
            key = await client.leaf_key("default", served.leaf_key)
            assert key.public_key() == x509.load_der_x509_certificate(served.certificate).public_key()
            assert served.reuse_until <= clock.after(timedelta(minutes=11))
            signer.down = None
            renewed = await client.leaf("default", "www.example", "rsa", far)
            assert renewed.certificate == first.certificate, "nobody waits for a new one while the old one is valid"
            async with asyncio.timeout(10):
                while renewed.certificate == first.certificate:
                    await asyncio.sleep(0.02)
                    renewed = await client.leaf("default", "www.example", "rsa", far)
            assert signer.signed == 2
            clock.later(8 * DAY)
            signer.down = DOWN
            with pytest.raises(IssuerUnavailable, match="no key manager can be asked"):
                await client.leaf("default", "www.example", "rsa", far)

    run(work())


def test_a_signer_that_never_answers_keeps_nobody_from_a_leaf_that_is_valid(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()

    async def work() -> None:
        async with issuing(settings, clock, monkeypatch) as (signer, client, _):
            far = clock.after(90 * DAY)
            first = await client.leaf("default", "www.example", "rsa", far)
            clock.later(5 * DAY)
            signer.may_go_on.clear()
            for _ in range(3):
                served = await client.leaf("default", "www.example", "rsa", far)
                assert served.certificate == first.certificate
            assert signer.signed == 2, "one signature is waited for, whoever asks"
            signer.may_go_on.set()

    run(work())


def test_who_waits_while_another_ca_becomes_the_active_one_gets_a_leaf_of_that(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()

    async def work() -> None:
        async with issuing(settings, clock, monkeypatch) as (signer, client, inst):
            signer.may_go_on.clear()
            waiting = asyncio.ensure_future(client.leaf("default", "www.example", "rsa", None))
            while not signer.signed:  # noqa: ASYNC110 - it is asked in a moment
                await asyncio.sleep(0.01)
            with inst.store.transaction() as connection:
                built_in = stored.by_name(connection, 1, "built-in")
                assert built_in is not None
                stored.activate(connection, 1, built_in.id, NOW, "test")
                changes.announce(connection, 1, ChangeKind.SIGNING_CA_ACTIVATED, NOW)
            await asyncio.wait_for(signer.stopped.wait(), 10)
            signer.down = "the connections were closed"
            signer.may_go_on.set()
            issued = await waiting
            assert issued.signing_ca == built_in.id

    run(work())


def test_how_the_key_manager_is_can_be_asked_and_of_a_ca_whose_key_is_here_there_is_nothing_to_tell(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()

    async def work() -> None:
        async with issuing(settings, clock, monkeypatch) as (signer, client, inst):
            assert await client.key_manager("default") == Health(), "nobody has asked for a leaf"
            await client.check("default")
            assert await client.key_manager("default") == signer.health()
            assert await client.key_manager("stranger") == Health()
            with inst.store.transaction() as connection:
                built_in = stored.by_name(connection, 1, "built-in")
                assert built_in is not None
                stored.activate(connection, 1, built_in.id, NOW, "test")
                changes.announce(connection, 1, ChangeKind.SIGNING_CA_ACTIVATED, NOW)
            await asyncio.wait_for(signer.stopped.wait(), 10)
            await client.check("default")
            assert await client.key_manager("default") == Health()

    run(work())


def test_another_client_certificate_makes_new_connections_and_keeps_the_leaves(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()

    async def work() -> None:
        async with issuing(settings, clock, monkeypatch) as (signer, client, inst):
            await client.leaf("default", "www.example", "rsa", None)
            assert signer.running == 1
            with inst.store.transaction() as connection:
                changes.announce(connection, 1, ChangeKind.KMIP_FORWARDING_CHANGED, NOW)
            await asyncio.wait_for(signer.stopped.wait(), 10)
            await client.leaf("default", "www.example", "rsa", None)
            assert (signer.running, signer.signed) == (1, 1)

    run(work())
