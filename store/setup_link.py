"""The one link with which the first owner is made. Only the SHA-256 of its token is here."""

from __future__ import annotations

from datetime import datetime

import sqlalchemy as sa

from store.engine import Connection
from store.tables import setup_link


def save(c: Connection, sha256: bytes, now: datetime, expires_at: datetime) -> None:
    """Save one, in place of another."""
    clear(c)
    c.execute(sa.insert(setup_link).values(id=1, sha256=sha256, created_at=now, expires_at=expires_at))


def there(c: Connection, sha256: bytes, now: datetime) -> bool:
    """Whether this is the link, and not expired."""
    statement = sa.select(setup_link.c.id).where(setup_link.c.sha256 == sha256, setup_link.c.expires_at > now)
    return c.execute(statement).scalar_one_or_none() is not None


def clear(c: Connection) -> None:
    """It opens nothing any more."""
    c.execute(sa.delete(setup_link))
