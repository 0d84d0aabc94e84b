"""The first message of a WireGuard handshake, as a peer makes it (Noise_IKpsk2; the paper's section 5.4.2)."""

from __future__ import annotations

import hashlib
import hmac

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

BASE = (1 << 62) + 10
"""Where TAI64N begins: its labels count seconds from there."""


def public_of(private: bytes) -> bytes:
    return X25519PrivateKey.from_private_bytes(private).public_key().public_bytes_raw()


def initiation(private: bytes, responder: bytes, *, at: int = 1, ephemeral: bytes | None = None) -> bytes:
    """To whoever has the public key ``responder``, at second ``at``."""
    own = X25519PrivateKey.from_private_bytes(private)
    made = X25519PrivateKey.from_private_bytes(ephemeral) if ephemeral else X25519PrivateKey.generate()
    to = X25519PublicKey.from_public_bytes(responder)
    public, ours = made.public_key().public_bytes_raw(), own.public_key().public_bytes_raw()
    chain = _hash(b"Noise_IKpsk2_25519_ChaChaPoly_BLAKE2s")
    hashed = _hash(_hash(chain + b"WireGuard v1 zx2c4 Jason@zx2c4.com") + responder)
    chain, hashed = _mixed(chain, public)[0], _hash(hashed + public)
    chain, key = _mixed(chain, made.exchange(to))
    static = ChaCha20Poly1305(key).encrypt(bytes(12), ours, hashed)
    hashed = _hash(hashed + static)
    chain, key = _mixed(chain, own.exchange(to))
    stamp = (BASE + at).to_bytes(8) + bytes(4)
    message = b"\1\0\0\0" + b"\7\0\0\0" + public + static + ChaCha20Poly1305(key).encrypt(bytes(12), stamp, hashed)
    mac1 = hashlib.blake2s(message, digest_size=16, key=_hash(b"mac1----" + responder)).digest()
    return message + mac1 + bytes(16)


def _hash(data: bytes) -> bytes:
    return hashlib.blake2s(data).digest()


def _mixed(chain: bytes, data: bytes) -> tuple[bytes, bytes]:
    temporary = hmac.digest(chain, data, "blake2s")
    first = hmac.digest(temporary, b"\1", "blake2s")
    return first, hmac.digest(temporary, first + b"\2", "blake2s")
