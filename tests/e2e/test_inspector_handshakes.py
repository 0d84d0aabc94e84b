"""What inspectors are told of TLS: the hello, and handshakes that came to nothing. They decide nothing of it."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import ISSUING, PUBLIC
from tests.harness.curl import curl
from tests.harness.daemon import Daemon
from tests.harness.inspectors import Scripts
from tests.harness.origins import Nginx, Site
from tests.harness.pki import Authority
from tests.harness.processes import wait_for
from tests.harness.programs import need

TELLS = """
    import json
    import logging


    def say(hook, host, **more):
        logging.info(json.dumps({"hook": hook, "host": host, **more}))


    class Handshakes:
        def client_connected(self, client):
            say("client_connected", client.sni, id=client.id)

        def tls_clienthello(self, data):
            hello = data.client_hello
            say("tls_clienthello", hello.sni, alpn=[each.decode() for each in hello.alpn_protocols],
                id=data.context.client.id, raw=hello.raw_bytes()[:6].hex(), suites=len(hello.cipher_suites))

        async def server_connect(self, data):
            say("server_connect", data.server.sni)

        def server_connected(self, data):
            say("server_connected", data.server.sni)

        def server_connect_error(self, data):
            say("server_connect_error", data.server.sni, error=data.server.error)

        def tls_established_server(self, data):
            say("tls_established_server", data.conn.sni)

        def tls_established_client(self, data):
            say("tls_established_client", data.conn.sni)

        async def tls_failed_server(self, data):
            say("tls_failed_server", data.conn.sni, error=data.conn.error,
                names=[each.cn for each in data.conn.certificate_list])

        def tls_failed_client(self, data):
            say("tls_failed_client", data.conn.sni, error=data.conn.error, id=data.context.client.id)

        def server_disconnected(self, data):
            say("server_disconnected", data.server.sni)

        def client_disconnected(self, client):
            say("client_disconnected", client.sni)


    addons = [Handshakes()]
"""
FORBIDS = """
    def tls_clienthello(data):
        if data.client_hello.sni == "forbids.example":
            data.context.client.error = "not with this hello"
"""
RAISES = """
    def tls_clienthello(data):
        raise RuntimeError("a mistake of the inspector's")
"""
IGNORES = """
    def tls_clienthello(data):
        data.ignore_connection = True


    def response(flow):
        flow.response.headers["x-inspected"] = "yes"
