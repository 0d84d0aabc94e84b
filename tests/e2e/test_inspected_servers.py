"""Further servers of the inspection lane: who hears of them, what they are judged by, and how many are kept."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.conftest import ISSUING, PRIVATE, PRIVATE_ISSUING, PUBLIC
from tests.harness.curl import curl
from tests.harness.daemon import Daemon
from tests.harness.inspectors import Scripts
from tests.harness.origins import Nginx, Site
from tests.harness.processes import wait_for
from tests.harness.programs import need
from tests.harness.raw_http import Pipe
from tests.harness.raw_http2 import RawHttp2, TlsServer, through

REDIRECTS = """
    def {hook}(flow):
        _, found, where = flow.request.path.partition("to=")
        if found:
            flow.request.host, _, port = where.partition(":")
            flow.request.port = int(port)
"""
FAILS = """
    {kind} {hook}(data):
        if (getattr(data, "server", None) or data.conn).address[0] == "other.example":
            raise RuntimeError("a mistake of the inspector's")
"""
OBJECTS = """
    def server_connected(data):
        if data.server.address[0] == "other.example":
            data.server.error = "not there"
"""
WATCHES = """
    import logging


    def requestheaders(flow):
        logging.info(f"watches head {flow.request.path}")


    def request(flow):
        logging.info(f"watches whole {flow.request.path}")
        if "forbidden" in flow.request.path:
            flow.kill()


    def response(flow):
        flow.response.headers["x-watched"] = "yes"
"""
FORBIDS = """
    def server_connect(data):
        data.server.error = "no plain HTTP to there"
