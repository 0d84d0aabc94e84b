"""The private key of a tenant's WireGuard listeners: unsealed for the process that ends the tunnels."""

from __future__ import annotations

from issuer.errors import Refusal
from issuer.keyring import unwrap
from issuer.protocol import Code
from kms.envelope import SealError
from kms.provider import KeyProvider
from store import tenants, wireguard
from store.engine import Store

PURPOSE = "wireguard-key"
"""What the key is sealed for."""


def private_key(store: Store, provider: KeyProvider, tenant: str) -> bytes:
    """The key (Curve25519, 32 bytes); empty where the tenant has none yet. Raises Refusal, or StoreError."""
    with store.reading() as connection:
        found = tenants.by_name(connection, tenant)
        if found is None:
            raise Refusal(Code.UNKNOWN_TENANT, f"there is no tenant {tenant!r}")
        sealed = wireguard.sealed_key(connection, found.id)
        wrapped = tenants.wrapped_key(connection, found.id)
    if sealed is None:
        return b""
    try:
        return unwrap(provider, wrapped, tenant).open(tenant, PURPOSE, sealed)
    except SealError as error:
        raise Refusal(
            Code.KEY_UNAVAILABLE, f"the WireGuard key of tenant {tenant} cannot be opened: {error}"
        ) from error
