"""Scripts that cannot be used: serve and check-config say which and why in one line, and nothing is made."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.harness.daemon import Daemon
from tests.harness.inspectors import Scripts

GOOD = "def response(flow):\n    pass\n"
OPTION = """
from mitmproxy import ctx, exceptions


class Limits:
    def load(self, loader):
        loader.add_option("limit_of_mine", int, 0, "How much")

    def configure(self, updated):
        if "limit_of_mine" in updated and ctx.options.limit_of_mine > 3:
            raise exceptions.OptionsError("limit_of_mine is at most 3")


addons = [Limits()]
"""
NOT_IN_TIME = "import sys\n\nsys.exit('I will not')\n"


def refused(daemon: Daemon) -> str:
    """What both commands say: one line, status 2, and no installation."""
    told = []
    for name in ("serve", "check-config"):
        done = daemon.cli(name)
        assert done.returncode == 2, done
        assert done.stdout == ""
        assert done.stderr.startswith("Error: "), done.stderr
        assert done.stderr.count("\n") == 1, done.stderr
        assert "Traceback" not in done.stderr
        told.append(done.stderr)
    assert told[1].endswith(told[0].removeprefix("Error: "))  # check-config says which file it was, too
    assert not daemon.state_dir.exists()
    return told[0]


def daemon_with(folder: Path, script: Path | str, **inspection: Any) -> Daemon:
    return Daemon(folder / "daemon", extra={"inspection": {"addons": [str(script)], **inspection}})


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("def response(flow):\n    return (\n", "line 2: '(' was never closed"),
        ("def response(flow):\n    pass\nmore of it\n", "line 3: invalid syntax"),
        ("import nothing_like_it\n", "line 1: ModuleNotFoundError: No module named 'nothing_like_it'"),
        ("\n\nraise RuntimeError('not today')\n", "RuntimeError: not today"),
        (NOT_IN_TIME, "line 3: SystemExit: I will not"),
        ("def response(flow, more):\n    pass\n", "line 1: the hook response is called as response(flow)"),
        ("x = 1\n\n\nasync def request():\n    pass\n", "line 4: the hook request is called as request(flow)"),
        ("class A:\n    def request(flow):\n        pass\n\n\naddons = [A()]\n", "line 2: the hook request"),
        ("response = 'a text'\n", "response is a hook's name, but no function"),
        ("def load(loader):\n    loader.add_option('x', 5)\n", "load: line 2: TypeError: "),
    ],
    ids=["unclosed", "syntax", "import", "raises", "exits", "arity", "arity-async", "arity-method", "text", "load"],
)
def test_a_script_that_is_wrong(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "wrong.py"
    path.write_text(text)
    told = refused(daemon_with(tmp_path, path))
    assert "inspection.addons" in told
    assert str(path) in told
    assert says in told


def test_a_script_that_is_missing(tmp_path: Path) -> None:
    told = refused(daemon_with(tmp_path, tmp_path / "none.py"))
    assert f"there is no file {tmp_path / 'none.py'}" in told
    assert "block_url" in told


def test_an_option_that_no_script_has(tmp_path: Path) -> None:
    path = Scripts(tmp_path).write("good", GOOD)
    assert "no inspector has an option frobnicate" in refused(daemon_with(tmp_path, path, options={"frobnicate": 1}))


def test_an_option_of_another_type(tmp_path: Path) -> None:
    path = Scripts(tmp_path).write("limits", OPTION)
    assert "limit_of_mine" in refused(daemon_with(tmp_path, path, options={"limit_of_mine": "many"}))


def test_an_option_that_a_script_objects_to(tmp_path: Path) -> None:
    path = Scripts(tmp_path).write("limits", OPTION)
    told = refused(daemon_with(tmp_path, path, options={"limit_of_mine": 4}))
    assert f"{path}: configure: " in told
    assert "limit_of_mine is at most 3" in told


def test_an_option_that_the_lane_keeps_for_itself(tmp_path: Path) -> None:
    path = Scripts(tmp_path).write("good", GOOD)
    told = refused(daemon_with(tmp_path, path, options={"stream_large_bodies": "1m"}))
    assert "stream_large_bodies cannot be set" in told


def test_a_script_that_is_right_is_no_problem(tmp_path: Path) -> None:
    path = Scripts(tmp_path).write("limits", OPTION)
    done = daemon_with(tmp_path, path, options={"limit_of_mine": 3}).cli("check-config")
    assert done.returncode == 0, done.stderr
