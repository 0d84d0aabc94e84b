"""``--dry-run`` of the commands that change how servers are judged: what that would do to the last day's servers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from cli import clock, output
from cli.context import Context

if TYPE_CHECKING:
    from control.installation import Installation
    from control.trial import Outcome, Trial

MOST_SHOWN = 100
"""Servers in a table for people; programs get all."""


def dry_run_option[F: Callable[..., Any]](command: F) -> F:
    """``--dry-run``, as the parameter ``dry_run``."""
    decorate: Callable[[F], F] = click.option(
        "--dry-run", is_flag=True, help="Save nothing: show what it would do to the servers of the last 24 hours."
    )
    return decorate(command)


def made[T](
    context: Context, dry_run: bool, change: Callable[[Installation], T], tell: Callable[[T], None] | None = None
) -> T:
    """Make the change, and return what it returns. With ``dry_run`` it is tried, and the command ends with the outcome.

    ``tell`` says on stderr what else is to be known of the result of a change that was tried.
    """
    if not dry_run:
        return change(context.installation)
    from control import recent_traffic
    from control.shown import trials

    result, trial = recent_traffic.try_change(context.installation, context.tenant, change, clock.now())
    if tell is not None:
        tell(result)
    if context.json:
        output.as_json(trials.as_object(trial))
    else:
        _print(trial)
    raise SystemExit(output.DONE)


def _print(trial: Trial) -> None:
    click.echo("Nothing is saved.")
    for remark in trial.remarks:
        click.echo(output.clean(f"Note: {remark}."), err=True)
    click.echo(_counted(trial))
    rows = [
        (one.host, one.port, output.minute(one.last_at), _in_words(one.before), _in_words(one.after))
        for one in trial.differing[:MOST_SHOWN]
    ]
    if rows:
        output.table(("host", "port", "last seen", "as it is", "as it would be"), rows, "")
    _more(len(trial.differing))
    if trial.untried:
        click.echo(f"It could not be tried on {len(trial.untried)} of them:")
        output.table(("host", "port", "why"), [(one.host, one.port, one.why) for one in trial.untried[:MOST_SHOWN]], "")
    _more(len(trial.untried))


def _counted(trial: Trial) -> str:
    """How many would be judged otherwise, and what would be done about them."""
    if not trial.servers:
        return "No server is known that was judged in the last 24 hours, so there is nothing to try it on."
    of = "Of 1 server that was" if trial.servers == 1 else f"Of {trial.servers} servers that were"
    actions = Counter((one.before.action, one.after.action) for one in trial.differing)
    became = [f"{before} to {after}: {count}" for (before, after), count in actions.items() if before is not after]
    told = f" ({', '.join(became)})" if became else ""
    return f"{of} judged in the last 24 hours, {len(trial.differing) or 'none'} would be judged otherwise{told}."


def _more(count: int) -> None:
    if count > MOST_SHOWN:
        click.echo(f"... and {count - MOST_SHOWN} more; --json has them all")


def _in_words(outcome: Outcome) -> str:
    return f"{', '.join(outcome.defects) or 'no defect'}: {outcome.action}"
