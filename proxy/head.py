"""The head of a client's first request on a proxy port: bytes of a stranger to a :class:`RequestHead`.

Strict on purpose: what two readers could understand differently is refused, and so is anything that can no longer
become a request, as soon as it shows (a TLS ClientHello or an SSH banner by its first bytes, not by a time-out).
The grammar is llhttp's through httptools; what llhttp lets through and RFC 9112 does not is checked here.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from httptools import HttpParserError, HttpParserInvalidMethodError, HttpParserUpgrade, HttpRequestParser

_LINE = re.compile(rb"([A-Z-]{1,32}) ([\x21-\x7e]+) HTTP/([0-9])\.([0-9])\r\n")
_CR = 13
_LONGEST_METHOD = 24
_MAX_BLANK_LINES = 4
"""RFC 9112 2.2: at least one empty line before the request line should be ignored. More than a few is no client."""


class BadHead(ValueError):  # noqa: N818 - the name says whose fault it is, as the field's own libraries do
    """The bytes are no request head that can be served. ``status`` is what to answer: 400, 431 or 505."""

    def __init__(self, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True, slots=True)
class RequestHead:
    """A request line and its fields, names in lower case, in the order in which they came.

    ``size`` counts the bytes up to the end of the head: what follows in the buffer is the client's next bytes (a
    ClientHello sent early, a body). The fields are left out of the repr, since they can hold credentials.
    """

    method: str
    target: str
    headers: tuple[tuple[bytes, bytes], ...] = field(repr=False)
    version: str
    size: int

    def get(self, name: bytes) -> str | None:
        """All values of a field (``name`` in lower case) joined with commas (RFC 9110 5.3), None if there is none."""
        values = [value for key, value in self.headers if key == name]
        return b", ".join(values).decode("latin-1") if values else None


class _Fields:
    """What httptools calls back. No ``on_url``: the request line is read by :data:`_LINE`."""

    __slots__ = ("complete", "headers")

    def __init__(self) -> None:
        self.headers: list[tuple[bytes, bytes]] = []
        self.complete = False

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name.lower(), value.rstrip(b" \t")))

    def on_headers_complete(self) -> None:
        self.complete = True


def parse_head(buffer: bytes | bytearray, limit: int) -> RequestHead | None:
    """The head at the start of ``buffer``; None while more bytes are needed.

    ``limit`` is the largest head in bytes; a head that is longer, or has not ended within it, is refused with 431.
    Raises :class:`BadHead` for all that is no HTTP/1.0 or HTTP/1.1 request head (RFC 9112 2 to 5), and for a CONNECT
    with a body (RFC 9110 9.3.6 gives one no meaning, so what follows could be read as body or as tunnel). A caller
    that reads piece by piece keeps a :class:`HeadReader` instead, so that no byte is read twice.
    """
    return HeadReader(limit).read(buffer)


class HeadReader:
    """Reads one head, carrying on where it stopped.

    Each call of :meth:`read` gets the same buffer again, grown at its end.
    """

    __slots__ = ("_fields", "_limit", "_line", "_offset", "_parser")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._offset = 0
        """What is before it has been read; 0 as long as the request line has not begun."""
        self._line: re.Match[bytes] | None = None
        self._fields = _Fields()
        self._parser = HttpRequestParser(self._fields)

    def read(self, buffer: bytes | bytearray) -> RequestHead | None:
        """See :func:`parse_head`."""
        limit, fields = self._limit, self._fields
        start = _after_blank_lines(buffer)
        if start < len(buffer) and buffer[start] != _CR:
            offset = max(start, self._offset)
            end = buffer.find(b"\r\n\r\n", max(start, offset - 3), limit)
            self._offset = end + 4 if end >= 0 else min(limit, len(buffer))
            # The line is looked at once: when its end is there.
            line_ends = self._line is None and buffer.find(b"\n", offset, limit) >= 0
            if line_ends:
                # Of a copy: a bytearray cannot grow as long as a match refers to it.
                self._line = _LINE.match(bytes(buffer[start : self._offset]))
                _check_version(self._line)
            self._feed(bytes(buffer[offset : self._offset]))
            if line_ends and self._line is None:
                raise BadHead(
                    "malformed request line; expected METHOD TARGET HTTP/1.1 with single spaces and no others"
                )
            if end >= 0:
                return self._head(end + 4)
        if fields.complete:
            raise BadHead("malformed HTTP request head: it does not end with an empty line")
        if len(buffer) >= limit:
            raise BadHead(f"the request head is longer than {limit} bytes", 431)
        return None

    def _feed(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except HttpParserUpgrade:
            pass  # how llhttp says that a CONNECT or Upgrade head has ended
        except HttpParserInvalidMethodError:
            message = "the first bytes are no HTTP method; expected an HTTP request such as CONNECT host:443"
            raise BadHead(message) from None
        except HttpParserError as error:
            raise BadHead(f"malformed HTTP request head: {error}") from None

    def _head(self, size: int) -> RequestHead:
        line, headers = self._line, self._fields.headers
        if line is None or not self._fields.complete:
            raise BadHead("malformed HTTP request head")
        method = line[1].decode("ascii")
        _check_fields(method, headers)
        return RequestHead(method, line[2].decode("ascii"), tuple(headers), f"1.{line[4].decode('ascii')}", size)


def _check_version(line: re.Match[bytes] | None) -> None:
    if line is not None and (line[3], line[4]) not in ((b"1", b"1"), (b"1", b"0")):
        version = f"{line[3].decode()}.{line[4].decode()}"
        raise BadHead(f"HTTP version {version} is not spoken here; expected HTTP/1.1 or HTTP/1.0", 505)


def _after_blank_lines(buffer: bytes | bytearray) -> int:
    """Where the request line begins. A lone CR or LF is refused here, since llhttp skips any number of them."""
    start = 0
    while buffer.startswith(b"\r\n", start):
        start += 2
        if start > 2 * _MAX_BLANK_LINES:
            raise BadHead("too many empty lines before the request")
    if buffer.startswith(b"\n", start) or (buffer.startswith(b"\r", start) and len(buffer) > start + 1):
        raise BadHead("malformed line end before the request; expected CR LF")
    return start


def _check_fields(method: str, headers: list[tuple[bytes, bytes]]) -> None:
    hosts = 0
    for name, value in headers:
        if name == b"host":
            hosts += 1
        elif method == "CONNECT" and (
            name == b"transfer-encoding" or (name == b"content-length" and value.strip(b"0"))
        ):
            raise BadHead("a CONNECT request has no body; expected no Content-Length and no Transfer-Encoding")
    if hosts > 1:
        # RFC 9112 3.2: more than one Host field is answered with 400
        raise BadHead("the request has more than one Host field; expected one")


def begins_http(first: bytes | bytearray) -> bool | None:
    """Whether the first bytes of a connection are those of a request line (RFC 9112, section 3); None: too few to say.

    Methods are taken to be capital letters, as all that are registered are.
    """
    method, space, target = bytes(first[: _LONGEST_METHOD + 8]).partition(b" ")
    if not (method.isalpha() and method.isupper()) or len(method) > _LONGEST_METHOD:
        return False
    if not space or not target:
        return None
    if target[:1] in (b"/", b"*"):
        return True
    scheme = target[:7].lower()
    return True if scheme == b"http://" else None if b"http://".startswith(scheme) else False
