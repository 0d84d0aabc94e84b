"""``sallyport nodes``: the workers of the running daemon, what each works with, its last purge, and key managers."""

from __future__ import annotations

import asyncio
import socket
from datetime import datetime
from typing import Any

import click

from cli import clock, output
from cli.context import Context, json_option, pass_context
from control.shown.nodes import manager_as_object
from control.shown.nodes import rows as rows_of


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
    told = {name: manager_as_object(manager, now) for name, manager in managers.found.items()}
    found = list(rows_of(node, health, managers.found, now))
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
