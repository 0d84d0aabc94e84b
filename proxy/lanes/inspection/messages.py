"""What the lane's own HTTP layers add to mitmproxy's events and commands, and HTTP/1 heads in both directions.

A head that came is taken apart here after :class:`proxy.lanes.http1_framing.Direction` has checked it, strictly; one
that goes out is put together here, and is refused where an inspector has put something into it that would be read as
more than one field.
"""

from __future__ import annotations

import re
import time
from collections import deque
from collections.abc import Generator
from dataclasses import dataclass
from typing import Any, Final

from mitmproxy import http
from mitmproxy.proxy import commands, events
from mitmproxy.proxy.layers.http import HttpEvent

from proxy import refusals
from proxy.block_page import headers, reason, render
from proxy.lanes.exchange import TooLarge, Unparsed
from proxy.lanes.http1_framing import field_of
from proxy.parent import ParentError
from proxy.refusals import Refusal

_REQUEST_LINE: Final = re.compile(rb"([A-Z-]+) ([!-~]+) (HTTP/1\.[01])").fullmatch
_STATUS_LINE: Final = re.compile(rb"(HTTP/1\.[01]) ([1-9][0-9]{2})(?: (.*))?", re.DOTALL).fullmatch
_ABSOLUTE_FORM: Final = re.compile(rb"(https?)://([^/?#]*)(.*)", re.IGNORECASE | re.DOTALL).fullmatch
_NOT_IN_A_HEAD: Final = re.compile(rb"[\r\n\0]").search
_TOKEN: Final = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+").fullmatch

Fields = tuple[tuple[bytes, bytes], ...]
type Out[T] = Generator[commands.Command, Any, T]
"""What a layer wants done, and what it comes to."""


@dataclass
class Informational(HttpEvent):
    """A 1xx response that is not the last (RFC 9110 section 15.2)."""

    response: http.Response


@dataclass
class Ended(events.ConnectionClosed):
    """A peer has ended. ``cut``: without saying so (close_notify, RFC 8446 section 6.1), or with a reset."""

    cut: bool = False


class Cut(commands.CloseConnection):
    """Close so that the peer cannot take what it has for the whole."""


class Reason(str):
    """Why a request gets no answer but ours, with what is told: mitmproxy carries errors as text."""

    __slots__ = ("accept", "head_only", "refusal")
    refusal: Refusal
    accept: str | None
    head_only: bool

    @staticmethod
    def of(refusal: Refusal, request: http.Request | None = None) -> Reason:
        """The refusal, for whoever asked this."""
        made = Reason(f"{refusal.error}: {refusal.title}")
        made.refusal = refusal
        made.accept = None if request is None else request.headers.get("accept")
        made.head_only = request is not None and request.data.method == b"HEAD"
        return made


class Spoiled(str):
    """Why a head that an inspector has changed cannot be sent."""

    __slots__ = ()


class Oversize(str):
    """Why a head that came is not passed on: it is beyond ``limit``, that of the setting ``detail``."""

    __slots__ = ("detail", "limit", "request")
    detail: str
    limit: int
    request: bool

    @staticmethod
    def of(head: TooLarge) -> Oversize:
        """The same in a form that mitmproxy's errors carry."""
        made = Oversize(f"a head beyond limits.{head.detail} ({head.limit})")
        made.detail, made.limit, made.request = head.detail, head.limit, head.request
        return made

    def worded(self, host: str, id: str) -> Refusal:
        """What the client is told."""
        make = refusals.request_head_too_large if self.request else refusals.response_head_too_large
        return make(self.detail, self.limit, host, id)


class ParentRefuses(str):
    """Why there is no answer: the other proxy that was asked for it does not know us."""

    __slots__ = ("error",)
    error: ParentError

    @staticmethod
    def of(error: ParentError) -> ParentRefuses:
        """The same in a form that mitmproxy's errors carry."""
        made = ParentRefuses(f"the parent proxy {error.parent}: {error}")
        made.error = error
        return made

    def worded(self, host: str, id: str) -> Refusal:
        """What the client is told."""
        return refusals.through_parent(self.error.error, host, 0, id, self.error.parent, str(self.error))


NEVER_PAUSED: deque[events.Event] = deque()
"""For layers that wait for nothing, in place of a queue of their own: an empty one takes 600 bytes."""


class BadHead(ValueError):  # noqa: N818 - what is wrong with the head, told to whoever made it
    """A head that goes out would not be read as it is meant."""


def request_of(head: bytes, secure: bool) -> http.Request:
    """A request from its head, which llhttp has checked. ``secure``: it came through TLS. Raises Unparsed."""
    first, fields = _taken_apart(head)
    line = _REQUEST_LINE(first)
    if line is None:
        raise Unparsed("client: a malformed request line")
    method, target, version = line.groups()
    if method == b"CONNECT":
        raise Unparsed("client: CONNECT inside the tunnel")
    scheme, authority, path = b"https" if secure else b"http", b"", target
    if target[:1] != b"/" and target != b"*":
        absolute = _ABSOLUTE_FORM(target)
        if absolute is None:
            raise Unparsed("client: a request target that is neither a path nor an http URL")
        scheme, authority, path = absolute[1].lower(), absolute[2], absolute[3].partition(b"#")[0]
        if not authority:
            raise Unparsed("client: a request target without a host")
        if b"@" in authority:
            raise Unparsed("client: user information in a request target (RFC 9110 section 4.2.4)")
        if path[:1] != b"/":
            path = b"/" + path
    made = http.Request.__new__(http.Request)
    made.data = _data(
        http.RequestData, version, fields, host="", port=0, method=method, scheme=scheme, authority=authority, path=path
    )
    return made


