"""The proxy's own page, on every way in, seen by curl and by Chromium with and without the root."""

from __future__ import annotations

import json
import plistlib
import socket
import ssl
import subprocess
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes

from proxy.listeners.proxy_header import encoded
from tests.e2e.conftest import PUBLIC
from tests.harness.chromium import WARNING, Chromium
from tests.harness.curl import Result, command, curl
from tests.harness.daemon import Daemon
from tests.harness.inspectors import Scripts
from tests.harness.processes import wait_for
from tests.harness.programs import need

OWN = "sallyport.local"
PAGE = f"http://{OWN}/"
TRUSTED = f"https://{OWN}/trusted"
UNTRUSTED = 60
"""What curl says of a certificate that it cannot verify."""
TEAPOT = """
from mitmproxy import http


def request(flow):
    flow.response = http.Response.make(418)
"""
BALANCER = "127.0.0.2"
WAYS: dict[str, dict[str, Any]] = {
    "explicit": {},
    "socks": {"mode": "socks5"},
    "tls": {"mode": "explicit-tls", "tls": {"names": ["proxy.example"]}},
    "gateway": {"mode": "transparent", "proxy_protocol": [f"{BALANCER}/32"]},
    "inspected": {},
    "shared": {"authentication": {"tenants": ["default", "inspected"]}, "tenant": None},
}
TENANTS = {"inspected": "inspected"}
LISTS = f".local\n{OWN}\n"


@pytest.fixture(scope="module")
def daemon(scratch: Path) -> Iterator[Daemon]:
    """A proxy from which nothing can be reached: a parent that is not there, no address that may be connected to."""
    need("curl")
    scripts = Scripts(scratch)
    scripts.add("teapot", TEAPOT, hosts=["*"], tenants=["inspected"])
    (scratch / "bypass.txt").write_text(LISTS)
    with Daemon(
        scratch / "onboarding",
        allow=(),
        deny=["0.0.0.0/0", "::/0"],
        common=PUBLIC,
        listeners=[(name, TENANTS.get(name, "default")) for name in WAYS],
        ways=WAYS,
        extra={
            "inspection": {"addons": scripts.addons},
            "upstream": {"proxies": [{"hosts": ["*"], "address": "127.0.0.1:1", "tenants": ["default"]}]},
            "bypass": {"files": [str(scratch / "bypass.txt")]},
            "block_page": {"contact": "Help desk, ext. 4711"},
        },
    ) as running:
        yield running


def through(daemon: Daemon, way: str, url: str, *args: str) -> Result:
    """What curl gets on this way in."""
    place = daemon.addresses[way]
    port = place.rpartition(":")[2]
    known = ("--resolve", f"proxy.example:{port}:127.0.0.1", "--proxy-cacert", str(daemon.root))
    proxy = {"socks": f"socks5h://{place}", "tls": f"https://proxy.example:{port}"}.get(way, f"http://{place}")
    return curl(daemon.listener(way), url, "--proxy", proxy, *(known if way == "tls" else ()), *args)


def fingerprint(path: Path) -> str:
    return x509.load_pem_x509_certificate(path.read_bytes()).fingerprint(hashes.SHA256()).hex(":").upper()


# --- curl ---


@pytest.mark.parametrize("way", ["explicit", "socks", "tls", "inspected"])
def test_the_page_is_there_on_every_way_in(daemon: Daemon, way: str) -> None:
    page = through(daemon, way, PAGE)
    assert page.status == 200
    assert fingerprint(daemon.root_of(TENANTS.get(way, "default"))) in page.text.replace("<wbr>", "")
    for version in ("1.1", "2"):
        trusted = through(daemon, way, TRUSTED, f"--http{version}")
        assert (trusted.status, trusted.http_version) == (200, version)
        assert "This device trusts it" in trusted.text
    said = through(daemon, way, f"{PAGE}proxy.pac").text
    port = daemon.addresses[way].rpartition(":")[2]
    words = {"socks": f"SOCKS5 127.0.0.1:{port}; SOCKS 127.0.0.1:{port}", "tls": f"HTTPS proxy.example:{port}"}
    assert f'var proxy = "{words.get(way, f"PROXY 127.0.0.1:{port}")}";' in said


