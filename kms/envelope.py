"""Sealing: AES-256-GCM (NIST SP 800-38D), bound to the tenant and the purpose.

A sealed text is one version byte, the 96-bit nonce, and the ciphertext with its 128-bit tag. The associated data are
version, tenant and purpose, each with its length before it, so that nothing can be moved from one to the other: a
sealed text opens only for the tenant and the purpose that it was made for.

Nonces are random. SP 800-38D 8.3 allows 2^32 of them per key; a tenant's key seals a few keys a week.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

VERSION = b"\x01"
KEY_BYTES = 32
NONCE_BYTES = 12
TAG_BYTES = 16


class SealError(Exception):
    """A sealed text does not open: it was changed, or made with another key, for another tenant or purpose.

    The text never holds anything of the key or of what was sealed.
    """


@dataclass(frozen=True, slots=True)
class TenantKey:
    """The key that a tenant's private keys are sealed with. 32 random bytes."""

    raw: bytes = field(repr=False)

    def __post_init__(self) -> None:
        if len(self.raw) != KEY_BYTES:
            raise SealError(f"a key of {len(self.raw)} bytes cannot seal; expected {KEY_BYTES}")

    @staticmethod
    def generate() -> TenantKey:
        """A new random key."""
        return TenantKey(secrets.token_bytes(KEY_BYTES))

    def seal(self, tenant: str, purpose: str, data: bytes) -> bytes:
        """Seal ``data`` for that tenant and that purpose."""
        nonce = secrets.token_bytes(NONCE_BYTES)
        return VERSION + nonce + AESGCM(self.raw).encrypt(nonce, data, _associated(tenant, purpose))

    def open(self, tenant: str, purpose: str, sealed: bytes) -> bytes:
        """Open what was sealed for that tenant and that purpose. Raises SealError."""
        if sealed[:1] != VERSION:
            found = f"version {sealed[0]}" if sealed else "nothing"
            raise SealError(
                f"tenant {tenant}: the sealed {purpose} cannot be opened: expected version 1, found {found}"
            )
        if len(sealed) < 1 + NONCE_BYTES + TAG_BYTES:
            raise SealError(f"tenant {tenant}: the sealed {purpose} cannot be opened: it is cut off")
        nonce, ciphertext = sealed[1 : 1 + NONCE_BYTES], sealed[1 + NONCE_BYTES :]
        try:
            return AESGCM(self.raw).decrypt(nonce, ciphertext, _associated(tenant, purpose))
        except InvalidTag:
            raise SealError(
                f"tenant {tenant}: the sealed {purpose} cannot be opened: it was changed, or sealed with another key"
            ) from None


def _associated(tenant: str, purpose: str) -> bytes:
    parts = (VERSION, tenant.encode(), purpose.encode())
    return b"".join(len(part).to_bytes(4, "big") + part for part in parts)
