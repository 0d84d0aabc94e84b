"""``sallyport trusted-ca``: the private CAs that a tenant trusts beside the common store."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from cli import clock, output
from cli.context import Context, json_option, pass_context
from cli.dry_run import dry_run_option, made
from control.shown import certificates, expiry
from control.shown.bundles import findings, judged
from control.shown.trusted_cas import (
    anchor_of,
    as_object,
    hosts_in_words,
    hosts_of,
    status,
    used_by_in_words,
    used_by_object,
    users,
)

if TYPE_CHECKING:
    from certs.bundle import Bundle
    from store.records import TrustedCa


@click.group(name="trusted-ca")
def command() -> None:
    """The private CAs that a tenant trusts beside the common store."""


HOST_HELP = (
    "Let it vouch for these hosts alone: example.com, *.example.com (names below it), .example.com (both). "
    "May be given several times."
)


@command.command()
@click.argument("pairs", metavar="NAME FILE [NAME FILE]...", nargs=-1, required=True)
@click.option("--host", "hosts", multiple=True, metavar="PATTERN", help=HOST_HELP)
@click.option("--inactive", is_flag=True, help="Save it, but do not trust it yet.")
@dry_run_option
@json_option
@pass_context
def add(context: Context, pairs: tuple[str, ...], hosts: tuple[str, ...], inactive: bool, dry_run: bool) -> None:
    """Trust the CA in FILE (intermediates first, root last; - is standard input) under NAME.

    Several are added together, or none of them.
    """
    from control import trusted_cas

    if len(pairs) % 2:
        output.misuse(f"{pairs[-1]}: a name without a file; expected NAME FILE, and for several NAME FILE NAME FILE")
    uploads = [
        trusted_cas.Upload(name, output.read_input(file), hosts, active=not inactive)
        for name, file in zip(pairs[::2], pairs[1::2], strict=True)
    ]
    now = clock.now()
    saved = made(context, dry_run, lambda inst: trusted_cas.add(inst, context.tenant, uploads, now), _tell_all)
    if context.json:
        objects = [{**as_object(record, clock.now()), "findings": findings(bundle)} for record, bundle in saved]
        output.as_json(objects[0] if len(objects) == 1 else objects)
        return
    for record, bundle in saved:
        tell(bundle)
        state = "and counts from the next connection" if record.active else "but is not active"
        click.echo(f"Trusted CA {record.name} ({certificates.common_name(bundle.anchor)}) is saved {state}.")


@command.command()
@click.argument("files", metavar="FILE...", nargs=-1, required=True)
@json_option
@pass_context
def validate(context: Context, files: tuple[str, ...]) -> None:
    """Say what is in each FILE, certificate by certificate, and whether it would be accepted. Saves nothing."""
    from control import trusted_cas

    uploads = [trusted_cas.Upload(file, output.read_input(file)) for file in files]
    bundles = trusted_cas.validate(context.installation, context.tenant, uploads, clock.now())
    if context.json and len(bundles) > 1:
        output.as_json([{"file": file, **judged(bundle)} for file, bundle in zip(files, bundles, strict=True)])
        raise SystemExit(output.DONE if all(bundle.ok for bundle in bundles) else output.REFUSED)
    for file, bundle in zip(files, bundles, strict=True):
        if len(files) > 1:
            click.echo(output.clean(f"{file}:"))
        report(context, bundle, more=len(files) > 1)
        if bundle.ok:
            click.echo(f"It would be accepted; the anchor would be {certificates.common_name(bundle.anchor)}.")
    if not all(bundle.ok for bundle in bundles):
        raise SystemExit(output.REFUSED)


@command.command()
@click.argument("name")
@click.argument("patterns", metavar="[PATTERN]...", nargs=-1)
@click.option("--all-hosts", is_flag=True, help="Let it vouch for every host again.")
@dry_run_option
@json_option
@pass_context
def limit(context: Context, name: str, patterns: tuple[str, ...], all_hosts: bool, dry_run: bool) -> None:
    """Let it vouch for hosts of these PATTERNs alone.

    A PATTERN is example.com, *.example.com (names below it), .example.com (both), or an address.
    """
    from control import trusted_cas

    if bool(patterns) is all_hosts:
        output.misuse("expected either patterns, or --all-hosts")
    now = clock.now()
    limited = made(context, dry_run, lambda inst: trusted_cas.limit(inst, context.tenant, name, patterns, now))
    if context.json:
        output.as_json(as_object(limited, clock.now()))
        return
    click.echo(f"Trusted CA {name} counts for {hosts_of(limited)}, from the next connection on.")


@command.command(name="list")
@json_option
@pass_context
def list_(context: Context) -> None:
    """List the tenant's trusted CAs."""
    from control import recent_traffic, trusted_cas

    records = trusted_cas.listing(context.installation, context.tenant)
    using = recent_traffic.hosts_by_ca(context.installation, context.tenant, clock.now())
    if context.json:
        output.as_json([{**as_object(record, clock.now()), **used_by_object(using, record)} for record in records])
        return
    rows = []
    for record in records:
        anchor = certificates.load(record.chain)[-1]
        expires = expiry.shown([anchor], clock.now())
        name = certificates.common_name(anchor)
        changed = output.minute(record.changed_at)
        used_by = "-" if (count := users(using, record)) is None else hosts_in_words(count)
        rows.append((record.name, status(record), name, hosts_of(record, 2), expires, changed, used_by))
    headings = ("name", "status", "common name", "hosts", "expires", "last change", "used by (24 h)")
    output.table(headings, rows, f"Tenant {context.tenant} trusts no CA of its own.")


