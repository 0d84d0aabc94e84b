"""How often in a row passwords and codes were wrong: of an account, of a name without one, from an address."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

import sqlalchemy as sa

from store.engine import Connection
from store.records import Guesses
from store.tables import guesses

Kind = Literal["account", "unknown", "source"]
MOST = 10_000
"""Rows of the kinds that strangers can make more of; the oldest go first."""


def of(c: Connection, kind: Kind, subject: str) -> Guesses | None:
    """What is counted."""
    statement = sa.select(guesses.c.count, guesses.c.last_at).where(_is(kind, subject))
    row = c.execute(statement).one_or_none()
    return None if row is None else Guesses(*row)


def save(c: Connection, kind: Kind, subject: str, count: int, now: datetime) -> None:
    """Count so many, the last one now."""
    values = {"count": count, "last_at": now}
    if c.execute(sa.update(guesses).where(_is(kind, subject)).values(values)).rowcount:
        return
    c.execute(sa.insert(guesses).values(kind=kind, subject=subject, **values))
    if kind != "account":
        newest = sa.select(guesses.c.last_at).where(guesses.c.kind == kind).order_by(guesses.c.last_at.desc())
        first_too_old = newest.offset(MOST).limit(1).scalar_subquery()
        c.execute(sa.delete(guesses).where(guesses.c.kind == kind, guesses.c.last_at <= first_too_old))


def give_back(c: Connection, kind: Kind, subject: str) -> None:
    """One was no wrong guess after all."""
    c.execute(sa.update(guesses).where(_is(kind, subject), guesses.c.count > 0).values(count=guesses.c.count - 1))


def clear(c: Connection, kind: Kind, subject: str) -> None:
    """Begin anew."""
    c.execute(sa.delete(guesses).where(_is(kind, subject)))


def forget(c: Connection, since: datetime) -> None:
    """Drop what was not guessed at since; what is counted of accounts stays."""
    c.execute(sa.delete(guesses).where(guesses.c.kind != "account", guesses.c.last_at < since))


def _is(kind: Kind, subject: str) -> sa.ColumnElement[bool]:
    return sa.and_(guesses.c.kind == kind, guesses.c.subject == subject)
