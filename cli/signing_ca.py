"""``sallyport signing-ca``: the CAs that sign what clients are shown."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import click

from cli import certificates, output
from cli.context import Context, json_option, pass_context

if TYPE_CHECKING:
    from cryptography import x509

    from store.records import SigningCa

Part = Literal["root", "intermediate", "chain"]


@click.group(name="signing-ca")
def command() -> None:
    """The CAs that sign what clients are shown."""


@command.command(name="list")
@json_option
@pass_context
def list_(context: Context) -> None:
    """List the tenant's signing CAs."""
    from control import signing_cas

    records = signing_cas.listing(context.installation, context.tenant)
    if context.json:
        output.as_json([as_object(record) for record in records])
        return
    rows = []
    for record in records:
        issuing = certificates.load(record.chain)[0]
        expires = output.day(issuing.not_valid_after_utc)
        changed = output.minute(record.changed_at)
        rows.append((record.name, kind(record), record.status, certificates.common_name(issuing), expires, changed))
    headings = ("name", "kind", "status", "common name", "expires", "last change")
    output.table(headings, rows, f"Tenant {context.tenant} has no signing CA.")


@command.command()
@click.argument("name")
@json_option
@pass_context
def show(context: Context, name: str) -> None:
    """Show one signing CA, certificate by certificate."""
    from control import signing_cas

    record = signing_cas.show(context.installation, context.tenant, name)
    if context.json:
        output.as_json(as_object(record))
        return
    output.fields(
        [
            ("name", record.name),
            ("kind", kind(record)),
            ("status", record.status),
            ("last change", output.minute(record.changed_at)),
        ]
    )
    loaded = certificates.load(record.chain)
    for place, certificate in enumerate(loaded):
        click.echo("Issuing certificate" if place == 0 else "Root" if place == len(loaded) - 1 else "Intermediate")
        output.fields(certificates.as_fields(certificate), indent="  ")


@command.command()
@click.argument("name", required=False)
@click.option("--root", "part", flag_value="root", help="The root, which devices must trust. This is the default.")
@click.option("--intermediate", "part", flag_value="intermediate", help="The certificates below the root.")
@click.option("--chain", "part", flag_value="chain", help="The issuing certificate first, the root last.")
@click.option("--format", "form", type=click.Choice(["pem", "der", "p7b"]), default="pem", show_default=True)
@click.option("--output", "target", metavar="F", help="Write to the file F instead of to standard output.")
@pass_context
def download(context: Context, name: str | None, part: Part | None, form: str, target: str | None) -> None:
    """Write certificates of the signing CA NAME; without NAME, of the active one."""
    from control import signing_cas

    chosen = signing_cas.part(context.installation, context.tenant, name, part or "root")
    output.write_output(target, encode(chosen, form))
    if target is not None and target != "-":
        click.echo(f"Written to {target}: {', '.join(output.clean(certificates.common_name(one)) for one in chosen)}")


def encode(chosen: tuple[x509.Certificate, ...], form: str) -> bytes:
    """Certificates as PEM (RFC 7468), as DER (one only), or as PKCS#7 (RFC 2315, certificates only, DER)."""
    from cryptography.hazmat.primitives.serialization import Encoding, pkcs7

    if form == "p7b":
        return pkcs7.serialize_certificates(list(chosen), Encoding.DER)
    if form == "pem":
        return b"".join(one.public_bytes(Encoding.PEM) for one in chosen)
    if len(chosen) != 1:
        output.misuse(f"a DER file holds one certificate and these are {len(chosen)}; use --format pem or p7b")
    return chosen[0].public_bytes(Encoding.DER)


def kind(record: SigningCa) -> str:
    """The kind as people write it: ``built-in``."""
    return record.kind.replace("_", "-")


def as_object(record: SigningCa) -> dict[str, Any]:
    """The record for JSON, its certificates in order, the issuing one first and the root last."""
    return {
        "name": record.name,
        "kind": kind(record),
        "status": record.status,
        "created_at": record.created_at,
        "changed_at": record.changed_at,
        "certificates": [certificates.as_object(one) for one in certificates.load(record.chain)],
    }
