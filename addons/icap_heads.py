"""Heads as an ICAP server sends them: its own and the HTTP heads that it encapsulates (RFC 3507 section 4.4.1).

Pure functions over bytes. What is not well formed raises :class:`MessageError`; nothing is repaired, for a head that
two readers understand in two ways is how content gets past a scanner.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

MAX_HEAD: Final = 64 * 1024
"""Bytes of an ICAP head, and of all encapsulated HTTP heads together."""

Fields = tuple[tuple[bytes, bytes], ...]

_TOKEN: Final = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_FIELD = re.compile(rb"(" + _TOKEN + rb"):([\t -~\x80-\xff]*)").fullmatch
_FOLD = re.compile(rb"\r\n[\t ]+")
_ICAP_STATUS = re.compile(rb"ICAP/1\.0 ([1-5][0-9]{2})(?: ([\t -~\x80-\xff]*))?").fullmatch
_HTTP_STATUS = re.compile(rb"HTTP/1\.[01] ([1-5][0-9]{2})(?: ([\t -~\x80-\xff]*))?").fullmatch
_HTTP_REQUEST = re.compile(rb"(" + _TOKEN + rb") ([!-~\x80-\xff]+) HTTP/1\.[01]").fullmatch
_TOKEN_WHOLE = re.compile(_TOKEN).fullmatch
_NUMBER = re.compile(rb"[0-9]{1,10}").fullmatch


class IcapError(Exception):
    """Why something was not scanned, in words for the administrator: which server, what happened, what to do."""


class MessageError(IcapError):
    """The server's fault: what it sent is no ICAP answer, or none to what was asked."""


@dataclass(frozen=True)
class IcapHead:
    """An ICAP status line and its fields, names in lower case."""

    status: int
    reason: str
    fields: Fields


@dataclass(frozen=True)
class RequestHead:
    """The head of an encapsulated HTTP request. ``target`` is as it was sent: absolute, a path, or ``*``."""

    method: bytes
    target: bytes
    fields: Fields


@dataclass(frozen=True)
class ResponseHead:
    """The head of an encapsulated HTTP response."""

    status: int
    reason: bytes
    fields: Fields


def parse_icap_head(raw: bytes) -> IcapHead:
    """An ICAP head, with the empty line that ends it.

    Folded lines are joined: servers send X-Violations-Found in that form. Raises MessageError.
    """
    lines = _lines(_FOLD.sub(b" ", raw), "its ICAP head")
    match = _ICAP_STATUS(lines[0])
    if match is None:
        raise MessageError(f"its answer begins with {shown(lines[0])}, which is no ICAP/1.0 status line")
    fields = tuple((name.lower(), value) for name, value in _fields(lines[1:], "its ICAP head"))
    return IcapHead(int(match[1]), (match[2] or b"").decode("latin-1"), fields)


def parse_request_head(raw: bytes) -> RequestHead:
    """The head of an HTTP/1 request, with the empty line that ends it. Raises MessageError."""
    lines = _lines(raw, "its HTTP request head")
    match = _HTTP_REQUEST(lines[0])
    if match is None:
        raise MessageError(f"its HTTP request begins with {shown(lines[0])}, which is no HTTP/1 request line")
    return RequestHead(match[1], match[2], _fields(lines[1:], "its HTTP request head"))


def parse_response_head(raw: bytes) -> ResponseHead:
    """The head of an HTTP/1 response, with the empty line that ends it. Raises MessageError, for 1xx too."""
    lines = _lines(raw, "its HTTP response head")
    match = _HTTP_STATUS(lines[0])
    if match is None:
        raise MessageError(f"its HTTP response begins with {shown(lines[0])}, which is no HTTP/1 status line")
    if match[1] < b"200":
        raise MessageError(f"its HTTP response has the status {int(match[1])}, which is no final answer")
    return ResponseHead(int(match[1]), match[2] or b"", _fields(lines[1:], "its HTTP response head"))


def values(fields: Fields, name: bytes) -> list[bytes]:
    """All values of a field, by its name in lower case."""
    return [value for found, value in fields if found.lower() == name]


def single(fields: Fields, name: bytes) -> bytes | None:
    """The value of a field that may be given once. Raises MessageError where several differ."""
    found = set(values(fields, name))
    if len(found) > 1:
        raise MessageError(f"its head has several {name.decode()} fields that differ")
    return found.pop() if found else None


def items(fields: Fields, name: bytes) -> list[bytes]:
    """The members of a field that is a list, over all its lines, without blanks and empty members."""
    return [item for value in values(fields, name) for part in value.split(b",") if (item := part.strip(b" \t"))]


def number(fields: Fields, name: bytes) -> int | None:
    """The value of a field that is a number of at most ten digits; None where it is missing. Raises MessageError."""
    value = single(fields, name)
    if value is None:
        return None
    if _NUMBER(value) is None:
        raise MessageError(f"its {name.decode()} field is {shown(value)}, which is no number")
    return int(value)


def shown(raw: bytes) -> str:
    """Bytes of a stranger for a message: quoted, in ASCII, cut at sixty."""
    text = ascii(raw[:60].decode("latin-1"))
    return text if len(raw) <= 60 else f"{text}…"


def is_token(raw: bytes) -> bool:
    """Whether it can stand as a method or a field name (RFC 9110 section 5.6.2)."""
    return _TOKEN_WHOLE(raw) is not None


def _lines(raw: bytes, whose: str) -> list[bytes]:
    if not raw.endswith(b"\r\n\r\n") or raw.find(b"\r\n\r\n") != len(raw) - 4:
        raise MessageError(f"{whose} does not end where it should")
    return raw[:-4].split(b"\r\n")


def _fields(lines: list[bytes], whose: str) -> Fields:
    found: list[tuple[bytes, bytes]] = []
    for line in lines:
        match = _FIELD(line)
        if match is None:
            raise MessageError(f"{whose} has the line {shown(line)}, which is no field")
        found.append((match[1], match[2].strip(b" \t")))
    return tuple(found)
