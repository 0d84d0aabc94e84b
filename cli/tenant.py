"""``sallyport tenant``: who is told apart. Each has CAs, trust and error settings of its own."""

from __future__ import annotations

import click

from cli import clock, output
from cli.context import Context, json_option, pass_context
from control.shown import certificates, expiry
from control.shown import tenants as tenants_shown


@click.group(name="tenant")
def command() -> None:
    """Create, list, show and delete tenants."""


@command.command()
@click.argument("name")
@json_option
@pass_context
def create(context: Context, name: str) -> None:
    """Create tenant NAME with a built-in signing CA of its own."""
    from control import tenants
    from control.installation import publish_root

    tenant = tenants.create(context.installation, name, clock.now())
    path = publish_root(context.installation, tenant.name)
    if context.json:
        output.as_json({**tenants_shown.as_object(tenant), "root": str(path)})
        return
    click.echo(f"Tenant {tenant.name} is created; its root certificate is {path}")


@command.command(name="list")
@json_option
@pass_context
def list_(context: Context) -> None:
    """List the tenants."""
    from control import tenants

    records = tenants.listing(context.installation)
    if context.json:
        output.as_json([tenants_shown.as_object(tenant) for tenant in records])
        return
    rows = [(tenant.name, tenant.generation, output.minute(tenant.created_at)) for tenant in records]
    output.table(("name", "generation", "created"), rows, "There is no tenant.")


@command.command()
@click.argument("name")
@json_option
@pass_context
def show(context: Context, name: str) -> None:
    """Show tenant NAME: its signing CA, its trusted CAs, its listeners."""
    from control import signing_cas, tenants, trusted_cas
    from control.installation import root_file

    inst = context.installation
    details = tenants.show(inst, name)
    trusted = [one.name for one in trusted_cas.listing(inst, name)]
    root = root_file(inst, name)
    signing = details.signing_ca
    chain = certificates.load(signing.chain) if signing else []
    problem = signing_cas.key_problem(inst, name, signing.name) if signing else None
    if context.json:
        more = {
            "signing_ca": signing.name if signing else None,
            **{f"signing_ca_{key}": value for key, value in expiry.as_object(chain, clock.now()).items()},
            "signing_ca_key_problem": problem,
            "trusted_cas": trusted,
            "listeners": details.listeners,
            "root": str(root) if root.is_file() else None,
        }
        output.as_json(tenants_shown.as_object(details.tenant) | more)
        return
    expires = expiry.shown(chain, clock.now())
    output.fields(
        [
            ("name", details.tenant.name),
            ("created", output.minute(details.tenant.created_at)),
            ("generation", details.tenant.generation),
            ("signing CA", f"{signing.name}, expires {expires}" if signing else "none is active"),
            *([("problem", problem)] if problem else []),
            ("root certificate", root if root.is_file() else f"sallyport --tenant {name} signing-ca download"),
            ("trusted CAs", ", ".join(trusted) or "none of its own"),
            ("listeners", ", ".join(details.listeners) or "none in this configuration"),
        ]
    )


@command.command()
@click.argument("name")
@pass_context
def delete(context: Context, name: str) -> None:
    """Delete tenant NAME with all it has: CAs, keys, trust and settings. This cannot be undone."""
    from control import tenants

    remains = tenants.delete(context.installation, name, clock.now())
    click.echo(f"Tenant {name} is deleted, and with it its keys.")
    output.remains(remains)
