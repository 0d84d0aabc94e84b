"""Takes frames out of one direction of an HTTP/2 connection and puts others in, and the few frames that are put in."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable
from typing import Final

from hpack import Encoder, NeverIndexedHeaderTuple
from hpack.hpack import encode_integer

from proxy.lanes.http2_frames import (
    CONTINUATION,
    DATA,
    DEFAULT_FRAME,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEADERS,
    PUSH_PROMISE,
    RST_STREAM,
    WINDOW_UPDATE,
)

NO_ERROR: Final = 0x0
INTERNAL_ERROR: Final = 0x2
REFUSED_STREAM: Final = 0x7
CANCEL: Final = 0x8
ENHANCE_YOUR_CALM: Final = 0xB

_HEAD = struct.Struct(">BHBBL")
_HEAD_SIZE: Final = 9
_OF_BLOCKS: Final = frozenset({HEADERS, PUSH_PROMISE, CONTINUATION})

Passes = Callable[[int, int, int], bool]
"""Of a frame's type, stream and length, whether it passes."""


class Sieve:
    """One direction, from a place between two frames on. ``waiting`` goes out where the next frame may begin."""

    __slots__ = ("_head", "_in_block", "_passes", "_passing", "_rest", "waiting")

    def __init__(self, passes: Passes) -> None:
        self.waiting = bytearray()
        self._passes = passes
        self._head = b""
        self._rest = 0
        self._passing = True
        self._in_block = False

    @property
    def between(self) -> bool:
        """What has passed ends where any frame may follow (RFC 9113 section 6.10)."""
        return not self._in_block and not (self._passing and self._rest)

    def read(self, data: bytes = b"") -> bytes:
        """What passes of ``data``, with what was waiting."""
        out = bytearray()
        at = 0
        while at < len(data):
            if self._rest:
                piece = data[at : at + self._rest]
                self._rest -= len(piece)
                if self._passing:
                    out += piece
            else:
                piece = data[at : at + _HEAD_SIZE - len(self._head)]
                self._head += piece
                if len(self._head) == _HEAD_SIZE:
                    self._begin(out)
            at += len(piece)
        self._put(out)
        return bytes(out)

    def _put(self, out: bytearray) -> None:
        if self.waiting and self.between:
            out += self.waiting
            self.waiting.clear()

    def _begin(self, out: bytearray) -> None:
        head, self._head = self._head, b""
        high, low, kind, flags, stream = _HEAD.unpack(head)
        self._put(out)
        length = high << 16 | low
        self._passing = self._passes(kind, stream & 0x7FFFFFFF, length)
        self._rest = length
        if self._passing:
            out += head
            if kind in _OF_BLOCKS:
                self._in_block = not flags & END_HEADERS


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    """One frame (RFC 9113 section 4.1)."""
    return _HEAD.pack(len(payload) >> 16, len(payload) & 0xFFFF, kind, flags, stream) + payload


def rst_stream(stream: int, code: int) -> bytes:
    """RFC 9113 section 6.4."""
    return frame(RST_STREAM, 0, stream, code.to_bytes(4))


def goaway(last: int, code: int = NO_ERROR) -> bytes:
    """RFC 9113 section 6.8."""
    return frame(GOAWAY, 0, 0, last.to_bytes(4) + code.to_bytes(4))


def window_update(increment: int) -> bytes:
    """The connection's window grows (RFC 9113 section 6.9)."""
    return frame(WINDOW_UPDATE, 0, 0, increment.to_bytes(4))


def answer(stream: int, fields: Iterable[tuple[str, str]], body: bytes, table: int | None) -> bytes:
    """A whole response, which is not to exceed a frame of the least size each.

    Its header block puts nothing into the dynamic table, so that it can stand between those of another encoder, which
    refer to the table. ``table`` is the size that the block has to set it to (RFC 7541 section 4.2), if it has to.
    """
    block = Encoder().encode([NeverIndexedHeaderTuple(name, value) for name, value in fields], huffman=False)
    if table is not None:
        update = encode_integer(table, 5)
        update[0] |= 0x20  # RFC 7541 section 6.3
        block = bytes(update) + block
    out = frame(HEADERS, END_HEADERS | (0 if body else END_STREAM), stream, block)
    while body:
        piece, body = body[:DEFAULT_FRAME], body[DEFAULT_FRAME:]
        out += frame(DATA, 0 if body else END_STREAM, stream, piece)
    return out
