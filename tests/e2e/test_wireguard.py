"""WireGuard listeners, with wireguard-go as a peer in a network namespace of its own: all that it sends goes through
the tunnel, to servers that it has no other way to."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from proxy.control import TUNNELS_SOCKETS
from tests.e2e.conftest import ISSUING, PRIVATE_ISSUING, PUBLIC
from tests.harness.daemon import Daemon
from tests.harness.namespaces import GatewayNetwork, gateway_network
from tests.harness.origins import Nginx, Site
from tests.harness.processes import children, runs_module, wait_for
from tests.harness.programs import need

PORT = 51820
INTERFACE = f"wg-{os.getpid()}"
"""A name of its own for each process of the tests: the control sockets of all namespaces are in one folder."""


@dataclass
class Network:
    """A daemon on the gateway, and a client that may reach the gateway alone."""

    net: GatewayNetwork
    daemon: Daemon
    folder: Path

    def add(self, name: str, *options: str) -> str:
        """Let a peer in; its configuration."""
        return self.daemon.told("wireguard", "peer", "add", name, *options)

    @contextlib.contextmanager
    def tunnel(self, configuration: str) -> Iterator[None]:
        """What wg-quick does, in the client's namespace, which has no resolver of its own to be set."""
        client = self.net.client
        lines = [line for line in configuration.splitlines() if not line.startswith(("Address", "DNS"))]
        addresses = next(line for line in configuration.splitlines() if line.startswith("Address"))
        with (
            (self.folder / "wireguard-go.stderr").open("ab") as stderr,
            subprocess.Popen(
                [*client.prefix, need("wireguard-go"), "-f", INTERFACE], stdout=subprocess.DEVNULL, stderr=stderr
            ) as process,
        ):
            try:
                wait_for("wireguard-go to make its interface", lambda: self._made(), timeout=20)
                client.run(need("wg"), "setconf", INTERFACE, "/dev/stdin", stdin="\n".join(lines) + "\n")
                for address in addresses.partition(" = ")[2].split(", "):
                    client.run("ip", "address", "add", address, "dev", INTERFACE)
                client.run("ip", "link", "set", INTERFACE, "mtu", "1420", "up")
                client.run("ip", "route", "replace", "default", "dev", INTERFACE)
                client.run("ip", "-6", "route", "replace", "default", "dev", INTERFACE)
                yield
            finally:
                process.terminate()

    def _made(self) -> bool:
        done = subprocess.run(
            [*self.net.client.prefix, need("wg"), "show", INTERFACE], capture_output=True, timeout=20, check=False
        )
        return done.returncode == 0

    def curl(self, url: str, *args: str, timeout: int = 30) -> str:
        """What the client's curl gets: the body, the status, a space, and the verdict on the certificate."""
        server = self.net.server
        names = {f"{name}:{port}": server.ipv4 for name in SITES for port in (80, 443)}
        names["six.example:443"] = f"[{server.ipv6}]"
        options = [option for host, address in names.items() for option in ("--resolve", f"{host}:{address}")]
        return self.net.client.run(
            "curl", "-q", "-sS", "-m", str(timeout), "-w", "%{http_code} %{ssl_verify_result}", "--cacert",
            str(self.daemon.root), *options, *args, url,
        )  # fmt: skip

    def ready(self) -> list[str]:
        """The lines of the daemon's ``/readyz``."""
        return self.net.gateway.run("curl", "-q", "-sS", f"http://{self.daemon.monitor}/readyz").splitlines()

    def counted(self, name: str) -> float:
        """A metric of the tenant that the listener has; -1 where it is not told."""
        text = self.net.gateway.run("curl", "-q", "-sS", f"http://{self.daemon.monitor}/metrics")
        line = f'sallyport_{name}{{tenant="default"}} '
        return float(next((each.removeprefix(line) for each in text.splitlines() if each.startswith(line)), -1))

    def reaches(self, url: str) -> bool:
        """Whether anything comes back within a few seconds."""
        command = [*self.net.client.prefix, "curl", "-q", "-sS", "-m", "4", "-o", "/dev/null", url]
        return subprocess.run(command, capture_output=True, timeout=30, check=False).returncode == 0

    def dig(self, *question: str) -> list[str]:
        """The answer's lines, with its status first."""
        said = self.net.client.run(need("dig"), "+tries=2", "+time=5", "+noall", "+answer", "+comments", *question)
        status = said.partition("status: ")[2].partition(",")[0]
        return [status, *(line.split()[-1] for line in said.splitlines() if line and not line.startswith(";"))]


