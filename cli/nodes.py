"""``sallyport nodes``: the workers of the running daemon, what each works with, and its last purge."""

from __future__ import annotations

import asyncio
import socket
from datetime import UTC, datetime
from typing import Any

import click

from cli import output
from cli.context import Context, json_option, pass_context


@click.command(name="nodes")
@json_option
@pass_context
def command(context: Context) -> None:
    """Show the workers: generation and signing CA's end of each tenant, and when what was before was purged.

    A worker has purged once nothing of the signing CA before is left in it, and says how long after the change.
    """
    from proxy.status_client import ask_all

    state_dir = context.settings.state_dir
    health = asyncio.run(ask_all(state_dir, {"ask": "health"}))
    if not health:
        output.refuse(f"no worker answers in {state_dir / 'run'}; start the daemon with: sallyport serve")
    node = socket.gethostname()
    found = [_shown(node, worker, name, tenant) for worker in health for name, tenant in worker["tenants"].items()]
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


def _shown(node: str, worker: dict[str, Any], name: str, tenant: dict[str, Any]) -> dict[str, Any]:
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
