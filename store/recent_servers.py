"""Servers that were judged in the last day: what each showed, and what was made of it.

For two questions of whoever changes a setting: which hosts a trusted CA vouches for, and what would become of them. It
is the one place where it is written down which hosts are visited, so there is no client in it, and it ends in a day.
What a server showed is kept once for all servers that show the same.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.sqlite import insert

from store.engine import Connection
from store.records import RecentServer
from store.tables import recent_chains as chains
from store.tables import recent_servers as servers

AGE = timedelta(days=1)
"""For how long it is known that a server was judged."""
MOST = 5000
"""Servers of one tenant; those not seen for longest go first."""
LARGEST = 64 * 1024
"""Bytes of certificates of one server that are kept; usual ones have under 8 KiB."""
MOST_BYTES = 32 << 20
"""Of certificates of one tenant: the servers stay known, of those not seen for longest without what they showed."""
_REPLACED = ("last_at", "chain_sha256", "shown", "anchor_sha256", "defects", "action")


def add(c: Connection, tenant_id: int, seen: Sequence[RecentServer]) -> None:
    """Write down servers, at least one, each once; what is known of one is replaced, unless that was seen later.

    Certificates of more than :data:`LARGEST` are left out.
    """
    digests = [_digest(one) for one in seen]
    kept = {
        digest: {
            "tenant_id": tenant_id, "sha256": digest, "presented": one.presented, "added": one.added,
            "size": _size(one),
        }
        for one, digest in zip(seen, digests, strict=True) if digest is not None
    }  # fmt: skip
    if kept:
        c.execute(insert(chains).on_conflict_do_nothing(), list(kept.values()))
    statement = insert(servers)
    replaced = statement.on_conflict_do_update(
        index_elements=[servers.c.tenant_id, servers.c.host, servers.c.port],
        set_={name: statement.excluded[name] for name in _REPLACED},
        where=servers.c.last_at <= statement.excluded.last_at,
    )
    rows = [
        {
            "tenant_id": tenant_id, "host": one.host, "port": one.port, "last_at": one.last_at,
            "chain_sha256": digest, "shown": one.shown, "anchor_sha256": one.anchor_sha256, "defects": one.defects,
            "action": one.action,
        }
        for one, digest in zip(seen, digests, strict=True)
    ]  # fmt: skip
    c.execute(replaced, rows)
    mine = servers.c.tenant_id == tenant_id
    latest = sa.select(servers.c.last_at).where(mine).order_by(servers.c.last_at.desc()).offset(MOST).limit(1)
    c.execute(sa.delete(servers).where(mine, servers.c.last_at <= latest.scalar_subquery()))
    _forget_unused(c, chains.c.tenant_id == tenant_id)
    if kept:
        _forget_too_large(c, tenant_id)


def listing(c: Connection, tenant_id: int, since: datetime, host: str | None = None) -> list[RecentServer]:
    """Those of a tenant that were seen since, by host and port; of one host, where it is given."""
    shown = sa.and_(chains.c.tenant_id == servers.c.tenant_id, chains.c.sha256 == servers.c.chain_sha256)
    added = sa.type_coerce(sa.func.coalesce(sa.type_coerce(chains.c.added, sa.Text), "[]"), chains.c.added.type)
    columns: tuple[sa.ColumnElement[Any], ...] = (
        servers.c.host, servers.c.port, servers.c.last_at, servers.c.shown, servers.c.anchor_sha256, servers.c.defects,
        servers.c.action, chains.c.presented, added,
    )  # fmt: skip
    statement = sa.select(*columns).select_from(servers.outerjoin(chains, shown))
    statement = statement.where(servers.c.tenant_id == tenant_id, servers.c.last_at >= since)
    if host is not None:
        statement = statement.where(servers.c.host == host)
    return [RecentServer(*row) for row in c.execute(statement.order_by(servers.c.host, servers.c.port))]


def hosts_by_anchor(c: Connection, tenant_id: int, since: datetime) -> dict[bytes, list[str]]:
    """The hosts whose chains ended in an anchor, under its SHA-256, in order; each once, whatever its ports."""
    statement = sa.select(servers.c.anchor_sha256, servers.c.host).distinct()
    statement = statement.where(
        servers.c.tenant_id == tenant_id, servers.c.last_at >= since, servers.c.anchor_sha256.is_not(None)
    )
    found: dict[bytes, list[str]] = {}
    for anchor, host in c.execute(statement.order_by(servers.c.host)):
        found.setdefault(anchor, []).append(host)
    return found


def forget_before(c: Connection, moment: datetime) -> None:
    """Forget what was not seen since, of every tenant."""
    c.execute(sa.delete(servers).where(servers.c.last_at < moment))
    _forget_unused(c)


def hosts(c: Connection) -> list[str]:
    """Every host of which something is known, of whatever tenant."""
    return list(c.execute(sa.select(servers.c.host).distinct()).scalars())


def forget_hosts(c: Connection, names: Iterable[str]) -> None:
    """Forget all that is known of these hosts, of every tenant."""
    if gone := [{"gone": name} for name in names]:
        c.execute(sa.delete(servers).where(servers.c.host == sa.bindparam("gone")), gone)
        _forget_unused(c)


def forget_all(c: Connection) -> None:
    """Forget everything."""
    c.execute(sa.delete(servers))
    c.execute(sa.delete(chains))


def _forget_unused(c: Connection, *where: sa.ColumnElement[bool]) -> None:
    """Forget what no server shows any more, of every tenant where no other condition is given."""
    uses = sa.exists().where(servers.c.tenant_id == chains.c.tenant_id, servers.c.chain_sha256 == chains.c.sha256)
    c.execute(sa.delete(chains).where(~uses, *where))


def _forget_too_large(c: Connection, tenant_id: int) -> None:
    """Forget what was shown by those not seen for longest, where all of it is too much."""
    mine = chains.c.tenant_id == tenant_id
    if (c.execute(sa.select(sa.func.sum(chains.c.size)).where(mine)).scalar_one() or 0) <= MOST_BYTES:
        return
    last = sa.func.max(servers.c.last_at)
    shown = sa.and_(servers.c.tenant_id == chains.c.tenant_id, servers.c.chain_sha256 == chains.c.sha256)
    statement = sa.select(chains.c.sha256, chains.c.size).select_from(chains.join(servers, shown)).where(mine)
    total = 0
    for digest, size in c.execute(statement.group_by(chains.c.sha256).order_by(last.desc())).all():
        total += size
        if total > MOST_BYTES:
            c.execute(sa.delete(chains).where(mine, chains.c.sha256 == digest))


def _size(one: RecentServer) -> int:
    return sum(map(len, (*(one.presented or ()), *one.added)))


def _digest(one: RecentServer) -> bytes | None:
    """What all that showed the same have in common; None where it is not kept."""
    if one.presented is None or _size(one) > LARGEST:
        return None
    digest = hashlib.sha256(len(one.presented).to_bytes(4))
    for der in (*one.presented, *one.added):
        digest.update(len(der).to_bytes(4))
        digest.update(der)
    return digest.digest()
