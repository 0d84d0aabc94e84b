"""Inspectors that raise, wait for ever, block, or want too much: what the client gets, and that others go on."""

from __future__ import annotations

import gzip
import subprocess
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from random import Random
from typing import Any

import brotli
import pytest

from tests.e2e.conftest import ISSUING, PUBLIC
from tests.harness.curl import Result, command, curl
from tests.harness.daemon import Daemon
from tests.harness.inspectors import Scripts
from tests.harness.origins import Nginx, Site
from tests.harness.processes import wait_for
from tests.harness.programs import need

VERSIONS = pytest.mark.parametrize("version", ["--http1.1", "--http2"])
LIMIT = 256 * 1024
MIB = 1 << 20
HOOKS = ("requestheaders", "request", "responseheaders", "response")
KINDS = {"sync": "def", "async": "async def"}
ACTIONS = ("block", "pass")
RAISES = """
{kind} {hook}(flow):
    {wait}raise RuntimeError("a mistake of the inspector's")
"""
WAITS = """
import asyncio


async def request(flow):
    await asyncio.Event().wait()
"""
STUBBORN = """
import asyncio


async def request(flow):
    while True:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            pass
"""
HOLDS = """
import asyncio
import logging
from pathlib import Path


async def request(flow):
    logging.info("it holds")
    while not Path(__file__).with_name("go-on").exists():
        await asyncio.sleep(0.01)
"""
SLEEPS = """
import time


def request(flow):
    time.sleep(30)
"""
SPINS = """
def response(flow):
    while True:
        pass
"""
SPINS_LATER = """
import asyncio


async def request(flow):
    await asyncio.sleep(0)
    while True:
        pass
"""
SWALLOWS = """
def request(flow):
    for _ in range(2):
        try:
            while True:
                pass
        except Exception:
            pass
"""
EXITS = """
import sys


def request(flow):
    sys.exit("it is over")
"""
CRLF = """
def request(flow):
    if "request" in flow.request.path:
        flow.request.headers["x-more"] = "a\\r\\nx-smuggled: b"


def response(flow):
    if "response" in flow.request.path:
        flow.response.headers["x-more"] = "a\\r\\nset-cookie: smuggled"
    if "name" in flow.request.path:
        flow.response.headers["x: y\\r\\nset-cookie"] = "smuggled"
"""
WANTS = """
import logging


def request(flow):
    logging.info(f"request {flow.request.path}: {size(flow.request)}")


def response(flow):
    logging.info(f"response {flow.request.path}: {size(flow.response)}")


def size(message):
    return message.raw_content if message.raw_content is None else len(message.raw_content)
"""
READS = """
def response(flow):
    flow.response.headers["x-size"] = str(len(flow.response.content))
"""
ASKS = """
def response(flow):
    try:
        flow.response.headers["x-size"] = str(len(flow.response.content))
    except ValueError as error:
        flow.response.headers["x-told"] = str(error)
"""
WAIT = "await __import__('asyncio').sleep(0)\n    "
SCRIPTS: dict[str, tuple[str, dict[str, Any]]] = {
    **{
        f"{hook}-{kind}-{action}": (
            RAISES.format(kind=KINDS[kind], hook=hook, wait="" if kind == "sync" else WAIT),
            {"on_error": action},
        )
        for hook, kind, action in product(HOOKS, KINDS, ACTIONS)
    },
    "waits-block": (WAITS, {"timeout": 0.5}),
    "waits-pass": (WAITS, {"timeout": 0.5, "on_error": "pass"}),
    "stubborn": (STUBBORN, {"timeout": 0.5}),
    "holds": (HOLDS, {"timeout": 60}),
    "sleeps": (SLEEPS, {"timeout": 1}),
    "spins": (SPINS, {"timeout": 1}),
    "spins-later": (SPINS_LATER, {"timeout": 1}),
    "swallows": (SWALLOWS, {"timeout": 1, "on_error": "pass"}),
    "exits": (EXITS, {}),
    "exits-pass": (EXITS, {"on_error": "pass"}),
    "crlf": (CRLF, {}),
    "wants": (WANTS, {}),
    "reads": (READS, {}),
    "asks": (ASKS, {}),
}
NAMES = tuple(f"{name}.example" for name in (*SCRIPTS, "canary"))
BOMBS = (
    "location /bomb-gzip { add_header Content-Encoding gzip; }",
    "location /bomb-br { add_header Content-Encoding br; }",
    "location /chunked/ { gzip on; gzip_types application/octet-stream; default_type application/octet-stream; }",
)