def response_of(head: bytes) -> http.Response:
    """A response from its head, which llhttp has checked. Raises Unparsed."""
    first, fields = _taken_apart(head)
    line = _STATUS_LINE(first)
    if line is None:
        raise Unparsed("server: a malformed status line")
    version, status, phrase = line.groups()
    made = http.Response.__new__(http.Response)
    made.data = _data(http.ResponseData, version, fields, status_code=int(status), reason=phrase or b"")
    return made


def _data[D](kind: type[D], version: bytes, fields: Fields, **more: Any) -> D:
    """What mitmproxy's constructors make, without their check of each value's type: it costs a tenth of a request."""
    made = kind.__new__(kind)
    made.__dict__.update(
        more, http_version=version, headers=http.Headers(fields), content=None, trailers=None,
        timestamp_start=time.time(), timestamp_end=None,
    )  # fmt: skip
    return made


def trailers_of(raw: bytes) -> http.Headers | None:
    """The fields of a trailer section; None where there are none."""
    return http.Headers(_fields(raw.split(b"\r\n")[:-1])) if raw else None


def _taken_apart(head: bytes) -> tuple[bytes, Fields]:
    lines = head[:-4].split(b"\r\n")
    return lines[0], _fields(lines[1:])


def _fields(lines: list[bytes]) -> Fields:
    found = []
    for line in lines:
        name, _, value = line.partition(b":")
        found.append((name, value.strip(b" \t")))
    return tuple(found)


def single(head: bytes, name: bytes) -> bytes | None:
    """The one field of that name (lower case) in a head. Raises Unparsed for two."""
    return field_of("client", head.lower(), b"\r\n" + name + b":")


def head_bytes(first: bytes, fields: Fields) -> bytes:
    """A head to be sent. Raises BadHead where a line would be read as another number of fields."""
    if _NOT_IN_A_HEAD(first):
        raise BadHead("a line break in the first line of a head")
    return first + b"\r\n" + fields_bytes(fields) + b"\r\n"


def fields_bytes(fields: Fields) -> bytes:
    """Fields to be sent. Raises BadHead."""
    lines = []
    for name, value in fields:
        if not _TOKEN(name) or _NOT_IN_A_HEAD(value):
            shown = name[:64].decode("ascii", "replace")
            raise BadHead(f"the field {shown!r} has characters that a field cannot have")
        lines.append(name + b": " + value + b"\r\n")
    return b"".join(lines)


def refused(refusal: Refusal, accept: str | None) -> http.Response:
    """A refusal as a response of our own."""
    content_type, body = render(refusal, accept)
    fields = tuple(
        (name.encode(), value.encode("latin-1")) for name, value in headers(refusal, content_type, len(body))
    )
    phrase = reason(refusal.status).encode()
    now = time.time()
    return http.Response(b"HTTP/1.1", refusal.status, phrase, http.Headers(fields), body, None, now, now)


def inspector_failed(inspector: str, host: str, id: str) -> Refusal:
    """An inspector failed, and nothing passes that it has not seen."""
    return Refusal(
        502,
        "proxy_internal_error",
        "inspector_failed",
        "Blocked: this could not be inspected",
        f"What passes to and from {host} is inspected here, and the inspector {inspector} could not do its work. "
        "Nothing passes that was not inspected.",
        refusals.LATER,
        host,
        id,
    )


def uninspected(host: str, id: str) -> Refusal:
    """A request was sent on to a host whose own inspectors cannot see it."""
    return Refusal(
        502,
        "proxy_internal_error",
        "inspector_failed",
        "Blocked: this could not be inspected",
        f"An inspector has sent this request on to {host}, whose own inspectors could not see it as a whole. Nothing "
        "passes that was not inspected.",
        refusals.NEEDED,
        host,
        id,
    )


def too_large(request: bool, limit: int, host: str, id: str) -> Refusal:
    """A body is larger than what an inspector may look at."""
    what, status = ("request", 413) if request else ("response", 502)
    return Refusal(
        status,
        "http_request_error" if request else "http_response_body_size",
        "inspection_limit",
        f"Blocked: the {what} is too large to be inspected",
        f"What passes to and from {host} is inspected here as a whole, up to {limit} bytes. This {what} is larger.",
        refusals.NEEDED,
        host,
        id,
    )


def no_room(request: bool, host: str, id: str) -> Refusal:
    """A body would have to be kept to be inspected, and what all of them may use is in use."""
    what, status = ("request", 503) if request else ("response", 502)
    return Refusal(
        status,
        "proxy_internal_error",
        "inspection_limit",
        f"Blocked: there is no room to inspect the {what}",
        f"What passes to and from {host} is inspected here as a whole. Just now so much is inspected that there is "
        "no memory left for more.",
        refusals.LATER,
        host,
        id,
    )


def not_switched(why: str, host: str, id: str) -> Refusal:
    """A server has changed to a protocol that cannot be inspected (RFC 9209 section 2.3.24)."""
    return Refusal(
        502,
        "http_upgrade_failed",
        "not_inspected",
        "Blocked: the server changed to a protocol that cannot be inspected",
        f"What passes to and from {host} is inspected here. {why[:1].upper()}{why[1:]}.",
        refusals.NEEDED,
        host,
        id,
    )
