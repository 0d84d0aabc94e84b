"""mitmproxy's flows as ICAP encapsulates HTTP messages, and what a server changed put back into them.

What belongs to a connection and not to the message stays out on both ways (RFC 9110 section 7.6.1, RFC 3507 section
4.4.2), and bodies have the length that they have.
"""

from __future__ import annotations

import http as status_codes
import re
import time
from typing import Final

from mitmproxy import http
from mitmproxy.net.http.url import default_port, parse_authority

from addons.icap_answer import Answer
from addons.icap_heads import Fields, IcapError, MessageError, RequestHead, ResponseHead, is_token, shown, values
from addons.icap_messages import Scan

_OF_A_CONNECTION: Final = frozenset(
    {
        b"connection",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    }
)
_WITH_CONTENT: Final = frozenset({b"POST", b"PUT", b"PATCH"})
_NO_CONTENT: Final = frozenset({204, 304})

_FOLD = re.compile(rb"\r\n[\t ]+")
_VALUE = re.compile(rb"[\t -~\x80-\xff]*").fullmatch
_TARGET = re.compile(rb"[!-~\x80-\xff]+").fullmatch
_ABSOLUTE = re.compile(rb"(https?)://([^/?#]+)([^#]*)", re.IGNORECASE).fullmatch


def streamed(message: http.Message) -> bool:
    """Whether the body went by without being kept, so that it cannot be scanned (any more)."""
    return message.raw_content is None or bool(message.stream and message.raw_content)


def reqmod(flow: http.HTTPFlow) -> Scan:
    """The request of a flow, whole. Raises IcapError for one that cannot be written as HTTP/1."""
    body = flow.request.raw_content or b""
    return Scan("REQMOD", _request_head(flow.request, body), body=body, path=flow.request.path)


def respmod(flow: http.HTTPFlow, response: http.Response) -> Scan:
    """The response of a flow, whole, and the head of its request. Raises IcapError as :func:`reqmod` does."""
    body = response.raw_content or b""
    head = _head(b"HTTP/1.1 %d %b" % (response.status_code, _reason(response)), response.headers, body)
    return Scan("RESPMOD", _request_head(flow.request, None), head, body, flow.request.path)


def apply(flow: http.HTTPFlow, answer: Answer) -> None:
    """Put what an answer with status 200 holds into the flow. Raises MessageError for what cannot be followed."""
    body = bytes(answer.body)
    if answer.request is not None:
        _change_request(flow.request, answer.request, body)
    elif answer.response is not None and flow.response is not None:
        _change_response(flow.response, answer.response, body, head_only=flow.request.method == "HEAD")
    elif answer.response is not None:
        response = http.Response.make(answer.response.status)
        _change_response(response, answer.response, body, head_only=flow.request.method == "HEAD")
        flow.response = response


# To the server


def _request_head(request: http.Request, body: bytes | None) -> bytes:
    """``body`` is None where it is not encapsulated: then nothing is said of its length that was not said before."""
    target = b"*" if request.path == "*" else request.pretty_url.encode("utf-8", "surrogateescape")
    method = request.data.method
    if not is_token(method) or _TARGET(target) is None:
        raise IcapError(
            f"the request {shown(method)} {shown(target)} cannot be written as HTTP/1, so it is not scanned"
        )
    host = (request.host_header or "").encode("utf-8", "surrogateescape")
    first = [] if "host" in request.headers or not host else [(b"Host", host)]
    return _head(b"%b %b HTTP/1.1" % (method, target), request.headers, body, first)


def _head(
    line: bytes, headers: http.Headers, body: bytes | None, first: list[tuple[bytes, bytes]] | None = None
) -> bytes:
    fields = [*(first or []), *_end_to_end(headers.fields)]
    if body:
        fields = [(name, value) for name, value in fields if name.lower() != b"content-length"]
        fields.append((b"Content-Length", b"%d" % len(body)))
    lines = [line, *(b"%b: %b" % (name, _unfolded(name, value)) for name, value in _cookies_joined(fields))]
    return b"\r\n".join(lines) + b"\r\n\r\n"


def _unfolded(name: bytes, value: bytes) -> bytes:
    # mitmproxy keeps the folds of a value; what else ends a line would be another field for the scanner.
    plain = _FOLD.sub(b" ", value)
    if not is_token(name) or _VALUE(plain) is None:
        raise IcapError(f"the field {shown(name)} cannot be written as HTTP/1, so the message is not scanned")
    return plain


