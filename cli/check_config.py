"""``sallyport check-config``: every problem of the configuration at once, or the effective settings."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from cli import output
from cli.context import Context, json_option, pass_context

if TYPE_CHECKING:
    from config.loader import Loaded


@click.command(name="check-config")
@json_option
@pass_context
def command(context: Context) -> None:
    """Report every problem of the configuration, or print the effective settings. Starts and changes nothing."""
    from config.loader import describe
    from config.problems import ConfigError

    try:
        loaded = _checked(context)
    except ConfigError as error:
        if not context.json:
            raise
        problems = [
            {"path": one.path, "line": one.line, "column": one.column, "message": one.message} for one in error.problems
        ]
        output.as_json({"ok": False, "file": error.file, "problems": problems})
        raise SystemExit(output.USAGE) from None
    effective = describe(loaded.settings)
    if context.json:
        output.as_json({"ok": True, "file": str(loaded.path), "settings": effective})
        return
    import yaml

    click.echo(f"# {output.clean(loaded.path)} is good. These are the effective settings, defaults included.")
    click.echo(yaml.safe_dump(effective, sort_keys=False, allow_unicode=True, default_flow_style=None).rstrip())


def _checked(context: Context) -> Loaded:
    """The settings with everything that they name looked at. Raises ConfigError."""
    from cli.preflight import breached_passwords, bypass_lists, common_store, console, htpasswd_files, inspectors
    from config.problems import ConfigError, Problem

    loaded = context.loaded
    looked_at = (
        common_store(loaded.settings),
        inspectors(loaded.settings),
        console(loaded.settings),
        breached_passwords(loaded.settings),
        *bypass_lists(loaded.settings),
        *htpasswd_files(loaded.settings),
    )
    found = [problem for problem in looked_at if problem is not None]
    if found:
        split = [problem.partition(": ") for problem in found]
        raise ConfigError(loaded.path, [Problem(path, message) for path, _, message in split])
    return loaded
