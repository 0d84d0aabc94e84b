"""The one row about the installation itself."""

from __future__ import annotations

from datetime import datetime

import sqlalchemy as sa

from store.engine import Connection
from store.tables import installation


def name(c: Connection) -> str | None:
    """The installation's random name; None as long as it is not set up."""
    found: str | None = c.execute(sa.select(installation.c.name)).scalar_one_or_none()
    return found


def create(c: Connection, name: str, now: datetime) -> None:
    """Write the row. Raises Conflict where it is there."""
    c.execute(sa.insert(installation).values(id=1, name=name, created_at=now))
