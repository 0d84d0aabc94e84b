"""Inspectors that end in ways that could take the worker with them: it lives, and so do the connections beside."""

from __future__ import annotations

import os
import signal
import ssl
from collections.abc import Iterator
from itertools import product
from pathlib import Path

import pytest

from tests.e2e.conftest import ISSUING, PUBLIC
from tests.harness.curl import Result, curl
from tests.harness.daemon import Daemon
from tests.harness.inspectors import Scripts
from tests.harness.origins import Nginx, Site
from tests.harness.processes import wait_for
from tests.harness.programs import need
from tests.harness.raw_http import open_tunnel

VERSIONS = pytest.mark.parametrize("version", ["--http1.1", "--http2"])
KINDS = {"sync": "def", "async": "async def", "later": "async def"}
ENDS = """
import asyncio


class Panic(BaseException):
    pass


ERRORS = {{
    each.__name__: each
    for each in (Panic, KeyboardInterrupt, GeneratorExit, SystemExit, asyncio.CancelledError)
}}


{kind} request(flow):
    {wait}raise ERRORS[flow.request.query["error"]]("it is over")
"""
ERRORS = ("Panic", "KeyboardInterrupt", "GeneratorExit", "SystemExit", "CancelledError")
CANCELS = """
import asyncio


async def request(flow):
    waiting = asyncio.ensure_future(asyncio.sleep(9))
    await asyncio.sleep(0)
    waiting.cancel()
    await waiting
"""
CANCELS_ITSELF = """
import asyncio


async def request(flow):
    asyncio.current_task().cancel()
    await asyncio.sleep(0)
"""
STREAMS = """
def requestheaders(flow):
    if flow.request.query["where"] == "request":
        flow.request.stream = does[flow.request.query["does"]]


def responseheaders(flow):
    if flow.request.query["where"] == "response":
        flow.response.stream = does[flow.request.query["does"]]


def loops(data):
    while data:
        pass
    return data


def raises(data):
    raise ZeroDivisionError("a mistake")


def gives_nothing(data):
    pass


def panics(data):
    yield data
    raise KeyboardInterrupt


does = {each.__name__: each for each in (loops, raises, gives_nothing, panics)}
"""
DOES = ("loops", "raises", "gives_nothing", "panics")
OPTIONS = """
from mitmproxy import ctx


def load(loader):
    loader.add_option("of_{name}", str, "", "An option.")


def configure(updated):
    while {loops} and ctx.options.of_changed:
        pass


def request(flow):
    ctx.options.of_changed = "changed"
"""
LIVES = """
import logging
from pathlib import Path


def websocket_start(flow):
    pass


async def request(flow):
    import asyncio
    logging.info("{version} holds")
    while "held" in flow.request.path and not Path(__file__).with_name("go-on").exists():
        await asyncio.sleep(0.01)


def response(flow):
    logging.info("{version} sees the response")


def done():
    logging.info("{version} is done")
"""
QUITS = """
raise KeyboardInterrupt
"""
WAIT = "await asyncio.sleep(0)\n    "
NAMES = (*(f"ends-{kind}" for kind in KINDS), "cancels", "cancels-itself", "stream-block", "stream-pass", "changes")
HOSTS = tuple(f"{name}.example" for name in (*NAMES, "lives", "canary"))


@pytest.fixture(scope="module")
def server(scratch: Path) -> Iterator[Nginx]:
    need("nginx")
    need("curl")
    with Nginx(scratch / "bad-ends", [Site("origin", ISSUING.leaf(HOSTS))]) as nginx:
        yield nginx