SITES = ("good.example", "private.example", "large.example")


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Network]:
    need("nginx"), need("curl"), need("wg"), need("wireguard-go"), need("dig")
    folder = tmp_path_factory.mktemp("wireguard")
    with gateway_network() as net:
        # There is no way to the server but through the tunnel.
        net.gateway.run(
            "sh", "-c", "echo 0 >/proc/sys/net/ipv4/ip_forward; echo 0 >/proc/sys/net/ipv6/conf/all/forwarding"
        )
        sites = [
            Site("good.example", ISSUING.leaf("good.example"), net.server.ipv4, port=443, alone=False),
            Site("private.example", PRIVATE_ISSUING.leaf("private.example"), net.server.ipv4, port=443, alone=False),
            Site("six.example", ISSUING.leaf("six.example"), net.server.ipv6, port=443),
            Site("plain.example", None, net.server.ipv4, port=80),
        ]
        hosts = {"good.example": net.server.ipv4, "six.example": net.server.ipv6}
        ways = {"wg": {"mode": "wireguard", "bind": f"0.0.0.0:{PORT}"}}
        daemon = Daemon(
            folder / "daemon", common=PUBLIC, namespace=net.gateway, listeners=[("wg", "default")], ways=ways,
            hosts=hosts, metrics=True, extra={"wireguard": {"endpoint": net.gateway.ipv4}},
        )  # fmt: skip
        with Nginx(folder, sites, net.server), daemon:
            yield Network(net, daemon, folder)


def test_a_peers_traffic_is_intercepted_until_it_is_removed(network: Network) -> None:
    configuration = network.add("phone")
    daemon, server = network.daemon, network.net.server
    with network.tunnel(configuration):
        # The daemon was there before the peer, and follows.
        assert network.curl("https://good.example/") == "hello from good.example\n200 0"
        assert network.curl("https://six.example/") == "hello from six.example\n200 0"
        assert network.curl("http://good.example/echo").endswith("200 0")
        assert network.curl("https://private.example/", "-o", "/dev/null") == "502 0"
        (told, *_) = daemon.wait_log("request", path="/echo")
        assert f"Address = {told['client']}/32," in configuration
        (opened,) = daemon.wait_log("tunnel opened", peer="phone")
        assert (opened["tenant"], opened["listener"]) == ("default", "wg")
        # Names, at any address: the configuration has one.
        assert network.dig("@10.113.0.1", "good.example") == ["NOERROR", server.ipv4]
        assert network.dig("@192.0.2.53", "six.example", "AAAA") == ["NOERROR", server.ipv6]
        assert network.dig("@10.113.0.1", "good.example", "AAAA") == ["NOERROR"]
        assert network.dig("@10.113.0.1", "good.example", "HTTPS") == ["NOERROR"]
        assert network.dig("@10.113.0.1", "good.example", "MX") == ["NOTIMP"]
        # The proxy's own name is the address in the tunnel that is ours.
        assert network.dig("@10.113.0.1", "sallyport.local") == ["NOERROR", "10.113.0.1"]
        assert network.dig("@10.113.0.1", "sallyport.local", "AAAA") == ["NOERROR"]
        own = [word for port in (80, 443) for word in ("--resolve", f"sallyport.local:{port}:10.113.0.1")]
        assert "There is nothing to set" in network.curl("http://sallyport.local/", *own)
        assert network.curl("https://sallyport.local/trusted", "-o", "/dev/null", *own) == "200 0"
        # An answer of some size, and a request of some size, over a link with an MTU.
        large = network.folder / "large"
        large.write_bytes(b"x" * 3_000_000)
        assert network.curl("https://good.example/upload/large", "-T", str(large)) == "201 0"
        assert network.curl("https://good.example/upload/large") == "x" * 3_000_000 + "200 0"

        # One who comes later disturbs nobody, and is another.
        other = network.add("laptop")
        assert network.curl("https://good.example/") == "hello from good.example\n200 0"
        listed = {peer["name"] for peer in json.loads(daemon.told("wireguard", "peer", "list", "--json"))}
        assert listed >= {"laptop", "phone"}

        daemon.told("wireguard", "peer", "remove", "phone")
        (closed, *_) = daemon.wait_log("tunnel closed", peer="phone")
        assert closed["reason"] == "removed"
        assert not network.reaches(f"http://{server.ipv4}/")
    with network.tunnel(configuration):
        assert not network.reaches(f"http://{server.ipv4}/")  # it is unknown now, and hears nothing
    with network.tunnel(other):
        assert network.curl("https://good.example/") == "hello from good.example\n200 0"
    assert len(daemon.log("tunnel opened", peer="phone")) == 1


