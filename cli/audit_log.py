"""``sallyport audit-log``: who changed what, when and from where."""

from __future__ import annotations

import json

import click

from cli import output
from cli.context import Context, json_option, pass_context


@click.command(name="audit-log")
@click.option("--most", type=click.IntRange(1, 1000), default=50, show_default=True, metavar="N")
@click.option("--all-tenants", is_flag=True, help="Those of every tenant, of tenants that are gone, and of accounts.")
@json_option
@pass_context
def command(context: Context, most: int, all_tenants: bool) -> None:
    """Show the latest changes, the newest first. With --json, what was before and after each, too."""
    from control import audit_log

    entries = audit_log.newest(context.installation, most, None if all_tenants else context.tenant)
    if context.json:
        output.as_json(
            [
                {
                    "id": one.id, "at": one.at, "tenant": one.tenant, "actor": one.actor, "origin": one.origin,
                    "action": one.action, "subject": one.subject,
                    "before": json.loads(one.before) if one.before else None,
                    "after": json.loads(one.after) if one.after else None,
                }
                for one in entries
            ]
        )  # fmt: skip
        return
    rows = [
        (output.minute(one.at), one.tenant or "", one.actor, one.origin, one.action, one.subject) for one in entries
    ]
    output.table(("when", "tenant", "who", "from", "what", "of"), rows, "Nothing was changed yet.")
