"""A tenant's exceptions to its error settings, for some hosts. What is in them is checked by who writes them."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import sqlalchemy as sa

from store.engine import Connection
from store.records import HostException
from store.tables import host_exceptions

COLUMNS: tuple[sa.Column[Any], ...] = (
    host_exceptions.c.id,
    host_exceptions.c.tenant_id,
    host_exceptions.c.pattern,
    host_exceptions.c.defect,
    host_exceptions.c.action,
    host_exceptions.c.fingerprint,
    host_exceptions.c.expires_at,
    host_exceptions.c.reason,
    host_exceptions.c.created_at,
    host_exceptions.c.created_by,
)


def add(
    c: Connection,
    tenant_id: int,
    pattern: str,
    defect: str,
    action: str,
    fingerprint: bytes | None,
    expires_at: datetime | None,
    reason: str,
    now: datetime,
    by: str,
) -> HostException:
    """Add an exception; ``fingerprint``: SHA-256 of the certificate or key that it is for, None: of any.

    Raises Conflict where the tenant has one for that pattern, defect and fingerprint, expired or not.
    """
    statement = sa.insert(host_exceptions).values(
        tenant_id=tenant_id,
        pattern=pattern,
        defect=defect,
        action=action,
        fingerprint=fingerprint,
        expires_at=expires_at,
        reason=reason,
        created_at=now,
        created_by=by,
    )
    return HostException(*c.execute(statement.returning(*COLUMNS)).one())


def listing(c: Connection, tenant_id: int) -> list[HostException]:
    """The tenant's exceptions, expired or not, by pattern, defect and age."""
    order = (host_exceptions.c.pattern, host_exceptions.c.defect, host_exceptions.c.id)
    statement = sa.select(*COLUMNS).where(host_exceptions.c.tenant_id == tenant_id).order_by(*order)
    return [HostException(*row) for row in c.execute(statement)]


def delete(c: Connection, id: int) -> bool:
    """Delete it. False where there is none."""
    return c.execute(sa.delete(host_exceptions).where(host_exceptions.c.id == id)).rowcount == 1
