"""Which requests are for the proxy itself, and how its listeners are named to devices."""

from __future__ import annotations

from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config.settings import Listener, Settings
from proxy.listeners.balanced import DESTINATION
from proxy.onboarding.site import Site
from proxy.reply import Asked

NOW = datetime(2030, 1, 1, tzinfo=UTC)


def site(**onboarding: Any) -> Site:
    settings = Settings.model_validate({"onboarding": {"host": "own.example", **onboarding}})
    return Site(settings, lambda: NOW)


def session(sockname: tuple[str, int] = ("192.0.2.7", 8080), told: Any = None, **listener: Any) -> Any:
    extra = {"sockname": sockname, DESTINATION: told}
    return SimpleNamespace(
        listener=Listener.model_validate({"name": "explicit", "bind": "127.0.0.1:0", **listener}),
        client=SimpleNamespace(get_extra_info=extra.get),
        worker=SimpleNamespace(snapshots=SimpleNamespace(current={}), wall=lambda: 1.0),
        tenant_name="default",
        disclosure=SimpleNamespace(path=lambda path: path.decode()),
        exchange=lambda exchange: None,
        id="id1",
    )


def head(target: str, host: str = "own.example", method: str = "GET") -> bytes:
    return f"{method} {target} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode()


@pytest.mark.parametrize(
    ("data", "origin", "is_ours"),
    [
        (head("http://own.example/"), False, True),
        (head("HTTP://OWN.EXAMPLE.:8080/x"), False, True),
        (head("http://other.example/"), False, False),
        # RFC 9112, section 3.2.2: the target counts, and not the field.
        (head("http://other.example/", "own.example"), False, False),
        (head("http://own.example.other.example/own.example"), False, False),
        (head("http://user@own.example/"), False, False),
        (head("https://own.example/"), False, False),
        (head("/"), False, True),
        (head("/", "192.0.2.7:8080"), False, True),
        (head("/", "[::1]:8080"), False, True),
        (head("/", "rebound.example:8080"), False, False),
        (head("/", ""), False, False),
        (head("/"), True, True),
        (head("/", "own.example:8080"), True, True),
        (head("/", "192.0.2.7"), True, False),
        (head("/own.example", "other.example"), True, False),
        (head("http://own.example/", "other.example"), True, True),
        (head("own.example:443", method="CONNECT"), False, False),
        (head("http://own.example/")[:-2], False, False),
        (b"GET http://own.example/ HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", False, False),
        (b"\x16\x03\x01own.example", True, False),
        (b"", False, False),
    ],
)
def test_a_plain_request_for_the_page_is_known_by_its_head(data: bytes, origin: bool, is_ours: bool) -> None:
    assert site().is_asked(session(), data, origin=origin) is is_ours
    assert not site(enabled=False).is_asked(session(), data, origin=origin)


def test_a_name_that_devices_are_told_may_be_asked_for_straight() -> None:
    told = site(addresses={"explicit": "Proxy.example:8080"})
    assert told.is_asked(session(), head("/proxy.pac", "proxy.example:8080"), origin=False)
    assert not told.is_asked(session(name="other"), head("/proxy.pac", "proxy.example:8080"), origin=False)
    tls = session(mode="explicit-tls", tls={"names": ["tls.example"]})
    assert site().is_asked(tls, head("/proxy.pac", "tls.example"), origin=False)


@given(
    st.binary(max_size=200),
    st.sampled_from([b"", b"GET http://own.example", b"GET / HTTP/1.1\r\nHost: "]),
    st.booleans(),
)
def test_bytes_of_a_stranger_are_looked_at_without_a_fault(data: bytes, begins: bytes, origin: bool) -> None:
    assert site().is_asked(session(), begins + data, origin=origin) in (True, False)


@pytest.mark.parametrize(
    ("reached", "addresses", "proxy"),
    [
        (session(), {}, "PROXY 192.0.2.7:8080"),
        (session(("::ffff:192.0.2.7", 8080)), {}, "PROXY 192.0.2.7:8080"),
        (session(("fe80::1%eth0", 8080)), {}, "PROXY [fe80::1]:8080"),
        (session(told=("192.0.2.9", 3128)), {}, "PROXY 192.0.2.9:3128"),
        (session(), {"explicit": "proxy.example:80"}, "PROXY proxy.example:80"),
        (session(mode="explicit-tls", tls={"names": ["tls.example"]}), {}, "HTTPS tls.example:8080"),
        (session(mode="socks5"), {}, "SOCKS5 192.0.2.7:8080; SOCKS 192.0.2.7:8080"),
        (session(mode="transparent"), {}, "DIRECT"),
    ],
)
def test_a_listener_is_named_as_devices_reach_it(reached: Any, addresses: dict[str, str], proxy: str) -> None:
    reply = site(addresses=addresses).to_tls(reached)(Asked("GET", "/proxy.pac", b"own.example"))
    assert f'var proxy = "{proxy}";' in reply.body.decode()


@pytest.mark.parametrize(
    ("authority", "target", "status"),
    [
        (b"own.example", "/proxy.pac", 200),
        (b"OWN.example:443", "/proxy.pac?x", 200),
        (b"", "/proxy.pac", 200),  # HTTP/1.0
        (b"own.example", "https://own.example/proxy.pac", 200),
        (b"other.example", "/proxy.pac", 421),
        (b"own.example, other.example", "/proxy.pac", 421),
        (b"\xff", "/proxy.pac", 421),
        (b"own.example", "", 503),  # nothing but a root is missing
        (b"own.example", "https://own.example", 503),
    ],
)
def test_inside_tls_a_request_is_for_the_page_or_for_another_connection(
    authority: bytes, target: str, status: int
) -> None:
    assert site().to_tls(session())(Asked("GET", target, authority)).status == status


def test_what_is_not_http_inside_tls_is_told_so() -> None:
    assert site().to_tls(session())(None).status == 400
