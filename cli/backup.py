"""``sallyport backup``: save an installation while it is used."""

from __future__ import annotations

from pathlib import Path

import click

from cli import output
from cli.context import Context, pass_context

FILE = click.Path(dir_okay=False, path_type=Path)


@click.command(name="backup")
@click.argument("file", type=FILE)
@click.option("--key", metavar="FILE", type=FILE, help="Save the master key too, into a file of its own.")
@pass_context
def command(context: Context, file: Path, key: Path | None) -> None:
    """Save the database into the new FILE, whether or not the daemon runs.

    The keys in it are sealed with the master key, which is not in it: keep that in another place. It never changes.
    """
    from control import backup
    from kms.providers.local import MASTER_KEY_FILE

    folder = context.settings.state_dir
    context.no_core_dumps()
    backup.save(folder, file, key)
    click.echo(f"The database of {output.clean(folder)} is saved in {output.clean(file)}")
    if key is not None:
        click.echo(f"The master key is saved in {output.clean(key)}; keep it in another place than the database")
    else:
        place = output.clean(folder / MASTER_KEY_FILE)
        click.echo(f"Nothing in it opens without the master key, {place}; have a copy of that too (--key FILE)")
