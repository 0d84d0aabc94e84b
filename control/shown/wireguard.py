"""WireGuard: peers, and what they are told of us."""

from __future__ import annotations

from typing import Any

from config.settings import Settings
from control import wireguard
from store.records import WireGuardPeer


def as_object(one: WireGuardPeer) -> dict[str, Any]:
    """A peer for JSON."""
    return {
        "name": one.name,
        "public_key": wireguard.text(one.public_key),
        "ipv4": one.ipv4,
        "ipv6": one.ipv6,
        "created_at": one.created_at,
        "created_by": one.created_by,
    }


def server_as_object(settings: Settings, tenant: str, key: bytes | None) -> dict[str, Any]:
    """What a peer is told of us, for JSON. ``key``: the tenant's public one. Raises Refused for a bad endpoint."""
    listeners = [one for one in settings.listeners if one.mode == "wireguard" and one.tenant == tenant]
    return {
        "public_key": None if key is None else wireguard.text(key),
        "endpoint": wireguard.endpoint(settings, tenant),
        "dns": wireguard.first_address(settings.wireguard.network),
        "listeners": [{"name": one.name, "bind": one.bind} for one in listeners],
    }
