"""WireGuard: which devices may use a tenant's WireGuard listeners, and what a device is to be told for that.

The tenant's key pair is made with its first peer. A peer's private key is handed to whoever adds it, once, and kept
nowhere; or it was made on the device, and is never seen here.
"""

from __future__ import annotations

import base64
import binascii
import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

from certs.names import InvalidHost, parse_authority
from config.settings import Network, Settings, parse_bind
from control import audit_log
from control.errors import Missing, Refused
from control.installation import Installation
from control.names import check_name
from issuer.wireguard import PURPOSE
from store import wireguard
from store.engine import Connection
from store.records import ChangeKind, Tenant, WireGuardPeer

NOUN = "wireguard"
PORT = 51820
"""What wg-quick's examples listen on."""
KEEPALIVE_SECONDS = 25
"""Keeps a NAT's mapping alive, so that a connection at rest is not lost."""


@dataclass(frozen=True, slots=True)
class Added:
    """A peer that was added. ``private_key`` is None where it was made elsewhere."""

    peer: WireGuardPeer
    server: bytes
    """The tenant's public key."""
    private_key: bytes | None = field(repr=False)


def add_peer(inst: Installation, tenant: str, name: str, now: datetime, public_key: str | None = None) -> Added:
    """Let a device use the tenant's WireGuard listeners from now on, within a second where a daemon runs.

    ``public_key``: the device's own, in base64; without it, a pair is made. Raises Refused for a name or key that
    cannot be or is taken, and where no address is left.
    """
    check_name(name, "a peer")
    made = X25519PrivateKey.generate()
    key = _public(public_key) if public_key is not None else made.public_key().public_bytes_raw()
    with inst.changing(tenant) as (connection, found):
        there = wireguard.listing(connection, found.id)
        server = _server_key(inst, connection, found, now)
        _check_free(there, name, key, server, tenant)
        settings = inst.settings.wireguard
        used = {address for peer in there for address in (peer.ipv4, peer.ipv6)}
        ipv4 = free_address(settings.network, used)
        ipv6 = None if settings.network6 is None else free_address(settings.network6, used)
        peer = wireguard.add(connection, found.id, name, key, ipv4, ipv6, now, inst.actor.name)
        inst.record(connection, found, ChangeKind.WIREGUARD_PEER_ADDED, f"{NOUN}.add", name, None, _told(peer), now)
    return Added(peer, server, made.private_bytes_raw() if public_key is None else None)


def remove_peer(inst: Installation, tenant: str, name: str, now: datetime) -> WireGuardPeer:
    """Let a device use them no more; a running daemon ends its connections within a second.

    Raises Refused where there is no such peer.
    """
    with inst.changing(tenant) as (connection, found):
        peer = next((peer for peer in wireguard.listing(connection, found.id) if peer.name == name), None)
        if peer is None:
            became = audit_log.what_happened(connection, found, NOUN, name)
            raise Missing(f"tenant {tenant} has no peer {name}{became}; see: sallyport wireguard peer list")
        wireguard.remove(connection, peer.id)
        inst.record(
            connection, found, ChangeKind.WIREGUARD_PEER_REMOVED, f"{NOUN}.remove", name, _told(peer), None, now
        )
    return peer


def peers(inst: Installation, tenant: str) -> list[WireGuardPeer]:
    """The tenant's peers, by name."""
    with inst.reading(tenant) as (connection, found):
        return wireguard.listing(connection, found.id)


def server_key(inst: Installation, tenant: str) -> bytes | None:
    """The tenant's public key; None until there was a first peer."""
    with inst.reading(tenant) as (connection, found):
        return wireguard.public_key(connection, found.id)


def endpoint(settings: Settings, tenant: str, given: str | None = None) -> str | None:
    """``HOST:PORT`` by which peers reach the tenant's listener: what is given, else the setting, else where it listens.

    None where none of these says it. Raises Refused for one that cannot be.
    """
    listener = next((one for one in settings.listeners if one.mode == "wireguard" and one.tenant == tenant), None)
    address, port = parse_bind(listener.bind) if listener is not None else ("0.0.0.0", 0)  # noqa: S104 - told apart
    written = given or settings.wireguard.endpoint
    if written is None:
        if port == 0 or ipaddress.ip_address(address).is_unspecified:
            return None
        written = f"[{address}]" if ":" in address else address
    try:
        host, port = parse_authority(written, default_port=port or PORT)
    except InvalidHost as error:
        raise Refused(f"the endpoint {written!r} cannot be: {error}") from None
    return f"[{host.text}]:{port}" if ":" in host.text else f"{host.text}:{port}"


