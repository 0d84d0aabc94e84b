"""Where one direction of an HTTP/1 connection has its heads and bodies (RFC 9112).

llhttp checks every head, strictly; where a head ends and how long a body is, is found here, because llhttp cannot be
told that a response answers HEAD, and does not say where in a piece of bytes a message ended.
"""

from __future__ import annotations

import re
from enum import Enum
from typing import Final

from httptools import HttpParserError, HttpParserUpgrade, HttpRequestParser, HttpResponseParser

from config.settings import Limits
from proxy.lanes.exchange import OverLimit, TooLarge, Unparsed

MAX_CHUNK_LINE: Final = 4 * 1024
ENDLESS: Final = 1 << 62

_HEAD_END: Final = b"\r\n\r\n"
_CONTENT_LENGTH: Final = b"\r\ncontent-length:"
_TRANSFER_ENCODING: Final = b"\r\ntransfer-encoding:"
_CONNECTION: Final = b"\r\nconnection:"
_USUAL: Final = b" keep-alive\r\n"
# RFC 9112 section 7.1, without the blanks that section 7.1.1 allows before an extension: llhttp refuses them too.
_SIZE = rb"([0-9A-Fa-f]{1,15})(?:;[\t -~\x80-\xff]*)?\r\n"
_SIZE_BEGUN = rb"(?:[0-9A-Fa-f]{1,15}(?:;[\t -~\x80-\xff]*)?\r?)?"
_FIRST_CHUNK = re.compile(_SIZE).match
_FIRST_CHUNK_BEGUN = re.compile(_SIZE_BEGUN).fullmatch
_NEXT_CHUNK = re.compile(rb"\r\n" + _SIZE).match
_NEXT_CHUNK_BEGUN = re.compile(rb"(?:\r(?:\n" + _SIZE_BEGUN + rb")?)?").fullmatch
# A run of chunks of 1 to 15 bytes is taken in one go: read one by one, a piece full of them would hold everyone up.
SMALL: Final = 16
_SMALL_CHUNK = (
    rb"\r\n0{0,8}(?:"
    + b"|".join(rb"[%x%X](?:;[\t -~\x80-\xff]{0,64})?\r\n[\x00-\xff]{%d}" % (n, n, n) for n in range(1, SMALL))
    + b")"
)
_SMALL_CHUNKS = re.compile(b"(?:" + _SMALL_CHUNK + b")++").match
_EACH_SMALL_CHUNK = re.compile(_SMALL_CHUNK).findall
_TRAILERS = re.compile(rb"(?:[!#$%&'*+\-.^_`|~0-9A-Za-z]+:[\t -~\x80-\xff]*\r\n)+").fullmatch
_ACCEPT = re.compile(rb"\r\naccept:[ \t]*([^\r\n]*)", re.IGNORECASE).findall
_LEADING_LINES = re.compile(rb"[\r\n]*").match


class Place(Enum):
    """What comes next in this direction."""

    HEAD = "a head"
    BODY = "a body of known length, or one that ends with the connection"
    FIRST_CHUNK = "the line of a first chunk"
    CHUNK = "a chunk's data"
    NEXT_CHUNK = "the end of a chunk and the line of the next"
    TRAILERS = "trailers, or the empty line that ends the message"
    HELD = "what only the other side's answer tells: HTTP or another protocol"
    RAW = "another protocol"
    CLOSED = "nothing, after Connection: close"


class _Sink:
    """What llhttp tells of a head. Knows nobody, so that parser and tap are in no reference cycle."""

    __slots__ = ("complete",)

    def __init__(self) -> None:
        self.complete = False

    def on_headers_complete(self) -> None:
        self.complete = True