@pytest.fixture(scope="module")
def scripts(scratch: Path) -> Scripts:
    made = Scripts(scratch / "bad-ends")
    for kind, start in KINDS.items():
        made.add(f"ends-{kind}", ENDS.format(kind=start, wait=WAIT if kind == "later" else ""))
    made.add("cancels", CANCELS)
    made.add("cancels-itself", CANCELS_ITSELF)
    for action in ("block", "pass"):
        made.add(f"stream-{action}", STREAMS, timeout=1, on_error=action, body="none")
    made.add("changes", OPTIONS.format(name="changed", loops=False))
    made.add("hears", OPTIONS.format(name="hears", loops=True), hosts=["nobody.example"], timeout=1)
    made.add("lives", LIVES.format(version="original"), timeout=60)
    return made


@pytest.fixture(scope="module")
def failing(scratch: Path, server: Nginx, scripts: Scripts) -> Iterator[Daemon]:
    hosts = dict.fromkeys(HOSTS, "127.0.0.1")
    inspection = {"addons": scripts.addons}
    with Daemon(scratch / "ends", hosts=hosts, common=PUBLIC, extra={"inspection": inspection}) as running:
        yield running


@pytest.fixture(autouse=True)
def unharmed(failing: Daemon, server: Nginx) -> Iterator[None]:
    """Around each test: the same worker, no fault, and a connection from before the test that is whole behind it."""
    before = failing.pids().workers
    context = ssl.create_default_context(cafile=str(failing.root))
    with (
        open_tunnel(failing.proxy, "canary.example", server["origin"].port) as raw,
        context.wrap_socket(raw, server_hostname="canary.example") as other,
    ):
        yield
        other.sendall(b"GET / HTTP/1.1\r\nHost: canary.example\r\nConnection: close\r\n\r\n")
        assert b"hello from origin" in b"".join(iter(lambda: other.recv(65536), b""))
    assert failing.pids().workers == before
    assert not failing.log("fault")
    assert "Traceback" not in failing.stderr_text()


def url(server: Nginx, name: str, path: str = "/") -> str:
    return server["origin"].url(path, f"{name}.example")


def is_blocked(result: Result) -> bool:
    return result.status == 502 and 'details="inspector_failed"' in result.proxy_status and "hello" not in result.text


@pytest.mark.parametrize(("error", "kind"), list(product(ERRORS, KINDS)))
def test_whatever_a_hook_raises_is_its_failure_and_no_more(
    failing: Daemon, server: Nginx, error: str, kind: str
) -> None:
    path = f"/?error={error}&kind={kind}"
    assert is_blocked(curl(failing, url(server, f"ends-{kind}", path), "--max-time", "20"))
    assert failing.wait_log("inspector failed", inspector=f"ends-{kind}", reason=f"{error}: it is over")
    assert not [one for one in server.requests() if one["uri"] == path]


@VERSIONS
def test_a_hook_that_ends_cancelled_has_failed(failing: Daemon, server: Nginx, version: str) -> None:
    assert is_blocked(curl(failing, url(server, "cancels"), version, "--max-time", "20"))
    (entry,) = failing.wait_log("inspector failed", inspector="cancels")[:1]
    assert entry["reason"].startswith("CancelledError")


def test_a_hook_that_cancels_what_waits_for_it_ends_its_connection(failing: Daemon, server: Nginx) -> None:
    path = "/?cancels-itself"
    result = curl(failing, url(server, "cancels-itself", path), "--max-time", "20", "--http1.1")
    assert result.exit_code in (35, 52, 56)
    assert not [one for one in server.requests() if one["uri"] == path]


@VERSIONS
@pytest.mark.parametrize("does", DOES)
def test_a_stream_function_that_fails_on_a_request_blocks_it(
    failing: Daemon, server: Nginx, does: str, version: str
) -> None:
    path = f"/upload/{does}{version}"
    target = url(server, "stream-block", f"{path}?where=request&does={does}")
    result = curl(failing, target, version, "-T", "-", stdin=b"mine")
    assert is_blocked(result), result
    assert failing.wait_log("inspector failed", inspector="stream-block", hook="request.stream", action="block")
    assert not server.uploaded(f"{does}{version}").exists()


