"""WireGuard: a tenant's key pair, sealed, and its peers. That a key or address is one is checked by who writes it."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import sqlalchemy as sa

from store.engine import Connection
from store.records import WireGuardPeer
from store.tables import wireguard_keys, wireguard_peers

COLUMNS: tuple[sa.Column[Any], ...] = (
    wireguard_peers.c.id,
    wireguard_peers.c.tenant_id,
    wireguard_peers.c.name,
    wireguard_peers.c.public_key,
    wireguard_peers.c.ipv4,
    wireguard_peers.c.ipv6,
    wireguard_peers.c.created_at,
    wireguard_peers.c.created_by,
)


def public_key(c: Connection, tenant_id: int) -> bytes | None:
    """The tenant's public key; None where it has no pair yet."""
    found = sa.select(wireguard_keys.c.public_key).where(wireguard_keys.c.tenant_id == tenant_id)
    key: bytes | None = c.execute(found).scalar_one_or_none()
    return key


def sealed_key(c: Connection, tenant_id: int) -> bytes | None:
    """The tenant's private key, sealed; None where it has no pair yet."""
    found = sa.select(wireguard_keys.c.sealed_key).where(wireguard_keys.c.tenant_id == tenant_id)
    sealed: bytes | None = c.execute(found).scalar_one_or_none()
    return sealed


def set_key(c: Connection, tenant_id: int, public: bytes, sealed: bytes, now: datetime) -> None:
    """The tenant's first pair."""
    values = {"tenant_id": tenant_id, "public_key": public, "sealed_key": sealed, "created_at": now}
    c.execute(sa.insert(wireguard_keys).values(values))


def add(
    c: Connection, tenant_id: int, name: str, key: bytes, ipv4: str, ipv6: str | None, now: datetime, by: str
) -> WireGuardPeer:
    """Add a peer. Raises Conflict where the tenant has one of that name, key or address."""
    statement = sa.insert(wireguard_peers).values(
        tenant_id=tenant_id, name=name, public_key=key, ipv4=ipv4, ipv6=ipv6, created_at=now, created_by=by
    )
    return WireGuardPeer(*c.execute(statement.returning(*COLUMNS)).one())


def listing(c: Connection, tenant_id: int) -> list[WireGuardPeer]:
    """The tenant's peers, by name."""
    statement = sa.select(*COLUMNS).where(wireguard_peers.c.tenant_id == tenant_id).order_by(wireguard_peers.c.name)
    return [WireGuardPeer(*row) for row in c.execute(statement)]


def remove(c: Connection, id: int) -> bool:
    """Remove a peer. False where there is none."""
    return c.execute(sa.delete(wireguard_peers).where(wireguard_peers.c.id == id)).rowcount == 1
