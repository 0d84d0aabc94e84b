"""A new tenant: its key, and its built-in signing CA, made and sealed before the transaction that saves them."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from certs.authority import make_built_in
from control import audit_log
from control.actor import Actor
from kms.envelope import TenantKey
from kms.provider import KeyProvider
from store import changes, signing_cas, tenants
from store.engine import Connection
from store.records import ChangeKind, SigningCa, Tenant

BUILT_IN = "built-in"
"""The name of the signing CA that every tenant starts with."""


CA_KEY = "signing-ca-key"
"""The purpose that a signing CA's key is sealed for."""


@dataclass(frozen=True, slots=True)
class SealedAuthority:
    """A built-in CA that is to be saved."""

    chain: tuple[bytes, ...]
    sealed_key: bytes = field(repr=False)
    sealed_root_key: bytes = field(repr=False)

    def save(self, connection: Connection, tenant_id: int, name: str, by: str, now: datetime) -> SigningCa:
        """Write it, in the caller's transaction. Raises Conflict where the name is taken."""
        return signing_cas.add(
            connection, tenant_id, name, "built_in", self.chain, self.sealed_key, self.sealed_root_key, now, by
        )


@dataclass(frozen=True, slots=True)
class NewTenant:
    """All of a new tenant that is to be saved; its keys are sealed already."""

    name: str
    wrapped_key: bytes = field(repr=False)
    authority: SealedAuthority

    def save(self, connection: Connection, actor: Actor, now: datetime) -> Tenant:
        """Write it all and announce it, in the caller's transaction. Raises Conflict where the name is taken."""
        tenant = tenants.create(connection, self.name, self.wrapped_key, now)
        ca = self.authority.save(connection, tenant.id, BUILT_IN, actor.name, now)
        signing_cas.activate(connection, tenant.id, ca.id, now, actor.name)
        generation = changes.announce(connection, tenant.id, ChangeKind.TENANT_CREATED, now)
        made = Tenant(tenant.id, tenant.name, generation, tenant.created_at)
        audit_log.write(connection, actor, made, "tenant.create", tenant.name, None, {"signing_ca": ca.name}, now)
        return made


def new_tenant(
    provider: KeyProvider, name: str, installation: str, now: datetime, algorithm: Literal["ecdsa", "rsa"]
) -> NewTenant:
    """Make the keys and certificates. Takes seconds with ``rsa``, so call it outside of a transaction."""
    key = TenantKey.generate()
    authority = sealed_authority(key, name, installation, now, algorithm)
    return NewTenant(name, provider.wrap(key.raw, name), authority)


def sealed_authority(
    key: TenantKey, tenant: str, installation: str, now: datetime, algorithm: Literal["ecdsa", "rsa"]
) -> SealedAuthority:
    """A new built-in CA of a tenant, its keys sealed with the tenant's."""
    made = make_built_in(tenant, installation, now, algorithm)
    return SealedAuthority(
        chain=(made.intermediate.public_bytes(Encoding.DER), made.root.public_bytes(Encoding.DER)),
        sealed_key=key.seal(tenant, CA_KEY, pkcs8(made.intermediate_key)),
        sealed_root_key=key.seal(tenant, "signing-ca-root-key", pkcs8(made.root_key)),
    )


def pkcs8(key: PrivateKeyTypes) -> bytes:
    """A private key in the clear, to be sealed at once."""
    return key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
