"""``sallyport reload``: tells the daemon that runs to read its configuration again, and waits for how it went."""

from __future__ import annotations

import os
import select
import signal
import time
from pathlib import Path

import click

from cli import output
from cli.context import Context, pass_context

WAIT_SECONDS = 180.0
"""Longer than a daemon takes over trying, starting and giving up."""
PAUSE_SECONDS = 0.05


@click.command(name="reload")
@click.option("--exec", "execute", is_flag=True, help="Replace the program too, with the sockets kept (an upgrade).")
@pass_context
def command(context: Context, execute: bool) -> None:
    """Have the running daemon read its configuration again, wait for it, and say how it went.

    No connection is refused or cut: other workers take over, and those before them let theirs end.
    """
    state_dir = context.settings.state_dir
    pid = _found(state_dir)
    said = _asked(state_dir, pid, "upgrade" if execute else "reload")
    click.echo("\n".join(output.clean(line) for line in said))


def _found(state_dir: Path) -> int:
    from proxy.state_lock import holder

    pid = holder(state_dir)
    if pid is None:
        output.refuse(f"no daemon runs on {state_dir}")
    return pid


def _asked(state_dir: Path, pid: int, kind: str) -> tuple[str, ...]:
    """Ask, wait, and return what the daemon says of it. Ends the command where it refused."""
    from proxy.outcome import read
    from proxy.state_lock import holder

    gone = "the daemon has ended; its log says why"
    try:
        process = os.pidfd_open(pid)
    except ProcessLookupError:
        output.refuse(gone)
    try:
        # Once more, now that the number cannot become another process's any more.
        if holder(state_dir) != pid:
            output.refuse(gone)
        began = time.monotonic()
        try:
            signal.pidfd_send_signal(process, signal.SIGHUP if kind == "reload" else signal.SIGUSR2)
        except PermissionError:
            output.refuse(f"process {pid} belongs to another user; run this as that user, or as root")
        except ProcessLookupError:
            output.refuse(gone)
        while time.monotonic() < began + WAIT_SECONDS:
            told = read(state_dir)
            if told is not None and told.kind == kind and told.began >= began:
                if not told.done:
                    output.refuse(told.said)
                return told.said
            if select.select([process], [], [], PAUSE_SECONDS)[0]:
                output.refuse(gone)
    finally:
        os.close(process)
    output.refuse(f"no word from process {pid} within {WAIT_SECONDS:g} s; its log says how it stands")
