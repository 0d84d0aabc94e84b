"""``sallyport nodes``: the workers of the running daemon, what each works with, its last purge, and key managers."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import click

from cli import clock, output
from cli.context import Context, json_option, pass_context

if TYPE_CHECKING:
    from certs.signer import Health, HostHealth


@click.command(name="nodes")
@json_option
@pass_context
def command(context: Context) -> None:
    """Show the workers: generation and signing CA's end of each tenant, and when what was before was purged.

    A worker has purged once nothing of the signing CA before is left in it, and says how long after the change. Where a
    signing CA's key is in a key manager: each of its hosts, whether it is well, and what a signature takes.
    """
    from cli.console_status import problem_of
    from cli.daemon_status import OfWorkers

    state_dir = context.settings.state_dir
    daemon = OfWorkers(state_dir)
    health = asyncio.run(daemon.health())
    if not health:
        output.refuse(f"no worker answers in {state_dir / 'run'}; start the daemon with: sallyport serve")
    node = socket.gethostname()
    names = sorted({name for worker in health for name in worker["tenants"]})
    managers = asyncio.run(daemon.key_managers(names))
    now = clock.now()
    told = {name: _told(manager, now) for name, manager in managers.found.items()}
    found = [
        _shown(node, worker, name, tenant) | {"key_manager": told.get(name)}
        for worker in health
        for name, tenant in worker["tenants"].items()
    ]
    if managers.unknown is not None:
        click.echo(output.clean(f"Of key managers nothing is known: {managers.unknown}"), err=True)
    if (problem := asyncio.run(problem_of(context.settings.console, state_dir))) is not None:
        click.echo(output.clean(f"The console cannot be used: {problem}"), err=True)
    if context.json:
        output.as_json(found)
        return
    rows = [
        (
            one["node"], one["worker"], one["pid"], one["tenant"], one["generation"],
            output.minute(datetime.fromisoformat(one["purged_at"])) if one["purged_at"] else "never",
            f"{one['purge_seconds']:.3f} s" if one["purge_seconds"] is not None else "",
        )
        for one in found
    ]  # fmt: skip
    headings = ("node", "worker", "pid", "tenant", "generation", "last purge", "took")
    output.table(headings, rows, "No worker serves a tenant.")
    if told:
        click.echo()
        hosts = [_row(name, manager, host) for name, manager in told.items() for host in manager["hosts"]]
        output.table(MANAGER_HEADINGS, hosts, "")


MANAGER_HEADINGS = ("tenant", "key manager", "connections", "asked", "waiting", "last signature", "takes", "state")


def _told(health: Health, now: datetime) -> dict[str, Any]:
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


def _row(tenant: str, manager: dict[str, Any], host: dict[str, Any]) -> tuple[object, ...]:
    def second(moment: str | None) -> str:
        return "" if moment is None else output.second(datetime.fromisoformat(moment))

    state = "well"
    if host["state"] == "down":
        state = f"down since {second(host['down_since'])}, next try {second(host['next_try'])}: {host['why']}"
    seconds = host["signature_seconds"]
    return (
        tenant, host["address"], host["connections"], host["asked"], manager["waiting"],
        second(host["last_signature"]) or "never", "" if seconds is None else f"{seconds * 1000:.0f} ms", state,
    )  # fmt: skip


def _shown(node: str, worker: Mapping[str, Any], name: str, tenant: dict[str, Any]) -> dict[str, Any]:
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