def _cookies_joined(fields: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """HTTP/2 may send a field for each cookie; HTTP/1 has one (RFC 9113 section 8.2.3)."""
    cookies = [value for name, value in fields if name.lower() == b"cookie"]
    if len(cookies) < 2:
        return fields
    rest = [(name, value) for name, value in fields if name.lower() != b"cookie"]
    return [*rest, (b"Cookie", b"; ".join(cookies))]


def _end_to_end(fields: Fields) -> list[tuple[bytes, bytes]]:
    """Without the fields of the connection, those that Connection names included."""
    named = {option.strip(b" \t").lower() for value in values(fields, b"connection") for option in value.split(b",")}
    away = _OF_A_CONNECTION | named
    return [(name, value) for name, value in fields if name.lower() not in away]


def _reason(response: http.Response) -> bytes:
    reason = response.data.reason
    if reason and _VALUE(reason) is not None:
        return reason
    try:
        return status_codes.HTTPStatus(response.status_code).phrase.encode()
    except ValueError:
        return b""


# From the server


def _change_request(request: http.Request, head: RequestHead, body: bytes) -> None:
    path = _path(request, head)
    fields = [field for field in _end_to_end(head.fields) if field[0].lower() not in (b"content-length", b"host")]
    if body or head.method in _WITH_CONTENT:
        fields.append((b"Content-Length", b"%d" % len(body)))
    # The host did not change, so its field is the client's; a wish for another protocol is not the server's to drop.
    kept = {b"host", b"upgrade", b"connection"} if "upgrade" in request.headers else {b"host"}
    own = [field for field in request.headers.fields if field[0].lower() in kept]
    request.data.method = head.method
    request.data.path = path
    _set(request, [*own, *fields], body)


def _path(request: http.Request, head: RequestHead) -> bytes:
    """The path of the changed request. Raises MessageError where it goes to another server than the flow does."""
    match = _ABSOLUTE(head.target)
    hosts = {value.decode("latin-1") for value in values(head.fields, b"host")}
    if match is not None:
        hosts.add(match[2].decode("latin-1"))
    here = _place(request.host_header or "", request) if request.host_header else (request.host.lower(), request.port)
    if any(_place(host, request) != here for host in hosts) or (
        match is not None and match[1].lower() != request.scheme.encode()
    ):
        raise MessageError(
            f"it sends the request to another server ({shown(head.target)}), which cannot be followed; "
            "have it answer with a redirect"
        )
    if match is not None:
        path = match[3]
        return path if path.startswith(b"/") else b"*" if request.path == "*" and not path else b"/" + path
    if head.target.startswith(b"/") or head.target == b"*":
        return head.target
    raise MessageError(f"its HTTP request has the target {shown(head.target)}, which is none")


def _place(authority: str, request: http.Request) -> tuple[str, int]:
    try:
        host, port = parse_authority(authority, check=True)
    except ValueError:
        raise MessageError(f"its HTTP request has the host {ascii(authority)[:80]}, which is none") from None
    return host.lower(), port or default_port(request.scheme) or 443


def _change_response(response: http.Response, head: ResponseHead, body: bytes, *, head_only: bool) -> None:
    if body and head.status in _NO_CONTENT:
        raise MessageError(f"its HTTP response has the status {head.status} and a body, which cannot be")
    said = [field for field in _end_to_end(head.fields) if field[0].lower() == b"content-length"]
    fields = [field for field in _end_to_end(head.fields) if field[0].lower() != b"content-length"]
    if head.status != 204 and not ((head_only or head.status == 304) and not body):
        fields.append((b"Content-Length", b"%d" % len(body)))
    elif head.status != 204:
        # Of a body that is not sent here: the length of what GET would give (RFC 9110 section 8.6).
        fields += said[:1]
    response.data.status_code = head.status
    response.data.reason = head.reason
    _set(response, fields, b"" if head_only else body)


def _set(message: http.Message, fields: list[tuple[bytes, bytes]], body: bytes) -> None:
    if message.is_http2 or message.is_http3:
        fields = [(name.lower(), value) for name, value in fields]
    message.headers = http.Headers(fields)
    message.raw_content = body
    message.trailers = None
    message.timestamp_end = time.time()
