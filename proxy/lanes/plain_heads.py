"""Where a plain request goes, and what its head and the answer's look like on the other side (RFC 9110 7.6).

What belongs to one connection only stays on it. The framing of a message is made anew from what was understood, so
that the next reader cannot understand it otherwise.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import h11
from h11._headers import Headers

from certs.names import Host, InvalidHost, parse_authority
from proxy import refusals
from proxy.refusals import RefusedError

if TYPE_CHECKING:
    from proxy.parent import Parent

Fields = list[tuple[bytes, bytes]]

PSEUDONYM = f"sallyport-{secrets.token_hex(4)}"
"""What this process calls itself in Via (RFC 9110 7.6.3). Random, so that a request that comes back is told from one
that has passed another Sallyport, and nothing of the network is told."""
PORT = 80

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_ADDRESS = re.compile(r"http://([^/?#]*)([^#]*)", re.IGNORECASE)
HOP_BY_HOP = frozenset(
    b"connection keep-alive proxy-connection proxy-authenticate proxy-authorization proxy-authentication-info te "
    b"trailer transfer-encoding upgrade".split()
)
NEVER_NOMINATED = frozenset({b"host", b"content-length", b"via"})
"""A Connection field that lists these would take away framing, routing or the detection of loops."""
NO_TRAILERS = HOP_BY_HOP | {
    b"host", b"content-length", b"content-type", b"content-encoding", b"content-range", b"authorization", b"set-cookie",
    b"cookie", b"cache-control", b"expect", b"max-forwards", b"via", b"location", b"range",
}  # fmt: skip
"""RFC 9110 6.5.1: fields for framing, routing, authentication and the like may not come in trailers."""

_MALFORMED = {
    "Receive buffer too long": "its head is too long",
    "illegal request line": "its first line is not METHOD TARGET HTTP/1.1",
    "no request line": "it begins with an empty line",
    "illegal header line": "a header line is not NAME: VALUE",
    "continuation line": "a header line is not NAME: VALUE",
    "Missing mandatory Host": "it has no Host field",
    "Found multiple Host": "it has more than one Host field",
    "Illegal target": "its target has characters that a URI cannot have",
    "conflicting Content-Length": "its Content-Length fields contradict each other",
    "bad Content-Length": "its Content-Length is not a number",
    "multiple Transfer-Encoding": "it has more than one Transfer-Encoding field",
    "Only Transfer-Encoding": "its Transfer-Encoding is not chunked; expected chunked or none",
    "illegal chunk header": "the size of a chunk is not a hexadecimal number",
    "malformed chunk footer": "a chunk is longer than its size",
}
"""How h11's messages begin, and what is told instead."""


@dataclass(frozen=True, slots=True)
class Target:
    """Where a request goes: ``authority`` as Host says it, ``path`` in origin-form (or ``*``)."""

    host: Host
    port: int
    authority: str
    path: str


def read_target(method: str, text: str, id: str, named: bytes | None = None) -> Target:
    """The target of a request in absolute-form (RFC 9112 3.2.2). Raises RefusedError for any other.

    ``named``: the field Host of a request to which we are the server, as far as its client knows: then origin-form is
    what it has (RFC 9112 3.2.1, and 3.3 for how the two together name the target), and ``*`` (3.2.4).
    """
    if method == "CONNECT":
        raise RefusedError(refusals.late_connect(text, id))
    if named is not None and (text.startswith("/") or text == "*"):
        if not named:
            raise RefusedError(refusals.bad_request(400, "it has no Host field", id))
        text = f"http://{named.decode('latin-1')}{'' if text == '*' else text}"
    address = _ADDRESS.fullmatch(text)
    if address is None:
        if scheme := _SCHEME.match(text):
            if scheme[1].lower() == "http":
                raise RefusedError(refusals.bad_request(400, "the address has a fragment, which is never sent", id))
            raise RefusedError(refusals.wrong_scheme(scheme[1].lower()[:30], id))
        if text.startswith("/") or text == "*":
            raise RefusedError(refusals.not_a_web_server(id))
        raise RefusedError(refusals.bad_request(400, "the target is no http:// address", id))
    try:
        host, port = parse_authority(address[1], PORT)
    except InvalidHost as error:
        # With an @ anywhere, what was taken for the host can be part of a password, which the error would quote.
        why = "its user information or its host is malformed" if "@" in text else f"the address's host: {error}"
        raise RefusedError(refusals.bad_request(400, why, id)) from None
    name = f"[{host.text}]" if ":" in host.text else host.text
    path = address[2]
    if not path.startswith("/"):
        # RFC 9112 3.2.1 and 3.2.4: an empty path is "/", and for OPTIONS without a query it is the whole server
        path = "*" if method == "OPTIONS" and not path else f"/{path}"
    return Target(host, port, name if port == PORT else f"{name}:{port}", path)


def why_malformed(error: h11.RemoteProtocolError) -> str:
    """What h11 found wrong with a request, in words of our own: its own quote what the client sent."""
    text = str(error)
    return next((said for start, said in _MALFORMED.items() if text.startswith(start)), "it is not valid HTTP/1.1")


def field(headers: Iterable[tuple[bytes, bytes]], name: bytes) -> bytes:
    """All values of a field joined with commas; empty where there is none."""
    return b", ".join(value for key, value in headers if key == name)


def beyond(headers: Headers, most_bytes: int, most_fields: int) -> str:
    """The setting whose limit these fields are beyond; "": none. Counted are names and values, and four bytes each."""
    if len(headers) > most_fields:
        return "header_fields"
    return "header_bytes" if sum(len(name) + len(value) + 4 for name, value in headers) > most_bytes else ""


