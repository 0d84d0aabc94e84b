"""Sessions of console and REST API, found by the SHA-256 of their token."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import sqlalchemy as sa

from store.engine import Connection
from store.records import Session
from store.tables import sessions

COLUMNS: tuple[sa.Column[Any], ...] = (
    sessions.c.id,
    sessions.c.account_id,
    sessions.c.awaits_code,
    sessions.c.origin,
    sessions.c.created_at,
    sessions.c.used_at,
    sessions.c.expires_at,
)


def add(
    c: Connection,
    account_id: int,
    sha256: bytes,
    origin: str,
    now: datetime,
    expires_at: datetime,
    *,
    awaits_code: bool = False,
) -> Session:
    """Begin one."""
    statement = sa.insert(sessions).values(
        account_id=account_id, sha256=sha256, awaits_code=awaits_code, origin=origin, created_at=now, used_at=now,
        expires_at=expires_at,
    )  # fmt: skip
    return Session(*c.execute(statement.returning(*COLUMNS)).one())


def by_sha256(c: Connection, sha256: bytes) -> Session | None:
    """The session of that token, whether or not it is over."""
    row = c.execute(sa.select(*COLUMNS).where(sessions.c.sha256 == sha256)).one_or_none()
    return None if row is None else Session(*row)


def listing(c: Connection, account_id: int) -> list[Session]:
    """An account's, the one used last first, whether or not they are over."""
    statement = sa.select(*COLUMNS).where(sessions.c.account_id == account_id)
    return [Session(*row) for row in c.execute(statement.order_by(sessions.c.used_at.desc(), sessions.c.id.desc()))]


def used(c: Connection, id: int, now: datetime) -> None:
    """Remember when it was used last."""
    c.execute(sa.update(sessions).where(sessions.c.id == id).values(used_at=now))


def rotate(c: Connection, id: int, sha256: bytes, now: datetime) -> None:
    """Give it another token. The old one opens nothing any more."""
    c.execute(sa.update(sessions).where(sessions.c.id == id).values(sha256=sha256, used_at=now))


def end(c: Connection, id: int) -> bool:
    """End it. False where there is none."""
    return c.execute(sa.delete(sessions).where(sessions.c.id == id)).rowcount == 1


def end_all(c: Connection, account_id: int, but: int | None = None) -> int:
    """End an account's, all of them or all but one; how many those were."""
    theirs = sessions.c.account_id == account_id
    if but is not None:
        theirs = sa.and_(theirs, sessions.c.id != but)
    return c.execute(sa.delete(sessions).where(theirs)).rowcount


def forget(c: Connection, expired_at: datetime, idle_since: datetime) -> None:
    """Drop those that are over: expired, or not used since."""
    over = sa.or_(sessions.c.expires_at <= expired_at, sessions.c.used_at <= idle_since)
    c.execute(sa.delete(sessions).where(over))
