"""Plain HTTP in the inspection lane: where a request goes, and what of a head stays on its connection (RFC 9110)."""

from __future__ import annotations

from mitmproxy import http

from proxy import refusals
from proxy.lanes.plain_heads import (
    HOP_BY_HOP,
    NEVER_NOMINATED,
    NO_TRAILERS,
    PSEUDONYM,
    Fields,
    been_here,
    read_target,
    tokens,
    via,
)
from proxy.refusals import Refusal, RefusedError


def admit(request: http.Request, id: str, origin: bool) -> Refusal | None:
    """Take the target of a request apart, and make its head fit for the server.

    It is in absolute-form; ``origin``: or in origin-form, from a client that takes us for the server.
    """
    data = request.data
    text = (data.scheme + b"://" + data.authority + data.path if data.authority else data.path).decode("latin-1")
    try:
        named = request.headers.get("host", "").encode("latin-1", "replace") if origin else None
        target = read_target(request.method, text, id, named)
    except RefusedError as error:
        return error.refusal
    fields = request.headers.fields
    low = _low(fields)
    data.host, data.port, data.scheme, data.authority = target.host.text, target.port, b"http", b""
    data.path = target.path.encode("latin-1")
    if been_here(low, PSEUDONYM):
        return refusals.loop(target.host.text, id)
    kept = [field for field in _passed_on(fields) if field[0].lower() != b"host"]
    if tokens(low, b"upgrade") == [b"websocket"] and b"upgrade" in tokens(low, b"connection"):
        kept += [(b"Upgrade", b"websocket"), (b"Connection", b"Upgrade")]
    elif b"trailers" in tokens(low, b"te"):
        kept += [(b"TE", b"trailers"), (b"Connection", b"TE")]
    request.headers.fields = ((b"Host", target.authority.encode()), *kept, via(_version(data.http_version), PSEUDONYM))
    return None


def answer(response: http.Response) -> None:
    """Make a server's response fit for the client."""
    fields = response.headers.fields
    kept = _passed_on(fields)
    if response.status_code == 101:
        kept += [(name, value) for name, value in fields if name.lower() in (b"upgrade", b"connection")]
    elif 100 <= response.status_code < 200:
        response.headers.fields = tuple(kept)
        return
    response.headers.fields = (*kept, via(_version(response.data.http_version), PSEUDONYM))


def trailers(fields: http.Headers) -> http.Headers:
    """The trailer fields that may be passed on."""
    return http.Headers([field for field in fields.fields if field[0].lower() not in NO_TRAILERS])


def _passed_on(fields: tuple[tuple[bytes, bytes], ...]) -> Fields:
    """What is for the other side too. The framing is: it is made anew, from this field."""
    nominated = set(tokens(_low(fields), b"connection")) - NEVER_NOMINATED
    return [
        (name, value)
        for name, value in fields
        if (low := name.lower()) == b"transfer-encoding" or (low not in HOP_BY_HOP and low not in nominated)
    ]


def _low(fields: tuple[tuple[bytes, bytes], ...]) -> Fields:
    return [(name.lower(), value) for name, value in fields]


def _version(version: bytes) -> bytes:
    return version.removeprefix(b"HTTP/")
