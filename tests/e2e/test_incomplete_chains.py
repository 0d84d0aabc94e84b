"""Servers that leave their intermediate out: the first visit works where it can be fetched, else it is blocked."""

from __future__ import annotations

import contextlib
import json
import socket
import ssl
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import PUBLIC
from tests.harness.curl import Result, curl
from tests.harness.daemon import Daemon
from tests.harness.file_server import FileServer
from tests.harness.inspectors import Scripts
from tests.harness.listening import Listening
from tests.harness.origins import Nginx, Site
from tests.harness.pki import Authority, Issued, issuer_at
from tests.harness.processes import free_port
from tests.harness.programs import need

BLOCKED = 'sallyport; error=tls_certificate_error; details="incomplete_chain"'
SOON = 4.0
"""Seconds in which a server that cannot be completed is blocked: 2.5, and what a busy machine adds."""
SEEN = """
    def request(flow):
        if "to=" in flow.request.path:
            flow.request.host = "third.example"
            flow.request.port = int(flow.request.path.partition("to=")[2])


    def response(flow):
        flow.response.headers["x-seen"] = "yes"
"""
NAMES = ("fast", "again", "seen", "third", "down", "silent", "left", "probed")


@pytest.fixture(scope="module")
def files() -> Iterator[FileServer]:
    with FileServer(silent=("/silent.cer", "/left.cer", "/leaving.cer")) as serving:
        yield serving


@pytest.fixture(scope="module")
def down() -> int:
    """A port at which nobody listens."""
    return free_port()


@pytest.fixture(scope="module")
def servers(scratch: Path, files: FileServer, down: int) -> Iterator[Nginx]:
    """Each sends its own certificate alone; each has an intermediate of its own, but one."""
    need("nginx")
    need("curl")

    def site(name: str, issuing: Authority, url: str) -> Site:
        leaf = issuing.leaf(f"{name}.example", extra=[issuer_at(url)])
        return Site(f"{name}.example", Issued(leaf.raw, leaf.key, leaf.subject))

    made = {name: PUBLIC.intermediate(f"Issuing for {name}") for name in NAMES}
    files.files |= {f"/{name}.cer": issuing.raw for name, issuing in made.items()}
    urls = {name: files.url(f"/{name}.cer") for name in NAMES} | {"down": f"http://ca.example:{down}/ca.cer"}
    sites = [site(name, made[name], urls[name]) for name in NAMES]
    sites[1] = site("again", made["fast"], files.url("/never.cer"))
    with Nginx(scratch, sites) as nginx:
        yield nginx


def configuration(files: FileServer, down: int, **more: Any) -> dict[str, Any]:
    return {"verification": {"fetch": {"ports": [80, files.port, down], "private": ["127.0.0.0/8"]}, **more}}


@pytest.fixture(scope="module")
def completing(scratch: Path, servers: Nginx, files: FileServer, down: int) -> Iterator[Daemon]:
    scripts = Scripts(scratch / "completing-scripts")
    scripts.add("seen", SEEN, hosts=["seen.example"])
    hosts = dict.fromkeys((*servers.sites, "ca.example", "leaving.example"), "127.0.0.1")
    extra = configuration(files, down) | {"inspection": {"addons": scripts.addons}, "log": {"level": "debug"}}
    with Daemon(scratch / "completing", hosts=hosts, common=PUBLIC, extra=extra) as running:
        yield running


def asked(daemon: Daemon, servers: Nginx, name: str, path: str = "/") -> tuple[Result, float]:
    """One request, and the seconds that it took."""
    began = time.monotonic()
    result = curl(daemon, servers[f"{name}.example"].url(path))
    return result, time.monotonic() - began


def test_the_first_request_works_and_another_server_of_the_ca_needs_no_fetch(
    completing: Daemon, servers: Nginx, files: FileServer
) -> None:
    assert asked(completing, servers, "fast")[0].text == "hello from fast.example\n"
    assert asked(completing, servers, "fast")[0].status == 200
    assert files.asked.count("/fast.cer") == 1
    assert completing.wait_log("verdict", source="judged", completed=f"from {files.url('/fast.cer')}")
    assert asked(completing, servers, "again")[0].status == 200
    assert "/never.cer" not in files.asked


def test_it_works_in_the_inspection_lane_too_and_for_a_server_that_an_inspector_chooses(
    completing: Daemon, servers: Nginx, files: FileServer
) -> None:
    first, _ = asked(completing, servers, "seen")
    assert (first.text, first.headers.get("x-seen")) == ("hello from seen.example\n", "yes")
    third, _ = asked(completing, servers, "seen", f"/?to={servers['third.example'].port}")
    assert (third.text, third.headers.get("x-seen")) == ("hello from third.example\n", "yes")
    assert (files.asked.count("/seen.cer"), files.asked.count("/third.cer")) == (1, 1)


