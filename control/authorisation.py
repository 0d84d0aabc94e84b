"""Who may do what: one pure function, :func:`may`, over two tables. ``docs/accounts.md`` shows them to people."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum


class Role(StrEnum):
    """What an account is for."""

    OWNER = "owner"
    ADMINISTRATOR = "administrator"
    AUDITOR = "auditor"


class Scope(StrEnum):
    """What an API token is for; to write includes to read."""

    READ = "read"
    WRITE = "write"


class Action(StrEnum):
    """What is asked for. With a tenant it is about that tenant; without one, about the installation as a whole."""

    VIEW = "view"
    """Settings, CAs, traffic, logs; of the installation: nodes, and what every tenant has."""
    CHANGE = "change"
    """CAs, error settings, exceptions, bypass rules, key managers, proxy users, WireGuard peers."""
    MANAGE_TENANTS = "manage_tenants"
    """Create (of the installation) and delete (of the tenant)."""
    VIEW_ACCOUNTS = "view_accounts"
    """Who has access, with which role, and which tokens there are."""
    MANAGE_ACCOUNTS = "manage_accounts"
    """Accounts of others, their passwords, second factors, sessions and tokens."""
    OWN_ACCOUNT = "own_account"
    """One's own password, second factor, sessions and tokens. No tenant matters."""


EVERYBODY = frozenset(Role)
ROLES: dict[Action, frozenset[Role]] = {
    Action.VIEW: EVERYBODY,
    Action.CHANGE: frozenset({Role.OWNER, Role.ADMINISTRATOR}),
    Action.MANAGE_TENANTS: frozenset({Role.OWNER}),
    Action.VIEW_ACCOUNTS: frozenset({Role.OWNER, Role.AUDITOR}),
    Action.MANAGE_ACCOUNTS: frozenset({Role.OWNER}),
    Action.OWN_ACCOUNT: EVERYBODY,
}
SCOPES: dict[Action, frozenset[Scope]] = {
    Action.VIEW: frozenset(Scope),
    Action.CHANGE: frozenset({Scope.WRITE}),
    Action.MANAGE_TENANTS: frozenset({Scope.WRITE}),
    Action.VIEW_ACCOUNTS: frozenset(Scope),
    # Whoever finds a token must not be able to make himself another way in, which outlives it.
    Action.MANAGE_ACCOUNTS: frozenset(),
    Action.OWN_ACCOUNT: frozenset(),
}


@dataclass(frozen=True, slots=True)
class Principal:
    """Who asks: an account, signed in (``scope`` is None), or one of its API tokens.

    ``tenants``: the names of those it is for; None: all there are and will be.
    """

    account: str
    role: Role
    tenants: frozenset[str] | None
    scope: Scope | None = None
    token: str | None = None
    """The API token's name."""


def may(who: Principal, action: Action, tenant: str | None) -> bool:
    """Whether it may do that with the tenant; None: with the installation as a whole, for which one must be for all."""
    if who.role not in ROLES[action]:
        return False
    if who.scope is not None and who.scope not in SCOPES[action]:
        return False
    if action is Action.OWN_ACCOUNT or who.tenants is None:
        return True
    return tenant is not None and tenant in who.tenants


def may_for_all_of(who: Principal, action: Action, tenants: Iterable[str] | None) -> bool:
    """Whether it may do that with each of the tenants of an account or token; with None or none, as for all."""
    names = tuple(tenants or ())
    return all(may(who, action, name) for name in names) if names else may(who, action, None)


def may_somewhere(who: Principal, action: Action) -> bool:
    """Whether there is anything at all that it may do that with: one of its tenants, or the installation as a whole."""
    return may(who, action, None) or any(may(who, action, name) for name in who.tenants or ())
