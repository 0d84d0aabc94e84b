from __future__ import annotations

import hashlib
import re
from dataclasses import asdict
from datetime import UTC, datetime, timedelta, timezone

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy.dialects import sqlite

from store import (
    bypass_rules,
    changes,
    error_settings,
    host_exceptions,
    leaves,
    recent_servers,
    refusals,
    signing_cas,
    tenants,
    trusted_cas,
)
from store.engine import Conflict, Connection, Store, StoreError
from store.records import HostException, LeafKey, NewLeaf, RecentServer, Refusal, SigningCa, Tenant
from store.tables import Certificates, UtcDateTime
from tests.harness.pki import DAY, NOW
from tests.store.conftest import add_ca, add_tenant, chain

TABLES = (
    "signing_cas", "trusted_cas", "error_settings", "host_exceptions", "bypass_rules", "leaf_keys", "leaves",
    "refusals", "recent_servers", "recent_chains",
)  # fmt: skip


def leaf(ca: SigningCa, key: LeafKey, host: str, serial: str) -> NewLeaf:
    return NewLeaf(ca.tenant_id, ca.id, key.id, host, serial, NOW - DAY, NOW + DAY, b"der of " + host.encode(), NOW)


def except_(
    c: Connection,
    tenant_id: int,
    pattern: str,
    defect: str = "expired",
    fingerprint: bytes | None = None,
    until: datetime | None = None,
) -> HostException:
    return host_exceptions.add(c, tenant_id, pattern, defect, "allow", fingerprint, until, "because", NOW, "ann")


# tenants


def test_a_tenant_comes_back_as_it_was_made(store: Store) -> None:
    with store.transaction() as c:
        made = add_tenant(c, "acme")
        add_tenant(c, "a-first", b"other")
    with store.reading() as c:
        assert tenants.by_name(c, "acme") == made == Tenant(made.id, "acme", 0, NOW)
        assert tenants.by_name(c, "ACME") is None
        assert [tenant.name for tenant in tenants.listing(c)] == ["a-first", "acme"]
        assert tenants.wrapped_key(c, made.id) == b"wrapped"
        with pytest.raises(KeyError):
            tenants.wrapped_key(c, 99)


def test_deleting_a_tenant_deletes_all_of_it_and_nothing_of_another(store: Store) -> None:
    with store.transaction() as c:
        both = [add_tenant(c, name) for name in ("acme", "other")]
        for tenant in both:
            ca = add_ca(c, tenant, "built-in")
            key = leaves.add_key(c, tenant.id, ca.id, "ecdsa", b"sealed", NOW)
            leaves.record(c, [leaf(ca, key, "www.example", "01")])
            trusted_cas.add(c, tenant.id, "private", True, [b"der"], b"f" * 32, NOW, "ann")
            error_settings.set_row(c, tenant.id, "expired", "allow", NOW)
            refusals.add(c, tenant.id, [refusal("a.example", "1")])
            shown = RecentServer("a.example", 443, NOW, True, None, ("expired",), "block", (b"der",))
            recent_servers.add(c, tenant.id, [shown])
            except_(c, tenant.id, "a.example")
            bypass_rules.add(c, tenant.id, "a.example", None, NOW, "ann", None)
            changes.announce(c, tenant.id, "tenant_created", NOW)
        changes.announce(c, both[0].id, "tenant_deleted", NOW)
        assert tenants.delete(c, both[0].id)
        assert not tenants.delete(c, both[0].id)
    with store.reading() as c:
        for table in TABLES:
            owners = c.exec_driver_sql(f"SELECT tenant_id FROM {table}").scalars().all()  # noqa: S608 - names of ours
            assert [*dict.fromkeys(owners)] == [both[1].id], table
        assert [(change.tenant_id, change.generation, change.kind) for change in changes.since(c, 0)] == [
            (both[0].id, 1, "tenant_created"),
            (both[1].id, 1, "tenant_created"),
            (both[0].id, 2, "tenant_deleted"),
        ]


def test_the_id_of_a_deleted_tenant_is_never_used_again(store: Store) -> None:
    with store.transaction() as c:
        first = add_tenant(c, "acme")
        tenants.delete(c, first.id)
        assert add_tenant(c, "acme").id > first.id


# signing CAs


