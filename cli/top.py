"""``sallyport top``: live connections, rates and verdicts of a running daemon, asked of its workers."""

from __future__ import annotations

import asyncio
import json
import shutil
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cli import output
from cli.context import Context, json_option, pass_context

if TYPE_CHECKING:
    from cli.top_figures import Figures, Look

MOST = 200
WHOLE_SCREEN, OWN_SCREEN = "\x1b[?1049l\x1b[?25h", "\x1b[?1049h\x1b[?25l"
"""Back to the terminal as it was, with its cursor; and to an empty one without."""
HOME, REST_OF_LINE, REST_OF_SCREEN = "\x1b[H", "\x1b[K", "\x1b[J"


@click.command(name="top")
@click.option("--once", is_flag=True, help="Print once and end. Rates are those of one interval.")
@click.option(
    "--interval", type=click.FloatRange(0.1, 3600), default=1.0, show_default=True, metavar="SECONDS",
    help="How often to look.",
)  # fmt: skip
@click.option(
    "--most", type=click.IntRange(0, 1000), default=MOST, show_default=True, metavar="N",
    help="Show this many connections and hosts at most.",
)  # fmt: skip
@json_option
@pass_context
def command(context: Context, once: bool, interval: float, most: int) -> None:
    """Show live connections, rates and verdicts of the running daemon. Ctrl-C ends it.

    With --json, one JSON document a line.
    """
    state_dir = context.settings.state_dir
    own_screen = sys.stdout.isatty() and not (once or context.json)
    if own_screen:
        sys.stdout.write(OWN_SCREEN)
    try:
        before = _look(state_dir, 0)
        while True:
            time.sleep(interval)
            now = _look(state_dir, most)
            _show(context, before, now, most, own_screen)
            if once:
                return
            before = now
    except KeyboardInterrupt:
        return  # that is how it is ended
    finally:
        if own_screen:
            sys.stdout.write(WHOLE_SCREEN)
            sys.stdout.flush()


def _look(state_dir: Path, most: int) -> Look:
    from cli.top_figures import Look
    from proxy.status_client import ask_all

    async def ask() -> Look:
        at = time.monotonic()
        health = await ask_all(state_dir, {"ask": "health"})
        live = await ask_all(state_dir, {"ask": "connections", "most": most})
        return Look(at, health, live)

    look = asyncio.run(ask())
    if not look.health:
        output.refuse(f"no worker answers in {state_dir / 'run'}; start the daemon with: sallyport serve")
    return look


def _show(context: Context, before: Look, now: Look, most: int, own_screen: bool) -> None:
    from cli.top_figures import figures
    from cli.top_screen import lines

    found: Figures = figures(before, now, most)
    if context.json:
        click.echo(json.dumps(found.as_json(), ensure_ascii=False))
        return
    if own_screen:
        columns, rows = shutil.get_terminal_size()
        shown = lines(found, columns, rows - 1)
        sys.stdout.write(HOME + "".join(f"{line}{REST_OF_LINE}\n" for line in shown) + REST_OF_SCREEN)
        sys.stdout.flush()
        return
    click.echo("\n".join(lines(found, shutil.get_terminal_size((200, 50)).columns, None)))
