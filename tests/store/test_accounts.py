from __future__ import annotations

from datetime import timedelta

import pytest

from store import accounts, api_tokens, guesses, second_factors, sessions, setup_link, tenants
from store.engine import Conflict, Store
from store.records import Guesses, Tenant
from tests.harness.pki import DAY, NOW
from tests.store.conftest import add_tenant

MINUTE = timedelta(minutes=1)


def test_an_account_comes_back_as_it_was_made_and_its_hash_apart(store: Store, tenant: Tenant) -> None:
    with store.transaction() as c:
        id = accounts.create(c, "ann", "auditor", [tenant.id], "hash of ann", NOW, "root")
        accounts.create(c, "zoe", "owner", None, "hash of zoe", NOW, "root")
        with pytest.raises(Conflict):
            accounts.create(c, "ann", "owner", None, "hash", NOW, "root")
    with store.reading() as c:
        ann, zoe = accounts.listing(c)
        assert (ann.id, ann.name, ann.role, ann.tenants, ann.enabled) == (id, "ann", "auditor", ("acme",), True)
        assert (ann.second_factor, ann.created_at, ann.changed_by, ann.signed_in_at) == (False, NOW, "root", None)
        assert zoe.tenants is None
        assert accounts.by_name(c, "ann") == accounts.by_id(c, id) == ann
        assert accounts.by_name(c, "bob") is None
        assert accounts.password_hash(c, id) == "hash of ann"
        assert "hash of" not in repr(ann)
        assert accounts.owners(c) == {zoe.id}


def test_an_account_whose_tenants_are_deleted_has_none_and_not_all(store: Store) -> None:
    with store.transaction() as c:
        made = add_tenant(c, "acme")
        id = accounts.create(c, "ann", "owner", [made.id], "hash", NOW, "root")
        api_tokens.add(c, id, "ci", b"t", "read", [made.id], NOW, "root", None)
        tenants.delete(c, made.id)
    with store.transaction() as c:
        again = add_tenant(c, "acme")
        assert again.id != made.id
        (ann,) = accounts.listing(c)
        (token,) = api_tokens.listing(c)
        assert (ann.tenants, token.tenants) == ((), ())
        assert accounts.owners(c) == set()


def test_deleting_an_account_deletes_all_of_it_and_nothing_of_another(store: Store, tenant: Tenant) -> None:
    with store.transaction() as c:
        both = [accounts.create(c, name, "owner", [tenant.id], "hash", NOW, "root") for name in ("ann", "bob")]
        for id in both:
            sessions.add(c, id, b"session %d" % id, "here", NOW, NOW + DAY)
            api_tokens.add(c, id, f"token {id}", b"token %d" % id, "write", [tenant.id], NOW, "root", None)
            second_factors.confirm(c, id, b"sealed", 1, [b"code"])
        assert accounts.delete(c, both[0])
        assert not accounts.delete(c, both[0])
        for table in ("account_tenants", "recovery_codes", "sessions", "api_tokens"):
            assert c.exec_driver_sql(f"SELECT account_id FROM {table}").scalars().all() == [both[1]]  # noqa: S608 - our tables
        assert c.exec_driver_sql("SELECT count(*) FROM api_token_tenants").scalar_one() == 1


def test_a_hash_is_only_replaced_where_the_password_is_still_the_same(store: Store) -> None:
    with store.transaction() as c:
        id = accounts.create(c, "ann", "owner", None, "old", NOW, "root")
        accounts.rehash(c, id, "another", "stronger")
        assert accounts.password_hash(c, id) == "old"
        accounts.rehash(c, id, "old", "stronger")
        assert accounts.password_hash(c, id) == "stronger"


def test_a_time_step_and_a_recovery_code_are_taken_once(store: Store) -> None:
    with store.transaction() as c:
        id = accounts.create(c, "ann", "owner", None, "hash", NOW, "root")
        second_factors.confirm(c, id, b"sealed", 10, [b"a", b"b"])
        assert [second_factors.use_step(c, id, step) for step in (10, 9, 12, 11, 12, 13)] == [
            False, False, True, False, False, True,
        ]  # fmt: skip
        assert second_factors.use_recovery_code(c, id, b"a")
        assert not second_factors.use_recovery_code(c, id, b"a")
        assert second_factors.recovery_codes_left(c, id) == 1
        second_factors.reset(c, id)
        assert second_factors.of(c, id).sealed is None
        assert second_factors.recovery_codes_left(c, id) == 0


def test_sessions_are_found_by_their_token_rotated_ended_and_forgotten(store: Store) -> None:
    with store.transaction() as c:
        id = accounts.create(c, "ann", "owner", None, "hash", NOW, "root")
        made = [sessions.add(c, id, b"%d" % n, "here", NOW + n * MINUTE, NOW + DAY) for n in range(4)]
        assert sessions.listing(c, id) == made[::-1]
        sessions.rotate(c, made[0].id, b"new", NOW + 5 * MINUTE)
        assert sessions.by_sha256(c, b"0") is None
        found = sessions.by_sha256(c, b"new")
        assert found is not None
        assert (found.id, found.used_at) == (made[0].id, NOW + 5 * MINUTE)
        sessions.forget(c, NOW, NOW + MINUTE)
        assert [one.id for one in sessions.listing(c, id)] == [made[n].id for n in (0, 3, 2)]
        assert sessions.end_all(c, id, but=made[2].id) == 2
        assert sessions.end(c, made[2].id)
        assert not sessions.end(c, made[2].id)


def test_guesses_of_strangers_are_bounded_and_those_at_accounts_stay(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guesses, "MOST", 3)
    with store.transaction() as c:
        for n in range(6):
            for kind in ("account", "unknown", "source"):
                guesses.save(c, kind, str(n), n + 1, NOW + n * MINUTE)
        assert [guesses.of(c, "source", str(n)) is None for n in range(6)] == [True] * 3 + [False] * 3
        assert [guesses.of(c, "unknown", str(n)) is None for n in range(6)] == [True] * 3 + [False] * 3
        assert guesses.of(c, "account", "0") == Guesses(1, NOW)
        guesses.give_back(c, "account", "1")
        assert guesses.of(c, "account", "1") == Guesses(1, NOW + MINUTE)
        guesses.clear(c, "account", "1")
        assert guesses.of(c, "account", "1") is None
        guesses.forget(c, NOW + DAY)
        assert guesses.of(c, "source", "5") is None
        assert guesses.of(c, "account", "5") is not None


def test_there_is_one_setup_link_and_it_expires(store: Store) -> None:
    with store.transaction() as c:
        setup_link.save(c, b"first", NOW, NOW + DAY)
        setup_link.save(c, b"second", NOW, NOW + DAY)
        assert not setup_link.there(c, b"first", NOW)
        assert setup_link.there(c, b"second", NOW)
        assert not setup_link.there(c, b"second", NOW + DAY)
        setup_link.clear(c)
        assert not setup_link.there(c, b"second", NOW)