def test_a_signing_ca_comes_back_as_it_was_added(store: Store, tenant: Tenant) -> None:
    certificates = chain()
    with store.transaction() as c:
        added = signing_cas.add(c, tenant.id, "one", "built_in", certificates, b"k", b"r", NOW, "ann")
        assert added.status == "inactive"
        signing_cas.activate(c, tenant.id, added.id, NOW + DAY, "bob")
    with store.reading() as c:
        active = signing_cas.active(c, tenant.id)
        assert active == signing_cas.by_name(c, tenant.id, "one")
        assert [(ca.name, ca.status) for ca in signing_cas.listing(c, tenant.id)] == [
            ("first", "inactive"), ("one", "active"),
        ]  # fmt: skip
        assert signing_cas.sealed_key(c, added.id) == b"k"
        assert signing_cas.by_name(c, tenant.id, "two") is None
        assert signing_cas.active(c, tenant.id + 1) is None
    assert active is not None
    assert asdict(active) == {
        "id": added.id, "tenant_id": tenant.id, "name": "one", "kind": "built_in", "status": "active",
        "certificate": certificates[0], "chain": certificates, "request": None, "created_at": NOW,
        "changed_at": NOW + DAY, "changed_by": "bob",
    }  # fmt: skip


def active_names(store: Store, tenant: Tenant) -> list[str]:
    with store.reading() as c:
        return [ca.name for ca in signing_cas.listing(c, tenant.id) if ca.status == "active"]


def test_activating_one_is_the_other_s_end_in_one_statement(store: Store, tenant: Tenant) -> None:
    with store.transaction() as c:
        spare = add_ca(c, tenant, "two", "inactive")
    assert active_names(store, tenant) == ["first"]
    with store.transaction() as c:
        signing_cas.activate(c, tenant.id, spare.id, NOW, "ann")
    assert active_names(store, tenant) == ["two"]


WRONG = {
    "none": "UPDATE tenants SET active_signing_ca_id = 0 WHERE id = {tenant}",
    "null": "UPDATE tenants SET active_signing_ca_id = NULL WHERE id = {tenant}",
    "another tenant's": "UPDATE tenants SET active_signing_ca_id = {theirs} WHERE id = {tenant}",
    "revoked": "UPDATE tenants SET active_signing_ca_id = {revoked} WHERE id = {tenant}",
    "requested": "UPDATE tenants SET active_signing_ca_id = {requested} WHERE id = {tenant}",
    "revoke it": "UPDATE signing_cas SET state = 'revoked', sealed_key = NULL WHERE id = {first}",
    "take it": "DELETE FROM signing_cas WHERE id = {first}",
    "give it away": "UPDATE signing_cas SET tenant_id = {other}, name = 'given' WHERE id = {first}",
    "trick": "UPDATE tenants SET active_signing_ca_id = {revoked}, active_signing_ca_state = 'revoked'",
    "revoked with its key": "UPDATE signing_cas SET state = 'revoked' WHERE id = {requested}",
    "ready without a key": "UPDATE signing_cas SET sealed_key = NULL WHERE id = {requested}",
}


@pytest.mark.parametrize("statement", WRONG.values(), ids=WRONG.keys())
def test_the_database_itself_sees_to_it_that_just_one_is_active_and_can_sign(
    store: Store, tenant: Tenant, statement: str
) -> None:
    with store.transaction() as c:
        other = add_tenant(c, "other")
        theirs, first = signing_cas.active(c, other.id), signing_cas.active(c, tenant.id)
        revoked = add_ca(c, tenant, "revoked", "revoked")
        requested = signing_cas.add_request(c, tenant.id, "requested", b"request", b"s" * 32, b"k", NOW, "ann")
    assert theirs is not None
    assert first is not None
    values = {
        "tenant": tenant.id, "other": other.id, "theirs": theirs.id, "first": first.id, "revoked": revoked.id,
        "requested": requested.id,
    }  # fmt: skip
    with pytest.raises(StoreError, match="constraint failed"), store.transaction() as c:
        c.exec_driver_sql(statement.format(**values))
    assert active_names(store, tenant) == ["first"]


