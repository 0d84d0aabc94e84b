"""Signing CAs and their sealed keys. At most one of a tenant is active: the database itself refuses a second."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from cryptography import x509

from certs.authority import spki_sha256
from store.engine import Connection
from store.records import SigningCa
from store.tables import signing_cas

ACTIVE = "active"
COLUMNS: tuple[sa.Column[Any], ...] = (
    signing_cas.c.id,
    signing_cas.c.tenant_id,
    signing_cas.c.name,
    signing_cas.c.kind,
    signing_cas.c.status,
    signing_cas.c.chain,
    signing_cas.c.created_at,
    signing_cas.c.changed_at,
)


def add(
    c: Connection,
    tenant_id: int,
    name: str,
    kind: str,
    status: str,
    chain: Sequence[bytes],
    sealed_key: bytes,
    sealed_root_key: bytes | None,
    now: datetime,
) -> SigningCa:
    """Add a signing CA; ``chain`` is DER, the issuing certificate first.

    Raises Conflict where the tenant has one of that name, or an active one and this is to be active too; ValueError
    where the issuing certificate cannot be parsed.
    """
    statement = sa.insert(signing_cas).values(
        tenant_id=tenant_id,
        name=name,
        kind=kind,
        status=status,
        chain=tuple(chain),
        issuing_spki_sha256=spki_sha256(x509.load_der_x509_certificate(chain[0])),
        sealed_key=sealed_key,
        sealed_root_key=sealed_root_key,
        created_at=now,
        changed_at=now,
    )
    return _record(c.execute(statement.returning(*COLUMNS)).one())


def active(c: Connection, tenant_id: int) -> SigningCa | None:
    """The tenant's active signing CA."""
    return _one(c, signing_cas.c.tenant_id == tenant_id, signing_cas.c.status == ACTIVE)


def by_name(c: Connection, tenant_id: int, name: str) -> SigningCa | None:
    """The tenant's signing CA of that name."""
    return _one(c, signing_cas.c.tenant_id == tenant_id, signing_cas.c.name == name)


def listing(c: Connection, tenant_id: int) -> list[SigningCa]:
    """The tenant's signing CAs, by name."""
    statement = sa.select(*COLUMNS).where(signing_cas.c.tenant_id == tenant_id).order_by(signing_cas.c.name)
    return [_record(row) for row in c.execute(statement)]


def sealed_key(c: Connection, id: int) -> bytes:
    """The sealed key of the issuing certificate. Raises KeyError where there is no such signing CA."""
    sealed: bytes | None = c.execute(
        sa.select(signing_cas.c.sealed_key).where(signing_cas.c.id == id)
    ).scalar_one_or_none()
    if sealed is None:
        raise KeyError(f"there is no signing CA {id}")
    return sealed


def issuing_keys(c: Connection) -> frozenset[bytes]:
    """SHA-256 of the SubjectPublicKeyInfo with which any signing CA, of any tenant and in any state, issues."""
    return frozenset(c.execute(sa.select(signing_cas.c.issuing_spki_sha256)).scalars())


def _one(c: Connection, *conditions: sa.ColumnElement[bool]) -> SigningCa | None:
    row = c.execute(sa.select(*COLUMNS).where(*conditions)).one_or_none()
    return None if row is None else _record(row)


def _record(row: sa.Row[*tuple[Any, ...]]) -> SigningCa:
    return SigningCa(
        id=row.id,
        tenant_id=row.tenant_id,
        name=row.name,
        kind=row.kind,
        status=row.status,
        certificate=row.chain[0],
        chain=row.chain,
        created_at=row.created_at,
        changed_at=row.changed_at,
    )
