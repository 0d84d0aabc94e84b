"""``sallyport admin``: the accounts that may use console and REST API."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import click

from cli import clock, output
from cli.context import Context, json_option, pass_context, refuse_tenant_options
from control.shown import accounts as shown

if TYPE_CHECKING:
    from store.records import Account

ROLES = click.Choice(["owner", "administrator", "auditor"])
own_option = click.option(
    "--own",
    is_flag=True,
    help="It is the person's own password: it stays good. Else it is to be changed within 7 days.",
)


@click.group(name="admin")
def command() -> None:
    """The accounts that may use console and REST API."""
    refuse_tenant_options("accounts")


@command.command()
@click.argument("name")
@click.option("--role", type=ROLES, help="Else an owner where there is none for all tenants, or an administrator.")
@click.option("--tenant", "tenants", multiple=True, metavar="NAME", help="For that tenant; may be repeated. Else all.")
@click.option("--password-file", metavar="F", help="A file whose first line is the password. Else one is made.")
@own_option
@json_option
@pass_context
def create(
    context: Context, name: str, role: str | None, tenants: tuple[str, ...], password_file: str | None, own: bool
) -> None:
    """Create account NAME. A password that is made here is printed once.

    Who signs in with it first has to choose another, within 7 days; --own: it is the person's own.
    """
    from control import accounts
    from control.authorisation import Role

    inst = context.installation
    if role is None:
        role = "administrator" if tenants or accounts.there_is_an_owner(inst) else "owner"
    password, given = _password(password_file)
    made = accounts.create(inst, name, password, Role(role), tenants or None, clock.now(), own=own)
    if context.json:
        output.as_json({**shown.as_object(made), **({} if given else {"password": password})})
        return
    click.echo(f"Account {made.name} is created: {made.role} of {shown.tenants(made)}.")
    _print_once(password, given)
    _print_end(made)


@command.command(name="list")
@json_option
@pass_context
def list_(context: Context) -> None:
    """List the accounts."""
    from control import accounts

    now = clock.now()
    found = accounts.listing(context.installation)
    standing = accounts.standings(context.installation, now)
    if context.json:
        output.as_json([shown.as_object(one) | shown.standing_as_object(standing[one.name]) for one in found])
        return
    rows = [
        (
            one.name, one.role, shown.tenants(one), shown.status(one, standing[one.name]),
            shown.password_in_short(one, now), "yes" if one.second_factor else "no",
            output.minute(one.signed_in_at) if one.signed_in_at else "never",
        )
        for one in found
    ]  # fmt: skip
    headings = ("name", "role", "tenants", "status", "password", "second factor", "signed in")
    output.table(headings, rows, "There is no account; make the first one with: sallyport admin create NAME")


@command.command()
@click.argument("name")
@json_option
@pass_context
def show(context: Context, name: str) -> None:
    """Show account NAME: its role, its sessions, its tokens."""
    from control import accounts

    now = clock.now()
    details = accounts.show(context.installation, name, now)
    one = details.account
    if context.json:
        output.as_json(shown.details_as_object(details))
        return
    factor = f"yes, {details.recovery_codes} recovery codes left" if one.second_factor else "no"
    output.fields(
        [
            ("name", one.name),
            ("role", one.role),
            ("tenants", shown.tenants(one)),
            ("status", shown.status(one, details.standing)),
            ("password", shown.password(one, now)),
            ("second factor", factor),
            ("wrong guesses", f"{details.standing.wrong} in a row"),
            ("signed in", output.minute(one.signed_in_at) if one.signed_in_at else "never"),
            ("created", output.minute(one.created_at)),
            ("last change", f"{output.minute(one.changed_at)} by {one.changed_by}"),
            ("tokens", ", ".join(each.name for each in details.tokens) or "none"),
        ]
    )
    rows = [
        (
            each.id, each.origin, output.minute(each.created_at), output.minute(each.used_at),
            output.minute(each.expires_at), "awaits the second factor" if each.awaits_code else "",
        )
        for each in details.sessions
    ]  # fmt: skip
    output.table(("session", "from", "begun", "used", "expires", ""), rows, "Nobody is signed in with it.")


@command.command()
@click.argument("name")
@click.option("--password-file", metavar="F", help="A file whose first line is the password. Else one is made.")
@own_option
@json_option
@pass_context
def passwd(context: Context, name: str, password_file: str | None, own: bool) -> None:
    """Give account NAME another password: its sessions end, and where it was locked it no longer is.

    Who signs in with it has to choose another, within 7 days; --own: it is the person's own.
    """
    from control import accounts

    password, given = _password(password_file)
    made = accounts.set_password(context.installation, name, password, clock.now(), own=own)
    if context.json:
        output.as_json({**shown.as_object(made), **({} if given else {"password": password})})
        return
    click.echo(f"Account {name} has another password, and its sessions have ended.")
    _print_once(password, given)
    _print_end(made)


@command.command()
@click.argument("name")
@click.option("--role", type=ROLES, help="Else it stays what it is.")
@click.option("--tenant", "tenants", multiple=True, metavar="NAME", help="For that tenant alone; may be repeated.")
@click.option("--all-tenants", is_flag=True, help="For every tenant, those to come included.")
@json_option
@pass_context
def change(context: Context, name: str, role: str | None, tenants: tuple[str, ...], all_tenants: bool) -> None:
    """Give account NAME another role, or other tenants."""
    from control import accounts
    from control.authorisation import Role

    if all_tenants and tenants:
        output.misuse("--tenant and --all-tenants: expected one of them")
    if role is None and not tenants and not all_tenants:
        output.misuse("nothing is to be changed; expected --role, --tenant or --all-tenants")
    made = accounts.change(
        context.installation,
        name,
        clock.now(),
        role=None if role is None else Role(role),
        tenants=tenants or None,
        all_tenants=all_tenants,
    )
    if context.json:
        output.as_json(shown.as_object(made))
        return
    click.echo(f"Account {name} is {made.role} of {shown.tenants(made)}, from its next request on.")


@command.command()
@click.argument("name")
@pass_context
def disable(context: Context, name: str) -> None:
    """Let nobody in with account NAME: its sessions end, its tokens count no more."""
    from control import accounts

    accounts.disable(context.installation, name, clock.now())
    click.echo(f"Account {name} is disabled, and so are its tokens; its sessions have ended.")


@command.command()
@click.argument("name")
@pass_context
def enable(context: Context, name: str) -> None:
    """Let account NAME in again; also where too many wrong guesses have locked it."""
    from control import accounts

    accounts.enable(context.installation, name, clock.now())
    click.echo(f"Account {name} is enabled, and so are its tokens.")


@command.command()
@click.argument("name")
@pass_context
def delete(context: Context, name: str) -> None:
    """Delete account NAME with its sessions and tokens."""
    from control import accounts

    accounts.delete(context.installation, name, clock.now())
    click.echo(f"Account {name} is deleted, and with it its sessions and tokens.")


@command.command(name="reset-totp")
@click.argument("name")
@pass_context
def reset_totp(context: Context, name: str) -> None:
    """Take the second factor of account NAME away, for who has lost it. Its sessions end."""
    from control import second_factor

    second_factor.reset(context.installation, name, clock.now())
    click.echo(f"Account {name} has no second factor; its sessions have ended.")


@command.command(name="setup-link")
@json_option
@pass_context
def setup_link(context: Context) -> None:
    """Print the link with which the first owner is made in the console: works once, for a day.

    One that was printed before works no more.
    """
    from cli.console_names import SETUP_PATH, base_url
    from cli.console_status import listens_at
    from control import first_owner
    from control.errors import Refused

    console = context.settings.console
    if not console.enabled:
        raise Refused("the console is switched off (console.enabled); make the first account with: admin create NAME")
    now = clock.now()
    token = first_owner.link(context.installation, now)
    if token is None:
        raise Refused("there is an owner; owners let others in, as does: sallyport admin create NAME")
    # The port may be one that the system chose.
    address = asyncio.run(listens_at(context.settings.state_dir)) or console.bind
    link = f"{base_url(console, address)}{SETUP_PATH}{token}"
    if context.json:
        output.as_json({"link": link, "expires_at": now + first_owner.LASTS})
        return
    click.echo(link)
    click.echo("It works once, for a day, and takes the place of any that was printed before.", err=True)


def _password(file: str | None) -> tuple[str, bool]:
    """The password, and whether it was given."""
    from control import tokens

    if file is None:
        return tokens.readable(), False
    try:
        return output.read_first_line(file).decode(), True
    except UnicodeDecodeError:
        output.misuse(f"{file}: the password is no UTF-8")


def _print_end(account: Account) -> None:
    """Say by when who got the password has to choose another."""
    from control import due

    if (until := due.given_until(account)) is not None:
        click.echo(
            f"It is to be changed at the first sign-in, by {output.minute(until)}; then it is good no more.", err=True
        )


def _print_once(password: str, given: bool) -> None:
    if not given:
        click.echo(f"Password: {password}")
        click.echo("It is shown this once; it is stored as a hash.", err=True)