def test_leaf_keys_are_retired_with_the_ca_that_is_active_no_more(store: Store, tenant: Tenant) -> None:
    with store.transaction() as c:
        first = signing_cas.active(c, tenant.id)
        assert first is not None
        spare = add_ca(c, tenant, "two", "inactive")
        key = leaves.add_key(c, tenant.id, first.id, "ecdsa", b"sealed", NOW)
        assert leaves.newest_key(c, tenant.id, first.id, "ecdsa") == key
        signing_cas.activate(c, tenant.id, spare.id, NOW, "ann")
        signing_cas.activate(c, tenant.id, first.id, NOW, "ann")
        assert leaves.newest_key(c, tenant.id, first.id, "ecdsa") is None
        assert leaves.key_by_id(c, tenant.id, key.id) is None


def test_a_tenant_without_a_signing_ca_cannot_be(store: Store) -> None:
    with pytest.raises(StoreError, match="constraint failed"), store.transaction() as c:
        tenants.create(c, "acme", b"wrapped", NOW)
    with store.reading() as c:
        assert tenants.listing(c) == []


def test_a_request_is_completed_once(store: Store, tenant: Tenant) -> None:
    certificates = chain()
    with store.transaction() as c:
        added = signing_cas.add_request(c, tenant.id, "one", b"request", b"s" * 32, b"k", NOW, "ann")
        assert (added.status, added.request, added.chain, added.certificate) == ("requested", b"request", (), b"")
        assert signing_cas.complete(c, added.id, certificates, NOW, "bob")
        assert not signing_cas.complete(c, added.id, chain(), NOW, "bob")
        found = signing_cas.by_name(c, tenant.id, "one")
        assert found is not None
        assert (found.status, found.chain, found.changed_by) == ("inactive", certificates, "bob")


def test_what_is_deleted_leaves_its_name_and_no_key(store: Store, tenant: Tenant) -> None:
    with store.transaction() as c:
        added = add_ca(c, tenant, "one", "inactive")
        assert signing_cas.end(c, added.id, "deleted", NOW, "ann")
        assert not signing_cas.end(c, added.id, "deleted", NOW, "ann")
        assert signing_cas.by_name(c, tenant.id, "one") is None
        with pytest.raises(KeyError):
            signing_cas.sealed_key(c, added.id)
        again = add_ca(c, tenant, "one", "inactive")
        assert again.id != added.id
        # A server may still not be vouched for by that key.
        assert len(signing_cas.issuing_keys(c)) == 3
        assert set(signing_cas.names_by_key(c, tenant.id)) == {"first", "one"}
    with store.transaction() as c, pytest.raises(Conflict):
        add_ca(c, tenant, "one", "inactive")


@pytest.mark.parametrize("change", ["kind = 'unheard_of'", "state = 'on'"])
def test_the_database_itself_refuses_an_unknown_kind_or_state(store: Store, tenant: Tenant, change: str) -> None:
    with store.transaction() as c, pytest.raises(StoreError, match="CHECK constraint failed"):
        c.exec_driver_sql(f"UPDATE signing_cas SET {change}")  # noqa: S608 - a constant of this test


def test_issuing_keys_are_those_of_every_tenant_and_state_and_no_root_is_among_them(
    store: Store, tenant: Tenant
) -> None:
    with store.transaction() as c:
        other = add_tenant(c, "other")
        added = [add_ca(c, tenant, "a"), add_ca(c, tenant, "b", "revoked"), add_ca(c, other, "c", "inactive")]
    expected = set()
    for ca in added:
        key = x509.load_der_x509_certificate(ca.certificate).public_key()
        expected.add(hashlib.sha256(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).digest())
    with store.reading() as c:
        assert signing_cas.issuing_keys(c) > expected  # and those of the first ones
    assert len(expected) == 3


# trusted CAs


def test_a_trusted_ca_comes_back_as_it_was_added(store: Store, tenant: Tenant) -> None:
    with store.transaction() as c:
        added = trusted_cas.add(c, tenant.id, "Büro CA", False, [b"intermediate", b"root"], b"f" * 32, NOW, "ann")
        trusted_cas.add(c, tenant.id, "A", True, [b"root 2"], b"g" * 32, NOW, "ann")
    with store.reading() as c:
        assert trusted_cas.by_name(c, tenant.id, "Büro CA") == added
        assert [ca.name for ca in trusted_cas.listing(c, tenant.id)] == ["A", "Büro CA"]
    assert (added.active, added.chain, added.created_at) == (False, (b"intermediate", b"root"), NOW)


