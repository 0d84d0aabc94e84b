"""The audit log: who changed what, when and from where, with what it was and what it became. Never key material."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
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


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which entries are wanted; what is not said matters not. ``actor`` and ``subject`` are parts of what they are.

    ``action``: ``noun.verb``, or a noun for all its verbs. ``since`` is within, ``until`` is not.
    """

    tenant: str | None = None
    """By name; it may be gone by now."""
    tenant_ids: Collection[int] | None = None
    """Of these alone; None: of all."""
    of_none: bool = True
    """With those that are no tenant's."""
    actor: str = ""
    action: str = ""
    subject: str = ""
    since: datetime | None = None
    until: datetime | None = None
    before: int | None = None
    """With a smaller id: those that come next, where the newest come first."""


ANY = Wanted()


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


def newest(c: Connection, most: int, wanted: Wanted = ANY) -> list[AuditEntry]:
    """The latest entries that are wanted, the newest first."""
    statement = sa.select(*COLUMNS).where(*_conditions(wanted)).order_by(audit_log.c.id.desc()).limit(most)
    return [AuditEntry(*row) for row in c.execute(statement)]


def actions(c: Connection, wanted: Wanted) -> list[str]:
    """Every action that there is a wanted entry of, in order."""
    statement = sa.select(audit_log.c.action).where(*_conditions(wanted)).distinct().order_by(audit_log.c.action)
    return list(c.execute(statement).scalars())


def _conditions(wanted: Wanted) -> list[sa.ColumnElement[bool]]:
    log, found = audit_log.c, list[sa.ColumnElement[bool]]()
    if wanted.tenant is not None:
        found.append(log.tenant == wanted.tenant)
    if wanted.tenant_ids is not None:
        of_these = log.tenant_id.in_(list(wanted.tenant_ids))
        found.append(sa.or_(of_these, log.tenant_id.is_(None)) if wanted.of_none else of_these)
    elif not wanted.of_none:
        found.append(log.tenant_id.is_not(None))
    if wanted.actor:
        found.append(log.actor.icontains(wanted.actor, autoescape=True))
    if wanted.subject:
        found.append(log.subject.icontains(wanted.subject, autoescape=True))
    if wanted.action:
        below = log.action.startswith(f"{wanted.action}.", autoescape=True)
        found.append(sa.or_(log.action == wanted.action, below))
    if wanted.since is not None:
        found.append(log.at >= wanted.since)
    if wanted.until is not None:
        found.append(log.at < wanted.until)
    if wanted.before is not None:
        found.append(log.id < wanted.before)
    return found


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
