"""``sallyport token``: programs' way to the REST API, in the name of an account."""

from __future__ import annotations

from datetime import datetime

import click

from cli import clock, output
from cli.bypass import end_of
from cli.context import Context, json_option, pass_context, refuse_tenant_options
from control.shown import accounts as shown

NEVER = "never"


@click.group(name="token")
def command() -> None:
    """Programs' way to the REST API, in the name of an account."""
    refuse_tenant_options("tokens")


@command.command()
@click.argument("name")
@click.option("--account", required=True, metavar="NAME", help="In whose name, and with no more than it may do.")
@click.option(
    "--scope", type=click.Choice(["read", "write"]), default="read", show_default=True, help="write includes read."
)
@click.option(
    "--tenant", "tenants", multiple=True, metavar="NAME", help="For that tenant; may be repeated. Else the account's."
)
@click.option(
    "--expires",
    metavar="DATE",
    help="When it ends by itself, in UTC: 2026-12-31 (as that day ends) or 2026-12-31T18:30; or never. "
    "Else in 90 days.",
)
@json_option
@pass_context
def create(
    context: Context, name: str, account: str, scope: str, tenants: tuple[str, ...], expires: str | None
) -> None:
    """Create token NAME. The token itself is printed once."""
    from control import api_tokens
    from control.authorisation import Scope

    now = clock.now()
    end: datetime | None = now + api_tokens.LASTS
    if expires is not None:
        end = None if expires == NEVER else end_of(expires)
    made, text = api_tokens.create(context.installation, name, account, now, Scope(scope), tenants or None, end)
    if context.json:
        output.as_json({**shown.token_as_object(made, now), "token": text})
        return
    until = NEVER if made.expires_at is None else f"{output.minute(made.expires_at)} UTC"
    click.echo(
        output.clean(f"Token {name} is created: {scope} for {shown.token_tenants(made)}, expires: {until}."), err=True
    )
    click.echo("It is shown this once; only its SHA-256 is stored.", err=True)
    click.echo(text)


@command.command(name="list")
@click.option("--account", metavar="NAME", help="Those of that account.")
@json_option
@pass_context
def list_(context: Context, account: str | None) -> None:
    """List the tokens; not what lets somebody in."""
    from control import api_tokens

    now = clock.now()
    found = api_tokens.listing(context.installation, account)
    if context.json:
        output.as_json([shown.token_as_object(one, now) for one in found])
        return
    rows = [
        (
            one.name, one.account, one.scope, shown.token_tenants(one), shown.token_status(one, now),
            NEVER if one.expires_at is None else output.minute(one.expires_at),
            NEVER if one.used_at is None else output.minute(one.used_at),
        )
        for one in found
    ]  # fmt: skip
    output.table(("name", "account", "scope", "tenants", "status", "expires", "used"), rows, "There is no token.")


@command.command()
@click.argument("name")
@pass_context
def revoke(context: Context, name: str) -> None:
    """Revoke token NAME, from the next request on."""
    from control import api_tokens

    api_tokens.revoke(context.installation, name, clock.now())
    click.echo(output.clean(f"Token {name} is revoked, from the next request on."))
