"""``sallyport errors``: what is done about each defect of a server's certificate."""

from __future__ import annotations

import click

from cli import clock, output
from cli.context import Context, json_option, pass_context


@click.group(name="errors")
def command() -> None:
    """What is done about each defect of a server's certificate.

    What has no row of its own is blocked. The row "untrusted" is the master setting for self_signed, untrusted_root
    and incomplete_chain; a row of these three wins over it.
    """


@command.command()
@json_option
@pass_context
def show(context: Context) -> None:
    """Show every row, its action, and whether that was set or is the default."""
    from control import error_settings

    rows = error_settings.show(context.installation, context.tenant)
    if context.json:
        output.as_json(
            [
                {"row": one.row, "action": one.action.value, "set": one.is_set, "from": one.inherited_from}
                for one in rows
            ]
        )
        return
    shown = [(one.row, one.action.value, "set" if one.is_set else one.inherited_from or "default") for one in rows]
    output.table(("defect", "action", "by"), shown, "There is no row.")


@command.command(name="set")
@click.argument("defect")
@click.argument("action")
@pass_context
def set_(context: Context, defect: str, action: str) -> None:
    """Set what is done about DEFECT (or untrusted): block, warn or allow."""
    from control import error_settings

    error_settings.set_action(context.installation, context.tenant, defect, action, clock.now())
    click.echo(f"Tenant {context.tenant}: {defect} is set to {action}.")
    if defect == "revocation_unknown" and context.settings.verification.revocation == "off":
        click.echo("It is not looked for: verification.revocation is off.")


@command.command()
@click.argument("defect")
@pass_context
def unset(context: Context, defect: str) -> None:
    """Take the row of DEFECT (or untrusted) away, so that the default counts again."""
    from control import error_settings

    was_set = error_settings.unset(context.installation, context.tenant, defect, clock.now())
    done = "is unset; the default counts" if was_set else "was not set; nothing is changed"
    click.echo(f"Tenant {context.tenant}: {defect} {done}.")