"""
TOLD = ("tells.example", "untrusted.example", "unheard.example", "mistrusts.example", "goes.example")
NAMES = (*TOLD, "forbids.example", "raises.example", "passes.example", "ignores.example")


@pytest.fixture(scope="module")
def server(scratch: Path) -> Iterator[Nginx]:
    need("nginx")
    need("curl")
    trusted = Site("origin", ISSUING.leaf(NAMES))
    private = Site("private", Authority.root("Nobody's root").leaf(("untrusted.example",)))
    with Nginx(scratch / "handshakes", [trusted, private]) as nginx:
        yield nginx


@pytest.fixture(scope="module")
def target(scratch: Path, server: Nginx) -> Iterator[Daemon]:
    scripts = Scripts(scratch / "handshaking")
    scripts.add("tells", TELLS, hosts=list(TOLD))
    for name, text in (("forbids", FORBIDS), ("raises", RAISES), ("ignores", IGNORES)):
        scripts.add(name, text)
    scripts.add("passes", RAISES, on_error="pass")
    hosts = dict.fromkeys(NAMES, "127.0.0.1")
    with Daemon(
        scratch / "handshaking", hosts=hosts, common=PUBLIC, extra={"inspection": {"addons": scripts.addons}}
    ) as running:
        yield running


@pytest.fixture(autouse=True)
def unharmed(target: Daemon, server: Nginx) -> Iterator[None]:
    yield
    assert curl(target, server["origin"].url("/", "tells.example")).status == 200
    assert not target.log("fault")


def told(daemon: Daemon, host: str) -> list[dict[str, Any]]:
    """What the script said of a host, by the time that it said that it was over."""

    def over() -> list[dict[str, Any]]:
        lines = [json.loads(e["message"]) for e in daemon.log("inspector says") if e["message"].startswith("{")]
        mine = [line for line in lines if line["host"] == host]
        return mine if "client_disconnected" in hooks(mine) else []

    return wait_for(f"the end of {host}", over)


def hooks(lines: list[dict[str, Any]]) -> list[str]:
    return [line["hook"] for line in lines]


def test_a_hello_is_shown_as_the_client_sent_it(target: Daemon, server: Nginx) -> None:
    assert curl(target, server["origin"].url("/", "tells.example"), "--http2").status == 200
    lines = told(target, "tells.example")
    hello = next(line for line in lines if line["hook"] == "tls_clienthello")
    assert hello["alpn"] == ["h2", "http/1.1"]
    assert hello["raw"].startswith("160303")
    assert hello["raw"].endswith("01")
    assert hello["suites"] > 3
    assert target.wait_log("request", id=hello["id"])
    order = [
        "client_connected", "tls_clienthello", "server_connect", "server_connected", "tls_established_server",
        "tls_established_client",
    ]  # fmt: skip
    assert hooks(lines)[: len(order)] == order


def test_a_server_that_is_refused_is_told_with_the_reason(target: Daemon, server: Nginx) -> None:
    result = curl(target, server["private"].url("/refused", "untrusted.example"))
    assert (result.status, result.proxy_status.split("details=")[1]) == (502, '"incomplete_chain"')
    lines = told(target, "untrusted.example")
    assert hooks(lines) == [
        "client_connected", "tls_clienthello", "server_connect", "server_connected", "tls_failed_server",
        "server_disconnected", "client_disconnected",
    ]  # fmt: skip
    failed = lines[4]
    assert "trust" in failed["error"]
    assert failed["names"][0] == "untrusted.example"
    assert not [one for one in server.requests() if one["uri"] == "/refused"]


def test_a_server_that_cannot_be_reached_is_told(target: Daemon) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound and not listening: refused
        result = curl(target, f"https://unheard.example:{taken.getsockname()[1]}/")
    assert (result.status, result.proxy_status) == (502, "sallyport; error=connection_refused")
    lines = told(target, "unheard.example")
    assert hooks(lines) == [
        "client_connected", "tls_clienthello", "server_connect", "server_connect_error", "client_disconnected",
    ]  # fmt: skip
    assert "refused" in lines[3]["error"]


@pytest.mark.parametrize("version", ["--tlsv1.2 --tls-max 1.2", "--tlsv1.3"])
def test_a_client_that_does_not_trust_us_is_told(target: Daemon, server: Nginx, version: str, tmp_path: Path) -> None:
    before = len(target.log("inspector says"))
    other = tmp_path / "other.pem"
    other.write_bytes(Authority.root("Another root").pem())
    result = curl(target, server["origin"].url("/", "mistrusts.example"), "--cacert", str(other), *version.split())
    assert result.exit_code == 60

    def lines() -> list[dict[str, Any]]:
        said = [json.loads(entry["message"]) for entry in target.log("inspector says")[before:]]
        mine = [line for line in said if line["host"] == "mistrusts.example"]
        return mine if "client_disconnected" in hooks(mine) else []

    seen = wait_for("the end of it", lines)
    assert hooks(seen) == [
        "client_connected", "tls_clienthello", "server_connect", "server_connected", "tls_established_server",
        "tls_failed_client", "server_disconnected", "client_disconnected",
    ]  # fmt: skip
    assert "unknown ca" in seen[5]["error"]
    assert seen[5]["id"] == seen[1]["id"]


def test_an_inspector_ends_a_connection_by_its_hello(target: Daemon, server: Nginx) -> None:
    assert curl(target, server["origin"].url("/forbidden", "forbids.example")).exit_code != 0
    assert not [one for one in server.requests() if one["uri"] == "/forbidden"]


def test_one_that_fails_at_the_hello_blocks_unless_it_may_be_passed_over(target: Daemon, server: Nginx) -> None:
    assert curl(target, server["origin"].url("/raised", "raises.example")).exit_code != 0
    assert target.wait_log("inspector failed", inspector="raises", hook="tls_clienthello")
    assert not [one for one in server.requests() if one["uri"] == "/raised"]
    assert curl(target, server["origin"].url("/", "passes.example")).status == 200


def test_what_is_decrypted_is_not_an_inspectors_decision(target: Daemon, server: Nginx) -> None:
    for _ in range(2):
        result = curl(target, server["origin"].url("/", "ignores.example"))
        assert (result.status, result.headers["x-inspected"]) == (200, "yes")
    said = target.wait_log("inspector cannot decide this", wanted="ignore_connection")
    assert said
    by_worker = [entry["from"] for entry in target.log("inspector cannot decide this")]
    assert len(by_worker) == len(set(by_worker))
