"""``sallyport gateway``: the rules that have a gateway send its clients' connections to the proxy."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import click

from cli import output
from cli.context import Context, pass_context

if TYPE_CHECKING:
    from cli.gateway_rules import Rules, Steering

PATH = f"{os.defpath}:/usr/sbin:/sbin"
SECONDS = 30
PACKAGES = {"nft": "nftables", "ip": "iproute2"}
FAMILIES: tuple[Literal[4], Literal[6]] = (4, 6)
MOST_LEFT = 16
"""Rules of ours, one beside the other, that are taken away; there is one, unless somebody has added more by hand."""


@click.group(name="gateway")
def command() -> None:
    """This machine as a gateway, whose clients know of no proxy (listeners of mode transparent and tproxy)."""


def _ports(_context: click.Context, _parameter: click.Parameter, value: str) -> tuple[int, ...]:
    ports = [int(text) if text.isascii() and text.isdigit() and len(text) < 6 else 0 for text in value.split(",")]
    if not all(0 < port < 65_536 for port in ports):
        raise click.BadParameter(f"expected ports from 1 to 65535, as in 80,443, got {value!r}")
    return tuple(ports)


@command.command(name="rules")
@click.option("--mode", "steering", type=click.Choice(["redirect", "tproxy"]), help="How; else by the listeners' mode.")
@click.option("--interface", "interfaces", multiple=True, metavar="IF", help="By which clients come in; repeatable.")
@click.option("--listener", metavar="NAME", help="To which listener, where there are several.")
@click.option("--ports", callback=_ports, default="80,443", show_default=True, help="The servers' ports.")
@click.option("--apply", is_flag=True, help="Apply them, in place of those of before. Takes root.")
@click.option("--remove", is_flag=True, help="Take them away again. Takes root.")
@pass_context
def rules(
    context: Context,
    steering: Steering | None,
    interfaces: tuple[str, ...],
    listener: str | None,
    ports: tuple[int, ...],
    apply: bool,
    remove: bool,
) -> None:
    """Print the rules for nftables (and for tproxy those of ip) that send clients' connections here, or apply them.

    All are in a table of their own. QUIC is rejected, so that browsers use TCP; what cannot come to the proxy is reset.
    """
    from cli.gateway_rules import TABLE, RulesError, rules_for

    if remove:
        if apply or steering or interfaces or listener:
            output.misuse("--remove takes everything away that --apply has applied; expected no other option beside it")
        _as_root(["nft", "ip"])
        _remove()
        click.echo(f"Removed: table inet {TABLE}, and the rules of ip that led here.")
        return
    try:
        wanted = rules_for(context.settings.listeners, steering, interfaces, ports, listener)
    except RulesError as error:
        output.misuse(str(error))
    if not apply:
        click.echo(_printed(wanted), nl=False)
        return
    _as_root(["nft", "ip"])
    _apply(wanted)
    to = ", ".join(f"IPv{target.version} to {target.place}" for target in wanted.targets)
    click.echo(f"Applied: ports {', '.join(map(str, wanted.ports))} of {', '.join(wanted.interfaces)}, {to}.")
    click.echo("They last until the next start of this machine; see deploy/sallyport-gateway.conf for a service.")


def _printed(wanted: Rules) -> str:
    from cli.gateway_rules import routing

    lines = ["# sallyport gateway rules: for nft -f, or with --apply"]
    for family in wanted.families:
        rule, route = routing(family)
        lines.append(f"# ip -{family} route replace {' '.join(route)}")
        lines.append(f"# ip -{family} rule add {' '.join(rule)}")
    return "\n".join([*lines, wanted.nft])


def _apply(wanted: Rules) -> None:
    """The way to here first, then what sends packets onto it: at no time are some on their way to nowhere."""
    from cli.gateway_rules import routing

    for family in FAMILIES:
        if family in wanted.families:
            rule, route = routing(family)
            _run("ip", f"-{family}", "route", "replace", *route)
            if not _ruled(family):
                _run("ip", f"-{family}", "rule", "add", *rule)
    _run("nft", "-f", "-", stdin=wanted.nft)
    for family in FAMILIES:
        if family not in wanted.families:
            _unroute(family)


def _remove() -> None:
    from cli.gateway_rules import removal

    _run("nft", "-f", "-", stdin=f"{removal()}\n")
    _unroute(4)
    _unroute(6)


def _unroute(family: Literal[4, 6]) -> None:
    from cli.gateway_rules import routing

    rule, route = routing(family)
    for _ in range(MOST_LEFT):
        if not _ruled(family):
            break
        _run("ip", f"-{family}", "rule", "del", *rule)
    if _has(family, "route", "show", "table", route[-1]):
        _run("ip", f"-{family}", "route", "del", *route)


def _ruled(family: Literal[4, 6]) -> bool:
    """Whether our rule is there."""
    from cli.gateway_rules import routing

    return _has(family, "rule", "show", *routing(family)[0])


def _has(family: Literal[4, 6], *arguments: str) -> bool:
    # A table that nobody has made is an error to ip, and a machine may be without IPv6.
    done = subprocess.run(
        [_program("ip"), f"-{family}", *arguments], capture_output=True, text=True, timeout=SECONDS, check=False
    )
    return done.returncode == 0 and bool(done.stdout.strip())


def _as_root(programs: Sequence[str]) -> None:
    for name in programs:
        _program(name)
    if os.geteuid() != 0:
        output.misuse("only root may change the rules of this machine; run it as root, or print them without --apply")


def _program(name: str) -> str:
    found = shutil.which(name, path=PATH)
    if found is None:
        output.misuse(f"{name} is not installed; install {PACKAGES[name]}, or print the rules without --apply")
    return found


def _run(name: str, *arguments: str, stdin: str | None = None) -> None:
    done = subprocess.run(
        [_program(name), *arguments], input=stdin, capture_output=True, text=True, timeout=SECONDS, check=False
    )
    if done.returncode != 0:
        said = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
        output.refuse([f"{name} {' '.join(arguments)}: {said[0]}", *said[1:4]])