@pytest.fixture(scope="module")
def server(scratch: Path) -> Iterator[Nginx]:
    need("nginx")
    need("curl")
    with Nginx(scratch / "failing", [Site("origin", ISSUING.leaf(NAMES), lines=BOMBS)]) as nginx:
        zeroes = bytes(100 * MIB)
        (nginx.www / "bomb-gzip").write_bytes(gzip.compress(zeroes))
        (nginx.www / "bomb-br").write_bytes(brotli.compress(zeroes, quality=1, lgwin=24))
        assert max((nginx.www / name).stat().st_size for name in ("bomb-gzip", "bomb-br")) < LIMIT
        (nginx.www / "chunked").mkdir()
        (nginx.www / "chunked" / "big").write_bytes(Random(5).randbytes(LIMIT + 1))  # noqa: S311 - does not compress
        nginx.file("exact", LIMIT)
        nginx.file("big", LIMIT + 1)
        yield nginx


@pytest.fixture(scope="module")
def scripts(scratch: Path) -> Scripts:
    made = Scripts(scratch)
    for name, (text, settings) in SCRIPTS.items():
        made.add(name, text, **settings)
    return made


@pytest.fixture(scope="module")
def failing(scratch: Path, server: Nginx, scripts: Scripts) -> Iterator[Daemon]:
    hosts = dict.fromkeys(NAMES, "127.0.0.1")
    inspection = {"addons": scripts.addons, "body_limit": LIMIT}
    with Daemon(scratch / "fails", hosts=hosts, common=PUBLIC, extra={"inspection": inspection}) as running:
        yield running


@pytest.fixture(autouse=True)
def unharmed(request: pytest.FixtureRequest) -> Iterator[None]:
    """Around each test: the same worker, which serves, and no fault in the log."""
    if "failing" not in request.fixturenames:
        yield
        return
    daemon: Daemon = request.getfixturevalue("failing")
    server: Nginx = request.getfixturevalue("server")
    before = daemon.pids().workers
    yield
    assert curl(daemon, url(server, "canary")).status == 200
    assert daemon.pids().workers == before
    assert not daemon.log("fault")
    assert "Traceback" not in daemon.stderr_text()


def url(server: Nginx, name: str, path: str = "/") -> str:
    return server["origin"].url(path, f"{name}.example")


def highest_kib(pid: int) -> int:
    """The most memory that the process has ever had, in KiB."""
    status = Path(f"/proc/{pid}/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM:"))


def is_blocked(result: Result) -> bool:
    return (
        result.status == 502
        and "error=proxy_internal_error" in result.proxy_status
        and 'details="inspector_failed"' in result.proxy_status
        and "hello from origin" not in result.text
    )


@VERSIONS
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("hook", HOOKS)
def test_what_raises_blocks(failing: Daemon, server: Nginx, hook: str, kind: str, version: str) -> None:
    name = f"{hook}-{kind}-block"
    result = curl(failing, url(server, name, f"/?{name}{version}"), version)
    assert is_blocked(result), result
    (entry,) = failing.wait_log("inspector failed", inspector=name)[:1]
    assert (entry["hook"], entry["action"]) == (hook, "block")
    assert entry["reason"] == "RuntimeError: a mistake of the inspector's"
    assert f"{name}.py:" in entry["where"]
    if hook.startswith("request"):
        assert not [one for one in server.requests() if one["uri"] == f"/?{name}{version}"]


@VERSIONS
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("hook", HOOKS)
def test_what_raises_is_passed_over_where_told_so(
    failing: Daemon, server: Nginx, hook: str, kind: str, version: str
) -> None:
    name = f"{hook}-{kind}-pass"
    result = curl(failing, url(server, name), version)
    assert (result.status, result.text) == (200, "hello from origin\n")
    assert failing.wait_log("inspector failed", inspector=name, hook=hook, action="pass")


@VERSIONS
def test_an_upload_is_not_begun_where_the_inspector_fails(failing: Daemon, server: Nginx, version: str) -> None:
    name = f"never{version[-1]}"
    for hook in ("requestheaders", "request"):
        result = curl(failing, url(server, f"{hook}-sync-block", f"/upload/{name}"), version, "-T", "-", stdin=b"mine")
        assert is_blocked(result), result
    assert not server.uploaded(name).exists()


@VERSIONS
def test_a_hook_that_waits_for_ever_is_ended(failing: Daemon, server: Nginx, version: str) -> None:
    assert is_blocked(curl(failing, url(server, "waits-block", f"/?waits{version}"), version))
    assert not [one for one in server.requests() if one["uri"] == f"/?waits{version}"]
    (entry,) = failing.wait_log("inspector failed", inspector="waits-block")[:1]
    assert entry["reason"] == "no end within 0.5 s"
    assert curl(failing, url(server, "waits-pass"), version).text == "hello from origin\n"
    assert failing.wait_log("inspector failed", inspector="waits-pass", action="pass")


def test_a_hook_that_will_not_be_cancelled_is_ended(failing: Daemon, server: Nginx) -> None:
    assert is_blocked(curl(failing, url(server, "stubborn"), "--max-time", "10"))


