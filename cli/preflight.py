"""What can be known to go wrong before a daemon makes or changes anything: tenants, names, ports."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from cli.apart import apart

if TYPE_CHECKING:
    from config.settings import Settings
    from proxy.privileges import Account

LOADING_SECONDS = 30.0
FIRST_TENANT = "default"
"""The tenant that a new installation has."""


def problems(settings: Settings, account: Account | None = None) -> list[str]:
    """One line for each thing that keeps a daemon from starting; empty where there is none.

    Tenants and ports only where there is no installation yet. An existing one is opened without being changed, so there
    the supervisor, which holds its lock, tells the same of ports, and the tenants are read from the store.
    """
    from proxy.admission import check_resolver_hosts
    from proxy.listeners.outer_identity import check as listeners
    from proxy.parents import check as parents
    from proxy.server_rules import check as client_certificates

    found = [
        common_store(settings), check_resolver_hosts(settings.resolver.hosts), never_log(settings),
        client_certificates(settings.tls), parents(settings), inspectors(settings, account),
        *bypass_lists(settings, account), listeners(settings),
        *htpasswd_files(settings, account), console(settings, account), breached_passwords(settings, account),
    ]  # fmt: skip
    if is_fresh(settings.state_dir):
        found += [*missing_tenants(settings, {FIRST_TENANT}), *_ports(settings)]
    return [problem for problem in found if problem is not None]


def common_store(settings: Settings) -> str | None:
    """What is wrong with the common store: loading the settings saw a certificate's beginning, here they are parsed."""
    from certs.trust import parse_common_store
    from config.common_store import locate, read_common_store

    name = settings.trust.common_store
    try:
        parse_common_store(read_common_store(name))
    except ValueError as error:
        return f"trust.common_store: {locate(name)}: {error}; expected a PEM file of CA certificates"
    return None


def never_log(settings: Settings) -> str | None:
    """What is wrong with the hosts of which nothing is logged."""
    from proxy.log import never_logged

    try:
        never_logged(settings.log)
    except ValueError as error:
        return str(error)
    return None


def inspectors(settings: Settings, account: Account | None = None) -> str | None:
    """What is wrong with the inspectors' scripts: a process of its own loads them, as the workers will.

    It runs as the account, where one is given: the scripts are anybody's code.
    """
    if not settings.inspection.addons:
        return None
    from proxy.privileges import for_popen

    try:
        checked = subprocess.run(
            [sys.executable, "-I", "-m", "proxy.lanes.inspection"],
            input=settings.model_dump_json().encode(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            timeout=LOADING_SECONDS,
            check=False,
            **for_popen(account),  # type: ignore[call-overload] # by name
        )
    except subprocess.TimeoutExpired:
        return f"inspection.addons: the scripts are not loaded within {LOADING_SECONDS:g} s"
    if checked.returncode == 0:
        return None
    said = checked.stderr.decode("utf-8", "replace").strip().splitlines()
    problem = said[-1] if said else f"loading the scripts ended with status {checked.returncode}"
    return problem if problem.startswith("inspection.") else f"inspection.addons: {problem}"


def bypass_lists(settings: Settings, account: Account | None = None) -> list[str]:
    """What is wrong with the list files of bypass rules, read as the account, where one is given, as workers will."""
    if not settings.bypass.files:
        return []
    from proxy.bypass_lists import problems_of

    return [f"bypass.files: {problem}" for problem in _read_as(account, lambda: problems_of(settings.bypass.files))]


def htpasswd_files(settings: Settings, account: Account | None = None) -> list[str]:
    """What is wrong with the files of users, a line each; read as the account, as for :func:`bypass_lists`."""
    from proxy.htpasswd_files import paths_of, problems_of

    paths = paths_of(settings.listeners)
    if not paths:
        return []
    return [f"listeners: htpasswd: {problem}" for problem in _read_as(account, lambda: problems_of(paths))]


def console(settings: Settings, account: Account | None = None) -> str | None:
    """What is wrong with the console's names or certificate; its files are read as the account, as its process will."""
    from cli.console_tls import check

    return _read_as(None if settings.console.own_leaf else account, lambda: check(settings.console))


def breached_passwords(settings: Settings, account: Account | None = None) -> str | None:
    """What is wrong with the list of breached passwords; read as the account, as the console will.

    Whether there is a console or not: the command line asks the list too.
    """
    from control.breached_passwords import problem_of

    path = settings.console.breached_passwords
    return None if path is None else _read_as(account, lambda: problem_of(path))


def _read_as[Told](account: Account | None, read: Callable[[], Told]) -> Told:
    """What ``read`` returns, as JSON gives it back, run as the account; None: as whoever runs this, as it is."""
    if account is None:
        return read()
    from proxy import privileges

    def as_account() -> Told:
        privileges.become(account)
        return read()

    found: Told = apart(as_account)
    return found


def is_fresh(state_dir: Path) -> bool:
    """Whether there is no installation yet, so that one would be made."""
    try:
        return next(state_dir.iterdir(), None) is None
    except FileNotFoundError:
        return True
    except OSError:
        return False


def missing_tenants(settings: Settings, known: Iterable[str]) -> list[str]:
    """One line for each listener whose tenant does not exist, and for the console's."""
    there = set(known)
    return [
        f"listeners[{place}]: there is no tenant {tenant}; create it with: sallyport tenant create {tenant}"
        for place, listener in enumerate(settings.listeners)
        for tenant in listener.tenants
        if tenant not in there
    ] + [
        f"console.tenant: there is no tenant {tenant}; create it with: sallyport tenant create {tenant}"
        for tenant in [settings.console.tenant]
        if settings.console.own_leaf and tenant not in there
    ]


def with_roots(settings: Settings) -> tuple[str, ...]:
    """The tenants whose root certificates somebody has to have: those of the listeners, and the console's."""
    own = (settings.console.tenant,) if settings.console.own_leaf else ()
    return tuple(dict.fromkeys((*settings.tenants, *own)))


def _ports(settings: Settings) -> list[str]:
    """Addresses that cannot be bound. The supervisor binds them in earnest, once there is an installation."""
    from config.settings import OWN_PORTS
    from proxy.sockets import bind, bind_tcp
    from proxy.start_error import StartError

    found = []
    for index, listener in enumerate(settings.listeners):
        try:
            bind(listener, index).close()
        except StartError as error:
            found.append(str(error))
    for name in OWN_PORTS:
        section = getattr(settings, name)
        if section.enabled:
            try:
                bind_tcp(section.bind, f"{name}.bind").close()
            except StartError as error:
                found.append(str(error))
    return found
