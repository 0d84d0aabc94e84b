"""Accounts, their sessions, and API tokens."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

from control.shown.text import day, minute
from store.records import Account, ApiToken, Session

if TYPE_CHECKING:
    from control.accounts import AccountDetails
    from control.guessing import Standing


def status(account: Account, standing: Standing) -> str:
    """``enabled``, ``disabled`` or ``locked``: too many guesses were wrong."""
    if not account.enabled:
        return "disabled"
    return "locked" if standing.locked else "enabled"


def tenants(account: Account) -> str:
    """For which tenants it is, in words."""
    return "all tenants" if account.tenants is None else ", ".join(account.tenants) or "no tenant"


def password(account: Account, now: datetime) -> str:
    """Whose password it is, in words: the person's own, or one that somebody gave, with its end."""
    from control import due

    until = due.given_until(account)
    if account.password_given_at is None or until is None:
        return "own"
    if due.given_over(account, now):
        return f"given on {minute(account.password_given_at)}, not changed by {minute(until)}: it lets nobody in"
    return f"given on {minute(account.password_given_at)}, to be changed by {minute(until)}"


def password_in_short(account: Account, now: datetime) -> str:
    """The same for a table."""
    from control import due

    until = due.given_until(account)
    if until is None:
        return "own"
    return "not changed in time" if due.given_over(account, now) else f"to be changed by {day(until)}"


def as_object(account: Account) -> dict[str, Any]:
    """An account for JSON; ``tenants`` is null where it is for all, the password's ends where it is one's own."""
    from control import due

    return {
        "name": account.name,
        "role": account.role,
        "tenants": account.tenants,
        "enabled": account.enabled,
        "second_factor": account.second_factor,
        "password_given_at": account.password_given_at,
        "password_to_be_changed_by": due.given_until(account),
        "created_at": account.created_at,
        "changed_at": account.changed_at,
        "changed_by": account.changed_by,
        "signed_in_at": account.signed_in_at,
    }


def standing_as_object(standing: Standing) -> dict[str, Any]:
    """How it stands with wrong guesses, for JSON."""
    return {"wrong_guesses": standing.wrong, "locked": standing.locked}


def details_as_object(details: AccountDetails) -> dict[str, Any]:
    """An account for JSON, with what belongs to it."""
    return {
        **as_object(details.account),
        "recovery_codes": details.recovery_codes,
        **standing_as_object(details.standing),
        "sessions": [session_as_object(one) for one in details.sessions],
        "tokens": [one.name for one in details.tokens],
    }


def session_as_object(session: Session) -> dict[str, Any]:
    """A session for JSON."""
    return {
        "id": session.id,
        "awaits_code": session.awaits_code,
        "origin": session.origin,
        "created_at": session.created_at,
        "used_at": session.used_at,
        "expires_at": session.expires_at,
    }


def token_status(token: ApiToken, now: datetime) -> str:
    """``active`` or ``expired``."""
    from control import api_tokens

    return "expired" if api_tokens.expired(token, now) else "active"


def token_tenants(token: ApiToken) -> str:
    """For which tenants it is, in words."""
    return "the account's tenants" if token.tenants is None else ", ".join(token.tenants) or "no tenant"


def token_as_object(token: ApiToken, now: datetime) -> dict[str, Any]:
    """A token for JSON, without what lets somebody in; ``tenants`` is null where it is for all of the account's."""
    return {
        "name": token.name,
        "account": token.account,
        "scope": token.scope,
        "tenants": token.tenants,
        "status": token_status(token, now),
        "created_at": token.created_at,
        "created_by": token.created_by,
        "expires_at": token.expires_at,
        "used_at": token.used_at,
    }
