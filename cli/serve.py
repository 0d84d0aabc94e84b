"""``sallyport serve``: the daemon, in the foreground.

What can be found wrong is found before anything is made: a start that fails leaves everything as it was.
"""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cli import clock, output
from cli.apart import apart
from cli.console_names import SETUP_PATH, base_url
from cli.context import Context, pass_context
from cli.preflight import missing_tenants, problems, with_roots
from config import pac

if TYPE_CHECKING:
    from config.settings import Listener, Settings
    from proxy.rehearsal import Program

DAEMON = "Sallyport listens on"
"""How each line about a listener begins; the tests' harness reads the address from it."""


@click.command(name="serve")
@click.option("--rehearse", is_flag=True, hidden=True, help="Try everything, start nothing; for a daemon that runs.")
@pass_context
def command(context: Context, rehearse: bool) -> None:
    """Run the daemon in the foreground. SIGTERM (or Ctrl-C) lets connections end, then stops it.

    SIGHUP reads the configuration again, SIGUSR2 replaces the program too; `sallyport reload` does either and waits.
    """
    if rehearse:
        from cli.rehearsal import rehearsed

        click.echo(rehearsed(context))
        return
    from control import first_owner, tenants
    from control.installation import root_file, root_pem, write_root
    from proxy import privileges, state_lock, supervisor
    from proxy.handover import received
    from proxy.start_error import StartError

    program = _program(context)
    try:
        handover = received(os.environ)
    except StartError as error:
        output.misuse(str(error))
    if handover is not None:
        # Everything was tried by the program before this one; what goes wrong now is told where its reload is told.
        raise SystemExit(supervisor.resume(handover, program))

    settings = context.settings
    try:
        account = privileges.account(settings.user)
        if found := problems(settings, account):
            output.misuse(found)
        if account is not None:
            privileges.give_state_dir(settings.state_dir, account)
    except StartError as error:
        output.misuse(str(error))

    def prepare() -> tuple[dict[str, tuple[str, str]], str | None]:
        if account is not None:
            privileges.become(account)
        installation = context.installation
        if found := missing_tenants(settings, (tenant.name for tenant in tenants.listing(installation))):
            output.misuse(found)
        files = {t: (str(root_file(installation, t)), root_pem(installation, t)) for t in with_roots(settings)}
        # Where a daemon runs already this start fails, and the link that it has printed is to work on.
        wanted = settings.console.enabled and state_lock.holder(settings.state_dir) is None
        return files, first_owner.link(installation, clock.now()) if wanted else None

    # The first start makes a CA, every start reads the master key: neither is to stay in this process, which runs on.
    prepared: tuple[dict[str, tuple[str, str]], str | None] = apart(prepare)
    files = prepared[0]
    links = [] if prepared[1] is None else [prepared[1]]
    del prepared

    def ready(bound: Sequence[tuple[Listener, str]], monitoring: str | None, console: str | None) -> None:
        # Only now: a start that fails leaves no file behind.
        roots = {tenant: Path(path) for tenant, (path, _) in files.items()}
        for tenant, (_, pem) in files.items():
            write_root(roots[tenant], pem)
        # Printed, and nowhere else: not logged, and not kept for as long as this process runs.
        token = links.pop() if links else None
        click.echo("\n".join(greeting(settings, bound, roots, monitoring, console, token)))

    try:
        status = supervisor.run(settings, ready, program)
    except StartError as error:
        output.misuse(str(error))
    raise SystemExit(status)


def _program(context: Context) -> Program:
    """This very command, as the supervisor needs it for a reload."""
    from proxy.rehearsal import Program

    # sys.argv says neither -m nor -I; this is what the system was asked to execute.
    words = (sys.executable, *sys.orig_argv[1:])
    return Program(
        load=lambda: _load(context), rehearse=(*words, "--rehearse"), execute=words, publish=_publish
    )  # fmt: skip


def _load(context: Context) -> Settings:
    """The configuration as it is in the file now. Raises Unusable with every problem."""
    from config.loader import load
    from config.problems import ConfigError
    from proxy.rehearsal import Unusable

    try:
        return load(Path(context.config) if context.config else None, os.environ, Path.cwd()).settings
    except ConfigError as error:
        raise Unusable(tuple(problem.render(error.file) for problem in error.problems)) from None


def _publish(roots: Mapping[str, str]) -> None:
    """Write root certificates, by path, where they are not there as they are. Raises OSError."""
    from control.errors import InstallationError
    from control.installation import write_root

    for path, pem in roots.items():
        try:
            write_root(Path(path), pem)
        except InstallationError as error:
            raise OSError(str(error)) from None


def greeting(
    settings: Settings,
    bound: Sequence[tuple[Listener, str]],
    roots: Mapping[str, Path],
    monitoring: str | None = None,
    console: str | None = None,
    token: str | None = None,
) -> list[str]:
    """What a person reads once the daemon is ready: addresses, root certificate, a curl command that works.

    ``monitoring`` and ``console``: where these listen. ``token``: that of a link with which the first owner is made.
    """
    lines = [f"{DAEMON} {reached_by(one, address)}  ({described(one)})" for one, address in bound]
    several = len(roots) > 1
    for tenant, path in roots.items():
        lines.append(f"Root certificate{f' of tenant {tenant}' if several else ''}: {shown(path)}")
    if console is not None:
        url = base_url(settings.console, console)
        lines.append(f"Console and REST API: {url}/")
        if token is not None:
            lines.append(f"Make the first account (works once, for a day): {url}{SETUP_PATH}{token}")
    if monitoring is not None:
        lines.append(f"Metrics and health: http://{monitoring}/metrics, /healthz, /readyz")
    if settings.onboarding.enabled:
        lines.append(f"For devices, through the proxy: http://{settings.onboarding.host}/")
    lines.append("Log: standard error" if settings.log.file is None else f"Log: {settings.log.file}")
    if (first := next((each for each in bound if each[0].mode == "explicit"), None)) is not None:
        lines += ["Try:", f"  {curl_command(first[1], roots[first[0].tenants[0]])}"]
    return lines


def reached_by(listener: Listener, address: str) -> str:
    """The address as a client's proxy setting has it; the address alone where clients have no such setting."""
    return pac.url(listener.mode, address) or address


def described(listener: Listener) -> str:
    """Whose the listener is, and what it is where its address does not say that."""
    mode = "" if listener.mode in pac.SCHEMES else f", {listener.mode}"
    tenants = listener.tenants
    return f"listener {listener.name}{mode}, {'tenants' if len(tenants) > 1 else 'tenant'} {', '.join(tenants)}"


def curl_command(address: str, root: Path) -> str:
    """A curl command that goes through the proxy at ``address``; a wildcard address is reached on loopback."""
    host, _, port = address.rpartition(":")
    reached = {"0.0.0.0": "127.0.0.1", "[::]": "[::1]"}.get(host, host)  # noqa: S104 - told apart, not bound
    return f"curl --proxy http://{reached}:{port} --cacert {shlex.quote(shown(root))} https://example.com/"


def shown(path: Path) -> str:
    """The path from where the user stands, where it lies below; else in full."""
    try:
        return str(path.resolve().relative_to(Path.cwd()))
    except ValueError:
        return str(path.resolve())
