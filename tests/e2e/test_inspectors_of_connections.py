"""Inspectors that fail or object where no single request is theirs to end: connections, WebSockets, streams beside."""

from __future__ import annotations

import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import ISSUING, PUBLIC
from tests.harness.curl import command, curl
from tests.harness.daemon import Daemon
from tests.harness.inspectors import Scripts
from tests.harness.origins import Nginx, Site, WebSocketEcho
from tests.harness.processes import wait_for
from tests.harness.programs import need

VERSIONS = pytest.mark.parametrize("version", ["--http1.1", "--http2"])
CONNECTIONS = ("client_connected", "server_connect", "server_connected", "tls_established_server")
RAISES = """
{kind} {hook}(data):
    raise RuntimeError("a mistake of the inspector's")
"""
OBJECTS = """
def server_connect(data):
    data.server.error = "not there"
"""
SOCKETS = """
def websocket_message(flow):
    if b"bad" in flow.websocket.messages[-1].content:
        raise RuntimeError("a mistake of the inspector's")
"""
BESIDE = """
import asyncio
import logging
from pathlib import Path


async def request(flow):
    if "wait" in flow.request.path:
        logging.info("one waits")
        while not Path(__file__).with_name("go-on").exists():
            await asyncio.sleep(0.01)
    if "fail" in flow.request.path:
        raise RuntimeError("a mistake of the inspector's")
"""
LATE = """
def error(flow):
    raise RuntimeError("a mistake of the inspector's")


def request(flow):
    if "kill" in flow.request.path:
        flow.kill()


def client_disconnected(client):
    raise RuntimeError("a mistake of the inspector's")


def server_disconnected(data):
    raise RuntimeError("a mistake of the inspector's")
"""
KINDS = {"sync": "def", "async": "async def"}
SCRIPTS: dict[str, tuple[str, dict[str, Any]]] = {
    **{
        f"{hook.replace('_', '-')}-{kind}-{action}": (
            RAISES.format(kind=KINDS[kind], hook=hook),
            {"on_error": action},
        )
        for hook in CONNECTIONS
        for kind in KINDS
        for action in ("block", "pass")
    },
    "objects": (OBJECTS, {}),
    "sockets-block": (SOCKETS, {}),
    "sockets-pass": (SOCKETS, {"on_error": "pass"}),
    "beside": (BESIDE, {"timeout": 60}),
    "late": (LATE, {}),
}
NAMES = tuple(f"{name}.example" for name in (*SCRIPTS, "canary"))


@pytest.fixture(scope="module")
def server(scratch: Path) -> Iterator[Nginx]:
    need("nginx")
    need("curl")
    with (
        WebSocketEcho() as echo,
        Nginx(scratch / "connections", [Site("origin", ISSUING.leaf(NAMES), websocket=echo.where)]) as nginx,
    ):
        yield nginx


@pytest.fixture(scope="module")
def scripts(scratch: Path) -> Scripts:
    made = Scripts(scratch)
    for name, (text, settings) in SCRIPTS.items():
        made.add(name, text, **settings)
    return made


@pytest.fixture(scope="module")
def target(scratch: Path, server: Nginx, scripts: Scripts) -> Iterator[Daemon]:
    hosts = dict.fromkeys(NAMES, "127.0.0.1")
    with Daemon(
        scratch / "connecting", hosts=hosts, common=PUBLIC, extra={"inspection": {"addons": scripts.addons}}
    ) as running:
        yield running


@pytest.fixture(autouse=True)
def unharmed(target: Daemon, server: Nginx) -> Iterator[None]:
    before = target.pids().workers
    yield
    assert curl(target, url(server, "canary")).status == 200
    assert target.pids().workers == before
    assert not target.log("fault")
    assert "Traceback" not in target.stderr_text()


def url(server: Nginx, name: str, path: str = "/") -> str:
    return server["origin"].url(path, f"{name}.example")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("hook", CONNECTIONS)
def test_a_connection_that_cannot_be_inspected_ends(target: Daemon, server: Nginx, hook: str, kind: str) -> None:
    name = f"{hook.replace('_', '-')}-{kind}-block"
    result = curl(target, url(server, name, f"/?{name}"))
    assert result.exit_code != 0
    assert result.body == b""
    assert target.wait_log("inspector failed", inspector=name, hook=hook)
    assert not [one for one in server.requests() if one["uri"] == f"/?{name}"]
    passed = curl(target, url(server, name.replace("block", "pass")))
    assert (passed.status, passed.text) == (200, "hello from origin\n")


def test_a_connection_that_an_inspector_objects_to_ends(target: Daemon, server: Nginx) -> None:
    result = curl(target, url(server, "objects", "/objected"))
    assert result.exit_code != 0
    assert not [one for one in server.requests() if one["uri"] == "/objected"]


def test_a_message_that_cannot_be_inspected_does_not_pass(target: Daemon, server: Nginx) -> None:
    from websockets.exceptions import ConnectionClosed
    from websockets.sync.client import connect

    trusted = ssl.create_default_context(cafile=str(target.root))
    for action in ("block", "pass"):
        where = url(server, f"sockets-{action}", "/ws").replace("https", "wss")
        with connect(where, ssl=trusted, proxy=f"http://{target.proxy}") as socket:
            socket.send("good")
            assert socket.recv(timeout=20) == "good"
            socket.send("bad")
            if action == "pass":
                assert socket.recv(timeout=20) == "bad"
            else:
                with pytest.raises(ConnectionClosed):
                    socket.recv(timeout=20)
        assert target.wait_log("inspector failed", inspector=f"sockets-{action}", hook="websocket_message")


@pytest.mark.parametrize(("beside", "status"), [("/status/404?beside", 404), ("/?fail", 502)])
def test_a_stream_that_waits_does_not_hold_up_those_beside_it(
    target: Daemon, server: Nginx, scripts: Scripts, beside: str, status: int
) -> None:
    go_on = scripts.folder / "go-on"
    go_on.unlink(missing_ok=True)
    before = len(target.log("request", status=status))
    urls = [part for path in (beside, beside) for part in ("-o", "/dev/null", url(server, "beside", path))]
    asked = command(
        target, url(server, "beside", "/?wait"), "--http2", "--parallel", "-w", "%{http_code} %{num_connects}\\n", *urls
    )
    running = subprocess.Popen([*asked, "-o", "/dev/null"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        wait_for("the two beside it", lambda: len(target.log("request", status=status)) >= before + 2, timeout=30)
        assert running.poll() is None
        go_on.touch()
        lines = [line.split() for line in running.communicate(timeout=30)[0].splitlines()]
    finally:
        running.kill()
        running.wait()
    assert [line[0] for line in lines] == [str(status), str(status), "200"]


@VERSIONS
def test_a_mistake_behind_the_end_hurts_nobody(target: Daemon, server: Nginx, version: str) -> None:
    assert curl(target, url(server, "late"), version).text == "hello from origin\n"
    assert curl(target, url(server, "late", "/kill"), version).body == b""
    for hook in ("error", "client_disconnected", "server_disconnected"):
        assert target.wait_log("inspector failed", inspector="late", hook=hook)
