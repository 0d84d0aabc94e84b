"""A tenant's proxy users. What can be a name, and how a password is hashed, is for who writes them."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import sqlalchemy as sa

from store.engine import Connection
from store.records import ProxyUser
from store.tables import proxy_users

COLUMNS: tuple[sa.Column[Any], ...] = (
    proxy_users.c.id,
    proxy_users.c.tenant_id,
    proxy_users.c.name,
    proxy_users.c.created_at,
    proxy_users.c.changed_at,
    proxy_users.c.changed_by,
)


def add(c: Connection, tenant_id: int, name: str, hashed: str, now: datetime, by: str) -> ProxyUser:
    """Add a user. Raises Conflict where the tenant has one of that name."""
    statement = sa.insert(proxy_users).values(
        tenant_id=tenant_id, name=name, hash=hashed, created_at=now, changed_at=now, changed_by=by
    )
    return ProxyUser(*c.execute(statement.returning(*COLUMNS)).one())


def listing(c: Connection, tenant_id: int) -> list[ProxyUser]:
    """The tenant's users, by name."""
    statement = sa.select(*COLUMNS).where(proxy_users.c.tenant_id == tenant_id).order_by(proxy_users.c.name)
    return [ProxyUser(*row) for row in c.execute(statement)]


def hashes(c: Connection, tenant_id: int) -> dict[str, str]:
    """The hashes of the tenant's users, by name."""
    statement = sa.select(proxy_users.c.name, proxy_users.c.hash).where(proxy_users.c.tenant_id == tenant_id)
    return {row[0]: row[1] for row in c.execute(statement)}


def by_name(c: Connection, tenant_id: int, name: str) -> ProxyUser | None:
    """The tenant's user of that name."""
    statement = sa.select(*COLUMNS).where(proxy_users.c.tenant_id == tenant_id, proxy_users.c.name == name)
    row = c.execute(statement).one_or_none()
    return None if row is None else ProxyUser(*row)


def count(c: Connection, tenant_id: int) -> int:
    """How many users the tenant has."""
    statement = sa.select(sa.func.count()).select_from(proxy_users).where(proxy_users.c.tenant_id == tenant_id)
    return c.execute(statement).scalar_one()


def set_hash(c: Connection, id: int, hashed: str, now: datetime, by: str) -> bool:
    """Give the user another password. False where there is none."""
    statement = sa.update(proxy_users).where(proxy_users.c.id == id)
    return c.execute(statement.values(hash=hashed, changed_at=now, changed_by=by)).rowcount == 1


def remove(c: Connection, id: int) -> bool:
    """Remove it. False where there is none."""
    return c.execute(sa.delete(proxy_users).where(proxy_users.c.id == id)).rowcount == 1