@VERSIONS
@pytest.mark.parametrize("does", DOES)
def test_a_stream_function_that_fails_on_a_response_cuts_it(
    failing: Daemon, server: Nginx, does: str, version: str
) -> None:
    target = url(server, "stream-block", f"/?where=response&does={does}")
    result = curl(failing, target, version, "--max-time", "20")
    assert result.exit_code not in (0, 28)
    assert "hello" not in result.text
    assert failing.wait_log("inspector failed", inspector="stream-block", hook="response.stream", action="block")


@VERSIONS
@pytest.mark.parametrize("does", DOES)
def test_a_stream_function_that_fails_is_passed_over_where_told_so(
    failing: Daemon, server: Nginx, does: str, version: str
) -> None:
    upload = f"passed-{does}{version}"
    target = url(server, "stream-pass", f"/upload/{upload}?where=request&does={does}")
    assert curl(failing, target, version, "-T", "-", stdin=b"mine").status == 201
    assert server.uploaded(upload).read_bytes() == b"mine"
    target = url(server, "stream-pass", f"/?where=response&does={does}")
    assert curl(failing, target, version).text == "hello from origin\n"
    assert failing.wait_log("inspector failed", inspector="stream-pass", hook="response.stream", action="pass")


def test_a_script_that_fails_over_another_s_options_is_the_one_that_is_named(failing: Daemon, server: Nginx) -> None:
    assert is_blocked(curl(failing, url(server, "changes"), "--max-time", "30"))
    (entry,) = failing.wait_log("inspector failed", inspector="hears", hook="configure")
    assert entry["reason"] == "no end within 1 s"
    (entry,) = failing.wait_log("inspector failed", inspector="changes", hook="request")
    assert entry["reason"] == "OptionsError: hears has failed over it"


def test_a_script_is_done_when_the_last_flow_that_it_is_for_has_ended(
    failing: Daemon, server: Nginx, scripts: Scripts
) -> None:
    def says(message: str) -> int:
        return len(failing.log("inspector says", message=message))

    def reload(version: str) -> None:
        scripts.write("lives", LIVES.format(version=version))
        before = len(failing.log("inspector reloaded", inspector="lives"))
        os.kill(failing.pids().supervisor, signal.SIGHUP)
        wait_for("the reload", lambda: len(failing.log("inspector reloaded", inspector="lives")) > before)

    reload("first")  # whatever was there before
    context = ssl.create_default_context(cafile=str(failing.root))
    with (
        open_tunnel(failing.proxy, "lives.example", server["origin"].port) as raw,
        context.wrap_socket(raw, server_hostname="lives.example") as client,
    ):
        client.sendall(b"GET /?held HTTP/1.1\r\nHost: lives.example\r\n\r\n")
        wait_for("it to be held", lambda: says("first holds"))
        reload("second")
        assert curl(failing, url(server, "lives")).status == 200
        wait_for("the second to be called", lambda: says("second sees the response"))
        assert not says("first is done")
        (scripts.folder / "go-on").touch()
        answer = b""
        while b"hello from origin" not in answer:
            answer += client.recv(65536)
        wait_for("done", lambda: says("first is done"))
        assert (says("first sees the response"), says("second sees the response")) == (1, 1)
        # Nothing is under way now, though the connection is open: there is nothing to wait for.
        reload("third")
        wait_for("done", lambda: says("second is done"))
    assert (says("first is done"), says("second is done"), says("third is done")) == (1, 1, 0)


def test_a_script_that_ends_the_process_when_it_is_loaded_again_stays_as_it_was(
    failing: Daemon, server: Nginx, scripts: Scripts
) -> None:
    kept = (scripts.folder / "cancels.py").read_text()
    scripts.write("cancels", QUITS)
    try:
        os.kill(failing.pids().supervisor, signal.SIGHUP)
        (entry,) = failing.wait_log("inspector not reloaded", inspector="cancels")
        assert entry["reason"].endswith("line 1: KeyboardInterrupt: ")
        assert is_blocked(curl(failing, url(server, "cancels")))
    finally:
        scripts.write("cancels", kept)