def test_behind_a_gateway_the_name_counts_and_not_the_address(daemon: Daemon) -> None:
    """The address may be anybody's, even one that may not be connected to."""

    def connected(port: int) -> socket.socket:
        host, _, own = daemon.addresses["gateway"].rpartition(":")
        made = socket.create_connection((host, int(own)), timeout=30, source_address=(BALANCER, 0))
        made.sendall(encoded(("192.0.2.50", 40000), ("192.0.2.1", port)))
        return made

    with connected(80) as plain:
        plain.sendall(f"GET /proxy.pac HTTP/1.1\r\nHost: {OWN}\r\nConnection: close\r\n\r\n".encode())
        answer = plain.makefile("rb").read()
    assert answer.startswith(b"HTTP/1.1 200")
    assert b'var proxy = "DIRECT";' in answer
    context = ssl.create_default_context(cafile=str(daemon.root))
    with connected(443) as wire, context.wrap_socket(wire, server_hostname=OWN) as tls:
        tls.sendall(f"GET /trusted HTTP/1.1\r\nHost: {OWN}\r\nConnection: close\r\n\r\n".encode())
        assert tls.makefile("rb").read().startswith(b"HTTP/1.1 200")
    with connected(80) as plain:
        plain.sendall(b"GET / HTTP/1.1\r\nHost: other.example\r\nConnection: close\r\n\r\n")
        assert plain.makefile("rb").read().startswith(b"HTTP/1.1 403")


def test_who_does_not_trust_the_root_gets_its_file_and_no_yes(daemon: Daemon, tmp_path: Path) -> None:
    elsewhere = tmp_path / "other.pem"
    elsewhere.write_bytes(PUBLIC.pem())
    refused = through(daemon, "explicit", TRUSTED, "--cacert", str(elsewhere))
    assert (refused.exit_code, refused.body) == (UNTRUSTED, b"")
    saved = tmp_path / "root.pem"
    saved.write_bytes(through(daemon, "explicit", f"{PAGE}root.pem").body)
    assert through(daemon, "explicit", TRUSTED, "--cacert", str(saved)).status == 200
    plain = through(daemon, "explicit", f"{PAGE}trusted")
    assert (plain.status, plain.headers["location"]) == (307, TRUSTED)


def test_openssl_and_apples_format_know_the_same_root(daemon: Daemon) -> None:
    done = through(daemon, "explicit", f"{PAGE}root.mobileconfig")
    assert done.headers["content-type"] == "application/x-apple-aspen-config"
    (payload,) = plistlib.loads(done.body)["PayloadContent"]
    told = subprocess.run(
        [need("openssl"), "x509", "-inform", "DER", "-noout", "-fingerprint", "-sha256"],
        input=payload["PayloadContent"],
        capture_output=True,
        timeout=60,
        check=True,
    ).stdout.decode()
    assert told.strip().rpartition("=")[2] == fingerprint(daemon.root)
    assert done.body == through(daemon, "explicit", f"{PAGE}root.mobileconfig").body


