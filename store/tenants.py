"""Tenants, and their wrapped keys."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import sqlalchemy as sa

from store.engine import Connection
from store.records import Tenant
from store.tables import tenants

COLUMNS: tuple[sa.Column[Any], ...] = (tenants.c.id, tenants.c.name, tenants.c.generation, tenants.c.created_at)


def create(c: Connection, name: str, wrapped_key: bytes, now: datetime) -> Tenant:
    """Add a tenant of generation 0. Raises Conflict where the name is taken.

    A signing CA of its own has to be made its active one before the transaction ends, which fails otherwise.
    """
    statement = sa.insert(tenants).values(
        name=name,
        generation=0,
        wrapped_key=wrapped_key,
        active_signing_ca_id=0,
        active_signing_ca_state="ready",
        created_at=now,
    )
    row = c.execute(statement.returning(*COLUMNS)).one()
    return Tenant(*row)


def by_name(c: Connection, name: str) -> Tenant | None:
    """The tenant of that name."""
    row = c.execute(sa.select(*COLUMNS).where(tenants.c.name == name)).one_or_none()
    return None if row is None else Tenant(*row)


def listing(c: Connection) -> list[Tenant]:
    """All tenants, by name."""
    return [Tenant(*row) for row in c.execute(sa.select(*COLUMNS).order_by(tenants.c.name))]


def delete(c: Connection, id: int) -> bool:
    """Delete the tenant and all that is its own, its key included. False where there is none.

    Announce it first (:func:`store.changes.announce`): afterwards there is no generation to raise.
    """
    return c.execute(sa.delete(tenants).where(tenants.c.id == id)).rowcount == 1


def wrapped_key(c: Connection, id: int) -> bytes:
    """The tenant's key as the provider wrapped it. Raises KeyError where there is no such tenant."""
    wrapped: bytes | None = c.execute(sa.select(tenants.c.wrapped_key).where(tenants.c.id == id)).scalar_one_or_none()
    if wrapped is None:
        raise KeyError(f"there is no tenant {id}")
    return wrapped