def test_a_reload_leaves_tunnels_alone_and_whoever_ends_them_is_replaced(network: Network) -> None:
    daemon = network.daemon

    def process() -> int:
        (pid,) = (pid for pid in children(daemon.process.pid) if runs_module(pid, "proxy.wireguard"))
        return pid

    configuration, before = network.add("tablet"), process()
    with network.tunnel(configuration):
        assert network.curl("https://good.example/").endswith("200 0")
        daemon.settings["limits"]["idle_timeout"] = 500
        daemon.write_config()
        daemon.told("reload", timeout=120)
        assert network.curl("https://good.example/").endswith("200 0")  # through other workers
        assert (process(), len(daemon.log("tunnel opened", peer="tablet"))) == (before, 1)
    # Of the same program, as an upgrade has it: the socket goes from one to the next.
    daemon.told("reload", "--exec", timeout=120)
    after = wait_for("one process alone to end tunnels", process_or_none(process), timeout=30)
    assert after != before
    with network.tunnel(configuration):
        assert network.curl("https://good.example/").endswith("200 0")
    os.kill(process(), signal.SIGKILL)
    (died,) = daemon.wait_log("process died", process="wireguard")
    assert died["restart_in"] == 0
    with network.tunnel(configuration):
        assert network.curl("https://good.example/").endswith("200 0")


def test_whoever_ends_the_tunnels_tells_how_it_is(network: Network) -> None:
    daemon = network.daemon
    wait_for("the daemon to be ready", lambda: network.ready() == ["ready"], timeout=30)
    with network.tunnel(network.add("watch")):
        assert network.curl("https://good.example/").endswith("200 0")
        wait_for("it to be counted", lambda: network.counted("wireguard_tunnels") >= 1)
        client, server = network.net.client, network.net.server
        waiting = f"exec 3<>/dev/tcp/{server.ipv4}/80; echo connected; read -r -u 3"
        with subprocess.Popen([*client.prefix, "bash", "-c", waiting], stdout=subprocess.PIPE) as open_one:
            assert open_one.stdout is not None
            assert open_one.stdout.readline() == b"connected\n"
            wait_for("it to be counted", lambda: network.counted("wireguard_streams") == 1)
            open_one.terminate()
        wait_for("it to be gone", lambda: network.counted("wireguard_streams") == 0, timeout=30)
    (pid,) = (pid for pid in children(daemon.process.pid) if runs_module(pid, "proxy.wireguard"))
    os.kill(pid, signal.SIGSTOP)
    try:
        said = ["the process that ends WireGuard tunnels is not there, or does not answer"]
        wait_for("it to be said", lambda: network.ready() == said, timeout=20)
    finally:
        os.kill(pid, signal.SIGCONT)
    wait_for("the daemon to be ready", lambda: network.ready() == ["ready"], timeout=20)
    os.kill(pid, signal.SIGKILL)

    def answers_on() -> list[str]:
        return [path.name for path in (daemon.state_dir / "run").glob(TUNNELS_SOCKETS)]

    def succeeded() -> bool:
        return len(answers_on()) == 1 and f"tunnels-{pid}.sock" not in answers_on()

    wait_for("its successor alone to answer", succeeded, timeout=30)
    wait_for("the daemon to be ready", lambda: network.ready() == ["ready"], timeout=20)
    wait_for("the tunnels of before to be gone", lambda: network.counted("wireguard_tunnels") == 0)


def process_or_none(ask: Callable[[], int]) -> Callable[[], int | None]:
    """None while there are two, or none."""

    def asked() -> int | None:
        try:
            return ask()
        except ValueError:
            return None

    return asked


def test_another_peers_address_is_of_no_use_to_a_peer(network: Network) -> None:
    mine, theirs = network.add("mine"), network.add("theirs")

    def line(configuration: str) -> str:
        return next(line for line in configuration.splitlines() if line.startswith("Address"))

    with network.tunnel(mine.replace(line(mine), line(theirs))):

        def refused() -> list[dict[str, Any]]:
            assert not network.reaches(f"http://{network.net.server.ipv4}/")
            return network.daemon.log("stream refused", peer="mine")

        # A handshake that is begun before the daemon knows of the peer is begun again after five seconds.
        (told, *_) = wait_for("a stream to be refused", refused, timeout=30)
    assert told["reason"] == "not an address of this peer's"
