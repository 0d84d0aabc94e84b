"""The local provider: a master key in a file that only the daemon's user can read.

The file holds one header line and one line of base64: 32 random bytes and the first 10 bytes of a SHA-256 over header
and key, so that damage is told from a wrong key. It is written whole or not at all: a temporary file, fsync, link. A
link, unlike a rename, never replaces a key that another process made meanwhile.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import os
import secrets
import stat
from dataclasses import dataclass, field
from pathlib import Path

from kms.envelope import KEY_BYTES, TenantKey

MASTER_KEY_FILE = "master.key"
"""The name of the key file in the state directory."""
HEADER = b"sallyport master key 1"
CHECKSUM_BYTES = 10  # 42 bytes in all, so that base64 has no spare bits and each change shows
FILE_LIMIT = 1024
PURPOSE = "tenant-key"


class KeyFileError(Exception):
    """The key file cannot be used. One line: what is wrong, with which file, what to do."""


@dataclass(frozen=True, slots=True)
class LocalProvider:
    """Wraps tenants' keys with the master key of a file."""

    _master: TenantKey = field(repr=False)

    @classmethod
    def open(cls, path: Path, create: bool) -> LocalProvider:
        """Read the key file; with ``create``, make one where there is none (0600). Raises KeyFileError."""
        _check_folder(path.parent)
        try:
            return cls(TenantKey(_read(path)))
        except FileNotFoundError:
            if not create:
                raise KeyFileError(
                    f"{path}: the master key is missing, and no sealed key opens without it; restore it from a backup"
                ) from None
        try:
            _create(path)
            return cls(TenantKey(_read(path)))
        except OSError as error:
            raise KeyFileError(f"{path}: the master key cannot be written: {error.strerror}") from None

    def wrap(self, key: bytes, tenant: str) -> bytes:
        """Wrap the tenant's key."""
        return self._master.seal(tenant, PURPOSE, key)

    def unwrap(self, wrapped: bytes, tenant: str) -> bytes:
        """Unwrap the tenant's key. Raises SealError."""
        return self._master.open(tenant, PURPOSE, wrapped)


def _check_folder(folder: Path) -> None:
    """Whoever may write the folder can exchange the key."""
    try:
        found = folder.stat()
    except OSError as error:
        raise KeyFileError(f"{folder}: the folder of the master key cannot be read: {error.strerror}") from None
    if found.st_uid != os.geteuid():
        raise KeyFileError(f"{folder}: the folder of the master key belongs to another user; run as that user")
    if found.st_mode & 0o077:
        raise KeyFileError(f"{folder}: others can look into the folder of the master key; run: chmod 700 {folder}")


def _read(path: Path) -> bytes:
    """The 32 bytes of the key. Raises FileNotFoundError or KeyFileError."""
    try:
        # Non-blocking: a FIFO of that name must not hold up the start.
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise KeyFileError(f"{path}: the master key cannot be read: {error.strerror}") from None
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise KeyFileError(f"{path}: the master key is no regular file; move it away or restore a backup")
        if found.st_uid != os.geteuid():
            raise KeyFileError(f"{path}: the master key belongs to another user; run as that user")
        if found.st_mode & 0o077:
            raise KeyFileError(f"{path}: others can read the master key; run: chmod 600 {path}")
        content = os.read(descriptor, FILE_LIMIT)
    except OSError as error:
        raise KeyFileError(f"{path}: the master key cannot be read: {error.strerror}") from None
    finally:
        os.close(descriptor)
    return _parse(path, content)


def _parse(path: Path, content: bytes) -> bytes:
    damaged = KeyFileError(f"{path}: the master key is damaged; restore it from a backup")
    header, _, body = content.partition(b"\n")
    if header != HEADER or not body.endswith(b"\n"):
        raise damaged
    try:
        decoded = base64.b64decode(body[:-1], validate=True)
    except binascii.Error:
        raise damaged from None
    key, checksum = decoded[:KEY_BYTES], decoded[KEY_BYTES:]
    if len(key) != KEY_BYTES or not hmac.compare_digest(checksum, _checksum(key)):
        raise damaged
    return key


def _checksum(key: bytes) -> bytes:
    return hashlib.sha256(HEADER + key).digest()[:CHECKSUM_BYTES]


def _create(path: Path) -> None:
    """Make the file; where another process was faster, its key stays. Raises OSError."""
    key = secrets.token_bytes(KEY_BYTES)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(HEADER + b"\n" + base64.b64encode(key + _checksum(key)) + b"\n")
            file.flush()
            os.fsync(descriptor)
        try:
            os.link(temporary, path)
        except FileExistsError:
            return
    finally:
        temporary.unlink()
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)  # the name, too, before anything is sealed with the key
    finally:
        os.close(folder)
