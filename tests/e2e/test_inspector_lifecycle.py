"""What inspectors are told of connections, from their beginning to their end, and how scripts are loaded again."""

from __future__ import annotations

import json
import os
import signal
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import ISSUING, PUBLIC
from tests.harness.curl import curl
from tests.harness.daemon import Daemon
from tests.harness.inspectors import Scripts
from tests.harness.origins import Nginx, Site
from tests.harness.processes import wait_for
from tests.harness.programs import need

VERSIONS = pytest.mark.parametrize("version", ["--http1.1", "--http2"])
LIFECYCLE = """
    import json
    import logging


    def about(conn):
        return {
            "address": conn.address if hasattr(conn, "address") else None,
            "peer": conn.peername,
            "sock": conn.sockname,
            "sni": conn.sni,
            "alpn": conn.alpn and conn.alpn.decode(),
            "tls": conn.tls_version,
            "cipher": conn.cipher,
            "names": [each.cn for each in conn.certificate_list],
            "start": conn.timestamp_start,
            "tls_setup": conn.timestamp_tls_setup,
            "end": conn.timestamp_end,
        }


    def say(hook, **more):
        logging.info(json.dumps({"hook": hook, **more}))


    class Lifecycle:
        def load(self, loader):
            say("load")

        def configure(self, updated):
            say("configure")

        def running(self):
            say("running")

        def done(self):
            say("done")

        def client_connected(self, client):
            say("client_connected", client=about(client))

        def client_disconnected(self, client):
            say("client_disconnected", client=about(client))

        def server_connect(self, data):
            say("server_connect", server=about(data.server))

        async def server_connected(self, data):
            say("server_connected", server=about(data.server))

        def server_disconnected(self, data):
            say("server_disconnected", server=about(data.server))

        def tls_established_client(self, data):
            say("tls_established_client", client=about(data.conn))

        def tls_established_server(self, data):
            say("tls_established_server", server=about(data.conn))

        def requestheaders(self, flow):
            say("requestheaders", client=about(flow.client_conn), server=about(flow.server_conn))

        def request(self, flow):
            say("request", ip=flow.server_conn.peername[0])

        def responseheaders(self, flow):
            say("responseheaders")

        def response(self, flow):
            say("response", server=about(flow.server_conn))


    addons = [Lifecycle()]
"""
ANSWERS = """
    def response(flow):
        flow.response.headers["x-version"] = "{}"
"""
NAMES = ("lifecycle.example", "changes.example")


@pytest.fixture(scope="module")
def server(scratch: Path) -> Iterator[Nginx]:
    need("nginx")
    need("curl")
    with Nginx(scratch / "lives", [Site("origin", ISSUING.leaf(NAMES))]) as nginx:
        yield nginx


def daemon_with(folder: Path, scripts: Scripts) -> Daemon:
    hosts = dict.fromkeys(NAMES, "127.0.0.1")
    return Daemon(folder, hosts=hosts, common=PUBLIC, extra={"inspection": {"addons": scripts.addons}})


def told(daemon: Daemon) -> list[dict[str, Any]]:
    """What the lifecycle script logged."""
    found = [entry["message"] for entry in daemon.log("inspector says")]
    return [json.loads(line) for line in found if line.startswith("{")]


def hooks(daemon: Daemon) -> list[str]:
    return [entry["hook"] for entry in told(daemon)]


@VERSIONS
def test_connections_are_told_of_in_order_and_as_they_are(tmp_path: Path, server: Nginx, version: str) -> None:
    scripts = Scripts(tmp_path)
    scripts.add("lifecycle", LIFECYCLE)
    url = server["origin"].url("/", "lifecycle.example")
    with daemon_with(tmp_path / "daemon", scripts) as daemon:
        before = daemon.log("inspector says")
        assert before
        result = curl(daemon, url, version, "-v")
        assert result.status == 200
        wait_for("the connection to end", lambda: {"client_disconnected", "server_disconnected"} <= set(hooks(daemon)))
    seen = hooks(daemon)
    assert seen[:3] == ["load", "configure", "running"]
    assert seen[3:12] == [
        "client_connected", "server_connect", "server_connected", "tls_established_server", "tls_established_client",
        "requestheaders", "request", "responseheaders", "response",
    ]  # fmt: skip
    assert sorted(seen[12:14]) == ["client_disconnected", "server_disconnected"]
    assert seen[14:] == ["done"]
    told_of = {entry["hook"]: entry for entry in told(daemon)}
    protocol = "h2" if version == "--http2" else "http/1.1"
    client = told_of["tls_established_client"]["client"]
    assert client["peer"] == ["127.0.0.1", result.told["local_port"]]
    assert client["sock"] == ["127.0.0.1", int(daemon_port(result.told))]
    assert (client["sni"], client["alpn"], client["tls"]) == ("lifecycle.example", protocol, "TLSv1.3")
    assert client["cipher"] in result.error
    assert client["start"] <= client["tls_setup"]
    checked = told_of["tls_established_server"]["server"]
    assert checked["address"] == ["lifecycle.example", server["origin"].port]
    assert checked["peer"] == ["127.0.0.1", server["origin"].port]
    assert checked["sock"][0] == "127.0.0.1"
    assert (checked["sni"], checked["alpn"], checked["tls"]) == ("lifecycle.example", protocol, "TLSv1.3")
    assert checked["cipher"].startswith("TLS_")
    assert checked["names"] == ["lifecycle.example", "Public Issuing"]
    assert checked["start"] <= checked["tls_setup"]
    assert told_of["request"]["ip"] == "127.0.0.1"
    assert told_of["client_disconnected"]["client"]["end"] >= client["start"]
    assert told_of["server_disconnected"]["server"]["end"] >= checked["start"]