@pytest.mark.parametrize(("name", "fingerprint"), [("one", b"g" * 32), ("two", b"f" * 32)])
def test_the_same_name_or_the_same_anchor_twice_is_a_conflict_within_a_tenant(
    store: Store, tenant: Tenant, name: str, fingerprint: bytes
) -> None:
    with store.transaction() as c:
        trusted_cas.add(c, tenant.id, "one", True, [b"root"], b"f" * 32, NOW, "ann")
        other = add_tenant(c, "other")
        trusted_cas.add(c, other.id, "one", True, [b"root"], b"f" * 32, NOW, "ann")
    with store.transaction() as c, pytest.raises(Conflict):
        trusted_cas.add(c, tenant.id, name, True, [b"root"], fingerprint, NOW, "ann")


def test_a_deleted_trusted_ca_is_gone_and_its_name_is_free(store: Store, tenant: Tenant) -> None:
    with store.transaction() as c:
        added = trusted_cas.add(c, tenant.id, "one", True, [b"root"], b"f" * 32, NOW, "ann")
        assert trusted_cas.change(c, added.id, NOW + DAY, "bob", name="two", active=False)
        changed = trusted_cas.by_name(c, tenant.id, "two")
        assert changed is not None
        assert (changed.active, changed.changed_at, changed.changed_by) == (False, NOW + DAY, "bob")
        assert trusted_cas.delete(c, added.id)
        assert not trusted_cas.delete(c, added.id)
        assert trusted_cas.listing(c, tenant.id) == []
        trusted_cas.add(c, tenant.id, "one", True, [b"root"], b"f" * 32, NOW, "ann")


# error settings


def test_a_row_is_set_replaced_and_taken_away(store: Store, tenant: Tenant) -> None:
    with store.transaction() as c:
        error_settings.set_row(c, tenant.id, "expired", "allow", NOW)
        error_settings.set_row(c, tenant.id, "untrusted", "allow", NOW)
        error_settings.set_row(c, tenant.id, "expired", "block", NOW)
        assert error_settings.rows(c, tenant.id) == {"expired": "block", "untrusted": "allow"}
        assert error_settings.unset_row(c, tenant.id, "expired")
        assert not error_settings.unset_row(c, tenant.id, "expired")
        assert error_settings.rows(c, tenant.id) == {"untrusted": "allow"}
        assert error_settings.rows(c, tenant.id + 1) == {}


def test_what_belongs_to_no_tenant_is_refused(store: Store) -> None:
    with store.transaction() as c, pytest.raises(StoreError, match="FOREIGN KEY constraint failed"):
        error_settings.set_row(c, 99, "expired", "allow", NOW)


# exceptions for hosts


def test_an_exception_comes_back_as_it_was_added_and_is_deleted(store: Store, tenant: Tenant) -> None:
    with store.transaction() as c:
        last = except_(c, tenant.id, "b.example", until=NOW + DAY)
        pinned = except_(c, tenant.id, "*.a.example", "untrusted", b"f" * 32)
        plain = except_(c, tenant.id, "*.a.example", "untrusted")
        first = except_(c, tenant.id, "*.a.example")
    assert pinned == HostException(
        pinned.id, tenant.id, "*.a.example", "untrusted", "allow", b"f" * 32, None, "because", NOW, "ann"
    )
    assert last.expires_at == NOW + DAY
    with store.transaction() as c:
        assert host_exceptions.listing(c, tenant.id) == [first, pinned, plain, last]
        assert host_exceptions.listing(c, tenant.id + 1) == []
        assert host_exceptions.delete(c, first.id)
        assert not host_exceptions.delete(c, first.id)
        assert host_exceptions.listing(c, tenant.id) == [pinned, plain, last]
        assert except_(c, tenant.id, "*.a.example").id > first.id


@pytest.mark.parametrize("fingerprint", [None, b"f" * 32])
def test_there_is_one_exception_for_a_pattern_defect_and_fingerprint(
    store: Store, tenant: Tenant, fingerprint: bytes | None
) -> None:
    with store.transaction() as c:
        other = add_tenant(c, "other")
        except_(c, tenant.id, "a.example", "expired", fingerprint)
        except_(c, tenant.id, "a.example", "expired", b"e" * 32)
        except_(c, tenant.id, "a.example", "weak_key", fingerprint)
        except_(c, tenant.id, "b.example", "expired", fingerprint)
        except_(c, other.id, "a.example", "expired", fingerprint)
    with store.transaction() as c, pytest.raises(Conflict):
        except_(c, tenant.id, "a.example", "expired", fingerprint, NOW + DAY)


