"""Host patterns, and the hosts that a request names."""

from __future__ import annotations

import pytest

from addons.requested_hosts import hosts_of
from certs.host_patterns import HostIndex, parse_pattern
from certs.names import InvalidHost, parse_host
from tests.addons.mitm import tflow, tutils


def found(patterns: list[str], host: str) -> list[str]:
    index: HostIndex[list[str]] = HostIndex(list)
    for pattern in patterns:
        index.at(parse_pattern(pattern)).append(pattern)
    return [pattern for values in index.find(parse_host(host)) for pattern in values]


@pytest.mark.parametrize(
    ("pattern", "host"),
    [
        ("example.com", "example.com"),
        ("example.com", "EXAMPLE.com."),
        ("EXAMPLE.com.", "example.com"),
        ("*.example.com", "www.example.com"),
        ("*.example.com", "a.b.c.example.com"),
        (".example.com", "example.com"),
        (".example.com", "a.b.example.com"),
        ("bücher.example", "xn--bcher-kva.example"),
        ("*.BÜCHER.example", "a.xn--bcher-kva.example"),
        ("*", "anything.example"),
        ("*", "192.0.2.1"),
        ("192.0.2.1", "192.0.2.1"),
        ("[2001:DB8::1]", "2001:db8:0::1"),
        ("2001:db8::1", "2001:db8::1"),
    ],
)
def test_what_a_pattern_covers(pattern: str, host: str) -> None:
    assert found([pattern], host) == [pattern]


@pytest.mark.parametrize(
    ("pattern", "host"),
    [
        ("example.com", "www.example.com"),
        ("*.example.com", "example.com"),
        ("*.example.com", "badexample.com"),
        (".example.com", "badexample.com"),
        ("*.example.com", "example.com.evil.example"),
        ("192.0.2.1", "192.0.2.10"),
    ],
)
def test_what_a_pattern_does_not_cover(pattern: str, host: str) -> None:
    assert found([pattern], host) == []


def test_the_closest_comes_first() -> None:
    patterns = ["*", ".com", "*.com", ".example.com", "*.example.com", ".www.example.com", "www.example.com"]
    assert found([*patterns, "*.www.example.com"], "www.example.com") == patterns[::-1]


@pytest.mark.parametrize("pattern", ["*", "example.com", "*.example.com", ".example.com", "192.0.2.1", "2001:db8::1"])
def test_a_pattern_is_written_as_it_is_read(pattern: str) -> None:
    assert str(parse_pattern(pattern)) == pattern


@pytest.mark.parametrize(
    "pattern",
    [
        "",
        "*.",
        "**",
        "a.*.b",
        "*example.com",
        "*.*.com",
        "*.192.0.2.1",
        ".192.0.2.1",
        ".",
        "..a",
        ".*.a",
        "a..b",
        "a b",
    ],
)
def test_what_is_no_pattern(pattern: str) -> None:
    with pytest.raises(InvalidHost):
        parse_pattern(pattern)


def names(
    host: str, authority: str = "", fields: tuple[tuple[bytes, bytes], ...] = (), sni: str | None = None
) -> list[str]:
    flow = tflow.tflow(req=tutils.treq(host=host, authority=authority.encode(), headers=fields))
    flow.client_conn.sni = sni
    return [each.text for each in hosts_of(flow)]


def test_a_request_names_hosts_in_several_places() -> None:
    assert names("one.example", fields=((b"Host", b"ONE.example:443"),), sni="one.example") == ["one.example"]
    many = names(
        "127.0.0.1", "two.example:8443", ((b"host", b"three.example"), (b"HOST", b"four.example.")), "five.example"
    )
    assert many == ["127.0.0.1", "two.example", "three.example", "four.example", "five.example"]


@pytest.mark.parametrize("field", [b"a..b", b"a b", b"good.example, evil.example", b"user@good.example", b"\xff\xfe"])
def test_a_name_that_cannot_be_read_is_not_passed_over(field: bytes) -> None:
    with pytest.raises(InvalidHost):
        names("good.example", fields=((b"Host", field),))
