"""What is told of clients and requests, as a table; and in each kind of tap."""

from __future__ import annotations

from typing import Any

import h2.config
import h2.connection
import pytest

from config.settings import Limits, Log, Privacy
from proxy.disclosure import DEFAULT, MAX_FIELD, Disclosure, disclosure_for
from proxy.lanes.exchange import Exchange
from proxy.lanes.plain_core import PlainCore
from proxy.lanes.tap import make_tap

TARGET = b"/a/b?token=s3cret&page=2#part"
FIELDS = [
    (b"User-Agent", b"curl/8"),
    (b"Referer", b"https://me:pw@other.example/x/y?q=1&r=2"),
    (b"X-Two", b"one"),
    (b"x-two", b"two"),
    (b"Authorization", b"Basic c2VjcmV0"),
    (b"Cookie", b"sid=s3cret"),
]


def told(target: bytes = TARGET, fields: list[tuple[bytes, bytes]] = FIELDS, **privacy: Any) -> Exchange:
    rules = Disclosure(Privacy(**privacy))
    exchange = Exchange("HTTP/1.1", "GET", "a.example", rules.path(target))
    if rules.more_of_request:
        rules.tell_request(exchange, target, fields)
    if rules.more_of_response:
        rules.tell_response(exchange, fields)
    return exchange


@pytest.mark.parametrize(
    ("privacy", "path", "more"),
    [
        ({}, "/a/b", None),
        ({"path": "none"}, "", None),
        ({"query": "names"}, "/a/b", {"query": "token&page"}),
        ({"query": "full"}, "/a/b", {"query": "token=s3cret&page=2"}),
        ({"path": "none", "query": "names"}, "", {"query": "token&page"}),
        ({"request_headers": ("user-agent",)}, "/a/b", {"request_headers": {"user-agent": "curl/8"}}),
        ({"request_headers": ("x-two",)}, "/a/b", {"request_headers": {"x-two": "one, two"}}),
        ({"request_headers": ("absent",)}, "/a/b", None),
        ({"response_headers": ("User-Agent",)}, "/a/b", {"response_headers": {"user-agent": "curl/8"}}),
        # A URL in a field is told as the request's own is.
        ({"request_headers": ("referer",)}, "/a/b", {"request_headers": {"referer": "https://other.example/x/y"}}),
        (
            {"request_headers": ("referer",), "path": "none"},
            "",
            {"request_headers": {"referer": "https://other.example"}},
        ),
        (
            {"request_headers": ("referer",), "query": "names"},
            "/a/b",
            {"query": "token&page", "request_headers": {"referer": "https://other.example/x/y?q&r"}},
        ),
    ],
)
def test_what_is_told_of_a_request(privacy: dict[str, Any], path: str, more: dict[str, Any] | None) -> None:
    exchange = told(**privacy)
    assert (exchange.path, exchange.more) == (path, more)


def test_what_a_stranger_wrote_is_short_and_visible() -> None:
    exchange = told(fields=[(b"user-agent", b'\x1b[31m"\xff' + b"z" * 5000)], request_headers=("user-agent",))
    assert exchange.more is not None
    value = exchange.more["request_headers"]["user-agent"]
    assert value.startswith('%1B[31m"%FFzz')
    assert len(value) == MAX_FIELD


