"""How an inspector says no: the same page, or problem document, that the proxy itself shows."""

from __future__ import annotations

from http import HTTPStatus

from mitmproxy import http

from proxy.block_page import headers, render
from proxy.refusals import NEEDED, Refusal

REFUSED = "sallyport_refused"
"""The flow's metadata under which stands who refused it."""


def refuse(flow: http.HTTPFlow, inspector: str, title: str, explanation: str, host: str) -> None:
    """Answer the flow's request with 403 (RFC 9209 2.3.11, http_request_denied); nothing of it goes to the server.

    ``inspector`` is the detail of Proxy-Status. All texts may come from strangers: the page escapes them.
    """
    id_ = str(flow.metadata.get("sallyport_id", flow.id))
    refusal = Refusal(HTTPStatus.FORBIDDEN, "http_request_denied", inspector, title, explanation, NEEDED, host, id_)
    content_type, body = render(refusal, flow.request.headers.get("accept"))
    fields = headers(refusal, content_type, len(body))
    flow.response = http.Response.make(
        refusal.status, body, http.Headers([(name.encode("ascii"), value.encode("latin-1")) for name, value in fields])
    )
    if flow.request.method == "HEAD":
        flow.response.data.content = b""  # the same head, no body (RFC 9110 9.3.2)
    # mitmproxy cannot both stream a request and answer it.
    flow.request.stream = False
    flow.metadata[REFUSED] = inspector


def refuse_unreadable(flow: http.HTTPFlow, inspector: str, why: str) -> None:
    """Refuse a request whose host cannot be read, so that no rule can be held against it."""
    refuse(
        flow,
        inspector,
        "Blocked: the host of this request cannot be read",
        f"What your program gave as the host is none, so it cannot be held against the organisation's rules: {why}.",
        "",
    )