def daemon_port(about: Any) -> int:
    """The port that curl spoke to."""
    return int(about["remote_port"])


def version_of(daemon: Daemon, url: str) -> str:
    return curl(daemon, url).headers["x-version"]


def reload(daemon: Daemon, event: str, count: int = 1) -> dict[str, Any]:
    """SIGHUP to the supervisor; what the worker says of it."""
    os.kill(daemon.pids().supervisor, signal.SIGHUP)
    wait_for(f"{event} in the log", lambda: len(daemon.log(event)) >= count)
    return daemon.log(event)[-1]


def test_a_script_is_loaded_again_and_one_that_is_broken_is_not(tmp_path: Path, server: Nginx) -> None:
    scripts = Scripts(tmp_path)
    scripts.add("changes", ANSWERS.format("first"))
    scripts.add("lifecycle", LIFECYCLE)
    url = server["origin"].url("/", "changes.example")
    with daemon_with(tmp_path / "daemon", scripts) as daemon:
        worker = daemon.pids().workers
        assert version_of(daemon, url) == "first"
        scripts.write("changes", ANSWERS.format("second"))
        assert reload(daemon, "inspector reloaded", 2)["inspector"] == "lifecycle"
        assert version_of(daemon, url) == "second"
        assert hooks(daemon).count("done") == 1
        assert hooks(daemon).count("running") == 2

        scripts.write("changes", ANSWERS.format("third") + "\nthis is no Python\n")
        problem = reload(daemon, "inspector not reloaded")
        assert problem["inspector"] == "changes"
        assert "line 4: invalid syntax" in problem["reason"]
        assert version_of(daemon, url) == "second"

        scripts.write("changes", "def response(flow, more):\n    pass\n")
        assert "the hook response is called as response(flow)" in reload(daemon, "inspector not reloaded", 2)["reason"]
        assert version_of(daemon, url) == "second"

        scripts.write("changes", ANSWERS.format("last"))
        reload(daemon, "inspector reloaded", 6)
        assert version_of(daemon, url) == "last"
        assert daemon.pids().workers == worker
        assert not daemon.log("fault")


def test_requests_behind_a_reload_see_the_new_script_on_an_open_connection(tmp_path: Path, server: Nginx) -> None:
    import http.client

    scripts = Scripts(tmp_path)
    scripts.add("changes", ANSWERS.format("first"))
    with daemon_with(tmp_path / "daemon", scripts) as daemon:
        host, _, port = daemon.proxy.partition(":")
        trusted = ssl.create_default_context(cafile=str(daemon.root))
        client = http.client.HTTPSConnection(host, int(port), context=trusted, timeout=30)
        client.set_tunnel("changes.example", server["origin"].port)

        def version() -> str | None:
            client.request("GET", "/")
            answer = client.getresponse()
            answer.read()
            return answer.headers["x-version"]

        try:
            assert version() == "first"
            scripts.write("changes", ANSWERS.format("second"))
            reload(daemon, "inspector reloaded")
            assert version() == "second"
        finally:
            client.close()


def test_a_script_with_options_and_commands_is_loaded_again(tmp_path: Path, server: Nginx) -> None:
    text = """
        from mitmproxy import command, ctx


        class Greets:
            def load(self, loader):
                loader.add_option("greeting", str, "nothing", "What is said")

            @command.command("greets.say")
            def say(self) -> str:
                return ctx.options.greeting + " NUMBER"

            def response(self, flow):
                flow.response.headers["x-version"] = ctx.master.commands.call("greets.say")


        addons = [Greets()]
    """
    scripts = Scripts(tmp_path)
    scripts.add("changes", text.replace("NUMBER", "one"))
    url = server["origin"].url("/", "changes.example")
    daemon = daemon_with(tmp_path / "daemon", scripts)
    daemon.settings["inspection"]["options"] = {"greeting": "good day"}
    daemon.write_config()
    with daemon:
        assert version_of(daemon, url) == "good day one"
        scripts.write("changes", text.replace("NUMBER", "two"))
        reload(daemon, "inspector reloaded")
        assert version_of(daemon, url) == "good day two"
        assert not daemon.log("fault")