@pytest.mark.parametrize(
    ("client", "address", "shown"),
    [
        ("full", "192.0.2.77", "192.0.2.77"),
        ("network", "192.0.2.77", "192.0.2.0/24"),
        ("network", "::ffff:192.0.2.77", "192.0.2.0/24"),
        ("network", "2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("network", "fe80::1%eth0", "fe80::/64"),
        ("network", "", ""),
        ("none", "192.0.2.77", ""),
    ],
)
def test_how_much_of_a_clients_address_is_told(client: Any, address: str, shown: str) -> None:
    assert Disclosure(Privacy(client=client)).client(address) == shown


def test_a_tenant_differs_only_in_what_is_set_for_it() -> None:
    settings = Log.model_validate(
        {
            "privacy": {"query": "names", "request_headers": ["User-Agent"]},
            "tenants": {"guests": {"client": "none", "request_headers": []}, "quiet": {"requests": False}},
        }
    )
    again = Log.model_validate_json(settings.model_dump_json())
    assert again == settings
    assert again.privacy_of("others") == settings.privacy
    assert again.privacy_of("guests") == Privacy(query="names", client="none")
    assert not disclosure_for(again, "quiet").requests
    assert disclosure_for(again, "guests").requests
    assert not disclosure_for(again.model_copy(update={"requests": False}), "guests").requests


ALL = Disclosure(Privacy(query="full", request_headers=("user-agent", "x-two"), response_headers=("server",)))
EXPECTED = {
    "query": "token=s3cret",
    "request_headers": {"user-agent": "curl/8", "x-two": "one, two"},
    "response_headers": {"server": "nginx"},
}
REQUEST = (
    b"GET %s HTTP/1.1\r\nHost: a.example\r\nUser-Agent: curl/8\r\nX-Two: one\r\nx-two:two\r\n"
    b"Cookie: sid=s3cret\r\nAuthorization: Basic c2VjcmV0\r\n\r\n"
)
RESPONSE = b"HTTP/1.1 200 OK\r\nServer: nginx\r\nSet-Cookie: sid=s3cret\r\nContent-Length: 2\r\n\r\nok"


@pytest.mark.parametrize("rules", [ALL, DEFAULT], ids=["all", "default"])
@pytest.mark.parametrize("target", [b"/a?token=s3cret", b"https://a.example/a?token=s3cret"])
def test_the_http1_tap_tells_so_much(rules: Disclosure, target: bytes) -> None:
    out: list[Exchange] = []
    tap = make_tap(b"http/1.1", "a.example", out.append, lambda: 1.0, Limits(), disclosure=rules)
    tap.from_client(REQUEST % target)
    tap.from_server(RESPONSE)
    assert [(x.path, x.more) for x in out] == [("/a", EXPECTED if rules is ALL else None)]


@pytest.mark.parametrize("rules", [ALL, DEFAULT], ids=["all", "default"])
def test_the_http2_tap_tells_so_much(rules: Disclosure) -> None:
    out: list[Exchange] = []
    tap = make_tap(b"h2", "a.example", out.append, lambda: 1.0, Limits(), disclosure=rules)
    client = h2.connection.H2Connection()
    server = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False))
    client.initiate_connection()
    fields = [
        (":method", "GET"), (":scheme", "https"), (":authority", "a.example"), (":path", "/a?token=s3cret"),
        ("user-agent", "curl/8"), ("x-two", "one"), ("x-two", "two"), ("cookie", "sid=s3cret"),
    ]  # fmt: skip
    client.send_headers(1, fields, end_stream=True)
    data = client.data_to_send()
    tap.from_client(data)
    server.initiate_connection()
    server.receive_data(data)
    server.send_headers(1, [(":status", "200"), ("server", "nginx"), ("set-cookie", "sid=s3cret")], end_stream=True)
    tap.from_server(server.data_to_send())
    assert [(x.path, x.more) for x in out] == [("/a", EXPECTED if rules is ALL else None)]


@pytest.mark.parametrize("rules", [ALL, DEFAULT], ids=["all", "default"])
def test_the_plain_lane_tells_so_much(rules: Disclosure) -> None:
    out: list[Exchange] = []
    core = PlainCore(out.append, lambda refusal: None, lambda: 1.0, "id1", "me", Limits(), rules)
    core.client_data(REQUEST % b"http://a.example/a?token=s3cret")
    core.connected()
    core.server_data(RESPONSE)
    assert [(x.path, x.more) for x in out] == [("/a", EXPECTED if rules is ALL else None)]
