"""The audit log: every change with who made it, when, from where, and what was before and after. No key material."""

from __future__ import annotations

import json
from datetime import datetime
from typing import TYPE_CHECKING

from control.actor import Actor
from control.names import storable
from store import audit_log
from store.engine import Connection
from store.records import AuditEntry, Tenant

if TYPE_CHECKING:
    from control.installation import Installation

MOST = 1000


def write(
    connection: Connection,
    actor: Actor,
    tenant: Tenant,
    action: str,
    subject: str,
    before: object,
    after: object,
    now: datetime,
) -> None:
    """Write what is done, in the transaction in which it is done."""
    audit_log.write(
        connection, tenant.id, tenant.name, now, actor.name, actor.origin, action, subject, _text(before), _text(after)
    )


def newest(inst: Installation, most: int = 50, tenant: str | None = None) -> list[AuditEntry]:
    """The latest entries, the newest first; of one tenant (which may be gone by now), or of all."""
    with inst.store.reading() as connection:
        return audit_log.newest(connection, min(most, MOST), tenant)


def what_happened(connection: Connection, tenant: Tenant, noun: str, name: str) -> str:
    """For who looks for something that is not there any more: what became of it, to be said behind that, or nothing."""
    entry = audit_log.last_about(connection, tenant.id, noun, name) if storable(name) else None
    if entry is None:
        return ""
    verb = {"rename": "renamed", "delete": "deleted", "add": "added"}.get(entry.action.partition(".")[2], "changed")
    after = json.loads(entry.after).get("name") if entry.after else None
    to = f" to {after!r}" if verb == "renamed" else ""
    return f"; it was {verb}{to} by {entry.actor} on {entry.at:%Y-%m-%d at %H:%M:%S} UTC"


def _text(value: object) -> str | None:
    return None if value is None else json.dumps(value, ensure_ascii=False, sort_keys=True)
