"""``sallyport traffic``: what the running daemon's connections came to, verdicts with both chains, and figures."""

from __future__ import annotations

import asyncio
import functools
import json
import time
from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import click

from cli import clock, output
from cli.context import Context, json_option, pass_context

if TYPE_CHECKING:
    from cli.daemon_status import OfWorkers
    from control.traces import Trace
    from control.traffic import Event, News

MOST = 50
LOOK_SECONDS = 0.5
WEEK_HOURS = 168


@click.group(name="traffic", invoke_without_command=True)
@click.option("--follow", "-f", is_flag=True, help="Go on with what comes, until Ctrl-C.")
@click.option("--host", default="", metavar="PATTERN", help="Of these hosts: example.com, .example.com, *.example.com.")
@click.option("--client", default="", metavar="ADDRESS", help="Of this client, or of a network: 192.0.2.0/24.")
@click.option("--defect", default="", metavar="DEFECT", help="With this defect: expired, ….")
@click.option("--action", default="", metavar="ACTION", help="With this action: block, warn, bypass, allow.")
@click.option("--blocked", is_flag=True, help="What was blocked or refused.")
@click.option("--all-tenants", is_flag=True, help="Of all tenants, and of connections that nobody knows yet.")
@click.option(
    "--most", type=click.IntRange(1, 10_000), default=MOST, show_default=True, metavar="N",
    help="The last N of them at most.",
)  # fmt: skip
@json_option
@pass_context
def command(
    context: Context, follow: bool, host: str, client: str, defect: str, action: str, blocked: bool,
    all_tenants: bool, most: int,
) -> None:  # fmt: skip
    """Show what connections of the tenant came to lately: verdicts, refusals, requests, ends.

    It is what the log tells, before its level and sampling thin it; workers keep their last events in memory. With
    --json, one JSON document a line.
    """
    if click.get_current_context().invoked_subcommand is not None:
        return
    from cli.daemon_status import OfWorkers
    from control.errors import Refused
    from control.traffic import Follower, Wanted

    try:
        wanted = Wanted.of(host, client, defect, action, blocked=blocked)
    except Refused as error:
        output.misuse(str(error))
    daemon, follower = OfWorkers(context.settings.state_dir), Follower()
    _served(context, daemon, all_tenants)
    tenant = None if all_tenants else context.tenant
    first = asyncio.run(follower.read(functools.partial(_ask, daemon, tenant)))
    for event in [one for one in first.events if wanted.has(one)][-most:]:
        _tell(context, event, all_tenants)
    try:
        while follow:
            time.sleep(LOOK_SECONDS)
            news = asyncio.run(follower.read(functools.partial(_ask, daemon, tenant)))
            _remark(news)
            for event in filter(wanted.has, news.events):
                _tell(context, event, all_tenants)
    except KeyboardInterrupt:
        return  # that is how it is ended


async def _ask(daemon: OfWorkers, tenant: str | None, since: Any, most: int) -> Any:
    return await daemon.events(since, most, tenant)


def _served(context: Context, daemon: OfWorkers, all_tenants: bool) -> None:
    """Refuse where no worker answers, or none serves the tenant. Workers are asked: the store may be out of reach."""
    health = asyncio.run(daemon.health())
    if not health:
        where = context.settings.state_dir / "run"
        output.refuse(f"no worker answers in {where}; start the daemon with: sallyport serve")
    served = sorted({name for worker in health for name in (*worker["tenants"], *worker["missing_tenants"])})
    if not all_tenants and context.tenant not in served:
        output.refuse(f"no listener serves tenant {context.tenant!r}; tenants that are served: {', '.join(served)}")


def _remark(news: News) -> None:
    for number in news.anew:
        click.echo(f"Worker {number} has begun anew.", err=True)
    if news.missed:
        click.echo("There were more than workers keep: some are missing here.", err=True)


def _tell(context: Context, event: Event, all_tenants: bool) -> None:
    from cli.traffic_text import line
    from control.shown.traffic import event_as_object

    if context.json:
        click.echo(json.dumps(event_as_object(event), ensure_ascii=False))
    else:
        click.echo(line(event, all_tenants))


# --- a verdict with both chains ---


@command.command()
@click.argument("id")
@json_option
@pass_context
def show(context: Context, id: str) -> None:
    """Show the verdict on the connection ID (in the log, on the block page), with both chains."""
    from control.traces import of_connection

    _show_trace(context, lambda events: of_connection(context.installation, context.tenant, id, events, clock.now()))


@command.command()
@click.argument("host")
@json_option
@pass_context
def trace(context: Context, host: str) -> None:
    """Show the last verdict on HOST, with both chains: what it showed, and what we showed for it."""
    from control.traces import of_host

    _show_trace(context, lambda events: of_host(context.installation, context.tenant, host, events, clock.now()))


def _show_trace(context: Context, make: Callable[[tuple[Event, ...]], Trace]) -> None:
    from cli.daemon_status import OfWorkers
    from cli.traffic_text import draw
    from control.shown.traffic import as_object
    from control.traffic import Follower

    daemon = OfWorkers(context.settings.state_dir)
    # Without a daemon there is what is remembered of hosts.
    news = asyncio.run(Follower().read(functools.partial(_ask, daemon, context.tenant)))
    found = make(news.events)
    if context.json:
        output.as_json(as_object(found))
    else:
        draw(found, clock.now())


# --- figures ---


@command.command()
@click.option(
    "--hours",
    type=click.IntRange(1, WEEK_HOURS),
    default=24,
    show_default=True,
    metavar="N",
    help="Of the last N hours.",
)
@click.option(
    "--step", type=click.IntRange(10, 1440), default=60, show_default=True, metavar="MINUTES",
    help="Count so many minutes together; a multiple of 10.",
)  # fmt: skip
@click.option(
    "--most", type=click.IntRange(0, 500), default=20, show_default=True, metavar="N", help="This many hosts at most."
)
@json_option
@pass_context
def figures(context: Context, hours: int, step: int, most: int) -> None:
    """Show verdicts over time, by the first defect of each, and the hosts that were blocked most.

    They are kept for a week; the last few seconds are not in them yet.
    """
    from cli.traffic_text import print_figures
    from control import traffic_figures
    from control.shown.traffic import figures_as_object

    now = clock.now()
    since = now - timedelta(hours=hours)
    spans = traffic_figures.verdicts(context.installation, context.tenant, since, now, timedelta(minutes=step))
    hosts = traffic_figures.top_blocked(context.installation, context.tenant, since, most)
    if context.json:
        output.as_json(figures_as_object(spans, hosts))
    else:
        print_figures(spans, hosts)
        if not context.settings.verification.remember_servers:
            click.echo("Hosts are not counted: verification.remember_servers is off.", err=True)