class Direction:
    """One direction of a connection. The tap moves it on with :meth:`head` and :meth:`body`.

    ``left`` is not 0 just where bytes can be counted and nothing else; ``counted`` is the current body's size so far;
    ``closing``: the current message is the last in this direction.
    """

    __slots__ = ("_limits", "_parser", "_parser_class", "_sink", "closing", "counted", "held", "left", "place",
                 "trailers", "who")  # fmt: skip

    def __init__(self, who: str, limits: Limits) -> None:
        self.who = who
        self._limits = limits
        self.place = Place.HEAD
        self.left = 0
        self.counted = 0
        self.closing = False
        self.held: bytearray | None = None  # an unfinished head, chunk line or trailers
        self.trailers = b""  # those of the body that ended last, with their line ends
        self._parser: HttpRequestParser | HttpResponseParser | None = None
        self._parser_class = HttpRequestParser if who == "client" else HttpResponseParser
        self._sink: _Sink | None = None

    def wrong(self, what: str) -> Unparsed:
        """The error to raise for these bytes."""
        return Unparsed(f"{self.who}: {what}")

    # --- heads ---

    def blank(self, data: bytes, at: int) -> int:
        """Skip the empty lines that may come before a message (RFC 9112 section 2.2). Returns where they end."""
        found = _LEADING_LINES(data, at)
        return at if found is None else found.end()

    def head(self, data: bytes, at: int) -> tuple[int, bytes]:
        """Take a head, or as much as is there, from ``at`` on. Returns where it ends, and it (b"": not yet whole).

        Raises TooLarge, and Unparsed.
        """
        held = self.held
        if held is None:
            end = data.find(_HEAD_END, at) + 4
            if end != 3:
                piece = head = data if not at and end == len(data) else data[at:end]
            else:
                piece, head, end = data[at:], b"", len(data)
                self.held = bytearray(piece)
            size = len(piece)
        else:
            before = len(held)
            held += data[at:]
            stop = held.find(_HEAD_END, max(0, before - 3)) + 4
            if stop != 3:
                end = at + stop - before
                piece, head = data[at:end], bytes(held[:stop])
                size = stop
            else:
                piece, head, end = data[at:], b"", len(data)
                size = len(held)
        limits = self._limits
        if size > limits.header_bytes:
            raise self._too_large("header_bytes", limits.header_bytes, bytes(held or piece), size, data[end:])
        if head and head.count(b"\r\n") - 2 > limits.header_fields:
            raise self._too_large("header_fields", limits.header_fields, head, size, data[end:])
        self._check(piece, whole=bool(head))
        if head:
            self.held = None
        return end, head

    def _too_large(self, detail: str, limit: int, head: bytes, size: int, rest: bytes) -> TooLarge:
        """The error to raise for a head of which ``size`` bytes have come."""
        self.held = self._parser = self._sink = None
        error = TooLarge(self.who, detail, limit, _ACCEPT(head), head_only=head.startswith(b"HEAD "))
        error.size = size
        error.rest = rest
        return error

    def _check(self, piece: bytes, *, whole: bool) -> None:
        """Let llhttp read the next piece of a head; a fresh parser each, so that none is kept by an idle tap."""
        parser, sink = self._parser, self._sink
        if parser is None or sink is None:
            sink = _Sink()
            parser = self._parser_class(sink)
        try:
            parser.feed_data(piece)
        except HttpParserUpgrade:
            pass  # what an Upgrade means is for the tap to say
        except HttpParserError as error:
            raise self.wrong(str(error)) from None
        if sink.complete is not whole:
            raise self.wrong("a head that does not end where its empty line is")
        self._parser, self._sink = (None, None) if whole else (parser, sink)

    # --- bodies ---

    def expect(self, place: Place, left: int = 0) -> None:
        """A body begins, or the next message."""
        self.place = place
        self.left = left
        self.counted = 0

    def expect_body(self, low: bytes, minor: bytes, default: int) -> None:
        """Choose by the head in lower case how the body is framed (RFC 9112 section 6.3).

        ``default`` is the length where the head says nothing: 0 in a request, ENDLESS in a response.
        """
        # find, since ``in`` asks first whether what is looked for is a number, which takes longer than looking.
        at = low.find(_CONTENT_LENGTH)
        if low.find(_TRANSFER_ENCODING) >= 0:
            if at >= 0:
                raise self.wrong("Content-Length beside Transfer-Encoding")
            if minor == b"0":
                raise self.wrong("Transfer-Encoding in HTTP/1.0 (RFC 9112 section 6.1)")
            coding = self.field(low, _TRANSFER_ENCODING) or b""
            codings = [name.strip(b" \t") for name in coding.split(b",")]
            if codings[-1] == b"chunked" and codings.count(b"chunked") == 1:
                return self.expect(Place.FIRST_CHUNK)
            if b"chunked" in codings or not default:
                raise self.wrong("a Transfer-Encoding that does not end with one chunked")
        elif at >= 0:
            length = field_at(self.who, low, _CONTENT_LENGTH, at)
            if not length.isdigit() or len(length) > 18:
                raise self.wrong("a Content-Length that is no number, or too large a one")
            default = int(length)
        return self.expect(Place.BODY if default else Place.HEAD, default)

    def field(self, low: bytes, name: bytes) -> bytes | None:
        """The one field of this name (given as CR LF, name, colon) in a head in lower case."""
        return field_of(self.who, low, name)

    def body(self, data: bytes, at: int, pieces: list[bytes] | None = None) -> tuple[int, bool]:
        """Read on in a body from ``at`` on, all held bytes being in ``data``. Returns where, and whether it ended.

        ``pieces`` gets the body's bytes, without its framing.
        """
        end = len(data)
        while at < end:
            if self.left:
                here = min(self.left, end - at)
                if pieces is not None:
                    pieces.append(data[at : at + here] if here < end else data)
                at += here
                self.left -= here
                self.counted += here
                if self.left:
                    break
                if self.place is Place.BODY:
                    return at, True
                self.place = Place.NEXT_CHUNK
            elif self.place is Place.TRAILERS:
                return self._trailers(data, at)
            else:
                first = self.place is Place.FIRST_CHUNK
                line = (_FIRST_CHUNK if first else _NEXT_CHUNK)(data, at)
                if line is None:
                    begun = _FIRST_CHUNK_BEGUN if first else _NEXT_CHUNK_BEGUN
                    if end - at > MAX_CHUNK_LINE or not begun(data, at):
                        raise self.wrong("a malformed chunk")
                    self.held = bytearray(data[at:])
                    return end, False
                if line.end() - at > MAX_CHUNK_LINE:
                    raise self.wrong("a malformed chunk")
                at = line.end()
                self.left = left = int(line[1], 16)
                self.place = Place.CHUNK if left else Place.TRAILERS
                if 0 < left < SMALL and left < end - at and (run := _SMALL_CHUNKS(data, at + left)) is not None:
                    at = self._run(data, at, run.end(), pieces)
        return at, False

    def _run(self, data: bytes, at: int, end: int, pieces: list[bytes] | None) -> int:
        """Take the data of a small chunk at ``at``, and the run of small chunks behind it, to ``end``."""
        run = _EACH_SMALL_CHUNK(data, at + self.left, end)
        found = [data[at : at + self.left]]
        found += [chunk[chunk.index(b"\n", 2) + 1 :] for chunk in run]
        body = b"".join(found)
        if pieces is not None:
            pieces.append(body)
        self.counted += len(body)
        self.left = 0
        self.place = Place.NEXT_CHUNK
        return end

    def _trailers(self, data: bytes, at: int) -> tuple[int, bool]:
        if data.startswith(b"\r\n", at):
            self.trailers = b""
            return at + 2, True
        stop = data.find(_HEAD_END, at)
        limits = self._limits
        size = (len(data) if stop < 0 else stop) - at
        if size > limits.header_bytes or data.count(b"\r\n", at, at + size) >= limits.header_fields:
            what = f"trailers of more than {limits.header_bytes} bytes or {limits.header_fields} fields"
            raise OverLimit(self.who, "trailers", what)
        if stop < 0:
            self.held = bytearray(data[at:])
            return len(data), False
        if not _TRAILERS(data, at, stop + 2):
            raise self.wrong("malformed trailers")
        self.trailers = data[at : stop + 2]
        return stop + 4, True


def field_of(who: str, low: bytes, name: bytes) -> bytes | None:
    """See :meth:`Direction.field`."""
    at = low.find(name)
    return None if at < 0 else field_at(who, low, name, at)


def field_at(who: str, low: bytes, name: bytes, at: int) -> bytes:
    """The same, where the first of this name is known to be ``at``."""
    start = at + len(name)
    if low.find(name, start) >= 0:
        raise Unparsed(f"{who}: two fields of the name {name[2:-1].decode()}")
    return low[start : low.find(b"\r\n", start)].strip(b" \t")


def closes(low: bytes, minor: bytes) -> bool:
    """The head, in lower case, says that its message is the last (RFC 9112 section 9.3)."""
    at = low.find(_CONNECTION)
    if at < 0:
        return minor == b"0"
    if low.startswith(_USUAL, at + len(_CONNECTION)) and low.find(_CONNECTION, at + 1) < 0:
        return False
    options: set[bytes] = set()
    while at >= 0:
        at += len(_CONNECTION)
        options.update(option.strip(b" \t") for option in low[at : low.find(b"\r\n", at)].split(b","))
        at = low.find(_CONNECTION, at)
    return b"close" in options or (minor == b"0" and b"keep-alive" not in options)