@pytest.mark.parametrize(
    ("args", "url", "status"),
    [
        (("-X", "POST", "-d", "x=1"), PAGE, 405),
        (("-X", "OPTIONS"), PAGE, 405),
        (("-T", "/dev/null"), f"https://{OWN}/root.pem", 405),
        ((), f"{PAGE}nothing", 404),
        ((), f"http://{OWN}:8081/root.pem", 200),
        ((), f"https://{OWN}:8443/root.pem", 200),
        (("--proxytunnel",), f"{PAGE}root.pem", 200),
        (("--http1.0",), f"{PAGE}root.pem", 200),
        ((), f"{PAGE}{'a' * 8000}", 404),
        ((), f"{PAGE}{'a' * 60_000}", 431),
        (("-H", "Host: other.example"), f"https://{OWN}/", 421),
        (("-H", "Host: other.example"), f"{PAGE}root.pem", 200),  # the target counts (RFC 9112, section 3.2.2)
    ],
)
def test_odd_requests_get_an_answer_of_their_own(daemon: Daemon, args: tuple[str, ...], url: str, status: int) -> None:
    done = through(daemon, "explicit", url, *args)
    assert done.status == status, done.error
    if status == 405:
        assert done.headers["allow"] == "GET, HEAD"


def test_head_has_the_length_and_no_body(daemon: Daemon) -> None:
    for url in (f"{PAGE}root.pem", f"https://{OWN}/root.pem"):
        done = through(daemon, "explicit", url, "--head")
        assert (done.status, done.told["size_download"]) == (200, 0)
        assert int(done.headers["content-length"]) == len(through(daemon, "explicit", url).body)


def test_a_listener_gives_the_pac_file_to_who_does_not_use_the_proxy_yet(daemon: Daemon) -> None:
    place = daemon.addresses["explicit"]
    straight = ("--noproxy", "*")
    done = through(daemon, "explicit", f"http://{place}/proxy.pac", *straight)
    assert (done.status, done.headers["content-type"]) == (200, "application/x-ns-proxy-autoconfig")
    assert f'"PROXY {place}"' in done.text
    assert "past the proxy" in through(daemon, "explicit", f"http://{place}/", *straight).text
    rebound = through(daemon, "explicit", f"http://{place}/proxy.pac", *straight, "-H", "Host: rebound.example")
    assert rebound.status == 400


def test_nothing_else_is_reached_and_nothing_of_ours_leaves(daemon: Daemon) -> None:
    assert through(daemon, "explicit", "http://other.example/").status in (502, 503)
    assert through(daemon, "explicit", f"http://x.{OWN}/").status in (502, 503)
    daemon.wait_log("refused", host=f"x.{OWN}")
    assert through(daemon, "explicit", PAGE).status == through(daemon, "explicit", TRUSTED).status == 200
    assert daemon.wait_log("request", host=OWN, path="/trusted", status=200)
    assert daemon.log("refused", host=OWN) == []
    assert "the name is the proxy's own" in daemon.cli("probe", OWN, "--json").stdout


def test_no_inspector_sees_it_and_none_is_passed_by_after_it(daemon: Daemon) -> None:
    """On one connection or on two: what is for the proxy itself gets its answer, all else the inspector's."""
    other = "http://other.example/"
    for urls in ((PAGE, other, PAGE), (other, PAGE, other), (f"{PAGE}root.pem", PAGE)):
        sinks = [word for _ in urls[1:] for word in ("--output", "/dev/null")]
        line = command(daemon.listener("inspected"), urls[0], "--output", "/dev/null", *sinks, "-w", "%{http_code} ")
        done = subprocess.run([*line, *urls[1:]], capture_output=True, text=True, timeout=120, check=False)
        assert done.stdout.split() == ["418" if url == other else "200" for url in urls], done.stderr


def test_where_the_tenant_is_its_users_they_are_asked_who_they_are_first(daemon: Daemon) -> None:
    said = daemon.told("proxy-user", "add", "alice", "--json", tenant="inspected")
    password = json.loads(said)["password"]
    for url in (PAGE, TRUSTED):
        asked = through(daemon, "shared", url)
        assert (asked.connect or asked).status == 407
    user = ("--proxy-user", f"alice@inspected:{password}")
    # Each try before the workers know her counts as a guess.
    wait_for("the workers to know her", lambda: through(daemon, "shared", PAGE, *user).status == 200, pause=0.5)
    page = through(daemon, "shared", PAGE, *user)
    assert fingerprint(daemon.root_of("inspected")) in page.text.replace("<wbr>", "")
    assert fingerprint(daemon.root) not in page.text.replace("<wbr>", "")
    assert through(daemon, "shared", TRUSTED, *user, "--cacert", str(daemon.root_of("inspected"))).status == 200


