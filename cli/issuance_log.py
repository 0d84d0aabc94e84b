"""``sallyport issuance-log``: every leaf that was signed, for whom and by which signing CA."""

from __future__ import annotations

import click

from cli import output
from cli.context import Context, json_option, pass_context
from control.shown import issuance_log as shown


@click.command(name="issuance-log")
@click.option("--most", type=click.IntRange(1, 1000), default=50, show_default=True, metavar="N")
@click.option("--host", metavar="TEXT", default="", help="Those whose host's name has this in it.")
@click.option("--all-tenants", is_flag=True, help="Those of every tenant.")
@json_option
@pass_context
def command(context: Context, most: int, host: str, all_tenants: bool) -> None:
    """Show the leaves that were signed last, the newest first."""
    from control import issuance_log, tenants

    inst = context.installation
    ids = None if all_tenants else (tenants.show(inst, context.tenant).tenant.id,)
    found = issuance_log.find(inst, issuance_log.Wanted(tenant_ids=ids, host=host.lower()), most)
    if context.json:
        output.as_json([shown.as_object(one) for one in found])
        return
    rows = [
        (output.minute(one.issued_at), one.tenant, one.host, one.signing_ca, one.serial, output.minute(one.not_after))
        for one in found
    ]
    output.table(("when", "tenant", "host", "signing CA", "serial", "ends"), rows, "No leaf was signed.")