@pytest.mark.parametrize(
    ("name", "why"),
    [("down", "the server refused the connection"), ("silent", "the whole answer has not come in time")],
)
def test_what_cannot_be_completed_is_blocked_in_time_and_the_reason_said(
    completing: Daemon, servers: Nginx, files: FileServer, name: str, why: str
) -> None:
    result, took = asked(completing, servers, name, "/secret")
    assert (result.status, result.proxy_status) == (502, BLOCKED)
    assert took < SOON
    assert why in result.text
    assert servers.requests(f"{name}.example") == []
    before = files.asked.count("/silent.cer")
    result, took = asked(completing, servers, name)
    assert result.proxy_status == BLOCKED
    assert files.asked.count("/silent.cer") == before


def test_a_client_that_leaves_meanwhile_leaves_nothing_behind(
    completing: Daemon, servers: Nginx, files: FileServer
) -> None:
    gone = curl(completing, servers["left.example"].url(), "--max-time", "0.5")
    assert gone.exit_code != 0
    assert completing.wait_log("connection", state="server", host="left.example")
    assert asked(completing, servers, "left")[0].proxy_status == BLOCKED
    assert files.asked.count("/left.cer") == 1
    assert completing.log("fault") == []


class Leaving(Listening):
    """A TLS server that says goodbye as soon as the handshake is through."""

    def __init__(self, folder: Path, identity: Issued) -> None:
        super().__init__()
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(*identity.write(folder, "leaving"))

    def took(self, sock: socket.socket) -> None:
        with contextlib.suppress(OSError), sock, self.context.wrap_socket(sock, server_side=True) as tls:
            tls.unwrap()


def test_a_server_that_leaves_meanwhile_is_not_waited_for(
    completing: Daemon, files: FileServer, tmp_path: Path
) -> None:
    leaf = PUBLIC.intermediate("Leaving").leaf("leaving.example", extra=[issuer_at(files.url("/leaving.cer"))])
    with Leaving(tmp_path, Issued(leaf.raw, leaf.key, leaf.subject)) as server:
        result = curl(completing, f"https://leaving.example:{server.port}/")
    assert (result.status, result.proxy_status) == (502, "sallyport; error=connection_terminated")
    assert completing.log("fault") == []


def test_switched_off_it_is_blocked_and_nothing_is_fetched(
    scratch: Path, servers: Nginx, files: FileServer, down: int
) -> None:
    hosts = dict.fromkeys((*servers.sites, "ca.example"), "127.0.0.1")
    extra = configuration(files, down, complete_chains=False)
    before = list(files.asked)
    with Daemon(scratch / "off", hosts=hosts, common=PUBLIC, extra=extra) as running:
        result, _ = asked(running, servers, "fast")
        assert (result.status, result.proxy_status) == (502, BLOCKED)
        told = json.loads(running.cli("probe", "--json", f"fast.example:{servers['fast.example'].port}").stdout)
        assert [finding["defect"] for finding in told["findings"]] == ["incomplete_chain"]
    assert files.asked == before


def test_by_default_no_private_address_is_asked(scratch: Path, servers: Nginx, files: FileServer, down: int) -> None:
    hosts = dict.fromkeys((*servers.sites, "ca.example"), "127.0.0.1")
    extra = {"verification": {"fetch": {"ports": [80, files.port]}}}
    before = list(files.asked)
    probing = Daemon(scratch / "private", hosts=hosts, common=PUBLIC, extra=extra)
    done = probing.cli("probe", f"fast.example:{servers['fast.example'].port}")
    assert done.returncode == 1
    assert "it is at 127.0.0.1: private, or denied by the egress rules" in done.stdout
    assert files.asked == before


def test_probe_completes_as_the_daemon_does(completing: Daemon, servers: Nginx, files: FileServer) -> None:
    port = servers["probed.example"].port
    done = completing.cli("probe", f"probed.example:{port}")
    assert done.returncode == 0, done.stdout
    completed = f"The server did not send its whole chain; it was completed from {files.url('/probed.cer')}."
    assert completed in done.stdout
    assert "Issuing for probed" in done.stdout
    told = json.loads(completing.cli("probe", "--json", f"down.example:{servers['down.example'].port}").stdout)
    assert told["completed"] is None
    (finding,) = told["findings"]
    assert finding["defect"] == "incomplete_chain"
    assert "refused the connection" in finding["explanation"]