def test_a_fingerprint_that_is_no_sha256_is_refused(store: Store, tenant: Tenant) -> None:
    with store.transaction() as c, pytest.raises(StoreError, match="ck_host_exceptions_sha256"):
        except_(c, tenant.id, "a.example", fingerprint=b"f" * 20)


# bypass rules


def test_a_bypass_rule_comes_back_as_it_was_added_once_for_each_tenant(store: Store, tenant: Tenant) -> None:
    with store.transaction() as c:
        other = add_tenant(c, "other")
        made = bypass_rules.add(c, tenant.id, "b.example", "pins", NOW, "ann", NOW + DAY)
        bypass_rules.add(c, tenant.id, "a.example", None, NOW, "ann", None)
        bypass_rules.add(c, other.id, "b.example", None, NOW, "bob", None)
    assert asdict(made) == {
        "id": made.id, "tenant_id": tenant.id, "pattern": "b.example", "reason": "pins", "created_at": NOW,
        "created_by": "ann", "expires_at": NOW + DAY,
    }  # fmt: skip
    with pytest.raises(Conflict), store.transaction() as c:
        bypass_rules.add(c, tenant.id, "b.example", None, NOW, "ann", None)
    with store.transaction() as c:
        assert [rule.pattern for rule in bypass_rules.listing(c, tenant.id)] == ["a.example", "b.example"]
        assert bypass_rules.by_pattern(c, tenant.id, "b.example") == made
        assert bypass_rules.by_pattern(c, tenant.id, "c.example") is None
        assert bypass_rules.count(c, tenant.id) == 2
        assert bypass_rules.remove(c, made.id)
        assert not bypass_rules.remove(c, made.id)
        assert [rule.created_by for rule in bypass_rules.listing(c, other.id)] == ["bob"]


# leaves


def test_the_newest_key_of_a_kind_is_found(store: Store, tenant: Tenant) -> None:
    with store.transaction() as c:
        ca, spare = add_ca(c, tenant, "one"), add_ca(c, tenant, "two", "inactive")
        assert leaves.newest_key(c, tenant.id, ca.id, "ecdsa") is None
        old = leaves.add_key(c, tenant.id, ca.id, "ecdsa", b"old", NOW)
        new = leaves.add_key(c, tenant.id, ca.id, "ecdsa", b"new", NOW)
        other = leaves.add_key(c, tenant.id, ca.id, "rsa", b"rsa", NOW)
        leaves.add_key(c, tenant.id, spare.id, "ecdsa", b"spare", NOW)
        assert leaves.newest_key(c, tenant.id, ca.id, "ecdsa") == new
        assert leaves.newest_key(c, tenant.id, ca.id, "rsa") == other
        assert leaves.key_by_id(c, tenant.id, old.id) == old
        assert leaves.key_by_id(c, tenant.id + 1, old.id) is None
    assert (new.sealed, new.kind, new.created_at) == (b"new", "ecdsa", NOW)
    assert "new" not in repr(new)


def test_recorded_leaves_are_found_by_host_and_key_and_listed_the_last_first(store: Store, tenant: Tenant) -> None:
    with store.transaction() as c:
        ca = add_ca(c, tenant, "one")
        old, new = (leaves.add_key(c, tenant.id, ca.id, "ecdsa", b"sealed", NOW) for _ in range(2))
        leaves.record(c, [])
        leaves.record(
            c, [leaf(ca, old, "a.example", "01"), leaf(ca, new, "a.example", "02"), leaf(ca, new, "b.example", "03")]
        )
        leaves.record(c, [leaf(ca, new, "a.example", "04")])
    with store.reading() as c:
        assert [found.serial for found in leaves.listing(c, tenant.id, 3)] == ["04", "03", "02"]
        found = leaves.newest(c, tenant.id, ca.id, new.id, "a.example")
        assert found is not None
        expected = asdict(leaf(ca, new, "a.example", "04"))
        assert asdict(found) == {"id": found.id, **expected}
        assert leaves.newest(c, tenant.id, ca.id, new.id, "c.example") is None
        assert leaves.newest(c, tenant.id, ca.id + 1, new.id, "a.example") is None
        assert leaves.newest(c, tenant.id + 1, ca.id, new.id, "a.example") is None
        assert leaves.listing(c, tenant.id + 1, 3) == []


