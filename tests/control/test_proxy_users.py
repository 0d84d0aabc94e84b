"""Proxy users: added, given other passwords, deleted; what is announced and logged, and what never is."""

from __future__ import annotations

import pytest

from config import passwords
from control import audit_log, proxy_users, tenants
from control.actor import Actor
from control.errors import Refused
from control.installation import Installation
from store import proxy_users as stored
from tests.control.conftest import kinds_since, last_change
from tests.harness.pki import DAY, NOW


def hashes(inst: Installation, tenant: str = "default") -> dict[str, str]:
    with inst.reading(tenant) as (connection, found):
        return stored.hashes(connection, found.id)


def test_a_user_comes_gets_another_password_and_goes(inst: Installation) -> None:
    before = last_change(inst)
    ann = inst.acting(Actor("ann", "here"))
    made = proxy_users.add(ann, "default", "Ju\u0308rgen", "first password", NOW)
    assert (made.name, made.changed_by) == ("J\u00fcrgen", "ann")
    assert passwords.matches(hashes(inst)["J\u00fcrgen"], "first password")
    changed = proxy_users.set_password(ann, "default", "J\u00fcrgen", "another password", NOW + DAY)
    assert (changed.id, changed.created_at, changed.changed_at) == (made.id, NOW, NOW + DAY)
    assert not passwords.matches(hashes(inst)["J\u00fcrgen"], "first password")
    assert proxy_users.listing(inst, "default") == [changed]
    gone = hashes(inst)["J\u00fcrgen"]
    proxy_users.delete(ann, "default", "J\u00fcrgen", NOW + DAY)
    assert (proxy_users.listing(inst, "default"), hashes(inst)) == ([], {})
    assert kinds_since(inst, before) == ["proxy_users_changed"] * 3
    entries = audit_log.newest(inst)[:3]
    assert [entry.action for entry in entries] == ["proxy_user.delete", "proxy_user.passwd", "proxy_user.add"]
    assert {entry.subject for entry in entries} == {"J\u00fcrgen"}
    for secret in ("password", gone, "$argon2"):
        assert secret not in str([(entry.before, entry.after) for entry in entries])


def test_each_tenant_has_users_of_its_own_and_they_go_with_it(inst: Installation) -> None:
    tenants.create(inst, "acme", NOW)
    for tenant in ("default", "acme"):
        proxy_users.add(inst, tenant, "alice", f"password of {tenant}", NOW)
    assert passwords.matches(hashes(inst, "acme")["alice"], "password of acme")
    tenants.delete(inst, "acme", NOW)
    tenants.create(inst, "acme", NOW)
    assert hashes(inst, "acme") == {}
    assert set(hashes(inst)) == {"alice"}


@pytest.mark.parametrize(
    ("name", "password", "said"),
    [
        ("alice", "a good password", "has a proxy user alice already"),
        ("a:b", "a good password", "no colon"),
        ("bob@acme", "a good password", "reads as a user of that tenant"),
        ("\udcff", "a good password", "expected UTF-8"),
        ("bob", "seven77", "too short"),
    ],
)
def test_what_cannot_be_is_refused_and_nothing_changes(inst: Installation, name: str, password: str, said: str) -> None:
    proxy_users.add(inst, "default", "alice", "the first of hers", NOW)
    before = last_change(inst)
    with pytest.raises(Refused) as caught:
        proxy_users.add(inst, "default", name, password, NOW)
    assert said in str(caught.value)
    assert password not in str(caught.value)
    assert (last_change(inst), set(hashes(inst))) == (before, {"alice"})


def test_who_is_not_there_is_refused(inst: Installation) -> None:
    proxy_users.add(inst, "default", "alice", "a good password", NOW)
    proxy_users.delete(inst, "default", "alice", NOW)
    with pytest.raises(Refused, match="no proxy user 'alice'; it was deleted by"):
        proxy_users.delete(inst, "default", "alice", NOW)
    with pytest.raises(Refused, match="no proxy user 'bob'; see"):
        proxy_users.set_password(inst, "default", "bob", "a good password", NOW)


def test_there_are_no_more_than_there_may_be(inst: Installation, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proxy_users, "MOST_USERS", 1)
    proxy_users.add(inst, "default", "alice", "a good password", NOW)
    with pytest.raises(Refused, match="htpasswd"):
        proxy_users.add(inst, "default", "bob", "a good password", NOW)
    assert set(hashes(inst)) == {"alice"}
