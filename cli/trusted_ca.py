"""``sallyport trusted-ca``: the private CAs that a tenant trusts beside the common store."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from cli import certificates, clock, output
from cli.context import Context, json_option, pass_context

if TYPE_CHECKING:
    from certs.bundle import Bundle
    from store.records import TrustedCa


@click.group(name="trusted-ca")
def command() -> None:
    """The private CAs that a tenant trusts beside the common store."""


@command.command()
@click.argument("name")
@click.argument("file")
@click.option("--inactive", is_flag=True, help="Save it, but do not trust it yet.")
@json_option
@pass_context
def add(context: Context, name: str, file: str, inactive: bool) -> None:
    """Trust the CA in FILE (intermediates first, root last; - is standard input) under NAME."""
    from control import trusted_cas

    data = output.read_input(file)
    record, bundle = trusted_cas.add(context.installation, context.tenant, name, data, clock.now(), active=not inactive)
    if context.json:
        output.as_json({**as_object(record), "findings": findings(bundle)})
        return
    tell(bundle)
    state = "and counts from the next connection" if record.active else "but is not active"
    click.echo(f"Trusted CA {record.name} ({certificates.common_name(bundle.anchor)}) is saved {state}.")


@command.command()
@click.argument("file")
@json_option
@pass_context
def validate(context: Context, file: str) -> None:
    """Say what is in FILE, certificate by certificate, and whether it would be accepted. Saves nothing."""
    from control import trusted_cas

    bundle = trusted_cas.validate(context.installation, context.tenant, output.read_input(file), clock.now())
    report(context, bundle)
    click.echo(f"It would be accepted; the anchor would be {certificates.common_name(bundle.anchor)}.")


@command.command(name="list")
@json_option
@pass_context
def list_(context: Context) -> None:
    """List the tenant's trusted CAs."""
    from control import trusted_cas

    records = trusted_cas.listing(context.installation, context.tenant)
    if context.json:
        output.as_json([as_object(record) for record in records])
        return
    rows = []
    for record in records:
        anchor = certificates.load(record.chain)[-1]
        expires = output.day(anchor.not_valid_after_utc)
        rows.append(
            (record.name, status(record), certificates.common_name(anchor), expires, output.minute(record.changed_at))
        )
    headings = ("name", "status", "common name", "expires", "last change")
    output.table(headings, rows, f"Tenant {context.tenant} trusts no CA of its own.")


@command.command()
@click.argument("name")
@json_option
@pass_context
def show(context: Context, name: str) -> None:
    """Show one trusted CA, certificate by certificate."""
    from control import trusted_cas

    record = trusted_cas.show(context.installation, context.tenant, name)
    if context.json:
        output.as_json(as_object(record))
        return
    output.fields(
        [
            ("name", record.name),
            ("status", status(record)),
            ("last change", f"{output.minute(record.changed_at)} by {record.changed_by}"),
        ]
    )
    loaded = certificates.load(record.chain)
    for place, certificate in enumerate(loaded, start=1):
        click.echo("Anchor" if place == len(loaded) else f"Intermediate {place}")
        output.fields(certificates.full_fields(certificate, clock.now()), indent="  ")


@command.command()
@click.argument("old")
@click.argument("new")
@pass_context
def rename(context: Context, old: str, new: str) -> None:
    """Give the trusted CA OLD the name NEW."""
    from control import trusted_cas

    trusted_cas.rename(context.installation, context.tenant, old, new, clock.now())
    click.echo(f"Trusted CA {old} is now {new}.")


@command.command()
@click.argument("name")
@pass_context
def activate(context: Context, name: str) -> None:
    """Trust it, from the next connection on."""
    from control import trusted_cas

    trusted_cas.activate(context.installation, context.tenant, name, clock.now())
    click.echo(f"Trusted CA {name} is active and counts from the next connection.")


@command.command()
@click.argument("name")
@pass_context
def deactivate(context: Context, name: str) -> None:
    """Keep it, but do not trust it from the next connection on."""
    from control import trusted_cas

    trusted_cas.deactivate(context.installation, context.tenant, name, clock.now())
    click.echo(f"Trusted CA {name} is not active: it no longer counts, from the next connection on.")


@command.command()
@click.argument("name")
@click.option("--format", "form", type=click.Choice(["pem", "p7b"]), default="pem", show_default=True)
@click.option("--output", "target", metavar="F", help="Write to the file F instead of to standard output.")
@pass_context
def download(context: Context, name: str, form: str, target: str | None) -> None:
    """Write its certificates, intermediates first, the anchor last."""
    from certs.download import encode
    from control import trusted_cas

    chosen = trusted_cas.certificates(context.installation, context.tenant, name)
    output.write_output(target, encode(chosen, form, name))
    if target is not None and target != "-":
        click.echo(f"Written to {target}: {', '.join(output.clean(certificates.common_name(one)) for one in chosen)}")


@command.command()
@click.argument("name")
@pass_context
def delete(context: Context, name: str) -> None:
    """Trust it no longer."""
    from control import trusted_cas

    trusted_cas.delete(context.installation, context.tenant, name, clock.now())
    click.echo(f"Trusted CA {name} is deleted.")


def status(record: TrustedCa) -> str:
    """``active`` or ``inactive``."""
    return "active" if record.active else "inactive"


def as_object(record: TrustedCa) -> dict[str, Any]:
    """The record for JSON, its certificates in order, the anchor last."""
    return {
        "name": record.name,
        "status": status(record),
        "created_at": record.created_at,
        "changed_at": record.changed_at,
        "changed_by": record.changed_by,
        "certificates": chain(certificates.load(record.chain)),
    }


def chain(loaded: Any) -> list[dict[str, Any]]:
    """Certificates for JSON."""
    return [certificates.as_object(certificate) for certificate in loaded]


def findings(bundle: Bundle) -> list[dict[str, Any]]:
    """The findings for JSON."""
    return [
        {"level": one.level, "code": one.code, "message": one.message, "certificate": one.certificate}
        for one in bundle.findings
    ]


def report(context: Context, bundle: Bundle) -> None:
    """What a validation found; the command ends here with --json, and where an error was found."""
    if context.json:
        output.as_json({"ok": bundle.ok, "certificates": chain(bundle.chain), "findings": findings(bundle)})
        raise SystemExit(output.DONE if bundle.ok else output.REFUSED)
    for place, certificate in enumerate(bundle.chain, start=1):
        click.echo(f"Certificate {place} of {len(bundle.chain)}")
        output.fields(certificates.as_fields(certificate), indent="  ")
    tell(bundle)
    if not bundle.ok:
        output.refuse([finding.message for finding in bundle.findings if finding.level == "error"])


def tell(bundle: Bundle) -> None:
    """What the administrator should know of the file and what is no error, on stderr."""
    for finding in bundle.findings:
        if finding.level != "error":
            click.echo(output.clean(f"{finding.level.capitalize()}: {finding.message}"), err=True)