@command.command()
@click.argument("name")
@json_option
@pass_context
def show(context: Context, name: str) -> None:
    """Show one trusted CA, certificate by certificate."""
    from control import recent_traffic, trusted_cas

    record = trusted_cas.show(context.installation, context.tenant, name)
    using = recent_traffic.hosts_by_ca(context.installation, context.tenant, clock.now())
    if context.json:
        output.as_json({**as_object(record, clock.now()), **used_by_object(using, record)})
        return
    output.fields(
        [
            ("name", record.name),
            ("status", status(record)),
            ("hosts", hosts_of(record)),
            ("used by", used_by_in_words(users(using, record))),
            ("expires", expiry.shown(anchor_of(record), clock.now())),
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
@dry_run_option
@json_option
@pass_context
def activate(context: Context, name: str, dry_run: bool) -> None:
    """Trust it, from the next connection on."""
    from control import trusted_cas

    now = clock.now()
    changed = made(context, dry_run, lambda inst: trusted_cas.activate(inst, context.tenant, name, now))
    if context.json:
        output.as_json(as_object(changed, clock.now()))
        return
    click.echo(f"Trusted CA {name} is active and counts from the next connection.")


@command.command()
@click.argument("name")
@dry_run_option
@json_option
@pass_context
def deactivate(context: Context, name: str, dry_run: bool) -> None:
    """Keep it, but do not trust it from the next connection on."""
    from control import trusted_cas

    now = clock.now()
    changed = made(context, dry_run, lambda inst: trusted_cas.deactivate(inst, context.tenant, name, now))
    if context.json:
        output.as_json(as_object(changed, clock.now()))
        return
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
@dry_run_option
@json_option
@pass_context
def delete(context: Context, name: str, dry_run: bool) -> None:
    """Trust it no longer."""
    from control import trusted_cas

    now = clock.now()
    made(context, dry_run, lambda inst: trusted_cas.delete(inst, context.tenant, name, now))
    if context.json:
        output.as_json({"name": name, "deleted": True})
        return
    click.echo(f"Trusted CA {name} is deleted.")


def report(context: Context, bundle: Bundle, *, more: bool = False) -> None:
    """What a validation found.

    The command ends here with --json, and where an error was found; not for the latter where ``more`` files may come.
    """
    if context.json:
        output.as_json(judged(bundle))
        raise SystemExit(output.DONE if bundle.ok else output.REFUSED)
    for place, certificate in enumerate(bundle.chain, start=1):
        click.echo(f"Certificate {place} of {len(bundle.chain)}")
        output.fields(certificates.as_fields(certificate), indent="  ")
    tell(bundle)
    if not bundle.ok:
        refusal = output.Stop(finding.message for finding in bundle.findings if finding.level == "error")
        if not more:
            raise refusal
        refusal.show()


def tell(bundle: Bundle) -> None:
    """What the administrator should know of the file and what is no error, on stderr."""
    for finding in bundle.findings:
        if finding.level != "error":
            click.echo(output.clean(f"{finding.level.capitalize()}: {finding.message}"), err=True)


def _tell_all(found: list[tuple[TrustedCa, Bundle]]) -> None:
    for _, bundle in found:
        tell(bundle)
