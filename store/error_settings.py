"""A tenant's rows of what to do about which defect. Names and actions are checked by who writes them."""

from __future__ import annotations

from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.dialects.sqlite import insert

from store.engine import Connection
from store.tables import error_settings


def rows(c: Connection, tenant_id: int) -> dict[str, str]:
    """Row to action, for the rows that are set."""
    statement = sa.select(error_settings.c.row, error_settings.c.action).where(error_settings.c.tenant_id == tenant_id)
    return {found.row: found.action for found in c.execute(statement)}


def set_row(c: Connection, tenant_id: int, row: str, action: str, now: datetime) -> None:
    """Set the row, whether or not it was set."""
    statement = insert(error_settings).values(tenant_id=tenant_id, row=row, action=action, changed_at=now)
    c.execute(
        statement.on_conflict_do_update(
            index_elements=[error_settings.c.tenant_id, error_settings.c.row],
            set_={"action": statement.excluded.action, "changed_at": statement.excluded.changed_at},
        )
    )


def unset_row(c: Connection, tenant_id: int, row: str) -> bool:
    """Take the row away. False where it was not set."""
    statement = sa.delete(error_settings).where(error_settings.c.tenant_id == tenant_id, error_settings.c.row == row)
    return c.execute(statement).rowcount == 1
