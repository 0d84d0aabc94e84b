"""Who begins a handshake: the first message of WireGuard's, read as the one who answers it reads it.

https://www.wireguard.com/papers/wireguard.pdf, sections 5.4.1 to 5.4.4 (Noise_IKpsk2). Nothing is answered here; that
is left to the peer's own server, which reads the message once more.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Buffer
from dataclasses import dataclass

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

TYPE = b"\x01\x00\x00\x00"
SIZE = 148
KEY_BYTES = 32
_EPHEMERAL, _STATIC, _TIMESTAMP = slice(8, 40), slice(40, 88), slice(88, 116)
_MAC1 = slice(116, 132)
_NONCE = bytes(12)
_CONSTRUCTION = b"Noise_IKpsk2_25519_ChaChaPoly_BLAKE2s"
_IDENTIFIER = b"WireGuard v1 zx2c4 Jason@zx2c4.com"
_LABEL_MAC1 = b"mac1----"


@dataclass(frozen=True, slots=True)
class Initiation:
    """Who has sent it, and when by its own clock: a TAI64N label, to be compared with an earlier one."""

    public_key: bytes
    timestamp: bytes


class Responder:
    """Reads initiations that are for a private key."""

    def __init__(self, private_key: bytes) -> None:
        """Raises ValueError for what is no key."""
        self._private = X25519PrivateKey.from_private_bytes(private_key)
        self.public_key = self._private.public_key().public_bytes_raw()
        self._mac1_key = _hash(_LABEL_MAC1 + self.public_key)
        self._chain = _hash(_CONSTRUCTION)
        self._hashed = _hash(_hash(self._chain + _IDENTIFIER) + self.public_key)

    def addressed(self, message: bytes) -> bool:
        """Whether it is an initiation, from somebody who knows our public key. Costs next to nothing."""
        if len(message) != SIZE or message[:4] != TYPE:
            return False
        mac1 = hashlib.blake2s(message[: _MAC1.start], digest_size=16, key=self._mac1_key).digest()
        return hmac.compare_digest(mac1, message[_MAC1])

    def read(self, message: bytes) -> Initiation | None:
        """Who sent it, which is certain; None where it is not as it should be. Two Diffie-Hellmans."""
        ephemeral = message[_EPHEMERAL]
        hashed = _hash(self._hashed + ephemeral)
        chain, _ = _derive(self._chain, ephemeral)
        try:
            chain, key = _derive(chain, self._private.exchange(X25519PublicKey.from_public_bytes(ephemeral)))
            static = ChaCha20Poly1305(key).decrypt(_NONCE, message[_STATIC], hashed)
            hashed = _hash(hashed + message[_STATIC])
            _, key = _derive(chain, self._private.exchange(X25519PublicKey.from_public_bytes(static)))
            timestamp = ChaCha20Poly1305(key).decrypt(_NONCE, message[_TIMESTAMP], hashed)
        except (InvalidTag, ValueError):  # ValueError: a point with which nothing would be secret
            return None
        return Initiation(static, timestamp)


def _hash(data: bytes) -> bytes:
    return hashlib.blake2s(data).digest()


def _hmac(key: bytes, data: Buffer) -> bytes:
    return hmac.digest(key, data, "blake2s")


def _derive(chain: bytes, data: bytes) -> tuple[bytes, bytes]:
    """The next chaining key, and a key (HKDF with HMAC-BLAKE2s)."""
    temporary = _hmac(chain, data)
    following = _hmac(temporary, b"\x01")
    return following, _hmac(temporary, following + b"\x02")
