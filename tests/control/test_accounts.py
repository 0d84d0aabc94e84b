from __future__ import annotations

import json
from datetime import timedelta

import pytest

from control import accounts, api_tokens, audit_log, first_owner, guessing, second_factor, sign_in, tenants
from control.actor import Actor
from control.authorisation import Role
from control.errors import Refused
from control.installation import Installation
from control.sign_in import WrongCredentials
from store.records import AuditEntry
from tests.control.conftest import CHEAP, PASSWORD, account, code_of, last_change
from tests.harness.pki import DAY, NOW

ADDRESS = "192.0.2.1"
OTHER_PASSWORD = "tractor moon horse"


def names(inst: Installation) -> list[str]:
    return [one.name for one in accounts.listing(inst)]


def entries(inst: Installation) -> list[AuditEntry]:
    """Those that are of no tenant, the oldest first."""
    return [one for one in audit_log.newest(inst, 1000) if one.tenant is None][::-1]


def test_an_account_is_created_listed_and_logged_without_its_password(inst: Installation) -> None:
    before = last_change(inst)
    ann = inst.acting(Actor("root", "the command line"))
    made = accounts.create(ann, "ann@acme.example", PASSWORD, Role.AUDITOR, ["default", "default"], NOW, CHEAP)
    assert (made.name, made.role, made.tenants, made.enabled, made.second_factor) == (
        "ann@acme.example", "auditor", ("default",), True, False,
    )  # fmt: skip
    assert accounts.listing(inst) == [made]
    (entry,) = entries(inst)
    assert (entry.actor, entry.origin, entry.action, entry.subject, entry.before) == (
        "root", "the command line", "admin.create", "ann@acme.example", None,
    )  # fmt: skip
    assert json.loads(entry.after or "") == {
        "name": "ann@acme.example", "role": "auditor", "tenants": ["default"], "enabled": True, "second_factor": False,
        "password_given_at": NOW.isoformat(),
    }  # fmt: skip
    assert last_change(inst) == before  # no working set has it, so no worker is told


@pytest.mark.parametrize("name", ["", "Ann", "a b", "-a", "a" * 65, "ann\n", "änn", "\ud800"])
def test_what_cannot_name_an_account_is_refused(inst: Installation, name: str) -> None:
    with pytest.raises(Refused, match="cannot name an account"):
        account(inst, name)
    with pytest.raises(Refused, match="there is no account"):
        accounts.show(inst, name, NOW)


def test_a_taken_name_a_common_password_and_a_tenant_that_is_none_are_refused(inst: Installation) -> None:
    account(inst, "ann")
    with pytest.raises(Refused, match="there is an account ann already"):
        account(inst, "ann")
    with pytest.raises(Refused, match="first that are guessed"):
        accounts.create(inst, "bob", "password1234", Role.OWNER, None, NOW, CHEAP)
    with pytest.raises(Refused, match="there is no tenant 'nowhere'"):
        account(inst, "bob", Role.OWNER, "nowhere")
    with pytest.raises(Refused, match="for no tenant at all"):
        accounts.create(inst, "bob", PASSWORD, Role.OWNER, [], NOW, CHEAP)
    assert names(inst) == ["ann"]
    assert len(entries(inst)) == 1


def test_the_last_enabled_owner_for_all_tenants_stays_one(inst: Installation) -> None:
    account(inst, "ann")
    account(inst, "bob")
    account(inst, "tenants-owner", Role.OWNER, "default")
    account(inst, "carl", Role.ADMINISTRATOR)
    accounts.disable(inst, "bob", NOW)
    logged = len(entries(inst))
    for attempt in (
        lambda: accounts.delete(inst, "ann", NOW),
        lambda: accounts.disable(inst, "ann", NOW),
        lambda: accounts.change(inst, "ann", NOW, Role.ADMINISTRATOR),
        lambda: accounts.change(inst, "ann", NOW, tenants=["default"]),
    ):
        with pytest.raises(Refused, match="ann is the last enabled owner for all tenants"):
            attempt()
    assert len(entries(inst)) == logged
    found = accounts.show(inst, "ann", NOW).account
    assert (found.role, found.tenants, found.enabled) == ("owner", None, True)
    accounts.enable(inst, "bob", NOW)
    accounts.delete(inst, "ann", NOW)
    assert names(inst) == ["bob", "carl", "tenants-owner"]


