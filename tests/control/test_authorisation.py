"""A test for each cell of the tables in docs/accounts.md, and that these are the tables."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from control.authorisation import Action, Principal, Role, Scope, may, may_for_all_of

DOCS = Path(__file__).parents[2] / "docs" / "accounts.md"
ROLE_CELLS = {
    # action: owner, administrator, auditor
    "view": (True, True, True),
    "change": (True, True, False),
    "manage_tenants": (True, False, False),
    "view_accounts": (True, False, True),
    "manage_accounts": (True, False, False),
    "own_account": (True, True, True),
}
SCOPE_CELLS = {
    # action: read, write
    "view": (True, True),
    "change": (False, True),
    "manage_tenants": (False, True),
    "view_accounts": (True, True),
    "manage_accounts": (False, False),
    "own_account": (False, False),
}
ROLES = [(action, role, cells[n]) for action, cells in ROLE_CELLS.items() for n, role in enumerate(Role)]
SCOPES = [(action, scope, cells[n]) for action, cells in SCOPE_CELLS.items() for n, scope in enumerate(Scope)]


def test_the_tables_have_a_row_for_each_action() -> None:
    assert set(ROLE_CELLS) == set(SCOPE_CELLS) == set(Action)


@pytest.mark.parametrize(("action", "role", "allowed"), ROLES)
def test_what_a_role_for_all_tenants_may(action: str, role: Role, allowed: bool) -> None:
    who = Principal("ann", role, None)
    assert may(who, Action(action), "acme") is allowed
    assert may(who, Action(action), None) is allowed


@pytest.mark.parametrize(("action", "role", "allowed"), ROLES)
def test_what_a_role_for_one_tenant_may_there_elsewhere_and_in_the_installation(
    action: str, role: Role, allowed: bool
) -> None:
    who = Principal("ann", role, frozenset({"acme"}))
    own = action == "own_account"
    assert may(who, Action(action), "acme") is allowed
    assert may(who, Action(action), "other") is own
    assert may(who, Action(action), None) is own


@pytest.mark.parametrize("role", Role)
@pytest.mark.parametrize("action", Action)
def test_who_is_for_no_tenant_any_more_may_nothing_but_see_to_himself(action: Action, role: Role) -> None:
    who = Principal("ann", role, frozenset())
    assert may(who, action, "acme") is may(who, action, None) is (action is Action.OWN_ACCOUNT)


@pytest.mark.parametrize(("action", "scope", "allowed"), SCOPES)
def test_what_an_owners_token_may(action: str, scope: Scope, allowed: bool) -> None:
    assert may(Principal("ann", Role.OWNER, None, scope), Action(action), "acme") is allowed
    assert may(Principal("ann", Role.OWNER, None, scope), Action(action), None) is allowed
    assert may(Principal("ann", Role.OWNER, frozenset({"acme"}), scope), Action(action), "acme") is allowed
    assert may(Principal("ann", Role.OWNER, frozenset({"acme"}), scope), Action(action), "other") is False


@pytest.mark.parametrize("scope", Scope)
@pytest.mark.parametrize("role", Role)
@pytest.mark.parametrize("action", Action)
def test_a_token_may_never_more_than_its_account(action: Action, role: Role, scope: Scope) -> None:
    for tenants in (None, frozenset({"acme"}), frozenset[str]()):
        for tenant in ("acme", "other", None):
            if may(Principal("ann", role, tenants, scope), action, tenant):
                assert may(Principal("ann", role, tenants), action, tenant)


def test_an_account_is_managed_by_who_may_for_each_of_its_tenants() -> None:
    every, some = Principal("ann", Role.OWNER, None), Principal("bob", Role.OWNER, frozenset({"a", "b"}))
    for tenants, expected in ((None, False), ((), False), (("a",), True), (("a", "b"), True), (("a", "c"), False)):
        assert may_for_all_of(some, Action.MANAGE_ACCOUNTS, tenants) is expected
        assert may_for_all_of(every, Action.MANAGE_ACCOUNTS, tenants)


def test_the_documentation_has_these_tables() -> None:
    rows = re.findall(r"^\| `(\w+)` \|.*?\| ((?:yes|no)(?: \| (?:yes|no)){4}) \|$", DOCS.read_text(), re.MULTILINE)
    documented = {action: tuple(cell == "yes" for cell in cells.split(" | ")) for action, cells in rows}
    assert documented == {action: ROLE_CELLS[action] + SCOPE_CELLS[action] for action in ROLE_CELLS}
