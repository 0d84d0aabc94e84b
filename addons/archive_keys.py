"""The keys of sealed archives: a recipient's public key in the proxy, the private key with whoever may read.

    python -m addons.archive_keys PRIVATE_FILE PUBLIC_FILE

makes a pair. A key file is PEM: one X25519 key (RFC 8410), and beside it, unless it was made by other means, one
ML-KEM-768 key (FIPS 203). With both, who records archives today and has a quantum computer one day reads nothing.
"""

from __future__ import annotations

import hashlib
import os
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import mlkem, x25519
from cryptography.hazmat.primitives.hpke import (
    AEAD,
    KDF,
    KEM,
    MLKEM768X25519PrivateKey,
    MLKEM768X25519PublicKey,
    Suite,
)

X25519 = 1
X25519_MLKEM768 = 2
SUITES = {
    X25519: Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.AES_256_GCM),
    X25519_MLKEM768: Suite(KEM.MLKEM768_X25519, KDF.HKDF_SHA256, AEAD.AES_256_GCM),
}
"""HPKE (RFC 9180) as it seals a file's key: the format's number for a suite, and the suite."""
LARGEST_KEY_FILE = 64 << 10
_BLOCK = re.compile(rb"-----BEGIN ([A-Z0-9 ]+)-----.*?-----END \1-----", re.DOTALL)

# cryptography's key types are abstract; here they are only asked whether a key is theirs.
PUBLIC = (x25519.X25519PublicKey, mlkem.MLKEM768PublicKey)
PRIVATE = (x25519.X25519PrivateKey, mlkem.MLKEM768PrivateKey)
_Public = x25519.X25519PublicKey | mlkem.MLKEM768PublicKey
_Private = x25519.X25519PrivateKey | mlkem.MLKEM768PrivateKey


class KeyFileError(ValueError):
    """The file is no key file of the kind that is needed. The text never holds anything of a private key."""


@dataclass(frozen=True, slots=True)
class Recipient:
    """Whom archives are sealed for. ``id``: SHA-256 of the public keys' SubjectPublicKeyInfo, X25519 first."""

    suite: int
    id: bytes
    key: x25519.X25519PublicKey | MLKEM768X25519PublicKey

    def seal(self, secret: bytes, info: bytes) -> bytes:
        """HPKE's encapsulated key and the sealed secret."""
        return SUITES[self.suite].encrypt(secret, self.key, info)


@dataclass(frozen=True, slots=True)
class Identity:
    """Who can open what was sealed for :attr:`recipient`."""

    recipient: Recipient
    key: x25519.X25519PrivateKey | MLKEM768X25519PrivateKey

    def open(self, sealed: bytes, info: bytes) -> bytes:
        """The secret. Raises cryptography's InvalidTag."""
        return SUITES[self.recipient.suite].decrypt(sealed, self.key, info)


def load_recipient(pem: bytes) -> Recipient:
    """The recipient of a public key file. Raises KeyFileError, for a private key too: it has no place in a proxy."""
    blocks = list(_BLOCK.finditer(pem))
    if any(b"PRIVATE" in block[1] for block in blocks):
        raise KeyFileError("holds a private key; put only the public key here, and keep the private one elsewhere")
    keys: list[object] = []
    for block in blocks:
        try:
            keys.append(serialization.load_pem_public_key(block[0]))
        except (ValueError, UnsupportedAlgorithm):
            raise KeyFileError(f"holds a {block[1].decode()} that is no public key") from None
    return _recipient(keys)


def load_identity(pem: bytes, passphrase: bytes | None = None) -> Identity:
    """The identity of a private key file. Raises KeyFileError."""
    keys: list[object] = []
    for block in _BLOCK.finditer(pem):
        if b"PRIVATE" not in block[1]:
            continue
        needed = passphrase if block[1].startswith(b"ENCRYPTED") else None
        try:
            keys.append(serialization.load_pem_private_key(block[0], needed))
        except TypeError:
            raise KeyFileError("is encrypted; give the passphrase with --passphrase-file") from None
        except (ValueError, UnsupportedAlgorithm):
            raise KeyFileError("cannot be read as a private key, or the passphrase is wrong") from None
    classical, quantum = _pair(keys, *PRIVATE)  # type: ignore[type-abstract]  # they are only asked by isinstance
    publics: list[object] = [classical.public_key(), *([quantum.public_key()] if quantum is not None else [])]
    return Identity(_recipient(publics), classical if quantum is None else MLKEM768X25519PrivateKey(quantum, classical))


def _recipient(keys: Sequence[object]) -> Recipient:
    classical, quantum = _pair(keys, *PUBLIC)  # type: ignore[type-abstract]  # they are only asked by isinstance
    digest = hashlib.sha256(_der(classical) + (_der(quantum) if quantum is not None else b"")).digest()
    if quantum is None:
        return Recipient(X25519, digest, classical)
    return Recipient(X25519_MLKEM768, digest, MLKEM768X25519PublicKey(quantum, classical))


def _pair[C, Q](keys: Sequence[object], classical: type[C], quantum: type[Q]) -> tuple[C, Q | None]:
    first = [key for key in keys if isinstance(key, classical)]
    second = [key for key in keys if isinstance(key, quantum)]
    if len(first) != 1 or len(second) > 1 or len(keys) != len(first) + len(second):
        kind = "private" if classical is x25519.X25519PrivateKey else "public"
        raise KeyFileError(f"expected one X25519 {kind} key, and at most one ML-KEM-768 {kind} key beside it, as PEM")
    return first[0], second[0] if second else None


def _der(key: _Public) -> bytes:
    return key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


def new_pair() -> tuple[bytes, bytes]:
    """A new private key file and the public key file that belongs to it, both PEM, both with both keys."""
    keys: tuple[_Private, ...] = (x25519.X25519PrivateKey.generate(), mlkem.MLKEM768PrivateKey.generate())
    pem = serialization.Encoding.PEM
    private = b"".join(
        key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()) for key in keys
    )
    public = b"".join(
        key.public_key().public_bytes(pem, serialization.PublicFormat.SubjectPublicKeyInfo) for key in keys
    )
    return private, public


def main(arguments: Sequence[str]) -> int:
    """Make a pair; neither file may exist yet. Returns the exit status."""
    if len(arguments) != 2:
        sys.stderr.write("usage: python -m addons.archive_keys PRIVATE_FILE PUBLIC_FILE\n")
        return 2
    private, public = (Path(name) for name in arguments)
    contents = new_pair()
    try:
        for path, content, mode in ((private, contents[0], 0o600), (public, contents[1], 0o644)):
            with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
                file.write(content)
    except OSError as error:
        sys.stderr.write(f"{error.filename}: {error.strerror}; nothing is overwritten\n")
        return 1
    sys.stderr.write(f"{private} opens archives: keep it away from the proxy.\n{public} is for archive_key_file.\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
