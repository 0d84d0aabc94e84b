"""IP addresses: what an IPv6 address stands for, which are a cloud's metadata, and which are the internet's.

Pure functions over texts and :mod:`ipaddress`; whoever connects somewhere judges the address that it connects to.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Collection, Sequence

from config.settings import Address, Network

METADATA = (
    # The addresses at which clouds hand credentials to whoever asks from inside, beside the link-local ones.
    ipaddress.ip_network("fd00:ec2::254/128"),
    ipaddress.ip_network("100.100.100.200/32"),
    ipaddress.ip_network("168.63.129.16/32"),
    ipaddress.ip_network("192.0.0.192/32"),
    ipaddress.ip_network("fd20:ce::254/128"),
)
IPV4_LAST = (
    # The IPv4 address is in the last 32 bits: NAT64 (RFC 6052, RFC 8215) and SIIT (RFC 2765).
    ipaddress.ip_network("64:ff9b::/96"),
    ipaddress.ip_network("64:ff9b:1::/48"),
    ipaddress.ip_network("::ffff:0:0:0/96"),
)
UNICAST = (
    # Where the internet's addresses are (RFC 4291, section 2.4; RFC 6052, section 2.1).
    ipaddress.ip_network("0.0.0.0/0"),
    ipaddress.ip_network("2000::/3"),
    ipaddress.ip_network("64:ff9b::/96"),
)


def embedded(address: Address) -> set[Address]:
    """The IPv4 addresses that an IPv6 address stands for: mapped, translated, 6to4 (RFC 3056), Teredo (RFC 4380)."""
    if not isinstance(address, ipaddress.IPv6Address):
        return set()
    found: set[Address | None] = {address.ipv4_mapped, address.sixtofour, *(address.teredo or ())}
    if any(address in network for network in IPV4_LAST):
        found.add(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF))
    return {inner for inner in found if inner is not None}


def with_embedded(text: str) -> set[Address]:
    """The address that the text is, and those that it stands for; empty where it is none."""
    try:
        address: Address = ipaddress.ip_address(text)
    except ValueError:
        return set()
    return {address} | embedded(address)


def any_in(addresses: Collection[Address], networks: Sequence[Network]) -> bool:
    """Whether one of the addresses is of one of the networks."""
    return any(
        address.version == network.version and address in network for network in networks for address in addresses
    )


def within(text: str, networks: Sequence[Network]) -> bool:
    """Whether the address, or one that it stands for, is of one of the networks."""
    return any_in(with_embedded(text), networks)


def globally_reachable(text: str) -> bool:
    """Whether IANA's registries (RFC 6890) have the address, and each that it stands for, as one of the internet's.

    Neither private (RFC 1918, RFC 4193) nor a carrier's (RFC 6598), loopback, link-local or of documentation, nor a
    cloud's metadata.
    """
    both = with_embedded(text)
    everywhere = all(address.is_global and not address.is_multicast for address in both)
    return any_in(both, UNICAST) and everywhere and not any_in(both, METADATA)
