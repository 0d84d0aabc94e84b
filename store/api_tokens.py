"""API tokens, found by their SHA-256."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from store.accounts import tenant_names
from store.engine import Connection
from store.records import ApiToken
from store.tables import accounts, api_token_tenants, api_tokens

COLUMNS: tuple[sa.Column[Any], ...] = (
    api_tokens.c.id,
    api_tokens.c.account_id,
    accounts.c.name,
    api_tokens.c.name,
    api_tokens.c.scope,
    api_tokens.c.all_tenants,
    api_tokens.c.created_at,
    api_tokens.c.created_by,
    api_tokens.c.expires_at,
    api_tokens.c.used_at,
)


def add(
    c: Connection,
    account_id: int,
    name: str,
    sha256: bytes,
    scope: str,
    tenant_ids: Sequence[int] | None,
    now: datetime,
    by: str,
    expires_at: datetime | None,
) -> None:
    """Add one. ``tenant_ids``: None for all of the account's. Raises Conflict where the name is taken."""
    statement = sa.insert(api_tokens).values(
        account_id=account_id, name=name, sha256=sha256, scope=scope, all_tenants=tenant_ids is None, created_at=now,
        created_by=by, expires_at=expires_at,
    )  # fmt: skip
    id = c.execute(statement.returning(api_tokens.c.id)).scalar_one()
    if tenant_ids:
        c.execute(sa.insert(api_token_tenants), [{"api_token_id": id, "tenant_id": one} for one in tenant_ids])


def listing(c: Connection) -> list[ApiToken]:
    """All, expired or not, by name."""
    return _tokens(c, _select().order_by(api_tokens.c.name))


def by_name(c: Connection, name: str) -> ApiToken | None:
    """The token of that name."""
    return next(iter(_tokens(c, _select().where(api_tokens.c.name == name))), None)


def by_sha256(c: Connection, sha256: bytes) -> ApiToken | None:
    """The token itself, expired or not."""
    return next(iter(_tokens(c, _select().where(api_tokens.c.sha256 == sha256))), None)


def used(c: Connection, id: int, now: datetime) -> None:
    """Remember when it was used last."""
    c.execute(sa.update(api_tokens).where(api_tokens.c.id == id).values(used_at=now))


def delete(c: Connection, id: int) -> bool:
    """Delete it. False where there is none."""
    return c.execute(sa.delete(api_tokens).where(api_tokens.c.id == id)).rowcount == 1


def _select() -> sa.Select[Any]:
    return sa.select(*COLUMNS).join(accounts, accounts.c.id == api_tokens.c.account_id)


def _tokens(c: Connection, statement: sa.Select[Any]) -> list[ApiToken]:
    rows = c.execute(statement).all()
    names = tenant_names(c, api_token_tenants.c.api_token_id, [row[0] for row in rows])
    return [
        ApiToken(id, account_id, account, name, scope, None if for_all else names.get(id, ()), *more)
        for id, account_id, account, name, scope, for_all, *more in rows
    ]