"""
FAILING = {
    f"{hook.replace('_', '-')}-{kind.split()[0]}": FAILS.format(kind=kind, hook=hook)
    for hook in ("server_connect", "server_connected", "tls_established_server")
    for kind in ("def", "async def")
}
HOSTS = ("sends.example", "streams.example", "objects.example", *(f"{name}.example" for name in FAILING))


@pytest.fixture(scope="module")
def server(scratch: Path) -> Iterator[Nginx]:
    need("nginx")
    need("curl")
    names = (*HOSTS, "other.example", "watched.example")
    sites = [
        Site("origin", ISSUING.leaf(names)),
        Site("private", PRIVATE_ISSUING.leaf("private.example")),
        Site("plain", None),
    ]
    with Nginx(scratch / "further", sites) as nginx:
        yield nginx


@pytest.fixture(scope="module")
def target(scratch: Path, server: Nginx) -> Iterator[Daemon]:
    scripts = Scripts(scratch / "further-inspectors")
    scripts.add("redirects", REDIRECTS.format(hook="request"), hosts=[*HOSTS, "many.example"], body="none")
    scripts.add("streams", REDIRECTS.format(hook="requestheaders"), body="none")
    for name, text in FAILING.items():
        scripts.add(name, text)
    scripts.add("objects", OBJECTS)
    scripts.add("watches", WATCHES, hosts=["watched.example"])
    scripts.add("forbids", FORBIDS)
    names = (*HOSTS, "other.example", "watched.example", "private.example", "forbids.example", "many.example")
    with Daemon(
        scratch / "further-daemon", hosts=dict.fromkeys(names, "127.0.0.1"), common=PUBLIC,
        extra={"inspection": {"addons": scripts.addons}},
    ) as running:  # fmt: skip
        yield running


@pytest.fixture(autouse=True)
def unharmed(target: Daemon) -> Iterator[None]:
    yield
    assert not target.log("fault")


def sent_on(server: Nginx, first: str, path: str, to: str, site: str = "origin") -> str:
    """A URL of ``first`` whose request an inspector sends on to ``to``."""
    port = server[site].url().rsplit(":", 1)[1].strip("/")
    return server["origin"].url(f"{path}?to={to}:{port}", first)


@pytest.mark.parametrize("name", FAILING)
def test_what_an_inspector_cannot_say_of_a_further_server_blocks(target: Daemon, server: Nginx, name: str) -> None:
    result = curl(target, sent_on(server, f"{name}.example", f"/{name}", "other.example"))
    assert result.status == 502
    assert result.proxy_status.endswith('details="inspector_failed"')
    assert not [one for one in server.requests() if one["uri"].startswith(f"/{name}?")]


def test_an_inspector_that_objects_to_a_further_server_ends_it(target: Daemon, server: Nginx) -> None:
    result = curl(target, sent_on(server, "objects.example", "/objected", "other.example"))
    assert result.status == 502
    assert not [one for one in server.requests() if one["uri"].startswith("/objected")]


@pytest.mark.parametrize("version", ["--http1.1", "--http2"])
def test_who_is_for_the_host_that_a_request_is_sent_on_to_sees_it(target: Daemon, server: Nginx, version: str) -> None:
    passed = curl(target, sent_on(server, "sends.example", f"/on{version}", "watched.example"), version)
    assert (passed.status, passed.headers.get("x-watched")) == (404, "yes")
    assert target.wait_log("inspector says", message=f"watches head {_path(server, f'/on{version}')}")
    assert target.wait_log("inspector says", message=f"watches whole {_path(server, f'/on{version}')}")
    refused = curl(target, sent_on(server, "sends.example", "/forbidden", "WATCHED.example."), version)
    assert refused.exit_code != 0
    assert not [one for one in server.requests() if one["uri"].startswith("/forbidden")]


def _path(server: Nginx, path: str) -> str:
    port = server["origin"].url().rsplit(":", 1)[1].strip("/")
    return f"{path}?to=watched.example:{port}"


def test_a_streamed_request_goes_to_no_host_whose_inspectors_need_it_whole(target: Daemon, server: Nginx) -> None:
    url = sent_on(server, "streams.example", "/streamed", "watched.example")
    result = curl(target, url, "--data-binary", "@-", stdin=b"x" * 100_000)
    assert (result.status, result.proxy_status.partition("details=")[2]) == (502, '"inspector_failed"')
    assert not [one for one in server.requests() if one["uri"].startswith("/streamed")]


def test_plain_http_is_told_to_whoever_is_for_the_server(target: Daemon, server: Nginx) -> None:
    port = server["plain"].url().rsplit(":", 1)[1].strip("/")
    result = curl(target, f"http://forbids.example:{port}/plain-forbidden")
    assert result.status == 502
    assert not [one for one in server.requests() if one["uri"].startswith("/plain-forbidden")]


def test_a_ca_that_was_removed_vouches_for_no_further_server(target: Daemon, server: Nginx, tmp_path: Path) -> None:
    root = tmp_path / "private.pem"
    root.write_bytes(PRIVATE.pem())
    target.told("trusted-ca", "add", "further", str(root))
    where = sent_on(server, "sends.example", "/private", "private.example", "private")
    target.within(3, lambda: curl(target, where).status == 404)
    port = int(server["origin"].url().rsplit(":", 1)[1].strip("/"))
    with through(target.proxy, target.root, "sends.example", port, alpn="http/1.1") as pipe:
        request = b"GET %s HTTP/1.1\r\nHost: sends.example\r\n\r\n"
        pipe.send(request % b"/")
        assert pipe.receive().startswith(b"HTTP/1.1 200")
        target.told("trusted-ca", "delete", "further")
        target.within(3, lambda: curl(target, where).status == 502)
        while b"hello from origin\n" not in pipe.received:
            pipe.receive()
        pipe.send(request % where.partition(f":{port}")[2].encode())
        assert b" 502 " in pipe.receive().split(b"\r\n")[0]


def test_a_ca_that_is_limited_to_hosts_vouches_for_those_alone(target: Daemon, server: Nginx, tmp_path: Path) -> None:
    root = tmp_path / "limited.pem"
    root.write_bytes(PRIVATE.pem())
    where = sent_on(server, "sends.example", "/limited", "private.example", "private")
    target.told("trusted-ca", "add", "limited", str(root), "--host", "sends.example")
    try:
        assert curl(target, where).status == 502
        target.told("trusted-ca", "limit", "limited", "private.example")
        target.within(3, lambda: curl(target, where).status == 404)
    finally:
        target.told("trusted-ca", "delete", "limited")


def test_idle_connections_to_servers_are_let_go(target: Daemon, server: Nginx, scratch: Path) -> None:
    def plays(pipe: Pipe) -> None:
        """Answers, says GOAWAY, and never closes."""
        end = RawHttp2(pipe, serves=True)
        end.until(lambda came: came.kind == "Headers")
        end.goaway(1)
        end.answer(1)
        end.until(lambda came: False, 30)

    def rests(pipe: Pipe) -> None:
        RawHttp2(pipe, serves=True).until(lambda came: False, 30)

    worker = target.pids().workers[0]
    first = ISSUING.leaf("many.example")
    with (
        TlsServer(scratch / "many", first, rests) as many,
        TlsServer(scratch / "going", ISSUING.leaf("other.example"), plays) as going,
    ):
        pipe = through(target.proxy, target.root, "many.example", many.port)
        asking = RawHttp2(pipe, serves=False)
        asking.until(lambda came: came.kind == "Settings")
        before = target.resting_files(worker)
        for stream in range(1, 60, 2):
            asking.ask(stream, f"/?to=other.example:{going.port}", host="many.example")
            assert asking.over(stream)
        assert going.connections == 30
        wait_for("connections to be let go", lambda: target.open_files(worker) <= before + 2)
        pipe.close()
