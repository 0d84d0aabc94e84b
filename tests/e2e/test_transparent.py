"""Behind a gateway: clients without any proxy setting are intercepted, in network namespaces, by REDIRECT and TPROXY.

The rules are those that ``sallyport gateway rules`` applies.
"""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography import x509

from tests.e2e.conftest import ISSUING, PRIVATE_ISSUING, PUBLIC
from tests.harness.chromium import WARNING, Chromium
from tests.harness.daemon import COMMAND, REPOSITORY, Daemon
from tests.harness.hellos import Fingerprint, HelloRecorder
from tests.harness.inspectors import Scripts
from tests.harness.namespaces import GatewayNetwork, gateway_network
from tests.harness.origins import Nginx, Site
from tests.harness.programs import need
from tests.harness.signing_cas import followed

SYSCTL = REPOSITORY / "deploy" / "sysctl-gateway.conf"
PORT = 8443
PORTS = "80,443,444"
ELSEWHERE = "10.77.2.9"
"""Another address of the server's, where no name leads."""
SIX_ELSEWHERE = "fd77:2::9"
MARKS = """
    def response(flow):
        flow.response.headers["seen"] = "yes"
"""
CIRCLE = """
table inet circle {{
  chain o {{
    type nat hook output priority -100
    {whose} tcp dport 443 redirect to :{port}
  }}
}}
"""
SENDS = """
    def request(flow):
        flow.request.host = "elsewhere.example"
"""
LOWER = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")
QUIC_SECONDS = 15  # of a machine that is busy; left alone it is a quarter of one


@dataclass
class Gateway:
    """A network whose gateway intercepts."""

    net: GatewayNetwork
    daemon: Daemon
    origin: Nginx
    steering: str

    def curl(self, url: str, *args: str, **names: str) -> str:
        """What the client's curl gets, without a word of a proxy: the body, the status, and how TLS was verified.

        ``names`` are addresses of hosts, in place of those that they have (``good="10.0.0.1"`` is of good.example).
        """
        return self.net.client.run(
            "curl", "-q", "-sS", "-m", "30", "-w", "%{http_code} %{ssl_verify_result}", "--cacert",
            str(self.daemon.root), *self.resolved(**names), *args, url,
        )  # fmt: skip

    def resolved(self, **names: str) -> list[str]:
        known = self.hosts() | {f"{name}.example": address for name, address in names.items()}
        pairs = [f"{host}:{port}:{_bracketed(address)}" for host, address in known.items() for port in (80, 443)]
        return [word for pair in pairs for word in ("--resolve", pair)]

    def hosts(self) -> dict[str, str]:
        """Names, and their addresses."""
        v4 = ("good", "private", "plain", "marked", "quic", "blocked", "sent")
        return {f"{name}.example": self.net.server.ipv4 for name in v4} | {
            "six.example": self.net.server.ipv6,
            "bank.example": ELSEWHERE,
            "elsewhere.example": ELSEWHERE,
            "bank6.example": SIX_ELSEWHERE,
        }

    def rules(self, *args: str) -> str:
        """``sallyport gateway rules``, run on the gateway."""
        return self.net.gateway.run(*COMMAND, "--config", str(self.daemon.config), "gateway", "rules", *args)

    def ruleset(self) -> tuple[str, ...]:
        """All that rules are, on the gateway, without what they have counted."""
        run = self.net.gateway.run
        return (
            run("nft", "--stateless", "list", "ruleset"),
            *(run("ip", family, "rule", "show") for family in ("-4", "-6")),
            *(run("sh", "-c", f"ip {family} route show table all | sort") for family in ("-4", "-6")),
        )

    def counted(self, chain: str) -> list[int]:
        """The packets that each rule of a chain has counted."""
        told = json.loads(self.net.gateway.run("nft", "-j", "list", "chain", "inet", "sallyport", chain))
        rules = [entry["rule"]["expr"] for entry in told["nftables"] if "rule" in entry]
        return [part["counter"]["packets"] for rule in rules for part in rule if "counter" in part]


