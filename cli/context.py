"""What every command shares: which configuration, which tenant, JSON or not; and errors of the parts below as words."""

from __future__ import annotations

import os
import pwd
import resource
import socket
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from cli import clock
from cli.output import REFUSED, USAGE, Stop, misuse

if TYPE_CHECKING:
    from config.loader import Loaded
    from config.settings import Settings
    from control.actor import Actor
    from control.installation import Installation


@dataclass
class Context:
    """The global options, and what follows from them, each made when a command first asks for it."""

    config: str | None = None
    tenant: str = "default"
    json: bool = False
    generation: int | None = None
    """The tenant's, that whoever asks for a change has looked at."""

    @cached_property
    def loaded(self) -> Loaded:
        """The settings and the file they are from; ConfigError carries every problem of the file."""
        from config.loader import load

        return load(Path(self.config) if self.config else None, os.environ, Path.cwd())

    @property
    def settings(self) -> Settings:
        """The settings, checked."""
        return self.loaded.settings

    @cached_property
    def installation(self) -> Installation:
        """The installation that the settings name, made on first use; closed when the command ends."""
        from control.installation import Installation

        self.no_core_dumps()
        opened = Installation.open(self.settings, clock.now()).acting(_whoever())
        if self.generation is not None:
            opened = opened.having_seen(self.generation)
        click.get_current_context().find_root().with_resource(closing(opened))
        return opened

    @staticmethod
    def no_core_dumps() -> None:
        """Keys are handled from here on: a crash must not write them to a file."""
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _whoever() -> Actor:
    """The user of the command line; behind sudo, who that is."""
    from control.actor import Actor

    try:
        user = pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        user = f"user {os.getuid()}"
    behind = os.environ.get("SUDO_USER") if os.getuid() == 0 else None
    return Actor(f"{behind} (as {user})" if behind else user, f"command line on {socket.gethostname()}")


pass_context = click.make_pass_decorator(Context)


def refuse_tenant_options(what: str) -> None:
    """End with status 2 where a tenant is named before a command about what is no tenant's.

    Without that, who writes ``--tenant acme`` in the wrong place would give away all tenants.
    """
    root = click.get_current_context().find_root()
    for name, option in (("tenant", "--tenant"), ("generation", "--if-generation")):
        if root.get_parameter_source(name) is ParameterSource.COMMANDLINE:
            misuse(f"{option} before the command: {what} are no tenant's; see the command's own options (--help)")


def _ask_json(context: click.Context, _parameter: click.Parameter, value: bool) -> None:
    if value:
        context.ensure_object(Context).json = True


def json_option[F: Callable[..., Any]](command: F) -> F:
    """``--json`` on a command that lists or shows; the same as the global one."""
    decorate: Callable[[F], F] = click.option(
        "--json", is_flag=True, expose_value=False, callback=_ask_json, help="Print JSON, for programs."
    )
    return decorate(command)


def in_words(error: Exception) -> Stop | None:
    """The errors that the parts below raise on purpose, as lines and a status; None for what is none of these."""
    from config.problems import ConfigError
    from control.errors import InstallationError, Refused

    if isinstance(error, Refused):
        # What is wrong with an upload is said once for each finding.
        return Stop([one.message for one in error.findings if one.level == "error"] or str(error), REFUSED)
    if isinstance(error, InstallationError):
        return Stop(str(error), REFUSED if error.passing else USAGE)
    if isinstance(error, ConfigError):
        return Stop([problem.render(error.file) for problem in error.problems], USAGE)
    if isinstance(error, OSError):
        where = f"{error.filename}: " if error.filename else ""
        return Stop(f"{where}{error.strerror or error}", USAGE)
    if type(error).__module__.partition(".")[0] in {"control", "store", "kms", "certs", "issuer", "proxy", "config"}:
        return Stop(str(error) or type(error).__name__, REFUSED)
    return None
