"""Whether a server's 101 may change the protocol under an inspector's eyes (RFC 9110 sections 7.8 and 15.2.2).

Behind 101 come bytes, no messages. A WebSocket's are inspected as such. Those of other protocols can only be passed on
as they are, so they are refused where some inspector is there for what is in them; HTTP in another guise always is.
"""

from __future__ import annotations

from typing import Final

from mitmproxy.http import Headers, Request, Response
from wsproto.extensions import PerMessageDeflate

from proxy.lanes.inspection.inspectors import Plan

WEBSOCKET: Final = "websocket"
VERSION: Final = "13"
"""RFC 6455 section 4.1."""
_HTTP: Final = ("h2c", "h2", "h3", "http", "tls")
"""What carries HTTP requests again, past every hook (RFC 9113 section 3.1, RFC 2817)."""


def protocol_of(request: Request, response: Response, ended: bool, plan: Plan) -> str:
    """The protocol that follows a 101, in lower case.

    ``request`` and ``response`` are as they were sent and came, ``ended`` says that the request was sent to its end.
    Raises ValueError, which says why the change is refused.
    """
    asked, said = _tokens(request.headers, "upgrade"), _tokens(response.headers, "upgrade")
    if not asked or "upgrade" not in _tokens(request.headers, "connection"):
        raise ValueError("the server changes the protocol, which the request did not ask for")
    if request.data.http_version == b"HTTP/1.0":
        raise ValueError("HTTP/1.0 knows no change of protocol (RFC 9110 section 7.8)")
    if not ended:
        raise ValueError("the server changes the protocol before the request has ended")
    if len(said) != 1 or said[0] not in asked:
        raise ValueError("the server changes to another protocol than the request asked for")
    (protocol,) = said
    if protocol == WEBSOCKET:
        if request.headers.get_all("sec-websocket-version") != [VERSION]:
            raise ValueError(f"a WebSocket that is not of the one version {VERSION} (RFC 6455 section 4.1)")
        deflates(request.headers, response.headers)
    elif protocol.partition("/")[0] in _HTTP:
        raise ValueError(f"behind a change to {protocol[:40]!r} requests would pass that nobody inspects")
    elif plan.request_body or plan.response_body or "websocket_message" in plan.hooks:
        raise ValueError(f"what follows a change to {protocol[:40]!r} cannot be inspected")
    return protocol


def deflates(asked: Headers, said: Headers) -> list[str]:
    """The parameters of permessage-deflate that both sides of a WebSocket have agreed on (RFC 7692), if they have.

    Raises ValueError where frames would mean what cannot be understood here: another extension, one that was not
    offered, or parameters that make no sense.
    """
    taken = [each.strip() for value in said.get_all("sec-websocket-extensions") for each in value.split(",")]
    taken = [each for each in taken if each]
    if not taken:
        return []
    offered = {name.partition(";")[0].strip() for name in _tokens(asked, "sec-websocket-extensions")}
    if len(taken) > 1 or taken[0].partition(";")[0].strip() != PerMessageDeflate.name:
        raise ValueError("the server wants a WebSocket extension that is not known here")
    if PerMessageDeflate.name not in offered:
        raise ValueError("the server wants a WebSocket extension that was not offered (RFC 6455 section 9.1)")
    try:
        PerMessageDeflate().finalize(taken[0])
    except (ValueError, IndexError) as error:
        raise ValueError(f"a WebSocket extension with parameters that cannot be used: {error}") from None
    return taken


def _tokens(headers: Headers, name: str) -> list[str]:
    """The members of a list field (RFC 9110 section 5.6.1), in lower case."""
    return [token for value in headers.get_all(name) for each in value.split(",") if (token := each.strip().lower())]