@VERSIONS
def test_a_hook_that_waits_holds_up_nobody_else(failing: Daemon, server: Nginx, scripts: Scripts, version: str) -> None:
    go_on = scripts.folder / "go-on"
    go_on.unlink(missing_ok=True)
    count = len(failing.log("inspector says", message="it holds"))
    held = subprocess.Popen(command(failing, url(server, "holds"), version), stdout=subprocess.PIPE)
    try:
        wait_for("it to hold", lambda: len(failing.log("inspector says", message="it holds")) > count)
        for _ in range(5):
            assert curl(failing, url(server, "canary"), version).status == 200
        assert held.poll() is None
        go_on.touch()
        assert held.communicate(timeout=30)[0] == b"hello from origin\n"
    finally:
        held.kill()
        held.wait()


@VERSIONS
@pytest.mark.parametrize("name", ["sleeps", "spins", "spins-later"])
def test_a_hook_that_blocks_is_ended_and_named(failing: Daemon, server: Nginx, name: str, version: str) -> None:
    assert is_blocked(curl(failing, url(server, name), version))
    assert failing.wait_log("inspector blocks", inspector=name)
    assert failing.wait_log("inspector failed", inspector=name, reason="no end within 1 s")


def test_a_hook_that_swallows_its_end_is_ended_again(failing: Daemon, server: Nginx) -> None:
    assert curl(failing, url(server, "swallows")).text == "hello from origin\n"
    assert failing.wait_log("inspector blocks", inspector="swallows")


@VERSIONS
def test_a_hook_that_exits_ends_nothing_but_itself(failing: Daemon, server: Nginx, version: str) -> None:
    assert is_blocked(curl(failing, url(server, "exits"), version))
    assert failing.wait_log("inspector failed", inspector="exits", reason="SystemExit: it is over")
    assert curl(failing, url(server, "exits-pass"), version).text == "hello from origin\n"


@VERSIONS
@pytest.mark.parametrize("what", ["request", "response", "name"])
def test_a_field_with_a_line_break_is_refused(failing: Daemon, server: Nginx, what: str, version: str) -> None:
    path = f"/echo?{what}{version}"
    result = curl(failing, url(server, "crlf", path), version)
    assert is_blocked(result), result
    assert "set-cookie" not in result.headers
    assert "smuggled" not in result.text
    if what == "request":
        assert not [one for one in server.requests() if one["uri"] == path]


@VERSIONS
@pytest.mark.parametrize("path", ["/big", "/chunked/big"])
def test_a_response_beyond_the_limit_is_blocked(failing: Daemon, server: Nginx, path: str, version: str) -> None:
    result = curl(failing, url(server, "wants", path), version, "-H", "Accept-Encoding: gzip")
    assert result.status == 502
    assert "error=http_response_body_size" in result.proxy_status
    assert 'details="inspection_limit"' in result.proxy_status
    assert len(result.body) < LIMIT
    exact = curl(failing, url(server, "wants", f"/exact?{version}"), version)
    assert (exact.status, len(exact.body)) == (200, LIMIT)
    assert failing.wait_log("inspector says", message=f"response /exact?{version}: {LIMIT}")


@VERSIONS
@pytest.mark.parametrize("known", [True, False])
def test_a_request_beyond_the_limit_is_blocked(
    failing: Daemon, server: Nginx, tmp_path: Path, known: bool, version: str
) -> None:
    name = f"too-big-{known}{version}"
    (tmp_path / "big").write_bytes(bytes(LIMIT + 1))
    what = str(tmp_path / "big") if known else "-"
    stdin = None if known else bytes(LIMIT + 1)
    result = curl(failing, url(server, "wants", f"/upload/{name}"), version, "-T", what, stdin=stdin)
    assert result.status == 413
    assert 'details="inspection_limit"' in result.proxy_status
    assert not server.uploaded(name).exists()


@VERSIONS
@pytest.mark.parametrize("coding", ["gzip", "br"])
def test_a_bomb_is_not_unpacked(failing: Daemon, server: Nginx, coding: str, version: str) -> None:
    (worker,) = failing.pids().workers
    before = highest_kib(worker)
    assert is_blocked(curl(failing, url(server, "reads", f"/bomb-{coding}"), version))
    (entry,) = failing.wait_log("inspector failed", inspector="reads")[:1]
    assert entry["reason"].startswith("ValueError: ")
    told = curl(failing, url(server, "asks", f"/bomb-{coding}"), version)
    assert told.status == 200
    assert "more than is allowed" in told.headers["x-told"]
    assert len(told.body) == (server.www / f"bomb-{coding}").stat().st_size
    assert curl(failing, url(server, "asks")).headers["x-size"] == "18"
    assert highest_kib(worker) - before < 50 * 1024