def test_another_role_and_other_tenants_are_told_before_and_after(inst: Installation) -> None:
    account(inst, "ann")
    account(inst, "bob", Role.AUDITOR)
    tenants.create(inst, "acme", NOW)
    accounts.change(inst, "bob", NOW, tenants=["default", "acme"])
    assert accounts.show(inst, "bob", NOW).account.role == "auditor"
    made = accounts.change(inst, "bob", NOW + DAY, Role.ADMINISTRATOR)
    assert (made.role, made.tenants, made.changed_at) == ("administrator", ("acme", "default"), NOW + DAY)
    entry = entries(inst)[-1]
    assert entry.action == "admin.change"
    assert [json.loads(text or "")["role"] for text in (entry.before, entry.after)] == ["auditor", "administrator"]
    assert [json.loads(text or "")["tenants"] for text in (entry.before, entry.after)] == [["acme", "default"]] * 2
    assert accounts.change(inst, "bob", NOW, all_tenants=True).tenants is None


def test_an_account_of_a_tenant_that_is_deleted_is_for_no_tenant(inst: Installation) -> None:
    tenants.create(inst, "acme", NOW)
    account(inst, "ann", Role.ADMINISTRATOR, "acme")
    tenants.delete(inst, "acme", NOW)
    tenants.create(inst, "acme", NOW)
    assert accounts.show(inst, "ann", NOW).account.tenants == ()


def test_a_disabled_account_is_out_at_once_and_comes_back_without_its_sessions(inst: Installation) -> None:
    account(inst, "root")
    account(inst, "ann")
    _, token = api_tokens.create(inst, "ci", "ann", NOW)
    begun = sign_in.sign_in(inst, "ann", PASSWORD, ADDRESS, NOW, CHEAP)
    details = accounts.show(inst, "ann", NOW)
    assert [one.id for one in details.sessions] == [begun.session.id]
    assert [one.name for one in details.tokens] == ["ci"]
    accounts.disable(inst, "ann", NOW)
    assert accounts.show(inst, "ann", NOW).sessions == ()
    assert api_tokens.authenticate(inst, token, NOW) is None
    with pytest.raises(WrongCredentials):
        sign_in.sign_in(inst, "ann", PASSWORD, ADDRESS, NOW, CHEAP)
    logged = len(entries(inst))
    accounts.disable(inst, "ann", NOW)
    assert len(entries(inst)) == logged
    accounts.enable(inst, "ann", NOW)
    assert api_tokens.authenticate(inst, token, NOW) is not None
    assert accounts.show(inst, "ann", NOW).sessions == ()


def test_another_password_ends_the_sessions_but_the_one_that_set_it(inst: Installation) -> None:
    account(inst, "ann")
    begun = [sign_in.sign_in(inst, "ann", PASSWORD, ADDRESS, NOW, CHEAP) for _ in range(3)]
    accounts.set_password(inst, "ann", OTHER_PASSWORD, NOW, CHEAP, but=begun[1].session.id, own=True)
    assert [one.id for one in accounts.show(inst, "ann", NOW).sessions] == [begun[1].session.id]
    with pytest.raises(WrongCredentials):
        sign_in.sign_in(inst, "ann", PASSWORD, ADDRESS, NOW, CHEAP)
    sign_in.sign_in(inst, "ann", OTHER_PASSWORD, ADDRESS, NOW, CHEAP)
    entry = next(one for one in entries(inst) if one.action == "admin.passwd")
    assert json.loads(entry.after or "") == {"name": "ann", "sessions_ended": 2, "password_given_at": None}


