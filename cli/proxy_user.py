"""``sallyport proxy-user``: who may say by name and password that its connections are the tenant's."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from cli import clock, output
from cli.context import Context, json_option, pass_context

if TYPE_CHECKING:
    from store.records import ProxyUser

password_option = click.option(
    "--password-file", metavar="F", help="A file whose first line is the password (- for stdin). Else one is generated."
)


@click.group(name="proxy-user")
def command() -> None:
    """The users who tell the proxy by name and password that they are the tenant's (listeners[].authentication).

    Where a listener serves several tenants by name and password, a user of this one says NAME@TENANT.
    """


@command.command()
@click.argument("name")
@password_option
@json_option
@pass_context
def add(context: Context, name: str, password_file: str | None) -> None:
    """Let NAME in. A generated password is printed once, and is nowhere else."""
    from control import proxy_users

    password = given(password_file)
    chosen = password if password is not None else proxy_users.generate()
    user = proxy_users.add(context.installation, context.tenant, name, chosen, clock.now())
    tell(context, user, "is added", chosen if password is None else None)


@command.command()
@click.argument("name")
@password_option
@json_option
@pass_context
def passwd(context: Context, name: str, password_file: str | None) -> None:
    """Give NAME another password. Its open connections end within a second."""
    from control import proxy_users

    password = given(password_file)
    chosen = password if password is not None else proxy_users.generate()
    user = proxy_users.set_password(context.installation, context.tenant, name, chosen, clock.now())
    tell(context, user, "has another password", chosen if password is None else None)


@command.command()
@click.argument("name")
@json_option
@pass_context
def delete(context: Context, name: str) -> None:
    """Let NAME in no more. Its open connections end within a second."""
    from control import proxy_users

    user = proxy_users.delete(context.installation, context.tenant, name, clock.now())
    tell(context, user, "is deleted", None)


@command.command(name="list")
@json_option
@pass_context
def list_(context: Context) -> None:
    """List the tenant's users. Those in htpasswd files are not among them."""
    from control import proxy_users
    from control.shown.proxy_users import as_object

    users = proxy_users.listing(context.installation, context.tenant)
    if context.json:
        output.as_json([as_object(user) for user in users])
        return
    rows = [
        (user.name, output.minute(user.created_at), f"{output.minute(user.changed_at)} by {user.changed_by}")
        for user in users
    ]
    output.table(("name", "added", "changed"), rows, f"Tenant {context.tenant} has no proxy user.")


def given(password_file: str | None) -> str | None:
    """The password in the file; None where there is no file. What cannot be read is a usage error."""
    if password_file is None:
        return None
    try:
        return output.read_first_line(password_file).decode()
    except UnicodeDecodeError:
        output.misuse(f"{password_file}: the password is no UTF-8")


def tell(context: Context, user: ProxyUser, what: str, password: str | None) -> None:
    """Say what was done; a generated password with it, since nobody could say it later."""
    from control.shown.proxy_users import as_object

    if context.json:
        output.as_json(as_object(user) | ({} if password is None else {"password": password}))
        return
    click.echo(output.clean(f"Tenant {context.tenant}: the proxy user {user.name} {what}."))
    if password is not None:
        click.echo(f"Its password, which is not shown again: {password}")
