"""Walks the frames of one direction of an HTTP/2 connection (RFC 9113 section 4) and joins header blocks.

DATA is skipped by its length, without a copy, wherever the pieces of bytes begin and end; just the frames that mean
something to the tap are put together.
"""

from __future__ import annotations

import struct
from typing import Final, Protocol

from hpack import Decoder, HPACKError

from proxy.lanes.exchange import Misdirected, Unparsed

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

DATA: Final = 0
HEADERS: Final = 1
PRIORITY: Final = 2
RST_STREAM: Final = 3
SETTINGS: Final = 4
PUSH_PROMISE: Final = 5
PING: Final = 6
GOAWAY: Final = 7
WINDOW_UPDATE: Final = 8
CONTINUATION: Final = 9

END_STREAM: Final = 0x1
ACK: Final = 0x1
END_HEADERS: Final = 0x4
PADDED: Final = 0x8
WITH_PRIORITY: Final = 0x20

DEFAULT_TABLE: Final = 4096
DEFAULT_FRAME: Final = 2**14
DEFAULT_WINDOW: Final = 2**16 - 1
LARGEST_FRAME: Final = 2**24 - 1
MAX_TABLE: Final = 64 * 1024
MAX_HEADER_LIST: Final = 64 * 1024
MAX_BLOCK: Final = 64 * 1024
MAX_CONTINUATIONS: Final = 64

_HEADER = struct.Struct(">BHBBL").unpack_from
_FIXED: Final = {PRIORITY: 5, RST_STREAM: 4, PING: 8, WINDOW_UPDATE: 4}
_OF_CONNECTION: Final = frozenset({SETTINGS, PING, GOAWAY})
_OF_STREAM: Final = frozenset({DATA, HEADERS, PRIORITY, RST_STREAM, PUSH_PROMISE, CONTINUATION})
_GATHERED: Final = frozenset({HEADERS, RST_STREAM, SETTINGS, PUSH_PROMISE, GOAWAY, CONTINUATION})

Fields = list[tuple[bytes, bytes]]


class Listener(Protocol):
    """What a walk tells. ``walk`` is the direction that it came from."""

    def data(self, walk: Walk, stream: int, size: int) -> None:
        """A DATA frame of ``size`` bytes, padding not counted, begins."""

    def data_ended(self, walk: Walk, stream: int) -> None:
        """The DATA frame that began last, with END_STREAM, has passed."""

    def headers(self, walk: Walk, stream: int, fields: Fields, *, ended: bool) -> None:
        """A whole header block of HEADERS."""

    def promised(self, walk: Walk, stream: int, promised: int, fields: Fields) -> None:
        """A whole header block of PUSH_PROMISE."""

    def frame(self, walk: Walk, kind: int, flags: int, stream: int, payload: bytes) -> None:
        """RST_STREAM, SETTINGS or GOAWAY."""


