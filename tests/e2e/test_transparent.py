"""Behind a gateway: a client without any proxy setting is intercepted, over IPv4 and IPv6, in network namespaces."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.e2e.conftest import ISSUING, PRIVATE_ISSUING, PUBLIC
from tests.harness.daemon import Daemon
from tests.harness.namespaces import GatewayNetwork, gateway_network
from tests.harness.origins import Nginx, Site
from tests.harness.programs import need

RULES = """
table inet sallyport {{
  chain prerouting {{
    type nat hook prerouting priority dstnat;
    iifname {inside} tcp dport {{ 80, 443 }} redirect to :{port}
  }}
}}
"""


@dataclass
class Gateway:
    """A network whose gateway intercepts."""

    net: GatewayNetwork
    daemon: Daemon
    origin: Nginx

    def curl(self, url: str, *args: str) -> str:
        """What the client's curl gets, without a word of a proxy: the status, a space, and the body."""
        names = [option for host, address in self.names().items() for option in ("--resolve", f"{host}:{address}")]
        return self.net.client.run(
            "curl", "-q", "-sS", "-m", "30", "-w", "%{http_code} %{ssl_verify_result}", "--cacert",
            str(self.daemon.root), *names, *args, url,
        )  # fmt: skip

    def names(self) -> dict[str, str]:
        """Host and port, and its address."""
        server = self.net.server
        v4 = {f"{name}:{port}": server.ipv4 for name in ("good.example", "private.example") for port in (80, 443)}
        return v4 | {f"six.example:{port}": f"[{server.ipv6}]" for port in (80, 443)}


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    need("nginx"), need("curl"), need("nft")
    folder = tmp_path_factory.mktemp("gateway")
    with gateway_network() as net:
        sites = [
            Site(
                "good.example", ISSUING.leaf(["good.example", net.server.ipv4]), net.server.ipv4, port=443, alone=False
            ),
            Site("private.example", PRIVATE_ISSUING.leaf("private.example"), net.server.ipv4, port=443, alone=False),
            Site("six.example", ISSUING.leaf("six.example"), net.server.ipv6, port=443),
            Site("plain.example", None, net.server.ipv4, port=80),
        ]
        ways = {
            name: {"mode": "transparent", "bind": f"{any_}:8443"} for name, any_ in (("gw", "0.0.0.0"), ("gw6", "[::]"))
        }
        listeners = [(name, "default") for name in ways]
        daemon = Daemon(folder / "daemon", common=PUBLIC, namespace=net.gateway, listeners=listeners, ways=ways)
        with Nginx(folder, sites, net.server) as origin, daemon:
            net.gateway.run(need("nft"), "-f", "-", stdin=RULES.format(inside=net.inside, port=8443))
            yield Gateway(net, daemon, origin)


def test_pages_come_without_a_proxy_setting(gateway: Gateway) -> None:
    assert gateway.curl("https://good.example/") == "hello from good.example\n200 0"
    assert gateway.curl("https://six.example/") == "hello from six.example\n200 0"
    assert gateway.curl("http://good.example/echo").endswith("200 0")
    assert gateway.daemon.wait_log("request", path="/echo")[0]["host"] == "good.example"


def test_a_server_that_nobody_vouches_for_is_blocked(gateway: Gateway) -> None:
    assert gateway.curl("https://private.example/", "-o", "/dev/null") == "502 0"


def test_without_a_server_name_the_address_must_stand_in_the_certificate(gateway: Gateway) -> None:
    assert gateway.curl(f"https://{gateway.net.server.ipv4}/").endswith("200 0")


def test_a_connection_to_the_port_itself_is_refused(gateway: Gateway) -> None:
    done = gateway.net.client.run("sh", "-c", f"curl -sS -m 10 http://{gateway.net.gateway.ipv4}:8443/; echo $?")
    assert done.strip() in ("52", "56")
    assert "made to this port itself" in gateway.daemon.wait_log("no destination")[0]["reason"]
