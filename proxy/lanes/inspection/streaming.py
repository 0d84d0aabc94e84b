"""Stream functions of scripts (``flow.request.stream = function``): called as hooks are, within their time.

mitmproxy calls them in the middle of its own work, where one that raises or does not come back would take the
connection, or the worker, with it.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Iterable, Mapping
from typing import Any

from mitmproxy import http

from config.settings import Inspector
from proxy.lanes.inspection.hooks import Caller, Hook


def watch(caller: Caller, hooks: Mapping[str, tuple[Hook, ...]], message: http.Message, most: int) -> None:
    """Have the message's stream function, if it has one, called by the caller.

    ``most``: bytes that it may give for one piece. ``hooks``: those of the flow, one of which has set it.
    """
    function = message.stream
    if callable(function) and not isinstance(function, _Changing):
        message.stream = _Changing(caller, hooks, message, function, most)


class _Changing:
    """What stands in for a stream function. Raises InspectorFailed where it fails and may not be passed over."""

    __slots__ = ("caller", "function", "hook", "hooks", "message", "most")

    def __init__(
        self, caller: Caller, hooks: Mapping[str, tuple[Hook, ...]], message: http.Message, function: Any, most: int
    ) -> None:
        self.caller = caller
        self.hooks = hooks
        self.message = message
        self.most = most
        self.function = function
        self.hook = owner_of(hooks, function, "request" if isinstance(message, http.Request) else "response")

    def __call__(self, data: bytes) -> list[bytes]:
        if self.function is not None:
            pieces = self.caller.change(self.hook, self.function, data, self.most)
            watch(self.caller, self.hooks, self.message, self.most)  # it may have put another in its place
            if pieces is not None:
                return pieces
            self.function = None  # it has lost the thread of what passes
        return [data] if data else []


def owner_of(hooks: Mapping[str, tuple[Hook, ...]], function: Any, message: str) -> Hook:
    """Whose function it is, as a hook: that of the script in whose file it stands.

    Where that is none of them, it counts as all of theirs that could have set it, with the strictest of their settings.
    """
    name = f"{message}.stream"
    home = _globals(function)
    every = [hook for each in hooks.values() for hook in each]
    found = [hook for hook in every if home is not None and _globals(hook.function) is home]
    found = found[:1] or list(hooks.get(f"{message}headers", ())) or every
    inspectors = ", ".join(dict.fromkeys(hook.inspector for hook in found))
    return Hook(inspectors, name, function, _strictest(hook.settings for hook in found))


def _strictest(settings: Iterable[Inspector]) -> Inspector:
    each = list(settings)
    if not each:
        return Inspector.model_construct(script="")
    on_error = "block" if any(one.on_error == "block" for one in each) else "pass"
    return each[0].model_copy(update={"on_error": on_error, "timeout": min(one.timeout for one in each)})


def _globals(function: Any) -> dict[str, Any] | None:
    """The names of the file that a function stands in."""
    while isinstance(function, functools.partial):
        function = function.func
    if not (inspect.isroutine(function) or inspect.isclass(function)):
        function = getattr(type(function), "__call__", None)  # noqa: B004 - where it is written, not whether it is
    found = getattr(inspect.unwrap(function) if callable(function) else None, "__globals__", None)
    return found if isinstance(found, dict) else None
