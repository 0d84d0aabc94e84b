"""``sallyport kmip``: who a tenant is to its key managers, and whether they would sign."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from cli import clock, output
from cli.context import Context, json_option, pass_context
from cli.kmip_forwarder import command as forwarder
from control.shown import certificates
from control.shown import kmip as shown

if TYPE_CHECKING:
    from kms.kmip.connection import Endpoint
    from kms.kmip.validation import Found


@click.group(name="kmip")
def command() -> None:
    """Key managers that keep a signing CA's key: who we are to them (KMIP forwarding)."""


command.add_command(forwarder)


@command.command(name="set")
@click.option("--client-cert", required=True, metavar="F", help="Our certificate, and those above it.")
@click.option("--client-key", metavar="F", help="Its key. Left out where `kmip csr` made it.")
@click.option("--passphrase-file", metavar="F", help="A file whose first line is the key's passphrase.")
@click.option("--server-ca", required=True, metavar="F", help="The CA that issues the key manager's certificate.")
@click.option("--username", metavar="NAME", help="Where the key manager wants a user beside the certificate.")
@click.option("--password-file", metavar="F", help="A file whose first line is that user's password.")
@json_option
@pass_context
def set_(
    context: Context,
    client_cert: str,
    client_key: str | None,
    passphrase_file: str | None,
    server_ca: str,
    username: str | None,
    password_file: str | None,
) -> None:
    """Say who the tenant is to its key managers, and who they must be. The key is sealed here."""
    from control import kmip_forwarding
    from control.kmip_forwarding import Credentials

    password = None
    if password_file is not None:
        try:
            password = output.read_first_line(password_file).decode()
        except UnicodeDecodeError:
            output.misuse(f"{password_file}: the password is no UTF-8")
    given = Credentials(
        client_certificate=output.read_input(client_cert),
        server_ca=output.read_input(server_ca),
        key=None if client_key is None else output.read_input(client_key),
        passphrase=None if passphrase_file is None else output.read_first_line(passphrase_file),
        username=username,
        password=password,
    )
    made = kmip_forwarding.set_(context.installation, context.tenant, given, clock.now())
    if context.json:
        output.as_json(shown.as_object(made, clock.now()))
        return
    name = output.clean(certificates.common_name(certificates.load(made.chain)[0]))
    click.echo(f"Tenant {context.tenant} is {name} to its key managers from now on.")


@command.command()
@click.option("--common-name", required=True, metavar="CN", help="The user's name: CipherTrust takes it from here.")
@click.option("--organization", metavar="O")
@click.option("--organizational-unit", metavar="OU")
@click.option("--output", "target", metavar="F", help="Write the request to the file F instead of to standard output.")
@pass_context
def csr(context: Context, /, target: str | None, **fields: str | None) -> None:
    """Make a client key that never leaves, and print a request for its certificate (PKCS #10, PEM).

    Have it signed by the key manager's CA, and bring what you get with: kmip set --client-cert F --server-ca F
    """
    from certs.request import Subject
    from control import kmip_forwarding

    subject = Subject(**fields)  # type: ignore[arg-type] # click requires the common name
    made = kmip_forwarding.request(context.installation, context.tenant, subject, clock.now())
    output.write_output(target, shown.request_pem(made))
    if target is not None and target != "-":
        click.echo(f"The request is in {target}.")


@command.command()
@json_option
@pass_context
def show(context: Context) -> None:
    """Show who the tenant is to its key managers."""
    from control import kmip_forwarding

    found = kmip_forwarding.show(context.installation, context.tenant)
    if context.json:
        output.as_json(None if found is None else shown.as_object(found, clock.now()))
        return
    if found is None:
        click.echo(f"Tenant {context.tenant} has no client certificate for key managers; see: kmip set --help")
        return
    source = context.settings.kmip.source_address
    fields = [
        ("connects from", source or "an address of the system's choice (kmip.source_address)"),
        ("user", found.username or "none beside the certificate"),
        ("last change", f"{output.minute(found.changed_at)} by {found.changed_by}"),
    ]
    if found.request is not None:
        fields.append(("request", "waits for its certificate; bring it with: sallyport kmip set"))
    output.fields(fields)
    for title, chain in (("Client certificate", found.chain), ("Server CA", found.server_ca)):
        for certificate in certificates.load(chain):
            click.echo(title)
            output.fields(certificates.as_fields(certificate), indent="  ")
    if found.request is not None:
        click.echo(shown.request_pem(found.request).decode(), nl=False)


@command.command()
@click.argument("name")
@json_option
@pass_context
def test(context: Context, name: str) -> None:
    """Try step by step whether the key manager of the signing CA NAME would sign. Exit status 1 where it would not."""
    from control import on_premises

    telling = Steps(context)
    found = on_premises.examine_saved(context.installation, context.tenant, name, telling.tell)
    if context.json:
        output.as_json(shown.steps_as_objects(found))
    raise SystemExit(output.DONE if all(one.passed for _, one in found) else output.REFUSED)


class Steps:
    """Prints steps as they are done, under a heading for each host."""

    def __init__(self, context: Context) -> None:
        self._silent = context.json
        self._host: str | None = None

    def tell(self, endpoint: Endpoint, found: Found) -> None:
        """One more step."""
        from kms.kmip.validation import MEANING

        if self._silent:
            return
        if self._host != str(endpoint):
            self._host = str(endpoint)
            click.echo(self._host)
        mark = click.style("passed", fg="green") if found.passed else click.style("failed", fg="red", bold=True)
        click.echo(f"  {mark}  {MEANING[found.step]}: {output.clean(found.text)}")
