"""A new tenant: its key, and its built-in signing CA, made and sealed before the transaction that saves them."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from certs.authority import make_built_in
from kms.envelope import TenantKey
from kms.provider import KeyProvider
from store import changes, signing_cas, tenants
from store.engine import Connection
from store.records import ChangeKind, Tenant

BUILT_IN = "built-in"
"""The name of the signing CA that every tenant starts with."""


@dataclass(frozen=True, slots=True)
class NewTenant:
    """All of a new tenant that is to be saved; its keys are sealed already."""

    name: str
    wrapped_key: bytes = field(repr=False)
    chain: tuple[bytes, ...]
    sealed_key: bytes = field(repr=False)
    sealed_root_key: bytes = field(repr=False)

    def save(self, connection: Connection, now: datetime) -> Tenant:
        """Write it all and announce it, in the caller's transaction. Raises Conflict where the name is taken."""
        tenant = tenants.create(connection, self.name, self.wrapped_key, now)
        signing_cas.add(
            connection,
            tenant.id,
            BUILT_IN,
            "built_in",
            signing_cas.ACTIVE,
            self.chain,
            self.sealed_key,
            self.sealed_root_key,
            now,
        )
        generation = changes.announce(connection, tenant.id, ChangeKind.TENANT_CREATED, now)
        return Tenant(tenant.id, tenant.name, generation, tenant.created_at)


def new_tenant(
    provider: KeyProvider, name: str, installation: str, now: datetime, algorithm: Literal["ecdsa", "rsa"]
) -> NewTenant:
    """Make the keys and certificates. Takes seconds with ``rsa``, so call it outside of a transaction."""
    authority = make_built_in(name, installation, now, algorithm)
    key = TenantKey.generate()
    return NewTenant(
        name=name,
        wrapped_key=provider.wrap(key.raw, name),
        chain=(
            authority.intermediate.public_bytes(Encoding.DER),
            authority.root.public_bytes(Encoding.DER),
        ),
        sealed_key=key.seal(name, "signing-ca-key", _pkcs8(authority.intermediate_key)),
        sealed_root_key=key.seal(name, "signing-ca-root-key", _pkcs8(authority.root_key)),
    )


def _pkcs8(key: PrivateKeyTypes) -> bytes:
    return key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
