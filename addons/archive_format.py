"""A sealed archive: mitmproxy's dump format in chunks that only the recipient's private key opens.

    header   magic "SALLYARC", version 1, suite (one byte each), the recipient's id (32 bytes),
             length of what follows (2 bytes), the file's key sealed by HPKE (RFC 9180, base mode; info: all before)
    chunk    length of what follows (4 bytes), AES-256-GCM ciphertext with its tag
    ...
    end      a chunk of no plaintext, marked as the last

Numbers are unsigned and big-endian. The file's key is 32 random bytes, used for this file alone. A chunk's nonce is its
number from 0 (11 bytes) and 1 for the last chunk, 0 for others (1 byte): the STREAM construction (Hoang, Reyhanitabar,
Rogaway, Vizar, CRYPTO 2015), in which no chunk can be dropped, moved, doubled or taken from another file unnoticed. The
associated data is the header's SHA-256. A chunk holds whole flows, so one that opens can be read whatever comes after.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterator
from typing import BinaryIO

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from addons.archive_keys import SUITES, Identity, Recipient

MAGIC = b"SALLYARC"
VERSION = 1
KEY_BYTES = 32
TAG_BYTES = 16
ID_BYTES = 32
CHUNK_OVERHEAD = 4 + TAG_BYTES
LARGEST_CHUNK = 1 << 30
"""Bytes of plaintext: what a reader may have to hold."""
_FIXED = len(MAGIC) + 2 + ID_BYTES


class ArchiveError(Exception):
    """The archive cannot be opened, or cannot be written; the text says why."""


class CutOffError(ArchiveError):
    """The archive ends without its end. What was read before is whole."""


class Sealer:
    """Seals one file. Write :attr:`header` first; every chunk is written once, in the order in which it was sealed."""

    def __init__(self, recipient: Recipient) -> None:
        key = secrets.token_bytes(KEY_BYTES)
        info = MAGIC + bytes([VERSION, recipient.suite]) + recipient.id
        sealed = recipient.seal(key, info)
        self.header = info + len(sealed).to_bytes(2, "big") + sealed
        self._bound = hashlib.sha256(self.header).digest()
        self._aead = AESGCM(key)
        self._count = 0

    def seal(self, records: bytes) -> bytes:
        """A chunk with these records: at least one, whole, at most :data:`LARGEST_CHUNK` bytes."""
        if not 0 < len(records) <= LARGEST_CHUNK:
            raise ArchiveError(f"{len(records)} bytes do not make a chunk; 1 to {LARGEST_CHUNK} do")
        self._count += 1
        return self._chunk(self._count - 1, records, last=False)

    def end(self, chunks: int) -> bytes:
        """The last chunk, behind so many that were written: one that could not be, was sealed in vain. Call it once."""
        return self._chunk(chunks, b"", last=True)

    def _chunk(self, number: int, plain: bytes, last: bool) -> bytes:
        sealed = self._aead.encrypt(_nonce(number, last), plain, self._bound)
        return len(sealed).to_bytes(4, "big") + sealed


def read_archive(stream: BinaryIO, identity: Identity) -> Iterator[bytes]:
    """The plaintext of each chunk, checked. Raises CutOffError at an end that is none, ArchiveError otherwise."""
    header, aead = _open_header(stream, identity)
    bound = hashlib.sha256(header).digest()
    count = 0
    while True:
        length = int.from_bytes(_exactly(stream, 4, count), "big")
        if not TAG_BYTES <= length <= LARGEST_CHUNK + TAG_BYTES:
            raise ArchiveError(f"chunk {count} has an impossible length; the archive was changed after chunk {count}")
        last = length == TAG_BYTES
        try:
            plain = aead.decrypt(_nonce(count, last), _exactly(stream, length, count), bound)
        except InvalidTag:
            raise ArchiveError(f"chunk {count} was changed, or is not in its place; {_before(count)}") from None
        if last:
            break
        yield plain
        count += 1
    if stream.read(1):
        raise ArchiveError("something was added behind the archive's end; all before it is whole")


def _open_header(stream: BinaryIO, identity: Identity) -> tuple[bytes, AESGCM]:
    info = stream.read(_FIXED)
    if not info.startswith(MAGIC):
        raise ArchiveError("this is no sealed archive of Sallyport")
    size = stream.read(2)
    sealed = stream.read(int.from_bytes(size, "big"))
    if len(info) < _FIXED or len(size) < 2 or len(sealed) < int.from_bytes(size, "big"):
        raise CutOffError("the archive is cut off in its header; there is nothing in it")
    version, suite = info[len(MAGIC)], info[len(MAGIC) + 1]
    if version != VERSION or suite not in SUITES:
        raise ArchiveError(f"the archive has version {version} and suite {suite}; use the Sallyport that wrote it")
    recipient = info[-ID_BYTES:]
    if recipient != identity.recipient.id:
        raise ArchiveError(
            f"the archive is sealed for the key {recipient.hex()[:16]}, this key is {identity.recipient.id.hex()[:16]}"
        )
    try:
        key = identity.open(sealed, info)
    except InvalidTag:
        raise ArchiveError("the archive's header was changed: the key does not open it") from None
    if len(key) != KEY_BYTES:
        raise ArchiveError("the archive's header holds no key of this format")
    return info + size + sealed, AESGCM(key)


def _exactly(stream: BinaryIO, size: int, count: int) -> bytes:
    data = stream.read(size)
    if len(data) < size:
        raise CutOffError(f"the archive has no end: it is still being written, or was cut off; {_before(count)}")
    return data


def _before(count: int) -> str:
    return f"the {count} chunks before are whole" if count else "there is nothing before it"


def _nonce(count: int, last: bool) -> bytes:
    return count.to_bytes(11, "big") + bytes([last])
