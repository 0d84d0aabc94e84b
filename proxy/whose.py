"""Whose connection it is, where a listener serves several tenants.

What says it, the first that does: the client's proxy credentials, its certificate (of TLS to the proxy), the network
that it comes from, the listener. Nothing says it: it is nobody's, and gets no service. Nobody's is written "".
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from config.settings import Listener, TenantNetwork
from proxy.listeners.balanced import BALANCER

if TYPE_CHECKING:
    from proxy.session import Session

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
ENCRYPTED = frozenset({"explicit-tls"})
"""Modes in which nobody on the way reads what a client says to the proxy."""


class Networks:
    """Networks and whose clients those of each are. Of several that an address is in, the longest prefix counts."""

    def __init__(self, entries: Iterable[TenantNetwork]) -> None:
        found: dict[tuple[int, int], dict[int, str]] = {}
        for entry in entries:
            network = entry.network
            low = int(network.network_address) >> (network.max_prefixlen - network.prefixlen)
            found.setdefault((network.version, network.prefixlen), {})[low] = entry.tenant
        self._lengths: Sequence[tuple[int, int, dict[int, str]]] = [
            (version, (32 if version == 4 else 128) - length, tenants)
            for (version, length), tenants in sorted(found.items(), key=lambda item: -item[0][1])
        ]

    def tenant(self, address: str) -> str:
        """Whose a client of that address is; "" where no network has it, or it is no address."""
        if not self._lengths or (client := parsed(address)) is None:
            return ""
        number = int(client)
        for version, shift, tenants in self._lengths:
            if version == client.version and (tenant := tenants.get(number >> shift)) is not None:
                return tenant
        return ""


class Whose:
    """The precedence, for all listeners of a worker."""

    def __init__(self, listeners: Iterable[Listener]) -> None:
        self._networks = {listener.name: Networks(listener.networks) for listener in listeners}

    def tenant(self, listener: Listener, address: str, *, login: str = "", certificate: str = "") -> str:
        """Whose it is; "" where nothing says it.

        ``login``: the tenant of the user whose credentials were verified. ``certificate``: the tenant that the client's
        certificate stands for. ``address``: the client's own, as far as it is known.
        """
        return login or certificate or self._networks[listener.name].tenant(address) or listener.tenant or ""

    def at_accept(self, listener: Listener, address: str, certificate: str = "") -> str:
        """Whose it is by what is known before a request; "" where that may still say it, or nothing does.

        Then it counts for no tenant yet: one that has too many connections keeps no other's client out.
        """
        if listener.authentication is not None:
            return ""
        return self.tenant(listener, address, certificate=certificate)


def may_say(session: Session) -> bool:
    """Whether a password may come over this connection, and so may be asked for (RFC 7617, section 4).

    It may where nobody on the way reads it, over loopback (the client's address and its socket's, which differ where
    a load balancer is in front), and where the operator wants it all the same.
    """
    authentication = session.listener.authentication
    if authentication is None:
        return False
    if authentication.clear_text or session.listener.mode in ENCRYPTED:
        return True
    name, balancer = (session.client.get_extra_info(each) for each in ("peername", BALANCER))
    # A load balancer that connects over a Unix socket is on this machine, and has no address.
    near = not balancer or _is_loopback(str(balancer))
    return near and _is_loopback(session.peer) and bool(name) and _is_loopback(str(name[0]))


def parsed(address: str) -> Address | None:
    """The address, an IPv4 one that is written as IPv6 (RFC 4291, section 2.5.5.2) as IPv4; None: it is none."""
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return None
    if isinstance(found, ipaddress.IPv6Address) and found.ipv4_mapped is not None:
        return found.ipv4_mapped
    return found


def _is_loopback(address: str) -> bool:
    found = parsed(address)
    return found is not None and found.is_loopback
