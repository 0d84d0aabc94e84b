"""What traffic came to: verdicts by defect and action, ten minutes together, and the hosts that were blocked most.

They are sums that several workers add to. There is no client in them. They end in a week.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta

import sqlalchemy as sa
from sqlalchemy.dialects.sqlite import insert

from store.engine import Connection
from store.records import BlockedHost, VerdictCount
from store.tables import blocked_hosts as hosts
from store.tables import verdict_counts as verdicts

AGE = timedelta(days=7)
"""For how long they are kept."""
STEP = timedelta(minutes=10)
"""Verdicts are counted together for so long; it begins at whole ten minutes (UTC)."""
HOUR = timedelta(hours=1)
"""The same of blocked hosts."""
MOST_BLOCKED = 500
"""Of hosts with their defects in a tenant's hour; those that were blocked most stay."""
NONE = "none"
"""In place of the defect of a server without one."""


def add_verdicts(c: Connection, tenant_id: int, counts: Mapping[tuple[datetime, str, str], int]) -> None:
    """Add to the verdicts of a tenant: by the beginning of the step, first defect or :data:`NONE`, and action."""
    if not counts:
        return
    statement = insert(verdicts)
    added = statement.on_conflict_do_update(
        index_elements=[verdicts.c.tenant_id, verdicts.c.begins_at, verdicts.c.defect, verdicts.c.action],
        set_={"count": verdicts.c.count + statement.excluded.count},
    )
    rows = [
        {"tenant_id": tenant_id, "begins_at": begins, "defect": defect, "action": action, "count": count}
        for (begins, defect, action), count in counts.items()
    ]
    c.execute(added, rows)


def add_blocked(c: Connection, tenant_id: int, counts: Mapping[tuple[datetime, str, str], int]) -> None:
    """Add to the blocked hosts of a tenant: by the beginning of the hour, host, and first defect.

    Of an hour :data:`MOST_BLOCKED` stay, those with the highest counts.
    """
    if not counts:
        return
    statement = insert(hosts)
    added = statement.on_conflict_do_update(
        index_elements=[hosts.c.tenant_id, hosts.c.begins_at, hosts.c.host, hosts.c.defect],
        set_={"count": hosts.c.count + statement.excluded.count},
    )
    rows = [
        {"tenant_id": tenant_id, "begins_at": begins, "host": host, "defect": defect, "count": count}
        for (begins, host, defect), count in counts.items()
    ]
    c.execute(added, rows)
    for hour in {begins for begins, _, _ in counts}:
        its = sa.and_(hosts.c.tenant_id == tenant_id, hosts.c.begins_at == hour)
        highest = sa.select(hosts.c.host, hosts.c.defect).where(its)
        highest = highest.order_by(hosts.c.count.desc(), hosts.c.host, hosts.c.defect).limit(MOST_BLOCKED)
        c.execute(sa.delete(hosts).where(its, sa.tuple_(hosts.c.host, hosts.c.defect).not_in(highest)))


def verdict_counts(c: Connection, tenant_id: int, since: datetime, until: datetime) -> list[VerdictCount]:
    """Those of a tenant whose step begins from ``since`` on and before ``until``, the oldest first."""
    statement = sa.select(verdicts.c.begins_at, verdicts.c.defect, verdicts.c.action, verdicts.c.count).where(
        verdicts.c.tenant_id == tenant_id, verdicts.c.begins_at >= since, verdicts.c.begins_at < until
    )
    ordered = statement.order_by(verdicts.c.begins_at, verdicts.c.defect, verdicts.c.action)
    return [VerdictCount(*row) for row in c.execute(ordered)]


def top_blocked(c: Connection, tenant_id: int, since: datetime, most: int) -> list[BlockedHost]:
    """Of the hours that begin from ``since`` on, the ``most`` hosts of a tenant that were blocked most.

    Each with its defects, the most frequent first.
    """
    its = sa.and_(hosts.c.tenant_id == tenant_id, hosts.c.begins_at >= since)
    total = sa.func.sum(hosts.c.count)
    statement = sa.select(hosts.c.host, total, sa.func.max(hosts.c.begins_at)).where(its).group_by(hosts.c.host)
    leading = c.execute(statement.order_by(total.desc(), hosts.c.host).limit(most)).all()
    names = [host for host, _, _ in leading]
    by_defect = sa.select(hosts.c.host, hosts.c.defect, total).where(its, hosts.c.host.in_(names))
    defects: dict[str, dict[str, int]] = {}
    for host, defect, count in c.execute(by_defect.group_by(hosts.c.host, hosts.c.defect).order_by(total.desc())):
        defects.setdefault(host, {})[defect] = count
    return [BlockedHost(host, count, last, defects[host]) for host, count, last in leading]


def forget_before(c: Connection, moment: datetime) -> None:
    """Forget what began before, of every tenant."""
    c.execute(sa.delete(verdicts).where(verdicts.c.begins_at < moment))
    c.execute(sa.delete(hosts).where(hosts.c.begins_at < moment))


def blocked(c: Connection) -> list[str]:
    """Every host that is counted, of whatever tenant."""
    return list(c.execute(sa.select(hosts.c.host).distinct()).scalars())


def forget_blocked(c: Connection, names: Iterable[str] | None = None) -> None:
    """Forget these blocked hosts, of every tenant; None: all of them."""
    if names is None:
        c.execute(sa.delete(hosts))
    elif gone := [{"gone": name} for name in names]:
        c.execute(sa.delete(hosts).where(hosts.c.host == sa.bindparam("gone")), gone)
