"""What can be wrong with a message, as words; none where it is sound. Its framing was looked at where it came in."""

from __future__ import annotations

import re
from typing import Final

from mitmproxy import http
from mitmproxy.net.http.validate import validate_headers

_METHOD: Final = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+").fullmatch
_PATH: Final = re.compile(rb"/[!-~\x80-\xff]*|\*").fullmatch


def invalid(request: http.Request, bodiless: bool) -> str:
    """What is wrong with a request; nothing where it is sound. HTTP/1's first line was looked at before."""
    data = request.data
    if data.method == b"CONNECT":
        return "CONNECT inside the tunnel"
    if request.is_http2 and not (_METHOD(data.method) and _PATH(data.path)):
        return "a malformed :method or :path (RFC 9113 section 8.3.1)"
    if request.is_http2 and bodiless and request.headers.get("content-length", "0").strip("0"):
        return "a Content-Length without a body (RFC 9113 section 8.1.1)"
    return malformed(request)


def malformed(message: http.Request | http.Response) -> str:
    """What mitmproxy's check of fields finds; HTTP/1's were looked at more closely when they were framed."""
    if not message.is_http2:
        return ""
    try:
        validate_headers(message)
    except ValueError as error:
        return str(error)
    return ""


def wrong_length(message: http.Request | http.Response, content: bytes | None) -> str:
    """Whether a kept body, which an inspector may have changed, is as long as its head says (RFC 9112 section 6.3)."""
    said = message.headers.get_all("content-length")
    if not said or message.headers.get_all("transfer-encoding"):
        return ""  # what is wrong with both is found where it is framed
    length = len(content or b"")
    if said == [str(length)] or (len(said) == 1 and said[0].isdigit() and int(said[0]) == length):
        return ""
    return f"a body of {length} bytes whose Content-Length says {', '.join(said)[:60]}"
