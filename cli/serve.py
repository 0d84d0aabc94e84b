"""``sallyport serve``: the daemon, in the foreground.

What can be found wrong is found before anything is made: a start that fails leaves everything as it was.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cli import output
from cli.apart import apart
from cli.context import Context, pass_context
from cli.preflight import missing_tenants, problems

if TYPE_CHECKING:
    from config.settings import Listener, Settings

DAEMON = "Sallyport listens on"
"""How each line about a listener begins; the tests' harness reads the address from it."""


@click.command(name="serve")
@pass_context
def command(context: Context) -> None:
    """Run the daemon in the foreground. SIGTERM (or Ctrl-C) lets connections end, then stops it."""
    from control import tenants
    from control.installation import root_file, root_pem, write_root
    from proxy import supervisor

    settings = context.settings
    if found := problems(settings):
        output.misuse(found)

    def prepare() -> dict[str, tuple[str, str]]:
        installation = context.installation
        if found := missing_tenants(settings, (tenant.name for tenant in tenants.listing(installation))):
            output.misuse(found)
        return {t: (str(root_file(installation, t)), root_pem(installation, t)) for t in _tenants(settings)}

    # The first start makes a CA, every start reads the master key: neither is to stay in this process, which runs on.
    prepared: dict[str, tuple[str, str]] = apart(prepare)

    def ready(bound: Sequence[tuple[Listener, str]], monitoring: str | None) -> None:
        # Only now: a start that fails leaves no file behind.
        roots = {tenant: Path(path) for tenant, (path, _) in prepared.items()}
        for tenant, (_, pem) in prepared.items():
            write_root(roots[tenant], pem)
        click.echo("\n".join(greeting(settings, bound, roots, monitoring)))

    try:
        status = supervisor.run(settings, ready)
    except supervisor.StartError as error:
        output.misuse(str(error))
    raise SystemExit(status)


def _tenants(settings: Settings) -> Iterable[str]:
    return dict.fromkeys(listener.tenant for listener in settings.listeners)


def greeting(
    settings: Settings, bound: Sequence[tuple[Listener, str]], roots: Mapping[str, Path], monitoring: str | None = None
) -> list[str]:
    """What a person reads once the daemon is ready: addresses, root certificate, a curl command that works."""
    lines = [f"{DAEMON} http://{address}  (listener {one.name}, tenant {one.tenant})" for one, address in bound]
    several = len(roots) > 1
    for tenant, path in roots.items():
        lines.append(f"Root certificate{f' of tenant {tenant}' if several else ''}: {shown(path)}")
    if monitoring is not None:
        lines.append(f"Metrics and health: http://{monitoring}/metrics, /healthz, /readyz")
    lines.append("Log: standard error" if settings.log.file is None else f"Log: {settings.log.file}")
    first, address = bound[0]
    lines += ["Try:", f"  {curl_command(address, roots[first.tenant])}"]
    return lines


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
