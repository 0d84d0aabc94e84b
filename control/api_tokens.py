"""API tokens: a program's way in, in the name of an account, of which it can do a part."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from control import accounts, tokens
from control.authorisation import Principal, Role, Scope
from control.errors import Missing, Refused, Taken
from control.installation import Installation
from control.names import check_name
from control.sessions import USED_EVERY, principal_of
from store import accounts as stored_accounts
from store import api_tokens
from store.engine import Connection
from store.records import ApiToken

NOUN = "token"
LASTS = timedelta(days=90)
"""Where nothing else is said: a token that is forgotten ends by itself."""


def create(
    inst: Installation,
    name: str,
    account: str,
    now: datetime,
    scope: Scope = Scope.READ,
    tenants: Sequence[str] | None = None,
    expires_at: datetime | None = None,
) -> tuple[ApiToken, str]:
    """Make a token, and return it with its text, which nobody sees again.

    ``tenants``: None for all that the account has; ``expires_at``: None for never. Raises Refused.
    """
    check_name(name, "a token")
    if expires_at is not None and expires_at <= now:
        raise Refused(f"{expires_at:%Y-%m-%d %H:%M} UTC is past; give an end that is to come")
    text = tokens.new(tokens.API_TOKEN)
    with inst.changing_all() as connection:
        owner = accounts.named(connection, account)
        if scope is Scope.WRITE and owner.role == Role.AUDITOR:
            raise Refused(f"account {account} is an auditor and changes nothing; make the token with scope read")
        ids = accounts.tenant_ids(inst, connection, tenants)
        if owner.tenants is not None and (beyond := set(tenants or ()) - set(owner.tenants)):
            raise Refused(f"account {account} is not for tenant {', '.join(sorted(beyond))}; nor can its token be")
        if api_tokens.by_name(connection, name) is not None:
            raise Taken(f"there is a token {name} already; choose another name, or revoke it first")
        api_tokens.add(connection, owner.id, name, tokens.digest(text), scope, ids, now, inst.actor.name, expires_at)
        made = _named(connection, name)
        inst.record_for_all(connection, f"{NOUN}.create", name, None, told(made), now)
    return made, text


def listing(inst: Installation, account: str | None = None) -> list[ApiToken]:
    """All tokens, or an account's, expired or not, by name. Raises Refused where there is no such account."""
    with inst.reading_all() as connection:
        found = api_tokens.listing(connection)
        if account is None:
            return found
        id = accounts.named(connection, account).id
        return [one for one in found if one.account_id == id]


def revoke(inst: Installation, name: str, now: datetime) -> ApiToken:
    """Let nobody in with it any more, from the next request on. Returns what it was. Raises Refused."""
    with inst.changing_all() as connection:
        found = _named(connection, name)
        api_tokens.delete(connection, found.id)
        inst.record_for_all(connection, f"{NOUN}.revoke", name, told(found), None, now)
        return found


def authenticate(inst: Installation, text: str, now: datetime) -> Principal | None:
    """Who asks with that token, and for what it is good; None where it is none, expired, or its account disabled."""
    if not text.startswith(tokens.API_TOKEN):
        return None
    with inst.reading_all() as connection:
        found = api_tokens.by_sha256(connection, tokens.digest(text))
        account = None if found is None else stored_accounts.by_id(connection, found.account_id)
    if found is None or account is None or not account.enabled or expired(found, now):
        return None
    if found.used_at is None or now - found.used_at >= USED_EVERY:
        with inst.store.transaction() as connection:
            api_tokens.used(connection, found.id, now)
    whole = principal_of(account)
    return replace(whole, tenants=_both(whole.tenants, found.tenants), scope=Scope(found.scope), token=found.name)


def expired(token: ApiToken, now: datetime) -> bool:
    """Whether it no longer counts."""
    return token.expires_at is not None and token.expires_at <= now


def told(token: ApiToken) -> dict[str, object]:
    """What the audit log has of it."""
    return {
        "name": token.name,
        "account": token.account,
        "scope": token.scope,
        "tenants": None if token.tenants is None else list(token.tenants),
        "expires_at": None if token.expires_at is None else token.expires_at.isoformat(),
    }


def _both(account: frozenset[str] | None, token: tuple[str, ...] | None) -> frozenset[str] | None:
    """The tenants that are the account's and the token's."""
    if token is None:
        return account
    return frozenset(token) if account is None else account & frozenset(token)


def _named(connection: Connection, name: str) -> ApiToken:
    found = api_tokens.by_name(connection, name)
    if found is None:
        raise Missing(f"there is no token {name!r}; see: sallyport token list")
    return found
