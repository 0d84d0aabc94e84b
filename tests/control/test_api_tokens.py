from __future__ import annotations

import json

import pytest

from control import accounts, api_tokens, audit_log, tenants
from control.actor import Actor
from control.authorisation import Principal, Role, Scope
from control.errors import Refused
from control.installation import Installation
from tests.control.conftest import account
from tests.harness.pki import DAY, NOW


def test_a_token_is_shown_once_listed_and_logged(inst: Installation) -> None:
    account(inst, "ann")
    made, text = api_tokens.create(inst.acting(Actor("root", "here")), "ci", "ann", NOW, Scope.WRITE, None, NOW + DAY)
    assert text.startswith("spt_")
    assert api_tokens.listing(inst) == api_tokens.listing(inst, "ann") == [made]
    assert (made.account, made.scope, made.tenants, made.created_by, made.used_at) == (
        "ann",
        "write",
        None,
        "root",
        None,
    )
    entry = audit_log.newest(inst)[0]
    assert (entry.actor, entry.action, entry.subject) == ("root", "token.create", "ci")
    assert json.loads(entry.after or "") == {
        "name": "ci", "account": "ann", "scope": "write", "tenants": None, "expires_at": (NOW + DAY).isoformat(),
    }  # fmt: skip
    assert text not in repr(made)


def test_a_token_is_its_accounts_until_it_expires_or_is_revoked(inst: Installation) -> None:
    account(inst, "ann", Role.ADMINISTRATOR)
    _, text = api_tokens.create(inst, "ci", "ann", NOW, expires_at=NOW + DAY)
    expected = Principal("ann", Role.ADMINISTRATOR, None, Scope.READ, "ci")
    assert api_tokens.authenticate(inst, text, NOW + DAY / 2) == expected
    assert api_tokens.listing(inst)[0].used_at == NOW + DAY / 2
    assert api_tokens.authenticate(inst, text, NOW + DAY) is None
    revoked = api_tokens.revoke(inst, "ci", NOW)
    assert revoked.name == "ci"
    assert api_tokens.authenticate(inst, text, NOW) is None
    with pytest.raises(Refused, match="there is no token 'ci'"):
        api_tokens.revoke(inst, "ci", NOW)
    assert audit_log.newest(inst)[0].action == "token.revoke"


def test_a_token_reaches_the_tenants_that_are_its_own_and_its_accounts(inst: Installation) -> None:
    for name in ("a", "b", "c"):
        tenants.create(inst, name, NOW)
    account(inst, "root")
    account(inst, "ann", Role.ADMINISTRATOR, "a", "b")
    _, whole = api_tokens.create(inst, "whole", "ann", NOW)
    _, part = api_tokens.create(inst, "part", "ann", NOW, Scope.WRITE, ["a", "b"])

    def reached(text: str) -> frozenset[str] | None:
        found = api_tokens.authenticate(inst, text, NOW)
        assert found is not None
        return found.tenants

    assert (reached(whole), reached(part)) == ({"a", "b"}, {"a", "b"})
    accounts.change(inst, "ann", NOW, tenants=["b", "c"])
    assert (reached(whole), reached(part)) == ({"b", "c"}, {"b"})
    accounts.change(inst, "ann", NOW, all_tenants=True)
    assert (reached(whole), reached(part)) == (None, {"a", "b"})
    tenants.delete(inst, "a", NOW)
    tenants.delete(inst, "b", NOW)
    assert (reached(whole), reached(part)) == (None, frozenset())


def test_a_token_that_could_do_more_than_its_account_is_refused(inst: Installation) -> None:
    tenants.create(inst, "acme", NOW)
    account(inst, "ann", Role.AUDITOR, "acme")
    for tried, why in (
        (lambda: api_tokens.create(inst, "ci", "ann", NOW, Scope.WRITE), "is an auditor and changes nothing"),
        (lambda: api_tokens.create(inst, "ci", "ann", NOW, tenants=["default"]), "is not for tenant default"),
        (lambda: api_tokens.create(inst, "ci", "ann", NOW, tenants=[]), "for no tenant at all"),
        (lambda: api_tokens.create(inst, "ci", "ann", NOW, tenants=["nowhere"]), "there is no tenant 'nowhere'"),
        (lambda: api_tokens.create(inst, "ci", "ann", NOW, expires_at=NOW), "is past"),
        (lambda: api_tokens.create(inst, "a\nb", "ann", NOW), "cannot name a token"),
        (lambda: api_tokens.create(inst, "ci", "bob", NOW), "there is no account 'bob'"),
    ):
        with pytest.raises(Refused, match=why):
            tried()
    assert api_tokens.listing(inst) == []
    api_tokens.create(inst, "ci", "ann", NOW)
    with pytest.raises(Refused, match="there is a token ci already"):
        api_tokens.create(inst, "ci", "ann", NOW)


@pytest.mark.parametrize("text", ["", "spt_", "spt_" + "x" * 43, "sps_" + "x" * 43, "\ud800", "spt_\ud800"])
def test_what_is_no_token_is_nobodys(inst: Installation, text: str) -> None:
    assert api_tokens.authenticate(inst, text, NOW) is None


def test_a_deleted_accounts_token_is_gone(inst: Installation) -> None:
    account(inst, "root")
    account(inst, "ann")
    _, text = api_tokens.create(inst, "ci", "ann", NOW)
    accounts.delete(inst, "ann", NOW)
    assert api_tokens.authenticate(inst, text, NOW) is None
    assert api_tokens.listing(inst) == []
