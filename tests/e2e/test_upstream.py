"""Through a real Squid as parent: both lanes, a bypass, plain HTTP, probe; and what is said where it lets nobody in."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import ISSUING, PUBLIC
from tests.harness.curl import curl
from tests.harness.daemon import Daemon
from tests.harness.inspectors import Scripts
from tests.harness.origins import Nginx, Site
from tests.harness.pki import Authority
from tests.harness.programs import need
from tests.harness.squid import Squid

PARENTS = Authority.root("Parents' Root")
NAMES = ("fast.example", "seen.example", "bypassed.example", "plain.example", "seen-plain.example")
PASSWORD = "se cret"
SEEN = """
    def responseheaders(flow):
        flow.response.headers["x-seen"] = "yes"
        flow.response.headers["x-shown"] = str("proxy-authorization" in flow.request.headers)
"""


@pytest.fixture(scope="module")
def origin(scratch: Path) -> Iterator[Nginx]:
    need("nginx")
    need("curl")
    via = ('location = /via { return 200 "$http_via"; }',)
    sites = [Site(name, None if "plain" in name else ISSUING.leaf(name), lines=via) for name in NAMES]
    sites.append(Site("direct.example", ISSUING.leaf("direct.example")))
    with Nginx(scratch, sites) as nginx:
        yield nginx


@pytest.fixture(scope="module")
def squid(origin: Nginx) -> Iterator[Squid]:
    """In TLS, with a login; like any Squid it opens tunnels to TLS ports alone."""
    ports = [origin[name].port for name in NAMES if "plain" not in name]
    identity = PARENTS.leaf("127.0.0.1")
    with Squid(hosts=NAMES, tls_ports=ports, login=("house", PASSWORD), identity=identity) as running:
        yield running


@pytest.fixture(scope="module")
def daemon(scratch: Path, origin: Nginx, squid: Squid) -> Iterator[Daemon]:
    """Of the names that are reached through the parent, DNS knows nothing here. Two logins: one that is right."""
    scripts = Scripts(scratch)
    scripts.add("seen", SEEN, hosts=["seen.example", "seen-plain.example", "a.wrong.example"], tenants=["default"])
    (scratch / "ca.pem").write_bytes(PARENTS.pem())
    (scratch / "lists.txt").write_text("bypassed.example\n")
    parent: dict[str, Any] = {"address": squid.address, "tls": True, "ca_file": "../ca.pem", "username": "house"}
    for name, password in (("right", PASSWORD), ("wrong", "no")):
        (scratch / name).write_text(password + "\n")
        (scratch / name).chmod(0o600)
    with ExitStack() as stack:
        yield stack.enter_context(
            Daemon(
                scratch / "daemon",
                hosts={"direct.example": "127.0.0.1"},
                allow=(),
                common=PUBLIC,
                extra={
                    "egress": {"allow": ["127.0.0.1/32"], "deny": ["127.0.0.2/32"]},
                    "inspection": {"addons": scripts.addons},
                    "bypass": {"files": ["../lists.txt"]},
                    "log": {"level": "debug"},
                    "upstream": {
                        "proxies": [
                            {"hosts": ["direct.example"], "address": "direct"},
                            {"hosts": [".wrong.example", "127.0.0.2"], "password_file": "../wrong", **parent},
                            {"hosts": ["*"], "password_file": "../right", **parent},
                        ]
                    },
                },
            )
        )


def test_tls_goes_through_a_tunnel_in_both_lanes_and_where_it_is_bypassed(
    daemon: Daemon, origin: Nginx, squid: Squid
) -> None:
    for name in ("fast.example", "seen.example", "bypassed.example"):
        root = PUBLIC.write(daemon.folder, "public")[0] if name == "bypassed.example" else daemon.root
        answer = curl(daemon, origin[name].url(), "--cacert", str(root))
        assert (answer.status, answer.text) == (200, origin[name].text), answer.error
        assert ("x-seen" in answer.headers) == (name == "seen.example")
        squid.has_served(f"CONNECT {name}:{origin[name].port} 200 house")
    answer = curl(daemon, origin["direct.example"].url())
    assert answer.status == 200
    assert not any("direct.example" in line for line in squid.log())


def test_plain_http_goes_in_absolute_form_in_both_lanes(daemon: Daemon, origin: Nginx, squid: Squid) -> None:
    for name in ("plain.example", "seen-plain.example"):
        url = origin[name].url()
        answer = curl(daemon, url, "--proxy-user", "client:its-own")
        assert (answer.status, answer.text) == (200, origin[name].text), answer.error
        squid.has_served(f"GET {url} 200 house")
        assert answer.headers.get("x-shown") == (None if name == "plain.example" else "False")


def test_a_parent_that_leads_back_here_is_noticed(daemon: Daemon, origin: Nginx) -> None:
    ours = curl(daemon, origin["plain.example"].url("/via")).text.partition(",")[0]
    assert ours.startswith("1.1 sallyport-")
    for via, status in ((ours, 502), ("1.1 sallyport-00000000", 200)):
        answer = curl(daemon, origin["fast.example"].url(), "--proxy-header", f"Via: 1.0 first, {via}")
        assert answer.status == status
        assert ("proxy_loop_detected" in answer.proxy_status) == (status == 502)


def test_a_parent_that_lets_nobody_in_is_told_of_and_the_password_nowhere(
    daemon: Daemon, origin: Nginx, squid: Squid
) -> None:
    port = origin["fast.example"].port
    for url in (f"https://wrong.example:{port}/", "http://wrong.example/", "http://a.wrong.example/"):
        answer = curl(daemon, url)
        assert answer.status == 502
        assert "error=proxy_configuration_error" in answer.proxy_status
        assert f'details="parent {squid.address}: it does not take the credentials (407)"' in answer.proxy_status
    # An address is judged by the egress rules, and asked of no parent.
    answer = curl(daemon, "https://127.0.0.2/")
    assert "destination_ip_prohibited" in answer.proxy_status
    assert not any("127.0.0.2" in line for line in squid.log())
    answer = curl(daemon, "https://nowhere.example/")
    assert (answer.status, "parent" in answer.proxy_status) == (403, True)  # port 443 is none of its TLS ports here
    assert daemon.wait_log("admission", host="wrong.example", parent=squid.address)
    log = daemon.stderr_text()
    shown = daemon.told("check-config") + daemon.told("check-config", "--json")
    for text in (log, shown):
        assert PASSWORD not in text
        assert "Basic" not in text
        assert base64.b64encode(f"house:{PASSWORD}".encode()).decode() not in text
    assert f"{daemon.folder}/../right" in shown


def test_probe_goes_through_the_parent_and_names_it(daemon: Daemon, origin: Nginx, squid: Squid) -> None:
    where = f"fast.example:{origin['fast.example'].port}"
    told = json.loads(daemon.told("--json", "probe", where))
    assert told["passes"] is True
    assert told["parent"] == squid.address
    assert f"{squid.address} (127.0.0.1)" in daemon.told("probe", where)
    refused = daemon.cli("probe", f"wrong.example:{origin['fast.example'].port}")
    assert refused.returncode != 0
    assert f"the parent proxy {squid.address}: it does not take the credentials (407)" in refused.stdout


def test_others_may_not_read_the_password(daemon: Daemon, scratch: Path) -> None:
    (scratch / "right").chmod(0o644)
    try:
        told = daemon.cli("check-config")
        assert told.returncode == 2
        assert "upstream.proxies[2].password_file" in told.stderr
        assert "chmod 600" in told.stderr
    finally:
        (scratch / "right").chmod(0o600)
