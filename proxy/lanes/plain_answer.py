"""The answers that the plain lane gives itself: refusals, and requests of which this proxy is the last stop."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import h11

from proxy.block_page import headers, reason, render
from proxy.lanes.plain_heads import Fields, field
from proxy.refusals import Refusal

_SECRET = frozenset({b"authorization", b"proxy-authorization", b"cookie"})
_METHODS = b"GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS, TRACE, CONNECT"


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole response."""

    status: int
    fields: Fields
    body: bytes

    def events(self, head_only: bool, close: bool) -> list[h11.Event]:
        """What h11 is to send. ``head_only``: it answers HEAD."""
        fields = [*self.fields, *([(b"Connection", b"close")] if close else [])]
        head = h11.Response(status_code=self.status, headers=fields, reason=reason(self.status).encode())
        return [head, *([] if head_only else [h11.Data(data=self.body)]), h11.EndOfMessage()]


@dataclass(frozen=True, slots=True)
class Ours:
    """Requests for the proxy's own name, which are answered here and sent to nobody."""

    host: str
    answer: Callable[[h11.Request, str, bool], Answer]
    """Of the request, its path, and whether it came straight to us (:attr:`straight`)."""
    straight: Callable[[bytes], bool]
    """Whether a request in origin-form, to a proxy, is for us as a web server: by its field Host."""
    alone: bool
    """The connection ends with the first answer, since what else may come on it is not for this lane."""


def of_refusal(refusal: Refusal, request: h11.Request | None) -> Answer:
    """The refusal in the form that the request's Accept prefers. No request: it could not be understood."""
    accept = field(request.headers, b"accept").decode("latin-1") if request is not None else None
    content_type, body = render(refusal, accept)
    fields = headers(refusal, content_type, len(body))
    return Answer(refusal.status, [(name.encode(), value.encode("latin-1")) for name, value in fields], body)


def at_last_stop(request: h11.Request) -> Answer:
    """The answer to TRACE or OPTIONS whose Max-Forwards is 0 (RFC 9110 7.6.2, 9.3.7 and 9.3.8)."""
    trace = request.method == b"TRACE"
    body = _reflected(request) if trace else b""
    kind = (b"Content-Type", b"message/http") if trace else (b"Allow", _METHODS)
    return Answer(200, [kind, (b"Content-Length", b"%d" % len(body))], body)


def _reflected(request: h11.Request) -> bytes:
    """The request as it was received, without what is secret."""
    lines = [b"%s %s HTTP/%s" % (request.method, request.target, request.http_version)]
    lines += [name + b": " + value for name, value in request.headers.raw_items() if name.lower() not in _SECRET]
    return b"\r\n".join(lines) + b"\r\n\r\n"
