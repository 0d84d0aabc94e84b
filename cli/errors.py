"""``sallyport errors``: what is done about each defect of a server's certificate."""

from __future__ import annotations

import click

from cli import clock, output
from cli.context import Context, json_option, pass_context
from cli.dry_run import dry_run_option, made


@click.group(name="errors")
def command() -> None:
    """What is done about each defect of a server's certificate.

    What has no row of its own is blocked. The row "untrusted" is the master setting for self_signed, untrusted_root
    and incomplete_chain; a row of these three wins over it. An exception for a host wins over all rows.
    """


@command.command()
@json_option
@pass_context
def show(context: Context) -> None:
    """Show every row, its action, and whether that was set or is the default."""
    from control import error_settings
    from control.shown import error_settings as shown

    rows = error_settings.show(context.installation, context.tenant)
    if context.json:
        output.as_json([shown.as_object(one) for one in rows])
        return
    told = [(one.row, one.action.value, "set" if one.is_set else one.inherited_from or "default") for one in rows]
    output.table(("defect", "action", "by"), told, "There is no row.")


@command.command(name="set")
@click.argument("defect")
@click.argument("action")
@dry_run_option
@json_option
@pass_context
def set_(context: Context, defect: str, action: str, dry_run: bool) -> None:
    """Set what is done about DEFECT (or untrusted): block, warn, bypass or allow."""
    from control import error_settings

    now = clock.now()
    made(context, dry_run, lambda inst: error_settings.set_action(inst, context.tenant, defect, action, now))
    if context.json:
        output.as_json({"row": defect, "action": action, "set": True})
        return
    click.echo(f"Tenant {context.tenant}: {defect} is set to {action}.")
    if defect == "revocation_unknown" and context.settings.verification.revocation == "off":
        click.echo("It is not looked for: verification.revocation is off.")


@command.command()
@click.argument("defect")
@dry_run_option
@json_option
@pass_context
def unset(context: Context, defect: str, dry_run: bool) -> None:
    """Take the row of DEFECT (or untrusted) away, so that the default counts again."""
    from control import error_settings

    now = clock.now()
    was_set = made(context, dry_run, lambda inst: error_settings.unset(inst, context.tenant, defect, now))
    if context.json:
        output.as_json({"row": defect, "set": False, "was_set": was_set})
        return
    done = "is unset; the default counts" if was_set else "was not set; nothing is changed"
    click.echo(f"Tenant {context.tenant}: {defect} {done}.")


@command.command(name="except")
@click.argument("host")
@click.option("--defect", required=True, metavar="D", help="The defect, or untrusted.")
@click.option("--action", required=True, metavar="A", help="What is done about it, as for set.")
@click.option(
    "--fingerprint",
    metavar="F",
    help="Only for the certificate, or the key, with this SHA-256 (hexadecimal; see probe).",
)
@click.option("--expires", metavar="DATE", help="Until the end of this day, UTC (2027-01-31), or a time with its zone.")
@click.option("--reason", required=True, metavar="TEXT", help="Why it is made, for whoever comes later.")
@dry_run_option
@json_option
@pass_context
def except_(
    context: Context, host: str, defect: str, action: str, fingerprint: str | None, expires: str | None, reason: str,
    dry_run: bool,
) -> None:  # fmt: skip
    """Do something else about a defect of HOST: example.com, *.example.com (names below it), an address."""
    from control import host_exceptions
    from control.shown.error_settings import exception_as_object

    wanted = host_exceptions.Wanted(host, defect, action, reason, fingerprint, expires)
    now = clock.now()
    added = made(context, dry_run, lambda inst: host_exceptions.add(inst, context.tenant, wanted, now))
    if context.json:
        output.as_json(exception_as_object(added, expired=False))
        return
    of = "" if added.fingerprint is None else f", for the certificate or key {added.fingerprint.hex()}"
    end = "" if added.expires_at is None else f", until {output.minute(added.expires_at)} UTC"
    what = f"{added.defect} of {added.pattern} is set to {added.action}{of}{end}"
    click.echo(f"Tenant {context.tenant}: exception {added.id}: {what}.")


@command.command()
@json_option
@pass_context
def exceptions(context: Context) -> None:
    """List the exceptions for hosts, those that have expired too."""
    from control import host_exceptions
    from control.shown.error_settings import exception_as_object

    listed = host_exceptions.listing(context.installation, context.tenant, clock.now())
    if context.json:
        output.as_json([exception_as_object(one.exception, one.expired) for one in listed])
        return
    rows = [
        (
            one.exception.id,
            one.exception.pattern,
            one.exception.defect,
            one.exception.action,
            "expired" if one.expired else "active",
            "no end" if one.exception.expires_at is None else output.minute(one.exception.expires_at),
            "any" if one.exception.fingerprint is None else f"{one.exception.fingerprint.hex()[:16]}...",
            one.exception.created_by,
            output.minute(one.exception.created_at),
            one.exception.reason,
        )
        for one in listed
    ]
    headings = ("id", "host", "defect", "action", "status", "until", "certificate", "by", "made", "reason")
    output.table(headings, rows, f"Tenant {context.tenant} has no exceptions.")


@command.command()
@click.argument("id")
@dry_run_option
@json_option
@pass_context
def unexcept(context: Context, id: str, dry_run: bool) -> None:
    """Take exception ID away (see exceptions), so that the rows count again for its host."""
    from control import host_exceptions
    from control.shown.error_settings import exception_as_object

    now = clock.now()
    gone = made(context, dry_run, lambda inst: host_exceptions.remove(inst, context.tenant, id, now))
    if context.json:
        output.as_json(exception_as_object(gone, expired=gone.expires_at is not None and gone.expires_at <= now))
        return
    click.echo(f"Tenant {context.tenant}: exception {gone.id} ({gone.defect} of {gone.pattern}) is removed.")
