"""Signing CAs and their sealed keys. Exactly one of a tenant is active: the tenant's row points at it.

That it is the tenant's own and can sign is a constraint of the database, checked at every commit.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from cryptography import x509

from certs.authority import spki_sha256
from store.engine import Connection
from store.records import SigningCa
from store.tables import leaf_keys, signing_cas, tenants

ACTIVE = "active"
_IS_ACTIVE = tenants.c.active_signing_ca_id == signing_cas.c.id
_STATUS = sa.case((_IS_ACTIVE, ACTIVE), (signing_cas.c.state == "ready", "inactive"), else_=signing_cas.c.state).label(
    "status"
)
COLUMNS: tuple[sa.ColumnElement[Any], ...] = (
    signing_cas.c.id,
    signing_cas.c.tenant_id,
    signing_cas.c.name,
    signing_cas.c.kind,
    _STATUS,
    signing_cas.c.chain,
    signing_cas.c.request,
    signing_cas.c.created_at,
    signing_cas.c.changed_at,
    signing_cas.c.changed_by,
)
_JOINED = signing_cas.join(tenants, tenants.c.id == signing_cas.c.tenant_id)
_THERE = signing_cas.c.state.not_in(["deleted", "revoked_deleted", "untrusted"])
_IS_UNTRUSTED = signing_cas.c.state == "untrusted"


def add(
    c: Connection,
    tenant_id: int,
    name: str,
    kind: str,
    chain: Sequence[bytes],
    sealed_key: bytes | None,
    sealed_root_key: bytes | None,
    now: datetime,
    by: str,
) -> SigningCa:
    """Add a signing CA that is ready to be activated; ``chain`` is DER, the issuing certificate first.

    One of kind ``on_premises`` has no key here, any other has.

    Raises Conflict where the tenant has one of that name; ValueError where the issuing certificate cannot be parsed.
    """
    statement = sa.insert(signing_cas).values(
        tenant_id=tenant_id,
        name=name,
        kind=kind,
        state="ready",
        chain=tuple(chain),
        issuing_spki_sha256=_spki(chain),
        sealed_key=sealed_key,
        sealed_root_key=sealed_root_key,
        created_at=now,
        changed_at=now,
        changed_by=by,
    )
    return _added(c, statement)


def add_request(
    c: Connection,
    tenant_id: int,
    name: str,
    request: bytes,
    spki: bytes,
    sealed_key: bytes | None,
    now: datetime,
    by: str,
) -> SigningCa:
    """Add one whose certificate is still to be signed elsewhere: ``request`` is PKCS #10, ``spki`` its key's SHA-256.

    Without a key it is of kind ``on_premises``, else of kind ``csr``.

    Raises Conflict where the tenant has one of that name.
    """
    statement = sa.insert(signing_cas).values(
        tenant_id=tenant_id,
        name=name,
        kind="on_premises" if sealed_key is None else "csr",
        state="requested",
        chain=(),
        issuing_spki_sha256=spki,
        request=request,
        sealed_key=sealed_key,
        created_at=now,
        changed_at=now,
        changed_by=by,
    )
    return _added(c, statement)


def set_untrusted(
    c: Connection, tenant_id: int, name: str, chain: Sequence[bytes], sealed_key: bytes, now: datetime, by: str
) -> SigningCa:
    """Make it the CA that clients of the tenant are warned by; the key of the one before is destroyed."""
    if (before := untrusted(c, tenant_id)) is not None:
        _retire_leaf_keys(c, before.id)
        _update(c, before.id, _IS_UNTRUSTED, state="deleted", sealed_key=None, changed_at=now, changed_by=by)
    statement = sa.insert(signing_cas).values(
        tenant_id=tenant_id,
        name=name,
        kind="untrusted",
        state="untrusted",
        chain=tuple(chain),
        issuing_spki_sha256=_spki(chain),
        sealed_key=sealed_key,
        created_at=now,
        changed_at=now,
        changed_by=by,
    )
    return _added(c, statement)


def complete(c: Connection, id: int, chain: Sequence[bytes], now: datetime, by: str) -> bool:
    """The request's certificate has come. False where it is no request any more."""
    return _update(c, id, signing_cas.c.state == "requested", state="ready", chain=tuple(chain), changed_at=now,
                   changed_by=by)  # fmt: skip


def activate(c: Connection, tenant_id: int, id: int, now: datetime, by: str) -> None:
    """Make it the tenant's active one, in place of the one that was. At commit, StoreError where it cannot sign."""
    before = sa.select(tenants.c.active_signing_ca_id).where(tenants.c.id == tenant_id).scalar_subquery()
    old = c.execute(sa.select(before)).scalar_one()
    # Leaf keys are changed at every purge: should this one become active again, others are made for it.
    _retire_leaf_keys(c, old)
    touched = signing_cas.c.id.in_([old, id])
    c.execute(sa.update(signing_cas).where(touched).values(changed_at=now, changed_by=by))
    c.execute(sa.update(tenants).where(tenants.c.id == tenant_id).values(active_signing_ca_id=id))


def rename(c: Connection, id: int, name: str, now: datetime, by: str) -> bool:
    """Another name. False where there is no such signing CA. Raises Conflict where the tenant has one of that name."""
    return _update(c, id, _THERE, name=name, changed_at=now, changed_by=by)


