"""The private CAs that a tenant trusts beside the common store."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from store.engine import Connection
from store.records import TrustedCa
from store.tables import trusted_cas

COLUMNS: tuple[sa.ColumnElement[Any], ...] = (
    trusted_cas.c.id,
    trusted_cas.c.tenant_id,
    trusted_cas.c.name,
    sa.or_(trusted_cas.c.active, trusted_cas.c.active_for_hosts),
    trusted_cas.c.chain,
    trusted_cas.c.created_at,
    trusted_cas.c.changed_at,
    trusted_cas.c.changed_by,
    trusted_cas.c.hosts,
)


def add(
    c: Connection,
    tenant_id: int,
    name: str,
    active: bool,
    chain: Sequence[bytes],
    anchor_fingerprint: bytes,
    now: datetime,
    by: str,
    hosts: Sequence[str] = (),
    created_at: datetime | None = None,
) -> TrustedCa:
    """Add a trusted CA; ``chain`` is DER, intermediates first and the anchor last, ``anchor_fingerprint`` its SHA-256.

    ``hosts``: patterns of the hosts that it may vouch for; none: all. ``created_at``: of one that was there before.

    Raises Conflict where the tenant has one of that name or with that anchor.
    """
    statement = sa.insert(trusted_cas).values(
        tenant_id=tenant_id,
        name=name,
        active=active and not hosts,
        active_for_hosts=active and bool(hosts),
        chain=tuple(chain),
        anchor_sha256=anchor_fingerprint,
        created_at=created_at or now,
        changed_at=now,
        changed_by=by,
        hosts=tuple(hosts),
    )
    return TrustedCa(*c.execute(statement.returning(*COLUMNS)).one())


def listing(c: Connection, tenant_id: int) -> list[TrustedCa]:
    """The tenant's trusted CAs, active or not, by name."""
    statement = sa.select(*COLUMNS).where(trusted_cas.c.tenant_id == tenant_id).order_by(trusted_cas.c.name)
    return [TrustedCa(*row) for row in c.execute(statement)]


def by_name(c: Connection, tenant_id: int, name: str) -> TrustedCa | None:
    """The tenant's trusted CA of that name."""
    statement = sa.select(*COLUMNS).where(trusted_cas.c.tenant_id == tenant_id, trusted_cas.c.name == name)
    row = c.execute(statement).one_or_none()
    return None if row is None else TrustedCa(*row)


def change(
    c: Connection,
    id: int,
    now: datetime,
    by: str,
    *,
    name: str | None = None,
    active: bool | None = None,
    hosts: Sequence[str] | None = None,
) -> bool:
    """Give it another name, trust it or not, or for other hosts. False where there is none.

    Raises Conflict where the name is taken.
    """
    row = c.execute(sa.select(*COLUMNS).where(trusted_cas.c.id == id)).one_or_none()
    if row is None:
        return False
    before = TrustedCa(*row)
    active = before.active if active is None else active
    hosts = before.hosts if hosts is None else tuple(hosts)
    statement = sa.update(trusted_cas).where(trusted_cas.c.id == id)
    c.execute(
        statement.values(
            name=before.name if name is None else name,
            active=active and not hosts,
            active_for_hosts=active and bool(hosts),
            hosts=hosts,
            changed_at=now,
            changed_by=by,
        )
    )
    return True


def delete(c: Connection, id: int) -> bool:
    """Delete it. False where there is none."""
    return c.execute(sa.delete(trusted_cas).where(trusted_cas.c.id == id)).rowcount == 1
