"""What a worker gets, and when something is signed for it: on a real store, with the clock of the test."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from certs.authority import issued_by
from certs.names import host_in_certificate, parse_host
from control import error_settings, signing_cas, tenants
from control.installation import Installation
from control.signing_cas import Upload
from issuer.client import IssuedLeaf, IssuerClient, IssuerUnavailable
from store import changes, leaves
from store import signing_cas as stored
from store.engine import DATABASE_FILE, Connection
from store.records import NewLeaf
from tests.harness.pki import HOUR, NOW, Authority
from tests.issuer.rig import (
    DAY,
    Clock,
    activate_new_ca,
    active_chain,
    count_leaf_keys,
    count_leaves,
    installation,
    issuer_here,
    locked_store,
    parsed,
    settings_for,
    switch_ca,
    until,
)

WEEK = 7 * DAY
FORGED = "0123456789abcdef" * 4
"""The SHA-256 of a server's certificate."""
SECOND = timedelta(seconds=1)


def spki(key: object) -> bytes:
    assert isinstance(key, ec.EllipticCurvePublicKey | rsa.RSAPublicKey)
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


async def code_of(client: IssuerClient, tenant: str = "default", host: str = "www.example") -> str:
    with pytest.raises(IssuerUnavailable) as caught:
        await client.leaf(tenant, host, "ecdsa", None)
    assert "\n" not in str(caught.value)
    return caught.value.code


def test_a_leaf_is_for_the_host_from_the_active_ca_and_with_the_key_that_is_handed_out(
    inst: Installation, clock: Clock
) -> None:
    async def run() -> None:
        async with issuer_here(inst, clock) as (_, client):
            issued = await client.leaf("default", "www.example", "ecdsa", clock.after(90 * DAY))
            key = await client.leaf_key("default", issued.leaf_key)
            leaf, (issuing, root) = parsed(issued), active_chain(inst, "default")
            assert host_in_certificate(parse_host("www.example"), leaf)
            assert not host_in_certificate(parse_host("example"), leaf)
            assert issued_by(leaf, issuing)
            assert isinstance(key, ec.EllipticCurvePrivateKey)
            assert spki(key.public_key()) == spki(leaf.public_key())
            assert spki(key.public_key()) not in (spki(issuing.public_key()), spki(root.public_key()))
            assert issued.chain == (issuing.public_bytes(Encoding.DER),), "the self-signed root is not sent"
            assert issued.not_after == leaf.not_valid_after_utc.timestamp()
            assert timedelta(0) <= clock() + WEEK - leaf.not_valid_after_utc < SECOND
            assert issued.reuse_until == pytest.approx(clock.after(WEEK * 2 / 3), abs=2)
            with inst.store.reading() as connection:
                (row,) = leaves.listing(connection, 1, 10)
            assert (row.host, row.serial) == ("www.example", f"{leaf.serial_number:x}")
            assert (row.certificate, row.issued_at) == (issued.certificate, clock())
            assert (row.signing_ca_id, row.leaf_key_id) == (issued.signing_ca, issued.leaf_key)

    asyncio.run(run())


def test_hosts_share_the_leaf_key_and_a_second_request_signs_nothing(inst: Installation, clock: Clock) -> None:
    async def run() -> None:
        async with issuer_here(inst, clock) as (_, client):
            first = await client.leaf("default", "www.example", "ecdsa", None)
            assert await client.leaf("default", "www.example", "ecdsa", None) == first
            other = await client.leaf("default", "other.example", "ecdsa", None)
            assert other.leaf_key == first.leaf_key
            assert other.certificate != first.certificate
        assert count_leaves(inst.settings) == 2

    asyncio.run(run())