# --- Chromium ---

CASES = {
    f"http://{OWN}/": "proxy",
    "https://example.com/": "proxy",
    "http://sub.local.example/": "proxy",
    "http://printer/": "DIRECT",
    "http://printer.local/": "DIRECT",
    "http://PRINTER.LOCAL./": "DIRECT",
    "http://local/": "DIRECT",
    "http://xlocal.example/": "proxy",
    "http://10.1.2.3/": "DIRECT",
    "http://11.1.2.3/": "proxy",
    "http://172.31.255.255/": "DIRECT",
    "http://172.32.0.0/": "proxy",
    "http://192.168.0.1/": "DIRECT",
    "http://192.169.0.1/": "proxy",
    "http://10.1.2.3.example/": "proxy",
    "http://[::1]/": "DIRECT",
    "http://[fd00::1]/": "DIRECT",
    "http://[fe80::1]/": "DIRECT",
    "http://[febf::1]/": "DIRECT",
    "http://[fec0::1]/": "proxy",
    "http://[2001:db8::1]/": "proxy",
    "http://[::ffff:10.0.0.1]/": "proxy",
}
FOUND = "JSON.stringify(%s.map(u => FindProxyForURL(u, u.split('//')[1].split('/')[0].replace(/:\\d+$/, ''))))"
LEVELS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]
AXE = f"axe.run({{runOnly: {LEVELS}}}).then(r => r.violations.map(v => v.id))"
WIDTH = "document.documentElement.scrollWidth <= innerWidth"


def test_a_browser_without_the_root_says_so_on_a_page_that_everybody_can_use(daemon: Daemon, tmp_path: Path) -> None:
    axe = (files("axe_playwright_python") / "axe.min.js").read_text()
    with Chromium(tmp_path, proxy=daemon.addresses["explicit"]) as browser:
        where, text = browser.visit(PAGE)
        assert where == PAGE
        assert "This device does not trust it yet" in text
        assert "This device trusts it" not in text
        assert browser.visit(TRUSTED)[0] == WARNING
        for dark, width in ((False, 1000), (True, 390)):
            violations, fits = browser.ask(
                f"{PAGE}debian", f"{axe}; {AXE}.then(v => [v, {WIDTH}])", dark=dark, width=width
            )
            assert (violations, fits) == ([], True)
        assert browser.ask(f"{PAGE}nothing", f"{axe}; {AXE}") == []


def test_a_browser_with_the_root_that_a_pac_file_led_here_says_that_it_trusts_it(
    daemon: Daemon, tmp_path: Path
) -> None:
    root = x509.load_pem_x509_certificate(daemon.root.read_bytes())
    place = daemon.addresses["explicit"]
    with Chromium(tmp_path, trusts=[root], pac=f"http://{place}/proxy.pac") as browser:
        for url in (PAGE, f"https://{OWN}/"):
            where, text = browser.visit(url)
            assert where == url
            assert "This device trusts it." in text
            assert "does not trust it" not in text
        where, text = browser.visit(TRUSTED)
        assert (where, "This device trusts it" in text) == (TRUSTED, True)
        # Through the proxy as well, which can reach nobody.
        assert "Sallyport" in browser.visit("http://other.example/")[1]
        # What the engine makes of the file, host by host.
        script = through(daemon, "explicit", f"{PAGE}proxy.pac").text
        told = json.loads(browser.ask(PAGE, f"{script}; {FOUND % json.dumps(list(CASES))}"))
        assert dict(zip(CASES, told, strict=True)) == {
            url: f"PROXY {place}" if way == "proxy" else way for url, way in CASES.items()
        }
