"""``sallyport audit-log``: who changed what, when and from where."""

from __future__ import annotations

import click

from cli import output
from cli.context import Context, json_option, pass_context
from control.shown import audit_log as shown


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
        output.as_json([shown.as_object(one) for one in entries])
        return
    rows = [
        (output.minute(one.at), one.tenant or "", one.actor, one.origin, one.action, one.subject) for one in entries
    ]
    output.table(("when", "tenant", "who", "from", "what", "of"), rows, "Nothing was changed yet.")