class Walk:
    """One direction.

    ``max_frame`` and ``table_limit`` are what the side that these bytes go to has announced. ``passing`` is the
    stream of the DATA frame that is passing, of which ``missing`` bytes have not come yet. ``held`` is the beginning of
    a frame, ``block`` that of a header block; ``block_size`` counts the bytes of the last one, its frames' heads too.
    """

    __slots__ = ("_block_flags", "_block_kind", "_block_stream", "_continuations", "_decoder", "_ends", "_need",
                 "_padding", "_preface", "_promised", "_skip", "_started", "block", "block_size", "held", "max_frame",
                 "passing", "table_limit", "who")  # fmt: skip

    def __init__(self, who: str) -> None:
        self.who = who
        self.max_frame = DEFAULT_FRAME
        self.table_limit = DEFAULT_TABLE
        self.passing = 0
        self._preface = PREFACE if who == "client" else b""
        self._started = False
        self._skip = 0
        self._padding = 0
        self._ends = False
        self.held: bytearray | None = None
        self._need = 0
        self._decoder: Decoder | None = None
        self.block: bytearray | None = None
        self.block_size = 0
        self._block_kind = self._block_flags = self._block_stream = self._promised = self._continuations = 0

    @property
    def missing(self) -> int:
        """How many bytes of the DATA frame that is passing are still to come, padding not counted."""
        return max(0, self._skip - self._padding)

    @property
    def unfinished(self) -> int:
        """How many of the last bytes belong to a frame or header block that is not whole; of DATA, to its head."""
        return (self.block_size if self.block is not None else 0) + (len(self.held) if self.held is not None else 0)

    @property
    def rest(self) -> int:
        """How many bytes must come before one frame can follow another of any kind, as far as is known; 0: it can."""
        if self._skip:
            return self._skip
        if self.held is not None:
            return self._need - len(self.held)
        return 9 if self.block is not None or not self._started else 0

    @property
    def table_update(self) -> int | None:
        """The size that the next header block has to set the dynamic table to, where it has to (RFC 7541, 4.2)."""
        size = DEFAULT_TABLE if self._decoder is None else self._decoder.header_table_size
        return self.table_limit if size > self.table_limit else None

    def wrong(self, what: str) -> Unparsed:
        """The error to raise for these bytes."""
        return Unparsed(f"{self.who}: {what}")

    def limit_table(self, size: int) -> None:
        """The other side's SETTINGS_HEADER_TABLE_SIZE counts from here on (RFC 7541 section 4.2)."""
        self.table_limit = size
        if self._decoder is not None:
            self._decoder.max_allowed_table_size = size

    def read(self, data: bytes, listener: Listener) -> None:
        """Walk on. Raises Unparsed, and Misdirected where the listener does: with a frame's end, not in one."""
        end = len(data)
        if end < self._skip:
            self._skip -= end
            return
        at = self._read_preface(data) if self._preface else 0
        while at < end:
            skip = self._skip
            if skip:
                if skip > end - at:
                    self._skip = skip - (end - at)
                    return
                at += skip
                self._skip = 0
                self._passed(listener)
            elif self.held is not None:
                at = self._fill(data, at, listener)
            elif end - at < 9:
                self._hold(data, at, 9)
                return
            else:
                high, low, kind, flags, stream = _HEADER(data, at)
                length = high << 16 | low
                if kind != DATA or flags & PADDED or self.block is not None or not self._started:
                    need = self._check(kind, flags, stream, length)
                    if at + need > end:
                        self._hold(data, at, need)
                        return
                    try:
                        self._take(data, at, need, listener)
                    except Misdirected as request:
                        request.rest = data[at + need :]
                        raise
                    at += need
                else:
                    at += 9
                    self._data(listener, flags, stream, length, 0)

    # --- frames ---

    def _read_preface(self, data: bytes) -> int:
        """RFC 9113 section 3.4."""
        here = min(len(self._preface), len(data))
        if data[:here] != self._preface[:here]:
            raise self.wrong("bytes that are not the HTTP/2 connection preface")
        self._preface = self._preface[here:]
        return here

    def _hold(self, data: bytes, at: int, need: int) -> None:
        self.held = bytearray(data[at:])
        self._need = need

    def _fill(self, data: bytes, at: int, listener: Listener) -> int:
        """Go on with a frame of which a part is held. Returns where in ``data`` it goes on."""
        held = self.held
        if held is None:
            return at
        if len(held) < self._need:
            piece = data[at : at + self._need - len(held)]
            held += piece
            at += len(piece)
            if len(held) < self._need:
                return at
        if self._need == 9:
            high, low, kind, flags, stream = _HEADER(held, 0)
            self._need = self._check(kind, flags, stream, high << 16 | low)
        if len(held) >= self._need:
            self.held = None
            try:
                self._take(bytes(held), 0, self._need, listener)
            except Misdirected as request:
                request.rest = data[at:]
                raise
        return at

    def _check(self, kind: int, flags: int, stream: int, length: int) -> int:
        """Check a frame's header. Returns how many of its bytes, from the header on, have to be seen together."""
        stream &= 0x7FFFFFFF
        if length > self.max_frame:
            raise self.wrong(f"a frame of {length} bytes; at most {self.max_frame} are allowed")
        if not self._started:
            if kind != SETTINGS or flags & ACK:
                raise self.wrong("a first frame that is not SETTINGS (RFC 9113 section 3.4)")
            self._started = True
        if self.block is not None:
            if kind != CONTINUATION or stream != self._block_stream:
                raise self.wrong("a frame in the middle of a header block (RFC 9113 section 6.10)")
        elif kind == CONTINUATION:
            raise self.wrong("CONTINUATION without a header block")
        if stream if kind in _OF_CONNECTION else not stream and kind in _OF_STREAM:
            raise self.wrong(f"a frame of type {kind} on stream {stream}")
        if _FIXED.get(kind, length) != length or (kind == GOAWAY and length < 8) or (kind == SETTINGS and length % 6):
            raise self.wrong(f"a frame of type {kind} with {length} bytes")
        if kind in _GATHERED:
            if length > MAX_BLOCK:
                raise self.wrong(f"a frame of type {kind} with more than {MAX_BLOCK} bytes")
            return 9 + length
        if kind == DATA and flags & PADDED:
            if not length:
                raise self.wrong("padded DATA without padding")
            return 10
        return 9

    def _take(self, data: bytes, at: int, need: int, listener: Listener) -> None:
        """A checked frame, or the part of it that matters, lies at ``at``."""
        high, low, kind, flags, stream = _HEADER(data, at)
        stream &= 0x7FFFFFFF
        length = high << 16 | low
        if kind == DATA:
            self._data(listener, flags, stream, length, data[at + 9] + 1 if flags & PADDED else 0)
        elif kind not in _GATHERED:
            self._skip = length
        elif kind in (HEADERS, PUSH_PROMISE, CONTINUATION):
            self._fragment(listener, kind, flags, stream, data[at + 9 : at + need])
        else:
            listener.frame(self, kind, flags, stream, data[at + 9 : at + need])

    def _data(self, listener: Listener, flags: int, stream: int, length: int, padding: int) -> None:
        """DATA begins; ``padding`` counts its length byte, which has been seen (RFC 9113 section 6.1)."""
        stream &= 0x7FFFFFFF
        if length > self.max_frame:
            raise self.wrong(f"a frame of {length} bytes; at most {self.max_frame} are allowed")
        if not stream:
            raise self.wrong("a frame of type 0 on stream 0")
        if padding > length:
            raise self.wrong("DATA with more padding than bytes")
        listener.data(self, stream, length - padding)
        self.passing = stream
        self._ends = bool(flags & END_STREAM)
        self._padding = max(0, padding - 1)
        self._skip = length - bool(padding)
        if not self._skip:
            self._passed(listener)

    def _passed(self, listener: Listener) -> None:
        """What was skipped has passed."""
        stream, self.passing = self.passing, 0
        if stream and self._ends:
            listener.data_ended(self, stream)

    # --- header blocks ---

    def _fragment(self, listener: Listener, kind: int, flags: int, stream: int, payload: bytes) -> None:
        if kind == CONTINUATION:
            self.block_size += 9 + len(payload)
            self._continuations += 1
            if self.block is None or self._continuations > MAX_CONTINUATIONS:
                raise self.wrong(f"more than {MAX_CONTINUATIONS} CONTINUATION frames")
            self.block += payload
            if len(self.block) > MAX_BLOCK:
                raise self.wrong(f"a header block of more than {MAX_BLOCK} bytes")
            if not flags & END_HEADERS:
                return
            payload, self.block = bytes(self.block), None
        else:
            self.block_size = 9 + len(payload)
            payload = self._begin(kind, flags, stream, payload)
            if not flags & END_HEADERS:
                self.block = bytearray(payload)
                self._continuations = 0
                return
        fields = self._decode(payload)
        if self._block_kind == HEADERS:
            listener.headers(self, stream, fields, ended=bool(self._block_flags & END_STREAM))
        else:
            listener.promised(self, stream, self._promised, fields)

    def _begin(self, kind: int, flags: int, stream: int, payload: bytes) -> bytes:
        """The part of the header block in HEADERS or PUSH_PROMISE (RFC 9113 sections 6.2 and 6.6)."""
        start, stop = 0, len(payload)
        if flags & PADDED:
            start = 1
            stop -= payload[0] if payload else 1
        if kind == PUSH_PROMISE:
            self._promised = int.from_bytes(payload[start : start + 4], "big") & 0x7FFFFFFF
            start += 4
        elif flags & WITH_PRIORITY:
            start += 5
        if start > stop:
            raise self.wrong(f"a frame of type {kind} that is too short for its flags")
        self._block_kind, self._block_flags, self._block_stream = kind, flags, stream
        return payload[start:stop]

    def _decode(self, block: bytes) -> Fields:
        decoder = self._decoder
        if decoder is None:
            self._decoder = decoder = Decoder(MAX_HEADER_LIST)
            decoder.max_allowed_table_size = self.table_limit
        try:
            return [(name, value) for name, value in decoder.decode(block, raw=True)]
        except HPACKError as error:
            raise self.wrong(f"a header block that cannot be decoded: {error}") from None
