"""The transparent way in: a gateway sends us connections whose clients know of no proxy (netfilter's REDIRECT, TPROXY).

Where the connection was to go, the kernel says: of a redirected one when it is asked, and one that TPROXY hands to us
has that address as its own. That is an address; the name to check is the one that the client asks
for in its ClientHello, and where it asks for none, the address must stand in the certificate. There is no word of
another protocol before the client's own: what forbids the connection is said inside TLS, or in HTTP.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import struct
from dataclasses import replace

from certs.names import parse_host
from proxy import refusals
from proxy.block import Refusal
from proxy.listeners.balanced import BALANCER, destination
from proxy.listeners.way_in import WayIn
from proxy.log import WARNING
from proxy.ourselves import Ourselves
from proxy.session import State
from proxy.tunnel import Tunnel

SO_ORIGINAL_DST = 80
"""Of netfilter (linux/netfilter_ipv4.h), and IP6T_SO_ORIGINAL_DST of linux/netfilter_ipv6/ip6_tables.h."""
_IPV4 = struct.Struct("!2xH4s8x")
_IPV6 = struct.Struct("!2xH4x16s4x")


class NoDestinationError(Exception):
    """The kernel knows of no other place than this one that the connection was to go to."""


class Transparent(WayIn):
    """Asks the kernel where the connection was to go, and goes there."""

    __slots__ = ()

    plain = True

    def made(self) -> None:
        """Nobody says anything before the server may be reached: some protocols' servers speak first."""
        session = self.session
        ourselves = session.worker.ourselves
        try:
            address, port = destination_of(session.client, session.listener.mode)
            _not_to_us(ourselves, address, port)
        except NoDestinationError as error:
            session.worker.metrics.refused("no_destination")
            session.log(WARNING, "no destination", listener=session.listener.name, reason=str(error))
            return session.abort("no destination")
        host, source = parse_host(address), session.client.get_extra_info("peername")
        if source and (why := ourselves.has_made(source[:2], (address, port))) is not None:
            # Whoever is at the other end is no client, so there is nobody to tell it to.
            session.facts |= {"host": host.text, "port": port}
            session.refused(replace(refusals.loop(host.text, session.id), explanation=f"{why}; {_LEFT_ALONE}"))
            return session.abort("loop")
        return self.goes_to(host, port)

    def data(self, data: bytes) -> None:
        """Kept for the tunnel."""
        self.buffer += data
        self.waits()

    def refuse(self, refusal: Refusal) -> None:
        """Said to the client where that can be done: inside its TLS, or in its HTTP."""
        session = self.session
        host, port = session.facts.get("host"), session.facts.get("port")
        if host is None or port is None or refusal.details in _NO_LEAF:
            session.refused(refusal)
            return session.abort("refused")
        tunnel = Tunnel(session, parse_host(host), port, self.plain)
        tunnel.refusal = refusal
        session.to(State.HELLO, session.worker.limits.tls_timeout, tunnel)
        if self.buffer:
            tunnel.data(bytes(self.buffer))
        return None

    def nobodys(self, refusal: Refusal) -> None:
        """There is no word of ours outside of TLS, and no leaf for TLS."""
        self.session.refused(refusal)
        return self.session.abort("nobody's")


_NO_LEAF = frozenset({"signing_ca", "key_manager"})
"""Details of refusals that come from there being no leaf, so that there is no TLS to say them in."""


def destination_of(transport: asyncio.Transport, mode: str) -> tuple[str, int]:
    """Where the connection was to go: as the load balancer says that passes it on, else as the kernel does.

    Raises NoDestinationError.
    """
    if (told := destination(transport)) is None:
        connection = transport.get_extra_info("socket")
        return own_address(connection) if mode == "tproxy" else original_destination(connection)
    if told[0] == transport.get_extra_info(BALANCER):
        # It would come back to us from there, and again, without an end.
        raise NoDestinationError(f"it was made to the load balancer itself, {told[0]} port {told[1]}")
    return told


def _not_to_us(ourselves: Ourselves, address: str, port: int) -> None:
    """Raises NoDestinationError where the connection would only lead back to a listener."""
    if ourselves.listens_on(address, port):
        raise NoDestinationError(f"it was made to {address} port {port}, where we listen ourselves; {_RULES}")


def own_address(connection: socket.socket) -> tuple[str, int]:
    """Where a connection was to go that TPROXY has handed to us: it never became another."""
    address, port = connection.getsockname()[:2]
    return address.partition("%")[0], port


def original_destination(connection: socket.socket) -> tuple[str, int]:
    """Where a connection was to go before REDIRECT changed that. Raises NoDestinationError.

    The kernel answers for a connection that nobody redirected as well, or not: with our own address, or with an error.
    """
    own = connection.getsockname()
    try:
        if connection.family == socket.AF_INET6 and not own[0].startswith("::ffff:"):
            port, packed = _IPV6.unpack(connection.getsockopt(socket.IPPROTO_IPV6, SO_ORIGINAL_DST, _IPV6.size))
        else:
            port, packed = _IPV4.unpack(connection.getsockopt(socket.SOL_IP, SO_ORIGINAL_DST, _IPV4.size))
    except OSError as error:
        raise NoDestinationError(f"the kernel knows of none ({error.strerror}); {_RULES}") from None
    address = str(ipaddress.ip_address(packed))
    if (address, port) == (own[0].removeprefix("::ffff:").partition("%")[0], own[1]):
        raise NoDestinationError(f"it was made to this port itself, {address} port {port}; {_RULES}")
    return address, port


_RULES = "expected connections that nftables sends here, see sallyport gateway rules"
_LEFT_ALONE = "rules of a gateway have to leave the proxy's own connections alone, see sallyport gateway rules"
