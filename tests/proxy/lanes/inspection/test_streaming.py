"""Whose a stream function is, and what stands in for it."""

from __future__ import annotations

import functools
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from mitmproxy.test import tutils

from config.settings import Inspector
from proxy.lanes.inspection.hooks import Caller, Hook, InspectorFailed
from proxy.lanes.inspection.streaming import owner_of, watch
from proxy.log import Log

SCRIPT = """
import functools

class Addon:
    def responseheaders(self, flow):
        pass

    def change(self, data):
        return data

    def __call__(self, data):
        return data

def change(data):
    return data
"""


def script(name: str, **settings: Any) -> tuple[dict[str, Any], Hook]:
    module = types.ModuleType(name).__dict__
    exec(SCRIPT, module)  # noqa: S102 - as a script is loaded
    made = Inspector(script="block_url").model_copy(update=settings)
    return module, Hook(name, "responseheaders", module["Addon"]().responseheaders, made)


MAKES: dict[str, Callable[[dict[str, Any]], Any]] = {
    "function": lambda module: module["change"],
    "method": lambda module: module["Addon"]().change,
    "object": lambda module: module["Addon"](),
    "partial": lambda module: functools.partial(functools.partial(module["change"])),
}


@pytest.mark.parametrize("make", MAKES.values(), ids=MAKES)
def test_a_function_is_that_of_the_script_in_whose_file_it_stands(make: Callable[[dict[str, Any]], Any]) -> None:
    (_, one), (module, two) = script("one", on_error="pass"), script("two", timeout=1.0)
    found = owner_of({"responseheaders": (one, two)}, make(module), "response")
    assert (found.inspector, found.name, found.settings.timeout) == ("two", "response.stream", 1.0)


@pytest.mark.parametrize("function", [lambda data: data, bytes.upper, bytes])
def test_a_function_from_elsewhere_has_the_strictest_settings_of_all(function: Any) -> None:
    (_, one), (_, two) = script("one", on_error="pass", timeout=1.0), script("two", timeout=3.0)
    found = owner_of({"responseheaders": (one, two)}, function, "response")
    assert (found.inspector, found.settings.on_error, found.settings.timeout) == ("one, two", "block", 1.0)
    assert owner_of({}, function, "request").settings.on_error == "block"


def test_one_that_puts_another_in_its_place_is_followed(tmp_path: Path) -> None:
    message = tutils.tresp()
    later: list[bytes] = []

    def first(data: bytes) -> bytes:
        message.stream = second
        return data.upper()

    def second(data: bytes) -> bytes:
        later.append(data)
        raise KeyboardInterrupt

    message.stream = first
    with (tmp_path / "log").open("wb") as log:
        watch(Caller(Log(log.fileno(), "info", "test", lambda: 0.0)), {}, message, 100)
        assert message.stream(b"a") == [b"A"]
        assert message.stream is not second
        with pytest.raises(InspectorFailed):
            message.stream(b"b")
    assert later == [b"b"]
