"""One end of an HTTP/2 connection, frame by frame: what a script sends goes out as it is, wrong or right.

Streams go by names, not numbers, since a proxy may number them anew: a request's name is its ``:path``. What the other
side's windows do not allow yet waits, each stream for itself, and goes when it may. SETTINGS and PING are acknowledged,
and windows kept open unless the shape says otherwise.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Any

import hpack
from hpack.struct import HeaderTuple, NeverIndexedHeaderTuple
from hyperframe import frame as frames

from tests.harness.raw_http import Pipe

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
Pairs = tuple[tuple[str | bytes, str | bytes], ...]


@dataclass(frozen=True)
class Head:
    """A header block: HEADERS, and CONTINUATION for what is beyond ``split`` bytes."""

    stream: str
    fields: Pairs
    end: bool = False
    pad: int = 0
    priority: bool = False
    split: int = 16_384
    never: bool = False
    """Its fields are never to be indexed (RFC 7541 section 7.1.3)."""
    huffman: bool = True


@dataclass(frozen=True)
class Body:
    """DATA, in frames of at most ``frame`` bytes, each with ``pad`` bytes of padding."""

    stream: str
    data: bytes = b""
    end: bool = False
    pad: int = 0
    frame: int = 16_384


@dataclass(frozen=True)
class Reset:
    """RST_STREAM."""

    stream: str
    code: int = 0


@dataclass(frozen=True)
class Goaway:
    """GOAWAY; streams behind ``last`` get no answer ("": all that could be opened do)."""

    last: str = ""
    code: int = 0


@dataclass(frozen=True)
class Window:
    """WINDOW_UPDATE of a stream, or with "" of the connection."""

    stream: str
    size: int


@dataclass(frozen=True)
class Priority:
    """PRIORITY (deprecated by RFC 9113 section 5.3.2, still sent)."""

    stream: str


@dataclass(frozen=True)
class Ping:
    """PING."""


@dataclass(frozen=True)
class Odd:
    """A frame of another type, or any frame at all, with these bytes."""

    kind: int
    payload: bytes
    stream: str = ""
    flags: int = 0


Frame = Head | Body | Reset | Goaway | Window | Priority | Ping | Odd


@dataclass
class Stream:
    """What has come on a stream: header blocks, body, and how it ended."""

    number: int
    blocks: list[list[tuple[bytes, bytes]]] = field(default_factory=list)
    never: set[bytes] = field(default_factory=set)
    body: bytearray = field(default_factory=bytearray)
    ended: bool = False
    reset: int | None = None


class Http2End:
    """``settings`` are ours, by number. With ``opens`` False only the script opens windows."""

    def __init__(self, pipe: Pipe, *, serves: bool, settings: dict[int, int], opens: bool) -> None:
        self.pipe = pipe
        self.serves = serves
        self.streams: dict[str, Stream] = {}
        self.goaway: list[int] = []
        self.theirs: dict[int, int] = {}
        """The other side's SETTINGS, once they are there."""
        self._opens = opens
        self._names: dict[int, str] = {}
        self._next = 1
        self._buffer = bytearray()
        self._block = bytearray()
        self._block_ends = False
        self._encoder, self._decoder = hpack.Encoder(), hpack.Decoder(max_header_list_size=1 << 20)
        self._windows: dict[int, int] = {0: 65_535}
        self._initial = 65_535
        self._waiting: dict[int, deque[Head | Body]] = {}
        self._out = bytearray()
        self._left_preface = len(PREFACE) if serves else 0
        mine = frames.SettingsFrame(0, settings=settings)
        self._out += mine.serialize() if serves else PREFACE + mine.serialize()
        self.flush()

    # --- sending ---

    def send(self, wanted: tuple[Frame, ...]) -> None:
        """Send frames, as far as the windows allow; one record for all that goes."""
        for one in wanted:
            if isinstance(one, (Head, Body)):
                self._waiting.setdefault(self._number(one.stream), deque()).append(one)
                self._go_on()
            else:
                self._out += self._plain(one).serialize()
        self.flush()

    def flush(self) -> None:
        """Write what is ready."""
        if self._out:
            data = bytes(self._out)
            self._out.clear()
            self.pipe.send(data)

    def _number(self, name: str) -> int:
        if name not in self.streams:
            self.streams[name] = Stream(self._next)
            self._names[self._next] = name
            self._next += 2
        return self.streams[name].number

    def _plain(self, one: Reset | Goaway | Window | Priority | Ping | Odd) -> frames.Frame:
        match one:
            case Reset(stream, code):
                return frames.RstStreamFrame(self._number(stream), error_code=code)
            case Goaway(last, code):
                return frames.GoAwayFrame(0, last_stream_id=self._number(last) if last else 2**31 - 1, error_code=code)
            case Window(stream, size):
                return frames.WindowUpdateFrame(self._number(stream) if stream else 0, window_increment=size)
            case Priority(stream):
                return frames.PriorityFrame(self._number(stream), depends_on=0, stream_weight=15, exclusive=False)
            case Ping():
                return frames.PingFrame(0, opaque_data=b"12345678")
            case Odd(kind, payload, stream, flags):
                odd = frames.ExtensionFrame(kind, self._number(stream) if stream else 0, flag_byte=flags)
                odd.body, odd.body_len = payload, len(payload)
                return odd

    def _go_on(self) -> None:
        """Send what waits, where the windows allow it now."""
        for number, queue in self._waiting.items():
            while queue:
                one = queue[0]
                if isinstance(one, Head):
                    self._head(number, one)
                elif not self._data(number, one, queue):
                    break
                queue.popleft()

    def _head(self, number: int, one: Head) -> None:
        kind = NeverIndexedHeaderTuple if one.never else HeaderTuple
        block = self._encoder.encode([kind(_raw(name), _raw(value)) for name, value in one.fields], huffman=one.huffman)
        first = frames.HeadersFrame(number, block[: one.split], pad_length=one.pad)
        first.flags |= {"END_STREAM"} if one.end else set()
        if one.pad:
            first.flags.add("PADDED")
        if one.priority:
            first.flags.add("PRIORITY")
            first.stream_weight = 200
        made: list[Any] = [first]
        for at in range(one.split, len(block), one.split):
            made.append(frames.ContinuationFrame(number, block[at : at + one.split]))  # noqa: PERF401 - reads better
        made[-1].flags.add("END_HEADERS")
        for each in made:
            self._out += each.serialize()

    def _data(self, number: int, one: Body, queue: deque[Head | Body]) -> bool:
        """Whether all of it could go; else what is left is first in the queue."""
        data = one.data
        while True:
            padding = one.pad + 1 if one.pad else 0
            room = min(self._windows[0], self._windows.setdefault(number, self._initial)) - padding
            piece = data[: min(one.frame - padding, room if data else 0)] if room >= 0 else b""
            if data and not piece:
                queue[0] = Body(one.stream, data, one.end, one.pad, one.frame)
                return False
            data = data[len(piece) :]
            made = frames.DataFrame(number, piece, pad_length=one.pad)
            if one.pad:
                made.flags.add("PADDED")
            if one.end and not data:
                made.flags.add("END_STREAM")
            self._windows[0] -= len(piece) + padding
            self._windows[number] -= len(piece) + padding
            self._out += made.serialize()
            if not data:
                return True

    # --- receiving ---

    def pump(self) -> None:
        """Take in what comes next. Raises Ended."""
        self._buffer += self.pipe.receive()
        if self._left_preface:
            skip = min(self._left_preface, len(self._buffer))
            del self._buffer[:skip]
            self._left_preface -= skip
        while len(self._buffer) >= 9:
            one, length = frames.Frame.parse_frame_header(memoryview(bytes(self._buffer[:9])))
            if len(self._buffer) < 9 + length:
                break
            one.parse_body(memoryview(bytes(self._buffer[9 : 9 + length])))
            del self._buffer[: 9 + length]
            self._take(one)
        self._go_on()
        self.flush()

    def _take(self, one: frames.Frame) -> None:
        number = one.stream_id
        match one:
            case frames.SettingsFrame() if "ACK" not in one.flags:
                self._settings(dict(one.settings))
            case frames.PingFrame() if "ACK" not in one.flags:
                self._out += frames.PingFrame(0, opaque_data=one.opaque_data, flags=["ACK"]).serialize()
            case frames.WindowUpdateFrame():
                self._windows[number] = self._windows.get(number, self._initial) + one.window_increment
            case frames.HeadersFrame() | frames.ContinuationFrame():
                if isinstance(one, frames.HeadersFrame):
                    self._block_ends = "END_STREAM" in one.flags
                self._block += one.data
                if "END_HEADERS" in one.flags:
                    self._headers(number)
            case frames.DataFrame():
                self._received(number, one)
            case frames.RstStreamFrame():
                self._stream(number).reset = one.error_code
                self._waiting.pop(number, None)
            case frames.GoAwayFrame():
                self.goaway.append(one.error_code)
            case _:
                pass

    def _settings(self, settings: dict[int, int]) -> None:
        self.theirs |= settings
        self.theirs.setdefault(0, 1)
        if (initial := settings.get(frames.SettingsFrame.INITIAL_WINDOW_SIZE)) is not None:
            for number in self._windows:
                self._windows[number] += initial - self._initial if number else 0
            self._initial = initial
        if (table := settings.get(frames.SettingsFrame.HEADER_TABLE_SIZE)) is not None:
            self._encoder.header_table_size = min(table, 4096)
        self._out += frames.SettingsFrame(0, flags=["ACK"]).serialize()

    def _stream(self, number: int) -> Stream:
        if number not in self._names:
            self._names[number] = f"stream {number}"
            self.streams[self._names[number]] = Stream(number)
        return self.streams[self._names[number]]

    def _headers(self, number: int) -> None:
        found = list(self._decoder.decode(bytes(self._block), raw=True))
        self._block.clear()
        fields = [(bytes(name), bytes(value)) for name, value in found]
        if number not in self._names:
            name = dict(fields).get(b":path", b"?").decode("latin-1")
            self._names[number] = name
            self.streams[name] = Stream(number)
        stream = self._stream(number)
        stream.blocks.append(fields)
        stream.never |= {bytes(one[0]) for one in found if isinstance(one, NeverIndexedHeaderTuple)}
        stream.ended = stream.ended or self._block_ends

    def _received(self, number: int, one: frames.DataFrame) -> None:
        stream = self._stream(number)
        stream.body += one.data
        stream.ended = stream.ended or "END_STREAM" in one.flags
        if self._opens and one.flow_controlled_length:
            self._out += frames.WindowUpdateFrame(0, window_increment=one.flow_controlled_length).serialize()
            if not stream.ended:
                self._out += frames.WindowUpdateFrame(number, window_increment=one.flow_controlled_length).serialize()


def _raw(text: str | bytes) -> bytes:
    return text.encode("latin-1") if isinstance(text, str) else text
