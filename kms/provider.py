"""What a key management service must do for us: wrap a tenant's key, and unwrap it again."""

from __future__ import annotations

from typing import Protocol


class KeyProvider(Protocol):
    """Wraps tenants' keys with a key that never leaves it."""

    def wrap(self, key: bytes, tenant: str) -> bytes:
        """The key, wrapped for that tenant alone."""
        ...

    def unwrap(self, wrapped: bytes, tenant: str) -> bytes:
        """The key back. Raises ``kms.envelope.SealError`` where it was not wrapped here and for that tenant."""
        ...