def _bracketed(address: str) -> str:
    return f"[{address}]" if ":" in address else address


@pytest.fixture(scope="module", params=["redirect", "tproxy"])
def gateway(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    need("nginx"), need("curl"), need("nft")
    folder = tmp_path_factory.mktemp("gateway")
    scripts = Scripts(folder)
    scripts.add("marked", MARKS, hosts=["marked.example", "unknown.example"])
    scripts.add("sent", SENDS)
    with gateway_network() as net:
        server = net.server
        for address in (f"{ELSEWHERE}/24", f"{SIX_ELSEWHERE}/64"):
            server.run("ip", "addr", "add", address, "dev", "eth0", *(["nodad"] if ":" in address else []))
        names = ["good.example", "marked.example", server.ipv4]
        once = ("keepalive_timeout 0;",)
        quic = ("add_header Alt-Svc 'h3=\":443\"; ma=3600';", "keepalive_timeout 0;")
        sites = [
            Site("good.example", ISSUING.leaf(names), server.ipv4, port=443, alone=False),
            Site("marked.example", ISSUING.leaf("marked.example"), server.ipv4, port=443, alone=False),
            Site("private.example", PRIVATE_ISSUING.leaf("private.example"), server.ipv4, port=443, alone=False),
            Site(
                "quic.example",
                ISSUING.leaf("quic.example"),
                server.ipv4,
                port=443,
                alone=False,
                http2=False,
                lines=quic,
            ),
            Site("six.example", ISSUING.leaf("six.example"), server.ipv6, port=443),
            Site("plain.example", None, server.ipv4, port=80),
            Site("plain6.example", None, server.ipv6, port=80),
            Site("elsewhere.example", None, ELSEWHERE, port=80),
            Site("unknown.example", ISSUING.leaf("unknown.example"), ELSEWHERE, port=444, http2=False, lines=once),
        ]
        steering: str = request.param
        tproxy = steering == "tproxy"
        places = {"four": "127.0.0.1" if tproxy else "0.0.0.0", "six": "[::]"}
        mode = "tproxy" if tproxy else "transparent"
        ways = {name: {"mode": mode, "bind": f"{place}:{PORT}"} for name, place in places.items()}
        daemon = Daemon(
            folder / "daemon",
            common=PUBLIC,
            namespace=net.gateway,
            listeners=[(name, "default") for name in ways],
            ways=ways,
            extra={"tunnel": {"address_check": "off" if tproxy else "block"}, "inspection": {"addons": scripts.addons}},
        )
        made = Gateway(net, daemon, Nginx(folder, sites, server), steering)
        daemon.settings["resolver"] = {"hosts": made.hosts()}
        daemon.write_config()
        net.gateway.run("nft", "-f", "-", stdin="table inet others { chain c { tcp dport 22 counter accept; }; }")
        # Those of conntrack are not of every kernel, and some are the machine's alone.
        settings = [line for line in SYSCTL.read_text().splitlines() if line and not line.startswith("#")]
        for name, value in (map(str.strip, line.split("=")) for line in settings):
            net.gateway.run("sh", "-c", f"echo {value} >/proc/sys/{name.replace('.', '/')} || true")
        assert net.gateway.run("cat", "/proc/sys/net/ipv4/conf/all/rp_filter").strip() == "1"
        with made.origin:
            made.rules("--interface", net.inside, "--ports", PORTS, "--apply")
            # Nobody listens yet: nothing gets past the gateway unseen.
            assert "curl: (7)" in _failure(made, "https://good.example/")
            assert "curl: (7)" in _failure(made, "https://six.example/")
            with daemon:
                yield made


def _failure(gateway: Gateway, url: str) -> str:
    words = [*gateway.resolved(), url]
    return gateway.net.client.run("sh", "-c", 'curl -q -sS -m 10 "$@" 2>&1 || true', "sh", *words)


def test_pages_come_without_a_proxy_setting(gateway: Gateway) -> None:
    assert gateway.curl("https://good.example/") == "hello from good.example\n200 0"
    assert gateway.curl("https://six.example/") == "hello from six.example\n200 0"
    assert gateway.curl("http://good.example/echo?4").endswith("200 0")
    assert gateway.curl("http://six.example/echo?6").endswith("200 0")
    for host in ("good.example", "six.example"):
        assert gateway.daemon.wait_log("request", path="/echo", host=host)
    # Without a server name the address has to stand in the certificate.
    assert gateway.curl(f"https://{gateway.net.server.ipv4}/").endswith("200 0")
    # A server that nobody vouches for is blocked.
    assert gateway.curl("https://private.example/", "-o", "/dev/null") == "502 0"


def test_inspectors_see_tls_and_plain_http(gateway: Gateway) -> None:
    for scheme in ("https", "http"):
        assert "\r\nseen: yes\r\n" in gateway.curl(f"{scheme}://marked.example/", "-i", "--crlf").replace("\n", "\r\n")
        assert "seen" not in gateway.curl(f"{scheme}://good.example/", "-i")
    # What an inspector sends to another host goes there, and not where the client went.
    assert gateway.curl("http://sent.example/") == "hello from elsewhere.example\n200 0"


def test_the_address_is_the_clients_choice_or_one_of_the_names_by_the_setting(gateway: Gateway) -> None:
    if gateway.steering == "tproxy":
        # The check is off. A name that nobody here knows is reached where the client went, a second time too: the
        # server has closed the first connection, the client has not.
        url = "https://unknown.example:444/"
        told = gateway.curl(url, url, "--connect-to", f"unknown.example:444:{ELSEWHERE}:444", "-D", "-")
        assert told.count("hello from unknown.example") == told.count("seen: yes") == 2
        # By the certificate an address of another server's is none of the name's.
        told = gateway.curl(
            "https://good.example/", "--connect-to", f"good.example:443:{ELSEWHERE}:444", "-o", "/dev/null"
        )
        assert told == "502 0"
        return
    for url in ("https://good.example/", "http://good.example/"):
        told = gateway.curl(url, "-i", good=ELSEWHERE)
        assert told.endswith("403 0"), told
        assert 'error=http_request_denied; details="address_mismatch"' in told.replace("sallyport; ", "")
    # A name that has to be asked for: of the system, which knows this one by itself.
    server = gateway.net.server.ipv4
    for port, scheme in ((443, "https"), (80, "http")):
        told = gateway.curl(f"{scheme}://localhost/", "-i", "--connect-to", f"localhost:{port}:{server}:{port}")
        assert told.endswith("403 0"), told
        assert "address_mismatch" in told
    # A bypass rule for the name opens no other address.
    followed(gateway.daemon, ("bypass", "add", "blocked.example"))
    assert gateway.curl("https://blocked.example/", "-i", blocked=ELSEWHERE).endswith("403 0")


def test_a_bypassed_host_gets_the_clients_own_hello(gateway: Gateway) -> None:
    net = gateway.net
    followed(gateway.daemon, *(("bypass", "add", host) for host in ("bank.example", "bank6.example")))
    for host, address in (("bank.example", ELSEWHERE), ("bank6.example", SIX_ELSEWHERE)):
        with HelloRecorder(net.server, address, 443) as server:
            # On the server's own machine nothing is between.
            words = [
                "curl",
                "-q",
                "-s",
                "-m",
                "10",
                "--resolve",
                f"{host}:443:{_bracketed(address)}",
                f"https://{host}/",
            ]
            for place in (net.server, net.client):
                place.run("sh", "-c", '"$@" || true', "sh", *words)
            direct, passed = server.wait(2)
            assert Fingerprint.of(passed) == Fingerprint.of(direct)
            assert Fingerprint.of(direct).server_name == host

            def say(address: str = address, hello: bytes = direct) -> None:
                with socket.create_connection((address, 443), 10) as client:
                    client.sendall(hello)
                    client.recv(1)

            net.client.within(say)
            assert server.wait(3)[2] == direct  # byte for byte
    assert gateway.daemon.wait_log("bypassed", host="bank6.example")


def test_what_leads_back_to_the_proxy_is_refused(gateway: Gateway) -> None:
    net, tproxy = gateway.net, gateway.steering == "tproxy"
    # To the port itself.
    assert "curl: (" in _failure(gateway, f"http://[{net.gateway.ipv6}]:{PORT}/")
    reason = gateway.daemon.wait_log("no destination")[0]["reason"]
    assert ("where we listen ourselves" if tproxy else "made to this port itself") in reason
    if tproxy:
        return  # what this machine sends comes to no prerouting hook
    # Rules that somebody has made by hand catch the proxy's own connections.
    net.gateway.run("nft", "-f", "-", stdin=CIRCLE.format(whose="", port=PORT))
    try:
        assert gateway.curl("https://good.example/", "-o", "/dev/null") == "502 0"
        refused = gateway.daemon.wait_log("refused", error="proxy_loop_detected")
        assert "the proxy's own user has made it" in refused[0]["reason"]
        assert len(refused) == 1
    finally:
        net.gateway.run("nft", "delete", "table", "inet", "circle")
    # What another user of the gateway does is not the proxy's.
    net.gateway.run("nft", "-f", "-", stdin=CIRCLE.format(whose="meta skuid 65534", port=PORT))
    try:
        words = [*LOWER, "curl", "-q", "-sSk", "-m", "30", *gateway.resolved(), "https://good.example/"]
        assert net.gateway.run(*words) == "hello from good.example\n"
    finally:
        net.gateway.run("nft", "delete", "table", "inet", "circle")


def test_rules_leave_nothing_behind(gateway: Gateway) -> None:
    applied = gateway.ruleset()
    gateway.rules("--interface", gateway.net.inside, "--ports", PORTS, "--apply")
    assert gateway.ruleset() == applied
    gateway.rules("--remove")
    try:
        before = gateway.ruleset()
        assert "others" in before[0]
        assert "sallyport" not in before[0]
        assert "0x5350" not in before[1] + before[2]
        gateway.rules("--remove")
        assert gateway.ruleset() == before
        # What is printed is what is applied.
        printed = gateway.rules("--interface", gateway.net.inside, "--ports", PORTS)
        gateway.net.gateway.run("nft", "-f", "-", stdin=printed)
        assert gateway.ruleset()[0] == applied[0]
        gateway.rules("--remove")
        assert gateway.ruleset() == before
    finally:
        gateway.rules("--interface", gateway.net.inside, "--ports", PORTS, "--apply")


def test_chromium_browses_and_quic_falls_back_to_tcp(gateway: Gateway, tmp_path: Path) -> None:
    root = x509.load_pem_x509_certificate(gateway.daemon.root.read_bytes())
    mapped = ", ".join(f"MAP {host} {_bracketed(address)}" for host, address in gateway.hosts().items())
    with Chromium(tmp_path, trusts=[root], hosts=mapped, namespace=gateway.net.client) as browser:
        for url in ("https://good.example/", "https://six.example/", "http://good.example/", "http://six.example/"):
            where, text = browser.visit(url)
            assert (where, "hello from" in text) == (url, True)
        assert browser.visit("https://private.example/")[0] != WARNING  # our page, under a leaf that it trusts
        # The first answer says that there is HTTP/3; what is asked next is tried with QUIC beside TCP.
        before = gateway.counted("forward")[0]
        assert browser.fetch("https://quic.example/") == ""
        started = time.monotonic()
        assert browser.fetch("https://quic.example/echo") == ""
        took = time.monotonic() - started
        assert took < QUIC_SECONDS
        assert gateway.counted("forward")[0] > before
    assert [seen["status"] for seen in gateway.origin.wait_requests(2, "quic.example")] == [200, 200]
