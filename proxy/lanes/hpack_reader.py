"""Decodes header blocks (HPACK, RFC 7541), several times faster than the hpack library's general decoder.

The tap decodes every header block of every stream, so this is most of what a request over HTTP/2 costs it; and a
block of one-byte references is a cheap way to make a slow decoder work. The static table and the Huffman code are
the library's; the tests hold the two decoders against each other.
"""

from __future__ import annotations

from collections import deque
from typing import Final

from hpack import HPACKDecodingError
from hpack.huffman_table import decode_huffman
from hpack.table import HeaderTable

Field = tuple[bytes, bytes]

DEFAULT_TABLE: Final = 4096
_STATIC: Final[tuple[Field, ...]] = ((b"", b""), *HeaderTable.STATIC_TABLE)
_DYNAMIC: Final = len(_STATIC)
_OVERHEAD: Final = 32  # of an entry's size (RFC 7541 section 4.1)
_MAX_INTEGER_OCTETS: Final = 5


class BadBlock(ValueError):  # noqa: N818 - named after what is bad
    """A header block that cannot be decoded; the table is of no use afterwards."""


class HpackReader:
    """The decoder of one direction, with its dynamic table.

    ``limit`` is the largest table that the encoder may choose; ``max_list`` bounds the decoded fields of a block,
    counted as in SETTINGS_MAX_HEADER_LIST_SIZE (RFC 9113 section 6.5.2).
    """

    __slots__ = ("_capacity", "_entries", "_size", "limit", "max_list")

    def __init__(self, limit: int, max_list: int) -> None:
        self.limit = limit
        self.max_list = max_list
        self._capacity = DEFAULT_TABLE
        self._size = 0
        self._entries: deque[Field] = deque()  # the newest first

    def decode(self, block: bytes) -> list[Field]:
        """The fields of a whole header block. Raises BadBlock."""
        try:
            return self._decode(block)
        except IndexError:
            raise BadBlock("it ends too early, or refers to an entry that is not there") from None
        except HPACKDecodingError as error:
            raise BadBlock(str(error)) from None

    def _decode(self, block: bytes) -> list[Field]:
        fields: list[Field] = []
        room = self.max_list
        at, end = 0, len(block)
        while at < end:
            byte = block[at]
            at += 1
            if byte & 0x80:  # section 6.1
                index = byte & 0x7F
                if index == 0x7F:
                    index, at = _integer(block, at, 0x7F)
                if not index:
                    raise BadBlock("a reference to entry 0")
                field = _STATIC[index] if index < _DYNAMIC else self._entries[index - _DYNAMIC]
            elif byte & 0x60 == 0x20:  # section 6.3
                capacity = byte & 0x1F
                if capacity == 0x1F:
                    capacity, at = _integer(block, at, 0x1F)
                if fields or capacity > self.limit:
                    raise BadBlock("a table size that is too large, or behind a field")
                self._capacity = capacity
                self._evict()
                continue
            else:  # section 6.2
                mask = 0x3F if byte & 0x40 else 0x0F
                index = byte & mask
                if index == mask:
                    index, at = _integer(block, at, mask)
                if not index:
                    name, at = _string(block, at)
                else:
                    name = (_STATIC[index] if index < _DYNAMIC else self._entries[index - _DYNAMIC])[0]
                value, at = _string(block, at)
                field = (name, value)
                if byte & 0x40:
                    self._entries.appendleft(field)
                    self._size += len(name) + len(value) + _OVERHEAD
                    if self._size > self._capacity:
                        self._evict()
            fields.append(field)
            room -= len(field[0]) + len(field[1]) + _OVERHEAD
            if room < 0:
                raise BadBlock(f"more than {self.max_list} bytes of fields")
        if self._capacity > self.limit:
            raise BadBlock("the table has not been made as small as SETTINGS say (section 4.2)")
        return fields

    def _evict(self) -> None:
        """Section 4.4: an entry larger than the whole table leaves it empty."""
        while self._size > self._capacity:
            name, value = self._entries.pop()
            self._size -= len(name) + len(value) + _OVERHEAD


def _integer(block: bytes, at: int, number: int) -> tuple[int, int]:
    """The octets behind a full prefix of value ``number`` (section 5.1). Returns the integer and where it ends."""
    for shift in range(0, 7 * _MAX_INTEGER_OCTETS, 7):
        byte = block[at]
        at += 1
        number += (byte & 0x7F) << shift
        if byte < 0x80:
            return number, at
    raise BadBlock("an integer that is too long")


def _string(block: bytes, at: int) -> tuple[bytes, int]:
    """Section 5.2."""
    first = block[at]
    at += 1
    length = first & 0x7F
    if length == 0x7F:
        length, at = _integer(block, at, 0x7F)
    end = at + length
    if end > len(block):
        raise BadBlock("a string that is longer than the block")
    text = block[at:end]
    return (decode_huffman(text) if first & 0x80 else text), end
