"""Which change of protocol may follow a request."""

from __future__ import annotations

import pytest
from mitmproxy.http import Headers, Request, Response

from proxy.lanes.inspection.inspectors import NOTHING, Plan
from proxy.lanes.inspection.upgrades import deflates, protocol_of

BODIES = Plan({}, request_body=False, response_body=True)
MESSAGES = Plan({"websocket_message": ()}, request_body=False, response_body=False)
SOCKET = (("connection", "keep-alive, Upgrade"), ("upgrade", "websocket"), ("sec-websocket-version", "13"))


def asked(*fields: tuple[str, str], version: str = "HTTP/1.1") -> Request:
    request = Request.make("GET", "https://one.example/", headers=_headers(fields))
    request.http_version = version
    return request


def said(*fields: tuple[str, str]) -> Response:
    return Response.make(101, headers=_headers(fields))


def _headers(fields: tuple[tuple[str, str], ...]) -> Headers:
    return Headers([(name.encode(), value.encode()) for name, value in fields])


@pytest.mark.parametrize("plan", [NOTHING, BODIES, MESSAGES])
def test_a_websocket_follows_whatever_is_inspected(plan: Plan) -> None:
    assert protocol_of(asked(*SOCKET), said(("upgrade", "WebSocket")), True, plan) == "websocket"


@pytest.mark.parametrize("protocol", ["h2c", "H2C", "h2", "HTTP/2.0", "TLS/1.0", "http", "tls"])
def test_http_in_another_guise_never_follows(protocol: str) -> None:
    request = asked(("connection", "upgrade"), ("upgrade", f"odd/1, {protocol}"))
    with pytest.raises(ValueError, match="nobody inspects"):
        protocol_of(request, said(("upgrade", protocol)), True, NOTHING)
    assert protocol_of(request, said(("upgrade", "odd/1")), True, NOTHING) == "odd/1"


@pytest.mark.parametrize("plan", [BODIES, MESSAGES])
def test_what_cannot_be_inspected_does_not_follow_where_it_would_have_to_be(plan: Plan) -> None:
    with pytest.raises(ValueError, match="cannot be inspected"):
        protocol_of(asked(("connection", "upgrade"), ("upgrade", "odd/1")), said(("upgrade", "odd/1")), True, plan)


@pytest.mark.parametrize(
    ("said_fields", "why"),
    [
        ((), "another protocol"),
        ((("upgrade", "websocket, odd/1"),), "another protocol"),
        ((("upgrade", "websocket"), ("upgrade", "odd/1")), "another protocol"),
        ((("upgrade", "odd/1"),), "another protocol"),
    ],
)
def test_the_server_has_to_name_the_one_protocol(said_fields: tuple[tuple[str, str], ...], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        protocol_of(asked(*SOCKET), said(*said_fields), True, NOTHING)


def test_nothing_follows_what_has_not_ended_or_is_too_old() -> None:
    with pytest.raises(ValueError, match="before the request has ended"):
        protocol_of(asked(*SOCKET), said(("upgrade", "websocket")), False, NOTHING)
    with pytest.raises(ValueError, match=r"HTTP/1\.0"):
        protocol_of(asked(*SOCKET, version="HTTP/1.0"), said(("upgrade", "websocket")), True, NOTHING)


def test_an_extension_has_to_be_the_one_that_was_offered() -> None:
    name = "sec-websocket-extensions"
    offer = _headers(((name, "x-own, permessage-deflate; client_max_window_bits"),))
    taken = "permessage-deflate; server_max_window_bits=10"
    assert deflates(offer, _headers(((name, taken),))) == [taken]
    assert deflates(offer, _headers(())) == []
    for wrong in (
        "x-own",
        "permessage-deflate, permessage-deflate",
        "permessage-deflate; server_max_window_bits=99",
        "permessage-deflate; server_max_window_bits",
        "permessage-deflate; server_max_window_bits=x",
    ):
        with pytest.raises(ValueError, match="extension"):
            deflates(offer, _headers(((name, wrong),)))
    with pytest.raises(ValueError, match="not offered"):
        deflates(_headers(()), _headers(((name, taken),)))
