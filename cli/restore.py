"""``sallyport restore``: put in place what ``sallyport backup`` has saved."""

from __future__ import annotations

import os
from pathlib import Path

import click

from cli import clock, output
from cli.context import Context, pass_context

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

    state_dir.prepare(context.settings.state_dir)
    held = lock(context.settings)
    try:
        restored = backup.restore(context.settings, file, key, clock.now())
    finally:
        os.close(held)
    names = ", ".join(tenant.name for tenant in restored.tenants)
    click.echo(f"Restored; tenants: {output.clean(names)}")
    for path in restored.aside:
        click.echo(f"What was there before is kept as {output.clean(path)}")
