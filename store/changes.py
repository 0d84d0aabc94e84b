"""The change feed: what a running daemon follows. Its ids only grow, so that a reader asks for those after its last."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import sqlalchemy as sa

from store.engine import Connection, directly
from store.records import Change
from store.tables import changes, tenants

COLUMNS: tuple[sa.Column[Any], ...] = (
    changes.c.id,
    changes.c.tenant_id,
    changes.c.generation,
    changes.c.kind,
    changes.c.at,
)
LATEST = f"SELECT max({changes.c.id.name}) FROM {changes.name}"  # noqa: S608 - names of our own


def announce(c: Connection, tenant_id: int, kind: str, now: datetime) -> int:
    """Raise the tenant's generation and tell of it, in the caller's transaction. Returns the new generation.

    Raises KeyError where there is no such tenant.
    """
    raised = (
        sa.update(tenants)
        .where(tenants.c.id == tenant_id)
        .values(generation=tenants.c.generation + 1)
        .returning(tenants.c.generation)
    )
    generation: int | None = c.execute(raised).scalar_one_or_none()
    if generation is None:
        raise KeyError(f"there is no tenant {tenant_id}")
    c.execute(sa.insert(changes).values(tenant_id=tenant_id, generation=generation, kind=kind, at=now))
    return generation


def latest(c: Connection) -> int:
    """The id of the last change; 0 where there is none. Cheap: every worker asks several times a second."""
    return directly(c, LATEST) or 0


def since(c: Connection, id: int) -> list[Change]:
    """The changes after that id, in order."""
    return [Change(*row) for row in c.execute(sa.select(*COLUMNS).where(changes.c.id > id).order_by(changes.c.id))]
