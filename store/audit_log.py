"""The audit log: who changed what, when and from where, with what it was and what it became. Never key material."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import sqlalchemy as sa

from store.engine import Connection
from store.records import AuditEntry
from store.tables import audit_log

COLUMNS: tuple[sa.Column[Any], ...] = (
    audit_log.c.id,
    audit_log.c.tenant,
    audit_log.c.at,
    audit_log.c.actor,
    audit_log.c.origin,
    audit_log.c.action,
    audit_log.c.subject,
    audit_log.c.before,
    audit_log.c.after,
    audit_log.c.generation,
)


def write(
    c: Connection,
    tenant_id: int | None,
    tenant: str | None,
    now: datetime,
    actor: str,
    origin: str,
    action: str,
    subject: str,
    before: str | None,
    after: str | None,
    generation: int | None,
) -> None:
    """Write an entry, in the transaction of the change that it is about."""
    c.execute(
        sa.insert(audit_log).values(
            tenant_id=tenant_id, tenant=tenant, at=now, actor=actor, origin=origin, action=action, subject=subject,
            before=before, after=after, generation=generation,
        )
    )  # fmt: skip


def newest(c: Connection, most: int, tenant: str | None = None) -> list[AuditEntry]:
    """The latest entries, the newest first; of one tenant, or of all."""
    statement = sa.select(*COLUMNS).order_by(audit_log.c.id.desc()).limit(most)
    if tenant is not None:
        statement = statement.where(audit_log.c.tenant == tenant)
    return [AuditEntry(*row) for row in c.execute(statement)]


def between(c: Connection, tenant_id: int, after: int, until: int) -> list[AuditEntry]:
    """A tenant's entries of the generations after one and until another, in order."""
    statement = (
        sa.select(*COLUMNS)
        .where(audit_log.c.tenant_id == tenant_id, audit_log.c.generation > after, audit_log.c.generation <= until)
        .order_by(audit_log.c.id)
    )
    return [AuditEntry(*row) for row in c.execute(statement)]


def last_about(c: Connection, tenant_id: int, noun: str, name: str) -> AuditEntry | None:
    """The latest entry about something of a tenant by the name that it had before; ``noun``: how its actions begin."""
    statement = (
        sa.select(*COLUMNS)
        .where(
            audit_log.c.tenant_id == tenant_id,
            audit_log.c.action.startswith(f"{noun}.", autoescape=True),
            audit_log.c.subject == name,
        )
        .order_by(audit_log.c.id.desc())
        .limit(1)
    )
    row = c.execute(statement).one_or_none()
    return None if row is None else AuditEntry(*row)
