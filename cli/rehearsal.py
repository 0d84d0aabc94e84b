"""``sallyport serve --rehearse``: a running daemon has configuration and program tried before it depends on them.

It starts and changes nothing. What is in force comes on standard input, what would be goes to standard output.
"""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

from cli import output
from cli.preflight import bypass_lists, common_store, htpasswd_files, inspectors, missing_tenants, never_log, with_roots

if TYPE_CHECKING:
    from cli.context import Context
    from config.settings import Settings
    from proxy.privileges import Account

IMPORT_SECONDS = 30.0
PROCESSES = ("issuer", "proxy.worker")
CONSOLE = "cli.console_process"


def rehearsed(context: Context) -> str:
    """What would be in force, as JSON. Ends the command with every problem where there is one."""
    from issuer.hardening import end_with_parent

    end_with_parent()
    from proxy import privileges
    from proxy.change import change
    from proxy.rehearsal import HANDOVER
    from proxy.start_error import StartError

    question: dict[str, Any] = json.loads(sys.stdin.buffer.read())
    if question["handover"] != HANDOVER:
        output.refuse("this version cannot take over from the one that runs; stop that one, and start this")
    now = _in_force(question["settings"])
    planned = change(now, context.settings)
    settings = planned.settings
    try:
        account = privileges.account(settings.user)
    except StartError as error:
        output.refuse(str(error))
    if account is not None:
        privileges.become(account)
    found = _problems(settings, None)
    roots: dict[str, str] = {}
    if not found:
        found, roots = _installation(settings)
    if question["program"]:
        modules = (*PROCESSES, CONSOLE) if settings.console.enabled else PROCESSES
        found += [problem for module in modules if (problem := _imported(module)) is not None]
    if found:
        output.refuse(found)
    return json.dumps(
        {
            "settings": settings.model_dump_json(),
            "sections": planned.sections,
            "kept": planned.kept,
            "roots": roots,
        }
    )


def _in_force(text: str) -> Settings:
    from pydantic import ValidationError

    from config.settings import Settings

    try:
        return Settings.model_validate_json(text)
    except ValidationError as error:
        names = ", ".join(".".join(map(str, one["loc"])) for one in error.errors())
        output.refuse(
            f"this version does not know the settings of the one that runs ({names}); stop that one, and start this"
        )


def _problems(settings: Settings, account: Account | None) -> list[str]:
    from proxy.admission import check_resolver_hosts
    from proxy.parents import check as parents

    found = [
        common_store(settings), check_resolver_hosts(settings.resolver.hosts), never_log(settings),
        inspectors(settings, account), parents(settings), *bypass_lists(settings, account),
        *htpasswd_files(settings, account),
    ]  # fmt: skip
    return [problem for problem in found if problem is not None]


def _installation(settings: Settings) -> tuple[list[str], dict[str, str]]:
    """What is wrong with the store for these settings, and the root certificates by the path of their file."""
    from control.errors import InstallationError
    from control.installation import Installation, root_file, root_pem

    try:
        looked = Installation.look(settings)
        if looked is None:
            return [], {}
        with looked as installation:
            known = [tenant.name for tenant in installation.tenants()]
            if found := missing_tenants(settings, known):
                return found, {}
            roots = {str(root_file(installation, t)): root_pem(installation, t) for t in with_roots(settings)}
            return [], roots
    except InstallationError as error:
        return [str(error)], {}


def _imported(module: str) -> str | None:
    """Why a process of the daemon could not begin: its help imports everything that it imports."""
    try:
        asked = subprocess.run(
            [sys.executable, "-I", "-m", module, "--help"],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
            timeout=IMPORT_SECONDS, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return f"the program on the disk: {module} does not begin within {IMPORT_SECONDS:g} s"
    if asked.returncode == 0:
        return None
    said = asked.stderr.decode("utf-8", "replace").strip().splitlines()
    return f"the program on the disk: {module} cannot begin: {said[-1] if said else f'status {asked.returncode}'}"
