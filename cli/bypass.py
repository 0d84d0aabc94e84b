"""``sallyport bypass``: the hosts for which a tenant's traffic is not decrypted."""

from __future__ import annotations

from datetime import datetime

import click

from cli import clock, output
from cli.context import Context, json_option, pass_context


@click.group(name="bypass")
def command() -> None:
    """The hosts for which the tenant's traffic is not decrypted, judged or inspected.

    A PATTERN is example.com (that host alone), *.example.com (what is below it), .example.com (both), an IP address, or
    a network such as 192.0.2.0/24. Clients' names and addresses count, not what a name resolves to.
    """


@command.command()
@click.argument("patterns", metavar="PATTERN...", nargs=-1, required=True)
@click.option("--reason", metavar="TEXT", help="Why; for those who look at it later.")
@click.option(
    "--expires",
    metavar="DATE",
    help="When it ends by itself, in UTC: 2026-12-31 (as that day ends) or 2026-12-31T18:30.",
)
@json_option
@pass_context
def add(context: Context, patterns: tuple[str, ...], reason: str | None, expires: str | None) -> None:
    """Decrypt no more what a PATTERN covers, from the next connection on. Several are added together, or none of them.

    Nothing is checked there: no certificate, no content. A rule that has expired is replaced.
    """
    from control import bypass_rules
    from control.shown.bypass_rules import as_object

    end = None if expires is None else end_of(expires)
    now = clock.now()
    added = bypass_rules.add(context.installation, context.tenant, patterns, now, reason, end)
    if context.json:
        output.as_json([as_object(rule, now) for rule in added])
        return
    for rule in added:
        until = "" if rule.expires_at is None else f", until {output.minute(rule.expires_at)} UTC"
        click.echo(f"Tenant {context.tenant}: {rule.pattern} is not decrypted, from the next connection on{until}.")


@command.command()
@click.argument("patterns", metavar="PATTERN...", nargs=-1, required=True)
@pass_context
def remove(context: Context, patterns: tuple[str, ...]) -> None:
    """Remove the rule of each PATTERN. What is open undecrypted goes on to its end."""
    from control import bypass_rules

    for rule in bypass_rules.remove(context.installation, context.tenant, patterns, clock.now()):
        click.echo(f"Tenant {context.tenant}: the bypass rule {rule.pattern} is removed, from the next connection on.")


@command.command()
@json_option
@pass_context
def proposals(context: Context) -> None:
    """Show the hosts for which clients refuse our certificate while they take it for others: pinned, most likely."""
    from control import pinning
    from control.shown.bypass_rules import proposal_as_object

    found = pinning.proposals(context.installation, context.tenant, clock.now())
    if context.json:
        output.as_json([proposal_as_object(one) for one in found])
        return
    rows = [
        (
            one.host, len(one.clients), one.count, output.minute(one.first_at), output.minute(one.last_at),
            f"bypassed by {one.rule}" if one.rule is not None else "enough" if one.enough else "",
        )
        for one in found
    ]  # fmt: skip
    output.table(("host", "clients", "refusals", "first", "last", "proposed"), rows, "No client refuses a host alone.")
    if proposed := [one.host for one in found if one.proposed]:
        click.echo(output.clean(f"To leave one to its clients: sallyport bypass add {proposed[0]} --expires DATE"))


@command.command()
@click.argument("host")
@pass_context
def dismiss(context: Context, host: str) -> None:
    """Forget which clients refuse HOST, as if none had."""
    from control import pinning

    if not pinning.dismiss(context.installation, context.tenant, host, clock.now()):
        output.refuse(f"nothing is known of {host}; see: sallyport bypass proposals")
    click.echo(f"Tenant {context.tenant}: it is forgotten who refuses {host}.")


@command.command(name="list")
@json_option
@pass_context
def list_(context: Context) -> None:
    """List the tenant's rules, and the list files that count for it with how many rules they hold."""
    from control import bypass_rules
    from control.shown.bypass_rules import as_object, file_as_object, status

    now = clock.now()
    rules = bypass_rules.listing(context.installation, context.tenant)
    files = bypass_rules.files(context.installation, context.tenant)
    if context.json:
        output.as_json([*(as_object(rule, now) for rule in rules), *map(file_as_object, files)])
        return
    rows = [
        (
            rule.pattern,
            status(rule, now),
            "never" if rule.expires_at is None else output.minute(rule.expires_at),
            f"{output.minute(rule.created_at)} by {rule.created_by}",
            rule.reason or "",
        )
        for rule in rules
    ]
    headings = ("pattern", "status", "expires", "added", "reason")
    output.table(headings, rows, f"Tenant {context.tenant} has no bypass rule of its own.")
    for file in files:
        click.echo(output.clean(f"List file {file.path}: {file.problem or counted(file.rules)}"))


def counted(rules: int) -> str:
    """``1 rule``, ``2 rules``."""
    return "1 rule" if rules == 1 else f"{rules} rules"


def end_of(text: str) -> datetime:
    """The moment that ``--expires`` names. What is none is a usage error."""
    from control import ends
    from control.errors import Refused

    try:
        return ends.end_of(text)
    except Refused as refused:
        output.misuse(f"--expires: {refused}")
