"""``sallyport wireguard``: the devices that may use a tenant's WireGuard listeners."""

from __future__ import annotations

import io
from pathlib import Path

import click

from cli import clock, output
from cli.context import Context, json_option, pass_context

QR_SUFFIXES = (".svg", ".png")


@click.group(name="wireguard")
def command() -> None:
    """The devices (peers) that may use the tenant's WireGuard listeners."""


@command.group()
def peer() -> None:
    """Add, list and remove peers. A running daemon follows within a second."""


@peer.command()
@click.argument("name")
@click.option("--endpoint", metavar="HOST[:PORT]", help="By which the peer reaches us. Else: wireguard.endpoint.")
@click.option("--public-key", metavar="KEY", help="The device's own, in base64: its private key is never here then.")
@click.option("--output", "file", metavar="F", help="Write the configuration to a file (0600), not to the terminal.")
@click.option("--qr", is_flag=True, help="Show it as a QR code too, for the WireGuard app of a phone.")
@click.option("--qr-file", metavar="F", help="Write the QR code to a file (0600): .svg or .png.")
@pass_context
def add(
    context: Context,
    name: str,
    endpoint: str | None,
    public_key: str | None,
    file: str | None,
    qr: bool,
    qr_file: str | None,
) -> None:
    """Let the device NAME in, and print its configuration for wg-quick and the WireGuard apps, this once.

    It has the device's private key in it, which is kept nowhere.
    """
    from control import wireguard

    if public_key is not None and (qr or qr_file is not None):
        output.misuse("a QR code carries the device's private key; give --qr or --qr-file without --public-key")
    if qr_file is not None and Path(qr_file).suffix.lower() not in QR_SUFFIXES:
        output.misuse(f"--qr-file: {qr_file}: expected a name that ends in {' or '.join(QR_SUFFIXES)}")
    where = wireguard.endpoint(context.settings, context.tenant, endpoint)
    if where is None:
        output.misuse(
            "nothing says by which address peers reach this machine; give --endpoint HOST[:PORT], or set "
            "wireguard.endpoint"
        )
    added = wireguard.add_peer(context.installation, context.tenant, name, clock.now(), public_key)
    text = wireguard.configuration(added, context.settings, where)
    try:
        _hand_over(text, file, qr_file)
    except BaseException:
        # What nobody got is of use to nobody, and its name is free again.
        wireguard.remove_peer(context.installation, context.tenant, name, clock.now())
        raise
    if qr:
        click.echo(_drawn(text))
    addresses = " and ".join(address for address in (added.peer.ipv4, added.peer.ipv6) if address)
    click.echo(f"Tenant {context.tenant}: peer {output.clean(name)} is let in, with {addresses}.", err=file is None)


def _hand_over(text: str, file: str | None, qr_file: str | None) -> None:
    from control.shown import qr

    try:
        if qr_file is not None:
            kind = Path(qr_file).suffix.lower().removeprefix(".")
            drawn = io.BytesIO()
            qr.code(text).save(drawn, kind=kind, scale=qr.MODULE_PIXELS)
            output.write_whole(Path(qr_file), drawn.getvalue(), 0o600)
        if file is not None and file != "-":
            output.write_whole(Path(file), text.encode(), 0o600)
        else:
            click.echo(text, nl=False)
    except OSError as error:
        output.misuse(f"{error.filename or file or qr_file}: {error.strerror or error}; the peer is not added")


def _drawn(text: str) -> str:
    from control.shown import qr

    drawn = io.StringIO()
    qr.code(text).terminal(drawn, compact=True)
    return drawn.getvalue().rstrip("\n")


@peer.command(name="list")
@json_option
@pass_context
def list_(context: Context) -> None:
    """List the tenant's peers, with their addresses in the tunnel."""
    from control import wireguard
    from control.shown.wireguard import as_object

    found = wireguard.peers(context.installation, context.tenant)
    if context.json:
        output.as_json([as_object(one) for one in found])
        return
    rows = [
        (
            one.name,
            one.ipv4,
            one.ipv6 or "",
            wireguard.text(one.public_key),
            f"{output.minute(one.created_at)} by {one.created_by}",
        )
        for one in found
    ]
    headings = ("name", "IPv4", "IPv6", "public key", "added")
    output.table(headings, rows, f"Tenant {context.tenant} has no peer.")


@peer.command()
@click.argument("name")
@pass_context
def remove(context: Context, name: str) -> None:
    """Let the device NAME in no more. Its connections end within a second."""
    from control import wireguard

    wireguard.remove_peer(context.installation, context.tenant, name, clock.now())
    click.echo(f"Tenant {context.tenant}: peer {output.clean(name)} is removed.")


@command.command()
@json_option
@pass_context
def show(context: Context) -> None:
    """Show the tenant's public key, and where its peers reach it."""
    from control import wireguard
    from control.shown.wireguard import server_as_object

    told = server_as_object(
        context.settings, context.tenant, wireguard.server_key(context.installation, context.tenant)
    )
    if context.json:
        output.as_json(told)
        return
    output.fields(
        (
            ("public key", told["public_key"] or "made with the first peer"),
            ("endpoint", told["endpoint"] or "not set (wireguard.endpoint)"),
            ("DNS", told["dns"]),
            (
                "listeners",
                ", ".join(f"{one['name']} ({one['bind']})" for one in told["listeners"]) or "none of mode wireguard",
            ),
        )
    )