def tokens(headers: Iterable[tuple[bytes, bytes]], name: bytes) -> list[bytes]:
    """The members of a field that is a list of tokens, in lower case."""
    return [part.strip().lower() for part in field(headers, name).split(b",") if part.strip()]


def framing_problem(request: h11.Request) -> str | None:
    """What makes a request's framing ambiguous (RFC 9112 6.1 and 6.3), beyond what h11 refuses."""
    if not tokens(request.headers, b"transfer-encoding"):
        return None
    if field(request.headers, b"content-length"):
        return "it has Content-Length and Transfer-Encoding; expected one of them"
    if request.http_version < b"1.1":
        return "it has Transfer-Encoding, which HTTP/1.0 does not know"
    return None


def asks_for_websocket(request: h11.Request) -> bool:
    """An upgrade that is passed on. Others (h2c, TLS) would take the requests out of what is understood here."""
    return (
        request.http_version >= b"1.1"
        and b"upgrade" in tokens(request.headers, b"connection")
        and tokens(request.headers, b"upgrade") == [b"websocket"]
    )


def been_here(headers: Iterable[tuple[bytes, bytes]], pseudonym: str) -> bool:
    """Whether a request has passed this process before (RFC 9110 7.6.3). The names of the fields are in lower case."""
    return any(hop.split()[1:2] == [pseudonym.lower().encode()] for hop in tokens(headers, b"via"))


def check(request: h11.Request, target: Target, id: str, pseudonym: str) -> None:
    """Raises RefusedError where the request's framing is ambiguous, or where it has passed here before."""
    if problem := framing_problem(request):
        raise RefusedError(refusals.bad_request(400, problem, id, target.host.text))
    if been_here(request.headers, pseudonym):
        raise RefusedError(refusals.loop(target.host.text, id))


def max_forwards(request: h11.Request) -> int | None:
    """Max-Forwards, where it counts: for TRACE and OPTIONS (RFC 9110 7.6.2). None: no limit."""
    value = field(request.headers, b"max-forwards")
    if request.method not in (b"TRACE", b"OPTIONS") or not value.isdigit() or len(value) > 9:
        return None
    return int(value)


def absolute(path: str, authority: str) -> str:
    """A target as a proxy is asked for it (RFC 9112 3.2.2); ``*`` is the whole server (RFC 9112 3.2.4)."""
    return f"http://{authority}{'' if path == '*' else path}"


def request_to_server(
    request: h11.Request, target: Target, pseudonym: str, parent: Parent | None = None
) -> h11.Request:
    """The request as the server gets it; or ``parent``, where it is sent through that."""
    fields: Fields = [(b"Host", target.authority.encode())]
    old = request.http_version < b"1.1"
    hops = max_forwards(request)
    dropped = {b"host", b"expect"} if old else {b"host"}  # RFC 9110 10.1.1: HTTP/1.0 has no expectations
    if hops is not None:
        dropped.add(b"max-forwards")
        fields.append((b"Max-Forwards", str(hops - 1).encode()))
    fields += _end_to_end(request, dropped)
    if tokens(request.headers, b"transfer-encoding"):
        fields.append((b"Transfer-Encoding", b"chunked"))
    options = []
    if b"trailers" in tokens(request.headers, b"te"):
        fields.append((b"TE", b"trailers"))
        options.append(b"TE")
    if asks_for_websocket(request):
        fields.append((b"Upgrade", b"websocket"))
        options.append(b"Upgrade")
    if options:
        fields.append((b"Connection", b", ".join(options)))
    fields.append(via(request.http_version, pseudonym))
    path = target.path
    if parent is not None:
        path = absolute(path, target.authority)
        if parent.authorization:
            fields.append((b"Proxy-Authorization", parent.authorization))
    return h11.Request(method=request.method, target=path.encode("ascii"), headers=fields)


def response_to_client(response: h11.Response, pseudonym: str, close: bool) -> h11.Response:
    """The final response as the client gets it; h11 adds the framing that the client's version knows."""
    dropped: set[bytes] = set()
    if response.status_code == 204 or tokens(response.headers, b"transfer-encoding"):
        dropped.add(b"content-length")
    fields = [*_end_to_end(response, dropped), via(response.http_version, pseudonym)]
    if close:
        fields.append((b"Connection", b"close"))
    return h11.Response(status_code=response.status_code, headers=fields, reason=response.reason)


def informational_to_client(response: h11.InformationalResponse) -> h11.InformationalResponse:
    """A 1xx as the client gets it. For 101 the Upgrade is kept, since it is what was agreed."""
    fields = _end_to_end(response, set())
    if response.status_code == 101:
        fields += [(b"Upgrade", field(response.headers, b"upgrade")), (b"Connection", b"Upgrade")]
    return h11.InformationalResponse(status_code=response.status_code, headers=fields, reason=response.reason)


def trailers(end: h11.EndOfMessage) -> Fields:
    """The trailer fields that may be passed on."""
    nominated = set(tokens(end.headers, b"connection"))
    return [(name, value) for name, value in end.headers.raw_items() if name.lower() not in NO_TRAILERS | nominated]


def _end_to_end(message: h11.Request | h11.Response | h11.InformationalResponse, dropped: set[bytes]) -> Fields:
    """The fields that go on, as they were written."""
    nominated = set(tokens(message.headers, b"connection")) - NEVER_NOMINATED
    return [
        (name, value)
        for name, value in message.headers.raw_items()
        if (low := name.lower()) not in HOP_BY_HOP and low not in nominated and low not in dropped
    ]


def via(version: bytes, pseudonym: str) -> tuple[bytes, bytes]:
    """What Via says of this hop."""
    return b"Via", version + b" " + pseudonym.encode()
