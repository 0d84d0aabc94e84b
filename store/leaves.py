"""Leaf keys, and the record of every leaf.

``record`` is on the way of each new host: one statement for many rows, which SQLAlchemy compiles once and the driver
gets as it is, since what SQLAlchemy does for each execution costs as much as the database's work.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Dialect

from store.engine import Connection, many_directly
from store.records import IssuedLeaf, Leaf, LeafKey, NewLeaf
from store.tables import leaf_keys, leaves, signing_cas, tenants

KEY_COLUMNS: tuple[sa.Column[Any], ...] = (
    leaf_keys.c.id,
    leaf_keys.c.tenant_id,
    leaf_keys.c.signing_ca_id,
    leaf_keys.c.kind,
    leaf_keys.c.sealed,
    leaf_keys.c.created_at,
)
COLUMNS: tuple[sa.Column[Any], ...] = (
    leaves.c.id,
    leaves.c.tenant_id,
    leaves.c.signing_ca_id,
    leaves.c.leaf_key_id,
    leaves.c.host,
    leaves.c.serial,
    leaves.c.not_before,
    leaves.c.not_after,
    leaves.c.certificate,
    leaves.c.issued_at,
)
NEWEST = (
    sa.select(*COLUMNS)
    .where(
        leaves.c.leaf_key_id == sa.bindparam("leaf_key_id"),
        leaves.c.host == sa.bindparam("host"),
        leaves.c.signing_ca_id == sa.bindparam("signing_ca_id"),
        leaves.c.tenant_id == sa.bindparam("tenant_id"),
    )
    .order_by(leaves.c.id.desc())
    .limit(1)
)

ISSUED = (
    sa.select(
        leaves.c.id,
        tenants.c.name,
        signing_cas.c.name,
        leaves.c.host,
        leaves.c.serial,
        leaves.c.not_before,
        leaves.c.not_after,
        leaves.c.certificate,
        leaves.c.issued_at,
    )
    .join(tenants, tenants.c.id == leaves.c.tenant_id)
    .join(signing_cas, signing_cas.c.id == leaves.c.signing_ca_id)
    .order_by(leaves.c.id.desc())
)


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which leaves are wanted; what is not said matters not. ``since`` is within, ``until`` is not."""

    tenant_ids: Collection[int] | None = None
    """Of these tenants alone; None: of all."""
    host: str = ""
    """A part of the host's name."""
    signing_ca: str = ""
    serial: str = ""
    since: datetime | None = None
    until: datetime | None = None
    before: int | None = None
    """With a smaller id: those that come next, where the newest come first."""
    id: int | None = None


def issued(c: Connection, most: int, wanted: Wanted) -> list[IssuedLeaf]:
    """The leaves that are wanted, the last recorded first."""
    conditions = list[sa.ColumnElement[bool]]()
    if wanted.tenant_ids is not None:
        conditions.append(leaves.c.tenant_id.in_(list(wanted.tenant_ids)))
    if wanted.host:
        conditions.append(leaves.c.host.icontains(wanted.host, autoescape=True))
    if wanted.signing_ca:
        conditions.append(signing_cas.c.name == wanted.signing_ca)
    if wanted.serial:
        conditions.append(leaves.c.serial == wanted.serial)
    if wanted.since is not None:
        conditions.append(leaves.c.issued_at >= wanted.since)
    if wanted.until is not None:
        conditions.append(leaves.c.issued_at < wanted.until)
    if wanted.before is not None:
        conditions.append(leaves.c.id < wanted.before)
    if wanted.id is not None:
        conditions.append(leaves.c.id == wanted.id)
    return [IssuedLeaf(*row) for row in c.execute(ISSUED.where(*conditions).limit(most))]


def add_key(c: Connection, tenant_id: int, signing_ca_id: int, kind: str, sealed: bytes, now: datetime) -> LeafKey:
    """Add a sealed leaf key of kind ``ecdsa`` or ``rsa``."""
    statement = sa.insert(leaf_keys).values(
        tenant_id=tenant_id, signing_ca_id=signing_ca_id, kind=kind, sealed=sealed, created_at=now
    )
    return LeafKey(*c.execute(statement.returning(*KEY_COLUMNS)).one())


