"""A tenant's bypass rules. That a pattern is one is checked by who writes it."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import sqlalchemy as sa

from store.engine import Connection
from store.records import BypassRule
from store.tables import bypass_rules

COLUMNS: tuple[sa.Column[Any], ...] = (
    bypass_rules.c.id,
    bypass_rules.c.tenant_id,
    bypass_rules.c.pattern,
    bypass_rules.c.reason,
    bypass_rules.c.created_at,
    bypass_rules.c.created_by,
    bypass_rules.c.expires_at,
)


def add(
    c: Connection, tenant_id: int, pattern: str, reason: str | None, now: datetime, by: str, expires_at: datetime | None
) -> BypassRule:
    """Add a rule. Raises Conflict where the tenant has one of that pattern."""
    statement = sa.insert(bypass_rules).values(
        tenant_id=tenant_id, pattern=pattern, reason=reason, created_at=now, created_by=by, expires_at=expires_at
    )
    return BypassRule(*c.execute(statement.returning(*COLUMNS)).one())


def listing(c: Connection, tenant_id: int) -> list[BypassRule]:
    """The tenant's rules, expired or not, by pattern."""
    statement = sa.select(*COLUMNS).where(bypass_rules.c.tenant_id == tenant_id).order_by(bypass_rules.c.pattern)
    return [BypassRule(*row) for row in c.execute(statement)]


def by_pattern(c: Connection, tenant_id: int, pattern: str) -> BypassRule | None:
    """The tenant's rule of that pattern."""
    statement = sa.select(*COLUMNS).where(bypass_rules.c.tenant_id == tenant_id, bypass_rules.c.pattern == pattern)
    row = c.execute(statement).one_or_none()
    return None if row is None else BypassRule(*row)


def by_author(c: Connection, tenant_id: int, by: str) -> list[BypassRule]:
    """The tenant's rules that are from somebody, expired or not."""
    statement = sa.select(*COLUMNS).where(bypass_rules.c.tenant_id == tenant_id, bypass_rules.c.created_by == by)
    return [BypassRule(*row) for row in c.execute(statement)]


def count(c: Connection, tenant_id: int) -> int:
    """How many rules the tenant has, expired ones too."""
    statement = sa.select(sa.func.count()).select_from(bypass_rules).where(bypass_rules.c.tenant_id == tenant_id)
    return c.execute(statement).scalar_one()


def remove(c: Connection, id: int) -> bool:
    """Remove it. False where there is none."""
    return c.execute(sa.delete(bypass_rules).where(bypass_rules.c.id == id)).rowcount == 1