def test_the_hosts_under_a_key_are_told_once_each_unless_they_are_too_many(store: Store, tenant: Tenant) -> None:
    with store.transaction() as c:
        ca = add_ca(c, tenant, "one")
        key, other = (leaves.add_key(c, tenant.id, ca.id, "ecdsa", b"sealed", NOW) for _ in range(2))
        hosts = ["a.example", "b.example", "a.example", "c.example"]
        leaves.record(c, [leaf(ca, key, host, f"{number:x}") for number, host in enumerate(hosts)])
        leaves.record(c, [leaf(ca, other, "d.example", "ff")])
    with store.reading() as c:
        assert sorted(leaves.hosts(c, key.id, 3) or ()) == ["a.example", "b.example", "c.example"]
        assert leaves.hosts(c, key.id, 2) is None
        assert leaves.hosts(c, other.id, 2) == ["d.example"]
        assert leaves.hosts(c, other.id + 1, 2) == []


def test_a_serial_used_twice_by_one_ca_takes_the_whole_batch_back(store: Store, tenant: Tenant) -> None:
    with store.transaction() as c:
        ca = add_ca(c, tenant, "one")
        key = leaves.add_key(c, tenant.id, ca.id, "ecdsa", b"sealed", NOW)
        leaves.record(c, [leaf(ca, key, "a.example", "01")])
    with pytest.raises(Conflict), store.transaction() as c:
        leaves.record(c, [leaf(ca, key, "b.example", "02"), leaf(ca, key, "c.example", "01")])
    with store.reading() as c:
        assert [found.host for found in leaves.listing(c, tenant.id, 9)] == ["a.example"]


def test_the_look_up_of_a_leaf_uses_its_index(store: Store) -> None:
    with store.reading() as c:
        query = str(leaves.NEWEST.compile(dialect=sqlite.dialect(), compile_kwargs={"literal_binds": False}))
        plan = c.exec_driver_sql(f"EXPLAIN QUERY PLAN {query}", (1, "a", 1, 1, 1, 0)[: query.count("?")]).all()
    assert any("ix_leaves_leaf_key_id_host" in str(row) for row in plan), plan
    assert not any("TEMP B-TREE" in str(row) for row in plan), plan


# the change feed


def test_the_feed_grows_with_each_announcement_and_the_generation_with_it(store: Store) -> None:
    with store.transaction() as c:
        assert changes.latest(c) == 0
        first, second = (add_tenant(c, name) for name in ("a", "b"))
        assert changes.announce(c, first.id, "one", NOW) == 1
        assert changes.announce(c, first.id, "two", NOW) == 2
        assert changes.announce(c, second.id, "three", NOW) == 1
    with store.reading() as c:
        last = changes.latest(c)
        assert last == 3
        assert [(change.id, change.kind, change.at) for change in changes.since(c, 1)] == [
            (2, "two", NOW),
            (3, "three", NOW),
        ]
        assert changes.since(c, last) == []
        found = tenants.by_name(c, "a")
        assert found is not None
        assert found.generation == 2


def test_an_announcement_that_is_rolled_back_was_never_made(store: Store, tenant: Tenant) -> None:
    with pytest.raises(RuntimeError), store.transaction() as c:  # noqa: PT012 - what came before it counts
        changes.announce(c, tenant.id, "lost", NOW)
        raise RuntimeError
    with store.reading() as c:
        assert changes.latest(c) == 1


def test_nothing_is_announced_for_a_tenant_that_is_not_there(store: Store) -> None:
    with store.transaction() as c, pytest.raises(KeyError):
        changes.announce(c, 99, "what", NOW)


# how values are stored

INSTANTS = st.datetimes(
    min_value=datetime(1950, 1, 1),  # noqa: DTZ001 - the zone comes from the strategy
    max_value=datetime(2120, 1, 1),  # noqa: DTZ001 - the zone comes from the strategy
    timezones=st.integers(-12 * 60, 14 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes))),
)


