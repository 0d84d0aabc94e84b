"""Whose account or token whoever asks may see and manage: for the API and for pages.

An account is seen and managed by who may do so with each of its tenants; a token, by who may do so with its account.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from http import HTTPStatus

from console import problems
from console.visit import Visit
from control import accounts, api_tokens, tenants, tokens
from control.accounts import AccountDetails
from control.authorisation import Action, may_for_all_of
from control.errors import Refused
from store.records import Account, ApiToken


@dataclass(frozen=True, slots=True)
class Password:
    """A password that an account gets. ``made``: here, and so to be shown once."""

    text: str
    made: bool

    def __repr__(self) -> str:
        return f"Password(made={self.made})"


def given_or_made(password: str | None) -> Password:
    """The password that was given; without one, a new one of 125 random bits."""
    return Password(password, made=False) if password else Password(tokens.readable(), made=True)


def sees(visit: Visit, account: Account) -> bool:
    """Whether the account is there for him."""
    return may_for_all_of(visit.who, Action.VIEW_ACCOUNTS, account.tenants)


def manages(visit: Visit, account: Account) -> bool:
    """Whether he may change it."""
    return may_for_all_of(visit.who, Action.MANAGE_ACCOUNTS, account.tenants)


def need_for(visit: Visit, action: Action, names: Iterable[str] | None) -> None:
    """Raise Problem where he may not do that with an account for these tenants; None: for all."""
    for name in names if names is not None else (None,):
        visit.need(action, name)


def seen_accounts(visit: Visit) -> list[Account]:
    """The accounts that he may see, by name."""
    return [one for one in accounts.listing(visit.inst) if sees(visit, one)]


def account(visit: Visit, name: str, action: Action = Action.VIEW_ACCOUNTS) -> AccountDetails:
    """An account with which he may do that. Raises Problem; one that he must not see is not there for him."""
    try:
        found = accounts.show(visit.inst, name, visit.now)
    except Refused:
        raise _no_account(name) from None
    if not sees(visit, found.account):
        raise _no_account(name)
    if not may_for_all_of(visit.who, action, found.account.tenants):
        raise problems.forbidden(f"{visit.described} may not do that ({action.value}) with account {name}.")
    return found


def others(visit: Visit, name: str) -> AccountDetails:
    """An account that he manages, and that is not his own: that one he changes with his password at hand."""
    found = account(visit, name, Action.MANAGE_ACCOUNTS)
    if name == visit.who.account:
        raise problems.Problem(
            HTTPStatus.UNPROCESSABLE_ENTITY,
            "refused",
            "This is your own account: its password and second factor are changed, and its sessions ended, on the page "
            "Your account, where the current password is asked for.",
        )
    return found


def seen_tokens(visit: Visit) -> list[ApiToken]:
    """The tokens of the accounts that he may see, by name."""
    names = {one.name for one in seen_accounts(visit)}
    return [one for one in api_tokens.listing(visit.inst) if one.account in names]


def token(visit: Visit, name: str, action: Action = Action.VIEW_ACCOUNTS) -> ApiToken:
    """A token with whose account he may do that. Raises Problem."""
    found = next((one for one in seen_tokens(visit) if one.name == name), None)
    if found is None:
        raise problems.missing(f"There is no token {name[:200]!r} that you may see.")
    account(visit, found.account, action)
    return found


def own_token(visit: Visit, name: str) -> ApiToken:
    """A token of his own. Raises Problem."""
    found = next((one for one in api_tokens.listing(visit.inst, visit.who.account) if one.name == name), None)
    if found is None:
        raise problems.missing(f"You have no token {name[:200]!r}.")
    return found


@dataclass(frozen=True, slots=True)
class Logs:
    """Of which tenants he reads logs. ``ids`` None: of all, those that are gone included."""

    ids: tuple[int, ...] | None
    of_none: bool
    """With what is no tenant's: accounts and tokens, which not everybody sees."""


def logs(visit: Visit, tenant: str | None = None) -> Logs:
    """Which logs he may read: of all tenants that there are for him, or (he may) of that one alone.

    By the tenant's number: one that is gone may have had the same name.
    """
    if tenant is not None:
        return Logs((tenants.show(visit.inst, tenant).tenant.id,), of_none=False)
    of_none = visit.may(Action.VIEW_ACCOUNTS, None)
    if visit.may(Action.VIEW, None):
        return Logs(None, of_none)
    return Logs(tuple(one.id for one in visit.inst.tenants() if visit.sees(one.name)), of_none=False)


def _no_account(name: str) -> problems.Problem:
    return problems.missing(f"There is no account {name[:200]!r} that you may see.")