def test_a_deleted_account_takes_its_guesses_with_it(inst: Installation) -> None:
    account(inst, "root")
    account(inst, "ann")
    with pytest.raises(WrongCredentials):
        sign_in.sign_in(inst, "ann", "wrong", ADDRESS, NOW, CHEAP)
    assert accounts.show(inst, "ann", NOW).standing.wrong == 1
    accounts.delete(inst, "ann", NOW)
    with inst.store.reading() as c:
        assert c.exec_driver_sql("SELECT kind FROM guesses").scalars().all() == ["source"]


def test_no_secret_is_in_the_audit_log_or_the_store(inst: Installation) -> None:
    account(inst, "ann")
    enrolment = second_factor.begin(inst, "ann", NOW)
    code = code_of(enrolment.secret, NOW)
    codes = second_factor.confirm(inst, "ann", code, NOW)
    begun = sign_in.sign_in(inst, "ann", PASSWORD, ADDRESS, NOW, CHEAP)
    _, token = api_tokens.create(inst, "ci", "ann", NOW)
    secrets = [PASSWORD, enrolment.secret, *codes, begun.token, token]
    secrets += [one.replace("-", "") for one in codes] + [begun.token[4:], token[4:]]
    with inst.store.reading() as c:
        stored = "\n".join(c.connection.driver_connection.iterdump())  # type: ignore[union-attr] # sqlite3's own
    for secret in secrets:
        assert secret not in stored
        assert secret.encode().hex().upper() not in stored
        assert secret not in repr([enrolment, begun, accounts.show(inst, "ann", NOW)])


# the first owner


def test_the_link_makes_the_first_owner_once(inst: Installation) -> None:
    token = first_owner.link(inst, NOW)
    assert token is not None
    assert first_owner.is_open(inst, token, NOW)
    with pytest.raises(Refused, match="too short"):
        first_owner.redeem(inst, token, "ann", "short", NOW, CHEAP)
    made = first_owner.redeem(inst, token, "ann", PASSWORD, NOW, CHEAP)
    assert (made.role, made.tenants, made.changed_by) == ("owner", None, "ann")
    assert not first_owner.is_open(inst, token, NOW)
    with pytest.raises(Refused, match="this link has been used"):
        first_owner.redeem(inst, token, "bob", PASSWORD, NOW, CHEAP)
    assert first_owner.link(inst, NOW) is None
    assert names(inst) == ["ann"]


def test_a_link_expires_is_replaced_and_ends_with_another_owner(inst: Installation) -> None:
    first, second = first_owner.link(inst, NOW), first_owner.link(inst, NOW)
    assert first is not None
    assert second is not None
    assert not first_owner.is_open(inst, first, NOW)
    assert not first_owner.is_open(inst, second, NOW + first_owner.LASTS)
    assert not first_owner.is_open(inst, "spl_" + "x" * 43, NOW)
    account(inst, "carl", Role.ADMINISTRATOR)
    assert first_owner.is_open(inst, second, NOW)
    account(inst, "ann")
    with pytest.raises(Refused, match="this link has been used"):
        first_owner.redeem(inst, second, "bob", PASSWORD, NOW, CHEAP)


def test_what_is_tried_is_not_saved(inst: Installation) -> None:
    with inst.trying() as trial:
        account(trial, "ann")
        assert names(trial) == ["ann"]
    assert names(inst) == []
    assert not accounts.there_is_an_owner(inst)


def test_unlocking_is_told(inst: Installation) -> None:
    account(inst, "ann")
    for n in range(guessing.ACCOUNT.free):
        with pytest.raises(WrongCredentials):
            sign_in.sign_in(inst, "ann", "wrong", f"192.0.2.{n}", NOW, CHEAP)
    later = NOW + timedelta(seconds=1)
    with pytest.raises(guessing.TooManyGuesses):
        sign_in.sign_in(inst, "ann", PASSWORD, ADDRESS, later, CHEAP)
    accounts.enable(inst, "ann", later)
    assert entries(inst)[-1].action == "admin.enable"
    sign_in.sign_in(inst, "ann", PASSWORD, ADDRESS, later, CHEAP)
