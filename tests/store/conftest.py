"""An open store in a folder of its own, and a tenant in it."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from certs.authority import make_built_in
from store import changes, signing_cas, tenants
from store.engine import Connection, Store
from store.records import SigningCa, Tenant
from tests.harness.pki import NOW


def chain() -> tuple[bytes, ...]:
    """A fresh issuing certificate and its root, DER."""
    authority = make_built_in("acme", "", NOW)
    return authority.intermediate.public_bytes(Encoding.DER), authority.root.public_bytes(Encoding.DER)


def add_ca(c: Connection, tenant: Tenant, name: str, status: str = "active") -> SigningCa:
    """A signing CA with made-up sealed keys: active, inactive or revoked."""
    added = signing_cas.add(c, tenant.id, name, "built_in", chain(), b"sealed key", b"sealed root key", NOW, "ann")
    if status == "active":
        signing_cas.activate(c, tenant.id, added.id, NOW, "ann")
    elif status == "revoked":
        signing_cas.end(c, added.id, "revoked", NOW, "ann")
    found = signing_cas.by_name(c, tenant.id, name)
    assert found is not None
    return found


def add_tenant(c: Connection, name: str, wrapped_key: bytes = b"wrapped", now: datetime = NOW) -> Tenant:
    """A tenant as the database lets it be: with a signing CA, named first, that is the active one."""
    created = tenants.create(c, name, wrapped_key, now)
    add_ca(c, created, "first")
    return created


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "sallyport.db"


@pytest.fixture
def store(path: Path) -> Iterator[Store]:
    with Store.open(path, create=True) as opened:
        yield opened


@pytest.fixture
def tenant(store: Store) -> Tenant:
    with store.transaction() as c:
        created = add_tenant(c, "acme")
        changes.announce(c, created.id, "tenant_created", NOW)
    return created