def end(c: Connection, id: int, state: str, now: datetime, by: str) -> bool:
    """Destroy its keys, those of its leaves too, so that it can sign nothing ever again; ``state``: revoked or deleted.

    What was revoked stays so when it is deleted. At commit, StoreError where it is the active one.
    """
    _retire_leaf_keys(c, id)
    if state == "deleted" and _update(c, id, signing_cas.c.state == "revoked", state="revoked_deleted", changed_at=now,
                                      changed_by=by):  # fmt: skip
        return True
    return _update(c, id, _THERE, state=state, sealed_key=None, sealed_root_key=None, changed_at=now, changed_by=by)


def active(c: Connection, tenant_id: int) -> SigningCa | None:
    """The tenant's active signing CA; None where there is no such tenant."""
    return _one(c, signing_cas.c.tenant_id == tenant_id, _IS_ACTIVE)


def untrusted(c: Connection, tenant_id: int) -> SigningCa | None:
    """The CA that clients of the tenant are warned by; None where there is none (yet)."""
    return _one(c, signing_cas.c.tenant_id == tenant_id, _IS_UNTRUSTED)


def issuing(c: Connection, tenant_id: int) -> frozenset[int]:
    """The ids of those that leaves are signed with now: the active one, and the untrusted one where there is one."""
    statement = sa.select(signing_cas.c.id).select_from(_JOINED).where(signing_cas.c.tenant_id == tenant_id)
    # Two statements, not one with OR: SQLite 3.46, and 3.51 still, finds no plan for that beside the index of the
    # untrusted ones ("internal query planner error").
    either = sa.union_all(statement.where(_IS_ACTIVE), statement.where(_IS_UNTRUSTED))
    return frozenset(c.execute(either).scalars())


def by_id(c: Connection, tenant_id: int, id: int) -> SigningCa | None:
    """The tenant's signing CA of that id, whatever its state: the one that clients are warned by too, or a deleted."""
    return _one(c, signing_cas.c.tenant_id == tenant_id, signing_cas.c.id == id)


def by_name(c: Connection, tenant_id: int, name: str) -> SigningCa | None:
    """The tenant's signing CA of that name."""
    return _one(c, signing_cas.c.tenant_id == tenant_id, signing_cas.c.name == name, _THERE)


def listing(c: Connection, tenant_id: int) -> list[SigningCa]:
    """The tenant's signing CAs, by name."""
    statement = sa.select(*COLUMNS).select_from(_JOINED).where(signing_cas.c.tenant_id == tenant_id, _THERE)
    return [_record(row) for row in c.execute(statement.order_by(signing_cas.c.name))]


def sealed_key(c: Connection, id: int) -> bytes:
    """The sealed key of the issuing certificate. Raises KeyError where there is no such signing CA that can sign."""
    sealed: bytes | None = c.execute(
        sa.select(signing_cas.c.sealed_key).where(signing_cas.c.id == id)
    ).scalar_one_or_none()
    if sealed is None:
        raise KeyError(f"there is no signing CA {id} with a key")
    return sealed


def issuing_keys(c: Connection) -> frozenset[bytes]:
    """SHA-256 of the SubjectPublicKeyInfo with which any signing CA, of any tenant and in any state, issues."""
    return frozenset(c.execute(sa.select(signing_cas.c.issuing_spki_sha256)).scalars())


def names_by_key(c: Connection, tenant_id: int) -> dict[str, bytes]:
    """The same of a tenant's own, those that are deleted aside, by name."""
    statement = sa.select(signing_cas.c.name, signing_cas.c.issuing_spki_sha256)
    found = c.execute(statement.where(signing_cas.c.tenant_id == tenant_id, _THERE))
    return {row.name: row.issuing_spki_sha256 for row in found}


def revoked_keys(c: Connection, tenant_id: int) -> frozenset[bytes]:
    """The same of those of a tenant that were revoked, deleted since or not: for good."""
    revoked = signing_cas.c.state.in_(["revoked", "revoked_deleted"])
    statement = sa.select(signing_cas.c.issuing_spki_sha256)
    return frozenset(c.execute(statement.where(signing_cas.c.tenant_id == tenant_id, revoked)).scalars())


def _retire_leaf_keys(c: Connection, id: int) -> None:
    c.execute(sa.update(leaf_keys).where(leaf_keys.c.signing_ca_id == id).values(sealed=b""))


def _spki(chain: Sequence[bytes]) -> bytes:
    return spki_sha256(x509.load_der_x509_certificate(chain[0]))


def _added(c: Connection, statement: sa.Insert) -> SigningCa:
    id = c.execute(statement.returning(signing_cas.c.id)).scalar_one()
    found = _one(c, signing_cas.c.id == id)
    assert found is not None  # noqa: S101 - it was just added
    return found


def _update(c: Connection, id: int, condition: sa.ColumnElement[bool], **values: object) -> bool:
    return c.execute(sa.update(signing_cas).where(signing_cas.c.id == id, condition).values(**values)).rowcount == 1


def _one(c: Connection, *conditions: sa.ColumnElement[bool]) -> SigningCa | None:
    row = c.execute(sa.select(*COLUMNS).select_from(_JOINED).where(*conditions)).one_or_none()
    return None if row is None else _record(row)


def _record(row: sa.Row[*tuple[Any, ...]]) -> SigningCa:
    return SigningCa(
        id=row.id,
        tenant_id=row.tenant_id,
        name=row.name,
        kind=row.kind,
        status=row.status,
        certificate=row.chain[0] if row.chain else b"",
        chain=row.chain,
        request=row.request,
        created_at=row.created_at,
        changed_at=row.changed_at,
        changed_by=row.changed_by,
    )
