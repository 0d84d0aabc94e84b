"""Walks the frames of one direction of an HTTP/2 connection (RFC 9113 section 4) and joins header blocks.

DATA is skipped by its length, without a copy, wherever the pieces of bytes begin and end; just the frames that mean
something to the tap are put together.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from itertools import chain
from typing import Final, Protocol

from hpack import Decoder, HPACKError
from hpack.exceptions import OversizedHeaderListError

from config.settings import Limits
from proxy.lanes.exchange import OverLimit, TooLarge, TurnedAway, Unparsed
from proxy.lanes.http2_rates import CONTROL, EMPTY, PINGS, PONGS, RESETS, SETTINGS_ACKS, SETTINGS_CHANGES, Rates

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
MAX_GATHERED: Final = 64 * 1024
"""Bytes of a SETTINGS, RST_STREAM or GOAWAY frame."""
MAX_CONTINUATIONS: Final = 64
BEYOND: Final = 2
"""A header block is gathered up to so many times the limit, so that whoever is a little beyond it gets a whole answer
(without a decoded method nobody knows whether it may have a body). What it stands for may be twice that."""
OVERHEAD: Final = 32
"""Bytes that a field counts beside its name and value (RFC 9113 section 6.5.2)."""

_HEADER = struct.Struct(">BHBBL").unpack_from
_FIXED: Final = {PRIORITY: 5, RST_STREAM: 4, PING: 8, WINDOW_UPDATE: 4}
_OF_CONNECTION: Final = frozenset({SETTINGS, PING, GOAWAY})
_OF_STREAM: Final = frozenset({DATA, HEADERS, PRIORITY, RST_STREAM, PUSH_PROMISE, CONTINUATION})
_OF_BLOCKS: Final = frozenset({HEADERS, PUSH_PROMISE, CONTINUATION})
_GATHERED: Final = _OF_BLOCKS | {RST_STREAM, SETTINGS, GOAWAY}

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
    ``rates`` counts, for both directions, what moves nothing.
    """

    __slots__ = ("_block_flags", "_block_kind", "_block_stream", "_continuations", "_decoder", "_ends", "_limits",
                 "_need", "_padding", "_preface", "_promised", "_rates", "_skip", "_started", "block", "block_size",
                 "held", "max_frame", "passing", "table_limit", "who")  # fmt: skip

    def __init__(self, who: str, limits: Limits, rates: Rates) -> None:
        self.who = who
        self._limits = limits
        self._rates = rates
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
    def in_frame(self) -> bool:
        """The middle of a frame has passed: no other may follow what has passed so far."""
        return bool(self._skip)

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
        """Walk on. Raises Unparsed, and TurnedAway for a head that is too large or where the listener does.

        After TurnedAway it stands where the frame behind those that were turned away begins.
        """
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
                    try:
                        need = self._check(kind, flags, stream, length)
                    except TooLarge as head:
                        head.rest = data[at:]
                        raise
                    if at + need > end:
                        self._hold(data, at, need)
                        return
                    try:
                        self._take(data, at, need, listener)
                    except TurnedAway as head:
                        head.rest = data[at + need :]
                        raise
                    except OverLimit as error:
                        error.rest = data[at:]
                        error.size = self.block_size - need if kind == CONTINUATION else 0
                        raise
                    at += need
                else:
                    try:
                        self._data(listener, flags, stream, length, 0)
                    except OverLimit as error:
                        error.rest = data[at:]
                        raise
                    at += 9

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
            try:
                self._need = self._check(kind, flags, stream, high << 16 | low)
            except TooLarge as head:
                head.rest = bytes(held) + data[at:]
                raise
        if len(held) >= self._need:
            self.held = None
            try:
                self._take(bytes(held), 0, self._need, listener)
            except TurnedAway as head:
                head.rest = data[at:]
                raise
            except OverLimit as error:
                error.rest = bytes(held) + data[at:]
                error.size = self.block_size - self._need if held[3] == CONTINUATION else 0
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
            if kind in _OF_BLOCKS:
                if length > self._limits.header_bytes * BEYOND:
                    if kind != CONTINUATION:
                        self.block_size = 0
                        self._block_kind, self._block_flags, self._block_stream = kind, flags, stream
                    raise self._too_large("header_bytes")
            elif length > MAX_GATHERED:
                raise self.wrong(f"a frame of type {kind} with more than {MAX_GATHERED} bytes")
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
            self._rates.count(self.who, moves_nothing(kind, flags))
        elif kind in _OF_BLOCKS:
            self._fragment(listener, kind, flags, stream, data[at + 9 : at + need])
        else:
            self._rates.count(self.who, moves_nothing(kind, flags))
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
        if length > padding:
            self._rates.useful += 1
        elif not flags & END_STREAM:
            self._rates.count(self.who, EMPTY)
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
                what = f"more than {MAX_CONTINUATIONS} CONTINUATION frames"
                raise OverLimit(self.who, "continuation", what, calm=True)
            if not payload and not flags & END_HEADERS:
                self._rates.count(self.who, EMPTY)
            self.block += payload
            if len(self.block) > self._limits.header_bytes * BEYOND:
                raise self._too_large("header_bytes")
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
        self._rates.useful += 1
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
        limits, decoder = self._limits, self._decoder
        if decoder is None:
            self._decoder = decoder = Decoder(limits.header_bytes * BEYOND * 2)
            decoder.max_allowed_table_size = self.table_limit
        try:
            fields = [(name, value) for name, value in decoder.decode(block, raw=True)]
        except OversizedHeaderListError:
            raise self._too_large("header_bytes") from None
        except HPACKError as error:
            raise self.wrong(f"a header block that cannot be decoded: {error}") from None
        if detail := beyond(fields, limits):
            raise self._too_large(detail, fields)
        return fields

    def _too_large(self, detail: str, fields: Fields | None = None) -> TooLarge:
        """The error to raise for the header block that is coming, decoded or not."""
        accept = (value for name, value in fields or () if name == b"accept")
        error = TooLarge(self.who, detail, getattr(self._limits, detail), accept)
        error.head_only = fields is not None and (b":method", b"HEAD") in fields
        error.decoded = fields is not None
        error.stream = self._block_stream if self._block_kind == HEADERS else 0
        error.ended = bool(self._block_flags & END_STREAM)
        error.size = self.block_size
        self.block = self.held = None
        return error


def moves_nothing(kind: int, flags: int) -> str:
    """The kind, for :class:`Rates`, of a frame that carries nothing of a message (of an unknown type, too)."""
    if kind == RST_STREAM:
        return RESETS
    if kind == PING:
        return PONGS if flags & ACK else PINGS
    if kind == SETTINGS:
        return SETTINGS_ACKS if flags & ACK else SETTINGS_CHANGES
    return CONTROL


def beyond(fields: Sequence[tuple[bytes, bytes]], limits: Limits) -> str:
    """The setting whose limit these fields are beyond; "": none."""
    number = len(fields)
    if sum(map(len, chain.from_iterable(fields))) + OVERHEAD * number > limits.header_bytes:
        return "header_bytes"
    if number > limits.header_fields and _counted(fields) > limits.header_fields:
        return "header_fields"
    return ""


def _counted(fields: Sequence[tuple[bytes, bytes]]) -> int:
    """How many fields these are for the limit: Cookie, which HTTP/2 may cut (RFC 9113 section 8.2.3), is one."""
    names = [name for name, _ in fields if not name.startswith(b":")]
    cookies = names.count(b"cookie")
    return len(names) - max(0, cookies - 1)
