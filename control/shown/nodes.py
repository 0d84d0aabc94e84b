"""Nodes, what their workers work with, and how their key managers are. Workers are read as they tell it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from certs.signer import Health, HostHealth


def rows(
    node: str, health: Sequence[Mapping[str, Any]], managers: Mapping[str, Health], now: datetime
) -> Iterator[dict[str, Any]]:
    """A row for each worker of the node and each tenant that it serves. ``health``: what the workers said."""
    told = {name: manager_as_object(manager, now) for name, manager in managers.items()}
    for worker in health:
        for name, tenant in worker["tenants"].items():
            yield _row(node, worker, name, tenant) | {"key_manager": told.get(name)}


def manager_as_object(health: Health, now: datetime) -> dict[str, Any]:
    """A tenant's key managers."""
    return {"waiting": health.waiting, "hosts": [_host(host, now) for host in health.hosts]}


def _host(host: HostHealth, now: datetime) -> dict[str, Any]:
    def at(seconds: float | None) -> str | None:
        return None if seconds is None else (now + timedelta(seconds=seconds)).isoformat(timespec="milliseconds")

    return {
        "address": host.address,
        "state": "well" if host.down_for is None else "down",
        "down_since": at(None if host.down_for is None else -host.down_for),
        "why": host.why or None,
        "next_try": at(host.next_try_in),
        "connections": host.connections,
        "asked": host.asked,
        "last_signature": at(None if host.signed_ago is None else -host.signed_ago),
        "signature_seconds": None if host.seconds is None else round(host.seconds, 4),
    }


def _row(node: str, worker: Mapping[str, Any], name: str, tenant: Mapping[str, Any]) -> dict[str, Any]:
    purged = tenant.get("purged")
    return {
        "node": node,
        "worker": worker["number"],
        "pid": worker["pid"],
        "draining": worker["draining"],
        "tenant": name,
        "generation": tenant["generation"],
        "purged_generation": purged["generation"] if purged else None,
        "purged_at": datetime.fromtimestamp(purged["at"], UTC).isoformat(timespec="milliseconds") if purged else None,
        "purge_seconds": purged["seconds"] if purged else None,
    }