def reached_at(settings: Settings, tenant: str, given: str | None = None) -> str:
    """The same, where there has to be one. Raises Refused where nothing says it."""
    if (where := endpoint(settings, tenant, given)) is None:
        raise Refused(
            "nothing says by which address peers reach this machine; give an endpoint, HOST or HOST:PORT, or set "
            "wireguard.endpoint in the configuration"
        )
    return where


def configuration(added: Added, settings: Settings, where: str) -> str:
    """What wg-quick(8) and the apps for phones read. Where the key was made elsewhere, its line is left to the device.

    All that the device sends goes into the tunnel. IPv6 too, whether or not there is any in it: what went past it
    would go past the checks.
    """
    peer = added.peer
    addresses = f"{peer.ipv4}/32" if peer.ipv6 is None else f"{peer.ipv4}/32, {peer.ipv6}/128"
    key = (
        "# PrivateKey = (the device's own)" if added.private_key is None else f"PrivateKey = {text(added.private_key)}"
    )
    return (
        f"[Interface]\n{key}\nAddress = {addresses}\nDNS = {first_address(settings.wireguard.network)}\n\n"
        f"[Peer]\nPublicKey = {text(added.server)}\nEndpoint = {where}\nAllowedIPs = 0.0.0.0/0, ::/0\n"
        f"PersistentKeepalive = {KEEPALIVE_SECONDS}\n"
    )


def text(key: bytes) -> str:
    """A key as wg(8) writes it."""
    return base64.b64encode(key).decode("ascii")


def first_address(network: Network) -> str:
    """The address in the tunnel that is ours; names are asked for there."""
    return str(network.network_address + 1)


def free_address(network: Network, used: Iterable[str | None]) -> str:
    """An address of a new peer: the one after the highest that is used, so that one that was removed is not taken for
    another's soon; at the end, the lowest that is free. Raises Refused where there is none."""
    taken = {int(ipaddress.ip_address(each)) for each in used if each and ipaddress.ip_address(each) in network}
    first = int(network.network_address) + 2  # behind the network's own and ours
    # The last of IPv4 is everybody's.
    last = int(network.broadcast_address) - (network.version == 4)
    highest = max(taken, default=first - 1)
    found = highest + 1 if highest < last else next((n for n in range(first, last + 1) if n not in taken), None)
    if found is None:
        raise Refused(
            f"no address of {network} is free for another peer; remove one, or set a larger wireguard.network"
        )
    return str(type(network.network_address)(found))


def _server_key(inst: Installation, connection: Connection, tenant: Tenant, now: datetime) -> bytes:
    """The tenant's public key; a pair is made where there is none."""
    if (there := wireguard.public_key(connection, tenant.id)) is not None:
        return there
    made = X25519PrivateKey.generate()
    public = made.public_key().public_bytes_raw()
    sealed = inst.tenant_key(connection, tenant).seal(tenant.name, PURPOSE, made.private_bytes_raw())
    wireguard.set_key(connection, tenant.id, public, sealed, now)
    return public


def _public(written: str) -> bytes:
    """A device's key. Raises Refused for what is none."""
    try:
        key = base64.b64decode(written.strip(), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if len(key) != 32 or text(key) != written.strip():
        raise Refused(
            f"{written[:64]!r} is no public key of WireGuard; expected 44 characters of base64, as wg pubkey has it"
        )
    try:
        X25519PrivateKey.generate().exchange(X25519PublicKey.from_public_bytes(key))
    except ValueError:  # all that is encrypted to it is known to everybody (RFC 7748, section 6.1)
        raise Refused(f"{written[:64]!r} is a key that protects nothing; have the device make another") from None
    return key


def _check_free(there: Iterable[WireGuardPeer], name: str, key: bytes, server: bytes, tenant: str) -> None:
    if key == server:
        raise Refused(f"this is the public key of tenant {tenant} itself; give that of the device")
    for peer in there:
        if peer.name == name:
            raise Refused(
                f"tenant {tenant} has the peer {name} already, since {peer.created_at:%Y-%m-%d}; remove it first"
            )
        if peer.public_key == key:
            raise Refused(f"this is the public key of the peer {peer.name}; each device has one of its own")


def _told(peer: WireGuardPeer) -> dict[str, object]:
    """What the audit log has of it."""
    return {"public_key": text(peer.public_key), "ipv4": peer.ipv4, "ipv6": peer.ipv6}
