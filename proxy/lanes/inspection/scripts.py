"""Inspector scripts: how one is loaded, and what is said of it before it sees any traffic.

A script is what mitmproxy calls one: a module with hooks of its own, a list ``addons``, or both.
"""

from __future__ import annotations

import importlib
import importlib.machinery
import importlib.util
import inspect
import sys
import traceback
import types
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

# These define the hooks that there are.
import mitmproxy.proxy.layers.http
import mitmproxy.proxy.layers.tls
import mitmproxy.proxy.server_hooks  # noqa: F401
from mitmproxy import hooks
from mitmproxy.addonmanager import traverse

from config.settings import SHIPPED_INSPECTORS, Inspector
from proxy.lanes.inspection.patterns import HostPatterns

NEVER_CALLED = frozenset(
    {
        "dns_error", "dns_request", "dns_response", "http_connect", "http_connect_error", "http_connect_upstream",
        "http_connected", "next_layer", "quic_start_client", "quic_start_server", "socks5_auth", "tcp_end", "tcp_error",
        "tcp_message", "tcp_start", "tls_start_client", "tls_start_server", "udp_end", "udp_error", "udp_message",
        "udp_start",
    }
)  # fmt: skip
"""Hooks of parts of mitmproxy that are not here: TLS, trust, listeners and what is no HTTP are Sallyport's own."""


BODIES = ("auto", "none", "request", "response", "both")
"""What a script may need whole, as the configuration or it itself says."""


class ScriptError(Exception):
    """A script cannot be used. One line: which, where, what is wrong."""


@dataclass(frozen=True, slots=True)
class Member:
    """An addon of a script: the module itself, or one of its ``addons``, or theirs."""

    addon: Any
    hooks: dict[str, Any]
    """What it does, by the hook's name."""


@dataclass(slots=True, weakref_slot=True, eq=False)
class Script:
    """A script that is loaded."""

    settings: Inspector
    name: str
    """For the log: the file's name without its end."""
    module: types.ModuleType
    hosts: HostPatterns
    members: list[Member]

    def has(self, hook: str) -> bool:
        """Whether any addon of it has that hook."""
        return any(hook in member.hooks for member in self.members)

    def wants(self, body: str) -> bool:
        """Whether it needs whole bodies: ``body`` is ``request`` or ``response``."""
        asked = self.settings.body if self.settings.body != "auto" else _own_body(self.module)
        return self.has(body) if asked == "auto" else asked in (body, "both")


def _own_body(module: types.ModuleType) -> str:
    """What the script says of itself (``sallyport_body``), where the configuration leaves it to it."""
    said = getattr(module, "sallyport_body", "auto")
    return said if said in BODIES else "auto"


def name_of(script: str) -> str:
    """A script's short name."""
    return Path(script).stem


def load_module(script: str) -> types.ModuleType:
    """Run a script's file. Raises ScriptError."""
    try:
        if script in SHIPPED_INSPECTORS:
            name = f"addons.{script}"
            module = importlib.reload(sys.modules[name]) if name in sys.modules else importlib.import_module(name)
        else:
            module = _run_file(script)
    except BaseException as error:  # whatever it is: nothing that a script raises ends the proxy
        raise ScriptError(f"{script}: {said(error, script)}") from error
    if not getattr(module, "name", None):
        module.name = script  # type: ignore[attr-defined]  # how mitmproxy tells modules apart
    return module


def _run_file(script: str) -> types.ModuleType:
    name = f"__mitmproxy_script__.{name_of(script)}"
    before = list(sys.path)
    sys.path.insert(0, str(Path(script).parent))
    try:
        loader = importlib.machinery.SourceFileLoader(name, script)
        spec = importlib.util.spec_from_loader(name, loader)
        if spec is None:
            raise ImportError("it cannot be loaded")
        module = importlib.util.module_from_spec(spec)
        # Not by its cached bytecode: two changes within a second would be taken for one.
        exec(compile(Path(script).read_bytes(), script, "exec"), module.__dict__)  # noqa: S102 - what a script is for
    finally:
        sys.path[:] = before
    return module


def members_of(script: str, addon: Any) -> list[Member]:
    """What the addon and all below it do. Raises ScriptError where a hook cannot be called as hooks are."""
    return [Member(each, dict(_hooks_of(script, each))) for each in traverse([addon])]


def _hooks_of(script: str, addon: Any) -> Iterator[tuple[str, Any]]:
    for name, kind in hooks.all_hooks.items():
        function = getattr(addon, name, None)
        if function is None or isinstance(function, types.ModuleType):
            continue  # a module that is imported may have the name of a hook
        if not callable(function):
            raise ScriptError(f"{script}: {name} is a hook's name, but no function")
        wanted: list[str] = [field.name for field in fields(kind)]  # type: ignore[arg-type]  # hooks are dataclasses
        try:
            inspect.signature(function).bind(*wanted)
        except TypeError:
            where = _place(function)
            raise ScriptError(f"{script}{where}: the hook {name} is called as {name}({', '.join(wanted)})") from None
        except ValueError:
            pass  # it has no signature to look at, as some functions in C
        yield name, function


def _place(function: Any) -> str:
    code = getattr(inspect.unwrap(function), "__code__", None)
    return f", line {code.co_firstlineno}" if code is not None else ""


def said(error: BaseException, script: str) -> str:
    """What an exception says and where in the script it was."""
    if isinstance(error, SyntaxError):
        return f"line {error.lineno}: {error.msg}"
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == script]
    where = f"line {lines[-1]}: " if lines else ""
    return f"{where}{type(error).__name__}: {' '.join(str(error).split())[:300]}"