def newest_key(c: Connection, tenant_id: int, signing_ca_id: int, kind: str) -> LeafKey | None:
    """The youngest key of that kind under that signing CA, those that were retired aside."""
    return next(iter(newest_keys(c, tenant_id, signing_ca_id, kind, 1)), None)


def newest_keys(c: Connection, tenant_id: int, signing_ca_id: int, kind: str, most: int) -> list[LeafKey]:
    """The same, and those before it, the youngest first."""
    statement = (
        sa.select(*KEY_COLUMNS)
        .where(
            leaf_keys.c.tenant_id == tenant_id,
            leaf_keys.c.signing_ca_id == signing_ca_id,
            leaf_keys.c.kind == kind,
            leaf_keys.c.sealed != b"",
        )
        .order_by(leaf_keys.c.id.desc())
        .limit(most)
    )
    return [LeafKey(*row) for row in c.execute(statement)]


def key_by_id(c: Connection, tenant_id: int, leaf_key_id: int) -> LeafKey | None:
    """The leaf key of that id, where it is that tenant's and was not retired."""
    statement = sa.select(*KEY_COLUMNS).where(
        leaf_keys.c.id == leaf_key_id, leaf_keys.c.tenant_id == tenant_id, leaf_keys.c.sealed != b""
    )
    row = c.execute(statement).one_or_none()
    return None if row is None else LeafKey(*row)


def record(c: Connection, rows: Sequence[NewLeaf]) -> None:
    """Record the leaves, all or none. Raises Conflict where a serial was used before by the same signing CA."""
    if not rows:
        return
    statement, instant = _insert(c.dialect)
    many_directly(
        c,
        statement,
        [
            (
                row.tenant_id,
                row.signing_ca_id,
                row.leaf_key_id,
                row.host,
                row.serial,
                instant(row.not_before),
                instant(row.not_after),
                row.certificate,
                instant(row.issued_at),
            )
            for row in rows
        ],
    )


@lru_cache(maxsize=8)
def _insert(dialect: Dialect) -> tuple[str, Callable[[datetime], Any]]:
    """The statement that records a leaf, as this dialect says it, and what turns an instant into its parameter."""
    compiled = sa.insert(leaves).compile(dialect=dialect, column_keys=[column.name for column in COLUMNS[1:]])
    if compiled.positiontup != [column.name for column in COLUMNS[1:]]:
        raise NotImplementedError(f"the parameters of {dialect.name} have names or another order")
    to_driver = leaves.c.issued_at.type.dialect_impl(dialect).bind_processor(dialect)
    return str(compiled), to_driver or (lambda instant: instant)


def hosts(c: Connection, leaf_key_id: int, most: int) -> list[str] | None:
    """The hosts that have leaves under that key; None where they are more than ``most``."""
    statement = sa.select(leaves.c.host).where(leaves.c.leaf_key_id == leaf_key_id).distinct().limit(most + 1)
    found = list(c.execute(statement).scalars())
    return None if len(found) > most else found


def newest(c: Connection, tenant_id: int, signing_ca_id: int, leaf_key_id: int, host: str) -> Leaf | None:
    """The leaf recorded last for the host under that key."""
    parameters = {"tenant_id": tenant_id, "signing_ca_id": signing_ca_id, "leaf_key_id": leaf_key_id, "host": host}
    row = c.execute(NEWEST, parameters).one_or_none()
    return None if row is None else Leaf(*row)


def of_host(c: Connection, tenant_id: int, host: str, limit: int) -> list[Leaf]:
    """The tenant's leaves for that host, the last recorded first, at most ``limit``; of whatever CA and key."""
    keys = sa.select(leaf_keys.c.id).where(leaf_keys.c.tenant_id == tenant_id)  # by which leaves are indexed
    statement = sa.select(*COLUMNS).where(leaves.c.leaf_key_id.in_(keys), leaves.c.host == host)
    return [Leaf(*row) for row in c.execute(statement.order_by(leaves.c.id.desc()).limit(limit))]


def listing(c: Connection, tenant_id: int, limit: int) -> list[Leaf]:
    """The tenant's leaves, the last recorded first, at most ``limit``."""
    statement = sa.select(*COLUMNS).where(leaves.c.tenant_id == tenant_id).order_by(leaves.c.id.desc()).limit(limit)
    return [Leaf(*row) for row in c.execute(statement)]
