"""Hosts for which clients refuse our certificate while they take it for others: what workers found."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta

import sqlalchemy as sa
from sqlalchemy.dialects.sqlite import insert

from store.engine import Connection
from store.records import Refusal
from store.tables import refusals

AGE = timedelta(days=30)
"""What nobody has refused for so long is forgotten: apps are updated, devices leave."""
MOST_EACH = 200
"""Rows of one client of a tenant."""
MOST = 10_000
"""Rows of one tenant; the oldest go first."""


CLOSED_COUNTS = 3
"""A client that only closed its connections counts from so many on: one may be an accident."""


def counting(group: Iterable[Refusal]) -> list[Refusal]:
    """Those, of one host, whose client counts as one that refuses it."""
    return [one for one in group if one.how == "alert" or one.count >= CLOSED_COUNTS]


def add(c: Connection, tenant_id: int, found: Sequence[Refusal]) -> None:
    """Add to what there is, at least one: counts add up, an alert says more than a closed connection."""
    statement = insert(refusals)
    merged = statement.on_conflict_do_update(
        index_elements=[refusals.c.tenant_id, refusals.c.host, refusals.c.client],
        set_={
            "count": refusals.c.count + statement.excluded.count,
            "how": sa.case((statement.excluded.how == "alert", "alert"), else_=refusals.c.how),
            "last_at": sa.func.max(refusals.c.last_at, statement.excluded.last_at),
        },
    )
    rows = [
        {
            "tenant_id": tenant_id, "host": one.host, "client": one.client, "count": one.count, "how": one.how,
            "first_at": one.first_at, "last_at": one.last_at,
        }
        for one in found
    ]  # fmt: skip
    c.execute(merged, rows)
    mine = refusals.c.tenant_id == tenant_id
    c.execute(sa.delete(refusals).where(mine, refusals.c.last_at < max(one.last_at for one in found) - AGE))
    # One client must not drive out what others were found with. In one pass, however many clients there are.
    newer = sa.func.row_number().over(partition_by=refusals.c.client, order_by=refusals.c.last_at.desc())
    ranked = sa.select(refusals.c.host, refusals.c.client, newer.label("place")).where(mine).subquery()
    over = sa.select(ranked.c.host, ranked.c.client).where(ranked.c.place > MOST_EACH)
    c.execute(sa.delete(refusals).where(mine, sa.tuple_(refusals.c.host, refusals.c.client).in_(over)))
    kept = sa.select(refusals.c.last_at).where(mine).order_by(refusals.c.last_at.desc()).offset(MOST).limit(1)
    c.execute(sa.delete(refusals).where(mine, refusals.c.last_at <= kept.scalar_subquery()))


def listing(c: Connection, tenant_id: int, since: datetime) -> list[Refusal]:
    """Those of a tenant that were seen since, by host and client."""
    columns = (
        refusals.c.host, refusals.c.client, refusals.c.count, refusals.c.how, refusals.c.first_at, refusals.c.last_at,
    )  # fmt: skip
    statement = sa.select(*columns).where(refusals.c.tenant_id == tenant_id, refusals.c.last_at >= since)
    return [Refusal(*row) for row in c.execute(statement.order_by(refusals.c.host, refusals.c.client))]


def by_alert(c: Connection, tenant_id: int, since: datetime, least: int) -> dict[str, int]:
    """Hosts that at least so many clients of a tenant have refused since by an alert, and how many did."""
    clients = sa.func.count().label("clients")
    statement = (
        sa.select(refusals.c.host, clients)
        .where(refusals.c.tenant_id == tenant_id, refusals.c.last_at >= since, refusals.c.how == "alert")
        .group_by(refusals.c.host)
        .having(clients >= least)
    )
    return {row.host: row.clients for row in c.execute(statement)}


def forget(c: Connection, tenant_id: int, host: str) -> int:
    """Drop what is known of a host; how many rows that were."""
    statement = sa.delete(refusals).where(refusals.c.tenant_id == tenant_id, refusals.c.host == host)
    return c.execute(statement).rowcount
