"""Whose a connection is: the precedence, and networks."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from config.settings import Listener, TenantNetwork
from proxy.whose import Networks, Whose


def listener(**more: object) -> Listener:
    return Listener.model_validate({"name": "shared", "bind": "127.0.0.1:0", **more})


@pytest.mark.parametrize(
    ("login", "certificate", "address", "default", "whose"),
    [
        ("user", "device", "10.1.2.3", "port", "user"),
        ("", "device", "10.1.2.3", "port", "device"),
        ("", "", "10.1.2.3", "port", "net"),
        ("", "", "10.2.2.3", "port", "port"),
        ("", "", "10.2.2.3", None, ""),
        ("", "", "", "port", "port"),
    ],
)
def test_credentials_come_before_certificate_network_and_listener(
    login: str, certificate: str, address: str, default: str | None, whose: str
) -> None:
    shared = listener(tenant=default, networks=[{"network": "10.1.0.0/16", "tenant": "net"}])
    assert Whose([shared]).tenant(shared, address, login=login, certificate=certificate) == whose


def test_who_may_still_say_it_is_nobodys_until_then() -> None:
    shared = listener(tenant="port", authentication={"tenants": ["a"]})
    assert Whose([shared]).at_accept(shared, "10.0.0.1") == ""
    plain = listener(tenant="port")
    assert Whose([plain]).at_accept(plain, "10.0.0.1") == "port"


def test_the_longest_prefix_counts_whatever_the_order() -> None:
    entries = [
        TenantNetwork.model_validate({"network": network, "tenant": tenant})
        for network, tenant in (
            ("10.0.0.0/8", "wide"),
            ("10.1.2.3/32", "one"),
            ("10.1.0.0/16", "near"),
            ("::/0", "six"),
        )
    ]
    for order in (entries, entries[::-1]):
        networks = Networks(order)
        found = [networks.tenant(address) for address in ("10.1.2.3", "10.1.2.4", "10.2.0.0", "11.0.0.0", "::1")]
        assert found == ["one", "near", "wide", "", "six"]
        # As IPv6 has an IPv4 client's address, and as a link-local one comes with its interface.
        assert [networks.tenant(address) for address in ("::ffff:10.1.2.3", "fe80::1%eth0", "no address")] == [
            "one", "six", "",
        ]  # fmt: skip


networks_of_few_bits = st.builds(
    lambda bits, length: str(ipaddress.ip_network((bits << 24, length), strict=False)),
    st.integers(0, 255),
    st.integers(0, 32),
)


@settings(max_examples=60)
@given(st.dictionaries(networks_of_few_bits, st.sampled_from(["a", "b", "c"]), max_size=8), st.integers(0, 2**32 - 1))
def test_it_finds_what_looking_at_each_would(found: dict[str, str], number: int) -> None:
    address = ipaddress.ip_address(number)
    containing = [network for network in map(ipaddress.ip_network, found) if address in network]
    expected = found[str(max(containing, key=lambda network: network.prefixlen))] if containing else ""
    entries = [TenantNetwork.model_validate({"network": key, "tenant": value}) for key, value in found.items()]
    assert Networks(entries).tenant(str(address)) == expected