def test_after_a_restart_nothing_is_signed_again(inst: Installation, clock: Clock) -> None:
    async def ask() -> tuple[IssuedLeaf, bytes]:
        async with issuer_here(inst, clock) as (_, client):
            leaf = await client.leaf("default", "www.example", "ecdsa", clock.after(30 * DAY))
            return leaf, spki((await client.leaf_key("default", leaf.leaf_key)).public_key())

    first = asyncio.run(ask())
    clock.later(DAY)
    second = asyncio.run(ask())
    assert second == first
    assert (count_leaves(inst.settings), count_leaf_keys(inst.settings)) == (1, 1)


def test_fifty_who_ask_for_one_host_share_one_signature(inst: Installation, clock: Clock) -> None:
    async def run() -> None:
        async with issuer_here(inst, clock) as (_, client):
            asked = (client.leaf("default", "www.example", "ecdsa", clock.after(90 * DAY)) for _ in range(50))
            assert len(set(await asyncio.gather(*asked))) == 1
        assert (count_leaves(inst.settings), count_leaf_keys(inst.settings)) == (1, 1)

    asyncio.run(run())


def test_many_hosts_share_commits(inst: Installation, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    async def run() -> None:
        async with issuer_here(inst, clock) as (_, client):
            await client.leaf("default", "first.example", "ecdsa", None)
            batches: list[int] = []
            record = leaves.record

            def counted(connection: Connection, rows: Sequence[NewLeaf]) -> None:
                batches.append(len(rows))
                record(connection, rows)

            monkeypatch.setattr(leaves, "record", counted)
            asked = (client.leaf("default", f"host-{number}.example", "ecdsa", None) for number in range(200))
            assert len({leaf.certificate for leaf in await asyncio.gather(*asked)}) == 200
            assert sum(batches) == 200
            assert len(batches) <= 20
        assert count_leaves(inst.settings) == 201

    asyncio.run(run())


def test_those_who_wait_for_one_host_never_get_a_leaf_beyond_their_own_servers_certificate(
    inst: Installation, clock: Clock
) -> None:
    async def run() -> None:
        async with issuer_here(inst, clock) as (_, client):
            ends = [clock.after(days * DAY) for days in (90, 5, 3, 60, 2, 30)]
            asked = await asyncio.gather(*(client.leaf("default", "www.example", "ecdsa", end) for end in ends))
            assert all(leaf.not_after <= end for leaf, end in zip(asked, ends, strict=True))
            assert count_leaves(inst.settings) <= 4

    asyncio.run(run())


def test_a_server_that_is_reachable_at_times_costs_no_signature_each_time(inst: Installation, clock: Clock) -> None:
    async def run() -> None:
        async with issuer_here(inst, clock) as (_, client):
            seen: set[bytes] = set()
            for _ in range(5):
                good = await client.leaf("default", "www.example", "ecdsa", clock.after(90 * DAY))
                down = await client.leaf("default", "www.example", "ecdsa", None)
                expired = await client.leaf("default", "www.example", "ecdsa", clock.after(-DAY))
                assert good.not_after > clock.after(6 * DAY), "the short one has not driven out the long one"
                assert down.not_after <= clock.after(DAY)
                assert expired == down
                seen |= {good.certificate, down.certificate}
                clock.later(timedelta(hours=2))
            assert len(seen) == 2
            clock.later(timedelta(hours=8))
            assert (await client.leaf("default", "www.example", "ecdsa", None)).certificate not in seen
            assert count_leaves(inst.settings) == 3

    asyncio.run(run())


def test_a_server_whose_certificate_is_about_to_end_costs_no_signature_each_time(
    inst: Installation, clock: Clock
) -> None:
    async def run() -> None:
        async with issuer_here(inst, clock) as (_, client):
            end = clock.after(timedelta(hours=3))
            for _ in range(11):
                leaf = await client.leaf("default", "www.example", "ecdsa", end)
                assert leaf.not_after == int(end)
                assert leaf.not_after >= leaf.reuse_until > clock().timestamp()
                clock.later(timedelta(minutes=16, seconds=20))
            assert count_leaves(inst.settings) == 1

    asyncio.run(run())


@pytest.mark.parametrize("left", [-1.0, 0.0, 0.4, 1.0, 1.7])
def test_a_certificate_that_ends_in_this_very_second_keeps_nobody_waiting(
    inst: Installation, clock: Clock, left: float
) -> None:
    async def run() -> None:
        async with issuer_here(inst, clock) as (_, client):
            leaf = await client.leaf("default", "www.example", "ecdsa", clock().timestamp() + left)
            assert leaf.not_after > clock().timestamp()
            assert count_leaves(inst.settings) == 1

    asyncio.run(run())


def test_an_rsa_leaf_is_given_only_where_the_ca_is_rsa(inst: Installation, clock: Clock) -> None:
    async def run() -> None:
        async with issuer_here(inst, clock) as (_, client):
            leaf = await client.leaf("default", "www.example", "rsa", None)
            assert isinstance(parsed(leaf).public_key(), ec.EllipticCurvePublicKey)
            tenants.create(inst, "old-clients", clock(), algorithm="rsa")
            by_kind = {kind: await client.leaf("old-clients", "www.example", kind, None) for kind in ("rsa", "ecdsa")}
            rsa_key, ec_key = (parsed(by_kind[kind]).public_key() for kind in ("rsa", "ecdsa"))
            assert isinstance(rsa_key, rsa.RSAPublicKey)
            assert rsa_key.key_size == 2048
            assert isinstance(ec_key, ec.EllipticCurvePublicKey)
            for kind, public_key in (("rsa", rsa_key), ("ecdsa", ec_key)):
                private_key = await client.leaf_key("old-clients", by_kind[kind].leaf_key)
                assert spki(private_key.public_key()) == spki(public_key)
            assert issued_by(parsed(by_kind["ecdsa"]), active_chain(inst, "old-clients")[0])

    asyncio.run(run())


def test_the_leaf_key_is_changed_after_its_lifetime_and_the_old_one_is_still_to_be_had(
    inst: Installation, clock: Clock
) -> None:
    async def run() -> None:
        async with issuer_here(inst, clock) as (_, client):
            first = await client.leaf("default", "www.example", "ecdsa", None)
            clock.later(3 * DAY - SECOND)
            assert (await client.leaf("default", "www.example", "ecdsa", None)).leaf_key == first.leaf_key
            clock.later(SECOND)
            second = await client.leaf("default", "www.example", "ecdsa", None)
            assert second.leaf_key != first.leaf_key
            assert spki(parsed(second).public_key()) != spki(parsed(first).public_key())
            old = await client.leaf_key("default", first.leaf_key)
            assert spki(old.public_key()) == spki(parsed(first).public_key())
            assert (await client.leaf("default", "www.example", "ecdsa", None)) == second
        assert count_leaf_keys(inst.settings) == 2

    asyncio.run(run())


def test_no_private_key_is_on_disk_in_the_clear(inst: Installation, clock: Clock) -> None:
    async def run() -> bytes:
        async with issuer_here(inst, clock) as (_, client):
            leaf = await client.leaf("default", "www.example", "ecdsa", None)
            key = await client.leaf_key("default", leaf.leaf_key)
            assert isinstance(key, ec.EllipticCurvePrivateKey)
            return key.private_numbers().private_value.to_bytes(32, "big")

    secret = asyncio.run(run())
    files = [path for path in inst.state_dir.rglob("*") if path.is_file()]
    assert any(path.name == DATABASE_FILE for path in files)
    assert not [path for path in files if secret in path.read_bytes() or secret[::-1] in path.read_bytes()]


def test_a_ca_that_was_replaced_and_is_back_between_two_looks_has_other_leaf_keys(
    inst: Installation, clock: Clock
) -> None:
    async def run() -> None:
        async with issuer_here(inst, clock) as (service, client):
            before = await client.leaf("default", "www.example", "ecdsa", None)
            held = service.issuance.keyring.held("default")
            with inst.changing("default") as (connection, tenant):
                # In one transaction, so that no look falls between.
                switch_ca(inst, connection, "default", clock())
                stored.activate(connection, tenant.id, before.signing_ca, clock(), "ann")
                changes.announce(connection, tenant.id, "signing_ca_activated", clock())
            await until("the purge", lambda: service.issuance.keyring.held("default") is not held, seconds=1)
            after = await client.leaf("default", "www.example", "ecdsa", None)
            assert (after.signing_ca, after.leaf_key != before.leaf_key) == (before.signing_ca, True)

    asyncio.run(run())


def test_another_active_ca_is_used_within_a_second_and_all_of_the_old_one_is_forgotten(
    inst: Installation, clock: Clock
) -> None:
    async def run() -> None:
        async with issuer_here(inst, clock) as (service, client):
            before = await client.leaf("default", "www.example", "ecdsa", None)
            held = service.issuance.keyring.held("default")
            new = activate_new_ca(inst, "default", clock())
            await until("the purge", lambda: service.issuance.keyring.held("default") is not held, seconds=1)
            with inst.store.reading() as connection:
                assert service.issuance.keyring.seen == changes.latest(connection), "it is not read again and again"
            after = await client.leaf("default", "www.example", "ecdsa", None)
            assert (before.signing_ca == new, after.signing_ca) == (False, new)
            assert after.leaf_key != before.leaf_key
            assert after.generation > before.generation
            assert issued_by(parsed(after), active_chain(inst, "default")[0])
            with pytest.raises(IssuerUnavailable) as caught:
                await client.leaf_key("default", before.leaf_key)
            assert caught.value.code == "unknown_leaf_key"

    asyncio.run(run())


def test_a_new_host_gets_no_leaf_of_a_ca_that_was_replaced_a_moment_ago(inst: Installation, clock: Clock) -> None:
    """Not even in the quarter of a second before the change feed is read."""

    async def run() -> None:
        async with issuer_here(inst, clock) as (_, client):
            await client.leaf("default", "www.example", "ecdsa", None)
            new = activate_new_ca(inst, "default", clock())
            leaf = await client.leaf("default", "new.example", "ecdsa", None)
            assert leaf.signing_ca == new
            with inst.store.reading() as connection:
                rows = leaves.listing(connection, 1, 10)
            assert [(row.host, row.signing_ca_id) for row in rows] == [("new.example", new), ("www.example", 1)]

    asyncio.run(run())


def test_a_request_that_was_under_way_when_the_ca_was_replaced_is_done_with_the_new_one(
    inst: Installation, clock: Clock
) -> None:
    async def run() -> None:
        async with issuer_here(inst, clock) as (_, client):
            old = await client.leaf("default", "www.example", "ecdsa", None)
            with inst.store.transaction() as connection:
                waiting = asyncio.ensure_future(client.leaf("default", "new.example", "ecdsa", None))
                await asyncio.sleep(0.3)  # it is signed, and waits to be recorded
                new = switch_ca(inst, connection, "default", clock())
            assert (await waiting).signing_ca == new
            with inst.store.reading() as connection:
                rows = leaves.listing(connection, 1, 10)
            assert [(row.host, row.signing_ca_id) for row in rows] == [
                ("new.example", new),
                ("www.example", old.signing_ca),
            ]


def test_a_leaf_that_was_recorded_just_before_the_purge_is_not_handed_out_after_it(
    inst: Installation, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def run() -> None:
        async with issuer_here(inst, clock) as (service, client):
            await client.leaf("default", "www.example", "ecdsa", None)
            loop = asyncio.get_running_loop()
            record = leaves.record
            made: list[int] = []

            def then_switched(connection: Connection, rows: Sequence[NewLeaf]) -> None:
                record(connection, rows)
                if not made:
                    made.append(switch_ca(inst, connection, "default", clock()))
                    loop.call_soon_threadsafe(service.issuance.forget, 1)  # as the feed does, a moment later

            monkeypatch.setattr(leaves, "record", then_switched)
            leaf = await client.leaf("default", "new.example", "ecdsa", None)
            assert [leaf.signing_ca] == made
            assert count_leaves(inst.settings) == 3

    asyncio.run(run())


def test_a_change_of_something_else_keeps_keys_and_leaves_and_tells_the_generation(
    inst: Installation, clock: Clock
) -> None:
    async def run() -> None:
        async with issuer_here(inst, clock) as (service, client):
            before = await client.leaf("default", "www.example", "ecdsa", None)
            working = service.issuance.keyring.held("default")
            assert working is not None
            with inst.store.transaction() as connection:
                generation = changes.announce(connection, working.tenant_id, "error_settings_changed", clock())
            await until("the new generation", lambda: working.generation == generation, seconds=1)
            after = await client.leaf("default", "www.example", "ecdsa", None)
            assert (after.certificate, after.generation) == (before.certificate, generation)
            assert service.issuance.keyring.held("default") is working

    asyncio.run(run())


def test_a_deleted_tenant_gets_nothing_and_its_keys_are_forgotten(inst: Installation, clock: Clock) -> None:
    async def run() -> None:
        async with issuer_here(inst, clock) as (service, client):
            tenants.create(inst, "short-lived", clock())
            leaf = await client.leaf("short-lived", "www.example", "ecdsa", None)
            other = await client.leaf("default", "www.example", "ecdsa", None)
            tenants.delete(inst, "short-lived", clock())
            assert await code_of(client, "short-lived", "new.example") == "unknown_tenant"
            await until("the purge", lambda: service.issuance.keyring.held("short-lived") is None, seconds=1)
            assert await code_of(client, "short-lived") == "unknown_tenant"
            with pytest.raises(IssuerUnavailable):
                await client.leaf_key("short-lived", leaf.leaf_key)
            assert await client.leaf("default", "www.example", "ecdsa", None) == other

    asyncio.run(run())


def test_a_tenant_gets_no_leaf_key_of_another(inst: Installation, clock: Clock) -> None:
    async def run() -> None:
        async with issuer_here(inst, clock) as (_, client):
            tenants.create(inst, "other", clock())
            leaf = await client.leaf("default", "www.example", "ecdsa", None)
            with pytest.raises(IssuerUnavailable) as caught:
                await client.leaf_key("other", leaf.leaf_key)
            assert caught.value.code == "unknown_leaf_key"

    asyncio.run(run())


def test_what_a_client_is_to_be_warned_by_is_of_the_untrusted_ca_and_of_no_other(
    inst: Installation, clock: Clock
) -> None:
    async def run() -> None:
        async with issuer_here(inst, clock) as (service, client):
            with pytest.raises(IssuerUnavailable, match="has no CA to warn clients by") as caught:
                await client.leaf("default", "www.example", "ecdsa", None, warned_of=FORGED)
            assert caught.value.code == "key_unavailable"
            trusted = await client.leaf("default", "www.example", "ecdsa", None)
            error_settings.set_action(inst, "default", "expired", "warn", clock())
            leaf = await client.leaf("default", "www.example", "ecdsa", None, warned_of=FORGED)
            with inst.reading("default") as (connection, tenant):
                ca = stored.untrusted(connection, tenant.id)
            assert ca is not None
            assert (leaf.signing_ca, leaf.chain) == (ca.id, ())
            assert leaf.leaf_key != trusted.leaf_key
            root = x509.load_der_x509_certificate(ca.certificate)
            parsed(leaf).verify_directly_issued_by(root)
            await client.leaf_key("default", leaf.leaf_key, untrusted=True)
            for mixed in ((leaf.leaf_key, False), (trusted.leaf_key, True)):
                with pytest.raises(IssuerUnavailable) as caught:
                    await client.leaf_key("default", mixed[0], untrusted=mixed[1])
                assert caught.value.code == "unknown_leaf_key"
            # Another active CA leaves it what it was.
            held = service.issuance.keyring.held("default")
            activate_new_ca(inst, "default", clock())
            await until("the purge", lambda: service.issuance.keyring.held("default") is not held, seconds=1)
            again = await client.leaf("default", "www.example", "ecdsa", None, warned_of=FORGED)
            assert (again.signing_ca, again.leaf_key) == (leaf.signing_ca, leaf.leaf_key)
            # Who lets itself be warned of one certificate of the server does so of no other.
            other = await client.leaf("default", "www.example", "ecdsa", None, warned_of=FORGED[::-1])
            assert other.certificate != leaf.certificate

    asyncio.run(run())


def test_refusals_say_why(inst: Installation, clock: Clock) -> None:
    async def run() -> None:
        async with issuer_here(inst, clock) as (_, client):
            assert await code_of(client, tenant="nobody") == "unknown_tenant"
            assert await code_of(client, host="*.example") == "invalid_host"
            assert await code_of(client, host="") == "invalid_host"
        assert count_leaves(inst.settings) == 0

    asyncio.run(run())


def test_an_expired_ca_signs_nothing(inst: Installation, clock: Clock) -> None:
    clock.later(6 * 365 * DAY)

    async def run() -> None:
        async with issuer_here(inst, clock) as (_, client):
            assert await code_of(client) == "ca_expired"

    asyncio.run(run())
    assert count_leaves(inst.settings) == 0


def test_a_ca_signs_nothing_that_outlives_what_is_above_it_nor_after_that_has_expired(
    inst: Installation, clock: Clock
) -> None:
    root = Authority.root("Short Root", not_after=NOW + 12 * HOUR)
    imported(inst, root.intermediate("Long Issuing"), clock())

    async def run() -> None:
        async with issuer_here(inst, clock) as (_, client):
            leaf = await client.leaf("default", "www.example", "ecdsa", clock.after(5 * DAY))
            assert parsed(leaf).not_valid_after_utc == NOW + 12 * HOUR
            assert await client.check("default") > 0
            clock.later(13 * HOUR)
            # Of a host whose leaf is at hand, and of one that has none.
            assert await code_of(client) == "ca_expired"
            assert await code_of(client, host="new.example") == "ca_expired"
            with pytest.raises(IssuerUnavailable, match="the signing CA's chain expired on"):
                await client.check("default")

    asyncio.run(run())
    assert count_leaves(inst.settings) == 1


def imported(inst: Installation, authority: Authority, now: datetime) -> None:
    """A CA that was made elsewhere, active."""
    upload = Upload((authority.chain_pem(with_root=True),), authority.key_pem())
    signing_cas.import_(inst, "default", "theirs", upload, now, activated=True)


def test_whether_leaves_can_be_made_is_answered_without_making_any(inst: Installation, clock: Clock) -> None:
    async def run() -> None:
        async with issuer_here(inst, clock) as (_, client):
            assert await client.check("default") == 1
            with pytest.raises(IssuerUnavailable, match="there is no tenant 'nobody'"):
                await client.check("nobody")
            clock.later(6 * 365 * DAY)
            with pytest.raises(IssuerUnavailable, match="activate another signing CA") as expired:
                await client.check("default")
            assert expired.value.code == "ca_expired"

    asyncio.run(run())
    assert count_leaves(inst.settings) == 0
    assert count_leaf_keys(inst.settings) == 0


@pytest.mark.parametrize("column", ["sealed_key", "chain"])
def test_a_ca_key_that_was_tampered_with_is_not_used(inst: Installation, clock: Clock, column: str) -> None:
    tenants.create(inst, "other", clock())
    with inst.store.transaction() as connection:
        # The other tenant's, so that each is whole by itself.
        connection.exec_driver_sql(
            f"UPDATE signing_cas SET {column} = (SELECT {column} FROM signing_cas WHERE tenant_id = 2)"  # noqa: S608
        )

    async def run() -> None:
        async with issuer_here(inst, clock) as (_, client):
            assert await code_of(client) == "key_unavailable"

    asyncio.run(run())
    assert count_leaves(inst.settings) == 0


def test_a_leaf_that_cannot_be_recorded_is_not_handed_out(tmp_path: Path, clock: Clock) -> None:
    settings = settings_for(tmp_path, limits={"leaf_timeout": 1.0})

    async def run(inst: Installation) -> None:
        async with issuer_here(inst, clock) as (_, client):
            known = await client.leaf("default", "known.example", "ecdsa", None)
            with locked_store(settings):
                loop = asyncio.get_running_loop()
                began = loop.time()
                assert await code_of(client, host="new.example") == "store_unavailable"
                assert loop.time() - began < 1.0
                assert await client.leaf("default", "known.example", "ecdsa", None) == known
                assert count_leaves(settings) == 1
            # The lock came free while the writer still waited for it: recorded, though nobody waits any more.
            await until("the record", lambda: count_leaves(settings) == 2, seconds=10)
            await client.leaf("default", "new.example", "ecdsa", None)
        assert count_leaves(settings) == 2

    with installation(settings, clock) as inst:
        asyncio.run(run(inst))


def test_a_store_that_refuses_to_write_is_told_at_once(inst: Installation, clock: Clock) -> None:
    async def run() -> None:
        async with issuer_here(inst, clock) as (_, client):
            known = await client.leaf("default", "known.example", "ecdsa", None)
            _sql(inst, "CREATE TRIGGER full BEFORE INSERT ON leaves BEGIN SELECT RAISE(ABORT, 'disk full'); END")
            assert await code_of(client, host="new.example") == "store_unavailable"
            assert await client.leaf("default", "known.example", "ecdsa", None) == known
            _sql(inst, "DROP TRIGGER full")
            await client.leaf("default", "new.example", "ecdsa", None)

    asyncio.run(run())


def test_one_row_that_breaks_a_rule_does_not_take_the_others_with_it(inst: Installation, clock: Clock) -> None:
    async def run() -> None:
        async with issuer_here(inst, clock) as (_, client):
            await client.leaf("default", "known.example", "ecdsa", None)
            _sql(inst, "CREATE UNIQUE INDEX one_host ON leaves (host) WHERE host = 'twice.example'")
            _sql(
                inst,
                "INSERT INTO leaves (tenant_id, signing_ca_id, leaf_key_id, host, serial, not_before, not_after,"
                " certificate, issued_at) SELECT tenant_id, signing_ca_id, leaf_key_id, 'twice.example', 'ab',"
                " not_before, not_before, certificate, issued_at FROM leaves",
            )
            hosts = ["a.example", "twice.example", "b.example"]
            asked = await asyncio.gather(
                *(client.leaf("default", host, "ecdsa", None) for host in hosts), return_exceptions=True
            )
            assert [isinstance(answer, IssuedLeaf) for answer in asked] == [True, False, True]
            assert isinstance(asked[1], IssuerUnavailable)
            assert asked[1].code == "store_unavailable"

    asyncio.run(run())


def _sql(inst: Installation, statement: str) -> None:
    connection = sqlite3.connect(inst.state_dir / DATABASE_FILE)
    try:
        with connection:
            connection.execute(statement)
    finally:
        connection.close()


def test_a_leaf_that_was_kept_is_parsed_as_a_certificate(inst: Installation, clock: Clock) -> None:
    async def run() -> None:
        async with issuer_here(inst, clock) as (_, client):
            for host in ("192.0.2.7", "2001:db8::7", "xn--bcher-kva.example", "a" * 63 + "." + "b" * 63 + ".example"):
                leaf = await client.leaf("default", host, "ecdsa", None)
                names = parsed(leaf).extensions.get_extension_for_class(x509.SubjectAlternativeName).value
                assert list(names) == [parse_host(host).san()]

    asyncio.run(run())