@given(INSTANTS)
def test_an_instant_comes_back_as_the_same_instant_in_utc(instant: datetime) -> None:
    kind, dialect = UtcDateTime(), sqlite.dialect()
    stored = kind.process_bind_param(instant, dialect)
    assert stored is not None
    assert stored.tzinfo is None
    back = kind.process_result_value(stored, dialect)
    assert back == instant
    assert back is not None
    assert back.tzinfo is UTC


def test_a_datetime_without_a_zone_is_refused(store: Store) -> None:
    with store.transaction() as c, pytest.raises((ValueError, StoreError), match=re.escape("without a zone")):
        tenants.create(c, "acme", b"wrapped", NOW.replace(tzinfo=None))


@given(st.lists(st.binary(max_size=50)).map(tuple))
def test_a_chain_comes_back_byte_for_byte(certificates: tuple[bytes, ...]) -> None:
    kind, dialect = Certificates(), sqlite.dialect()
    assert kind.process_result_value(kind.process_bind_param(certificates, dialect), dialect) == certificates


# refusals


def refusal(host: str, client: str, seconds: int = 0, count: int = 1, how: str = "closed") -> Refusal:
    at = NOW + timedelta(seconds=seconds)
    return Refusal(host, client, count, how, at, at)


def test_refusals_add_up_and_an_alert_stays_one(store: Store, tenant: Tenant) -> None:
    with store.transaction() as c:
        refusals.add(c, tenant.id, [refusal("a.example", "1"), refusal("a.example", "2"), refusal("b.example", "1")])
        refusals.add(c, tenant.id, [refusal("a.example", "1", 9, 4, "alert")])
        refusals.add(c, tenant.id, [refusal("a.example", "1", 5)])
    with store.reading() as c:
        found = {(one.host, one.client): one for one in refusals.listing(c, tenant.id, NOW)}
        assert len(found) == 3
        assert found["a.example", "1"] == Refusal("a.example", "1", 6, "alert", NOW, NOW + timedelta(seconds=9))
        (late,) = refusals.listing(c, tenant.id, NOW + timedelta(seconds=1))
        assert (late.host, late.client) == ("a.example", "1")
    with store.transaction() as c:
        assert refusals.forget(c, tenant.id, "a.example") == 2
        assert refusals.forget(c, tenant.id, "a.example") == 0


def test_one_client_does_not_drive_out_what_others_refuse(
    store: Store, tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(refusals, "MOST_EACH", 2)
    with store.transaction() as c:
        refusals.add(c, tenant.id, [refusal(f"h{n}.example", client, n) for n in range(4) for client in ("1", "2")])
        refusals.add(c, tenant.id, [refusal("old.example", "3")])
    with store.reading() as c:
        found = [(one.host, one.client) for one in refusals.listing(c, tenant.id, NOW)]
    assert found == [
        ("h2.example", "1"),
        ("h2.example", "2"),
        ("h3.example", "1"),
        ("h3.example", "2"),
        ("old.example", "3"),
    ]


def test_by_alert_counts_clients_that_have_sent_one_lately(store: Store, tenant: Tenant) -> None:
    found = [refusal("a.example", str(n), how="alert") for n in range(3)]
    found += [refusal("b.example", str(n), how="alert" if n else "closed", count=9) for n in range(3)]
    with store.transaction() as c:
        refusals.add(c, tenant.id, [*found, refusal("a.example", "late", 9, how="alert")])
    with store.reading() as c:
        assert refusals.by_alert(c, tenant.id, NOW, 3) == {"a.example": 4}
        assert refusals.by_alert(c, tenant.id, NOW, 2) == {"a.example": 4, "b.example": 2}
        assert refusals.by_alert(c, tenant.id, NOW + timedelta(seconds=1), 1) == {"a.example": 1}


def test_of_many_refusals_the_latest_stay(store: Store, tenant: Tenant, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(refusals, "MOST", 5)
    with store.transaction() as c:
        for second in range(8):
            refusals.add(c, tenant.id, [refusal(f"h{second}.example", "1", second)])
    with store.reading() as c:
        assert [one.host for one in refusals.listing(c, tenant.id, NOW)] == [f"h{n}.example" for n in range(3, 8)]
