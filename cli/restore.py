"""``sallyport restore``: put in place what ``sallyport backup`` has saved."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import click

from cli import clock, output
from cli.context import Context, pass_context

HELD_BACK = {signal.SIGHUP, signal.SIGINT, signal.SIGTERM, signal.SIGUSR2}
FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command(name="restore")
@click.argument("file", type=FILE)
@click.option("--key", metavar="FILE", type=FILE, help="The saved master key, where the state directory has another.")
@pass_context
def command(context: Context, file: Path, key: Path | None) -> None:
    """Put the saved database FILE in place. The daemon has to be stopped.

    It is checked first, and brought to this version where it is older. What was there before is kept beside it.
    """
    from control import backup, state_dir
    from proxy.state_lock import lock

    settings = context.settings
    if settings.user is not None and os.geteuid() == 0:
        output.refuse(
            f"the state directory is user {settings.user}'s; run this as that user: sudo -u {settings.user} …"
        )
    context.no_core_dumps()
    state_dir.prepare(settings.state_dir)
    held = lock(settings, daemon=False)
    # In the middle of it nobody may end it; what is asked for meanwhile happens behind it.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, HELD_BACK)
    try:
        restored = backup.restore(settings, file, key, clock.now())
    finally:
        os.close(held)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    names = ", ".join(tenant.name for tenant in restored.tenants)
    click.echo(f"Restored into {output.clean(settings.state_dir)}; tenants: {output.clean(names)}")
    for path in restored.aside:
        click.echo(f"What was there before is kept as {output.clean(path)}")
    for problem in restored.problems:
        click.echo(f"Warning: {output.clean(problem)}", err=True)
