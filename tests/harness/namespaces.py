"""Network namespaces: a client, a gateway and a server that are machines of their own, as far as the network goes.

    with gateway_network() as net:
        net.gateway.run("sysctl", "-qw", "net.ipv4.ip_forward=1")
        net.client.run("curl", f"https://{net.server.ipv4}/")

Made and removed by the test; what runs in them is the test's to end. It takes root and Linux.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol

import pytest

from tests.harness.programs import in_ci, need


class Place(Protocol):
    """Where a process is started that is not to be where the tests are."""

    @property
    def prefix(self) -> tuple[str, ...]:
        """What a command begins with to be run there."""


@dataclass(frozen=True)
class Namespace:
    """One of them."""

    name: str
    ipv4: str = ""
    ipv6: str = ""
    """Its addresses, on the link that others reach it by."""

    @property
    def prefix(self) -> tuple[str, ...]:
        """What a command begins with to be run in it."""
        return (need("ip"), "netns", "exec", self.name)

    def run(self, *argv: str, stdin: str | None = None, timeout: float = 60) -> str:
        """Run a command in it to its end, and return what it printed; a failure fails the test."""
        done = subprocess.run([*self.prefix, *argv], input=stdin, capture_output=True, text=True, timeout=timeout)
        assert done.returncode == 0, f"{' '.join(argv)}: exit {done.returncode}: {done.stderr}"
        return done.stdout

    def within[T](self, work: Callable[[], T]) -> T:
        """Do something in it that makes sockets: they stay of it, wherever they are used."""

        def inside() -> T:
            with open(f"/run/netns/{self.name}", "rb") as place:
                os.setns(place.fileno(), os.CLONE_NEWNET)  # of this thread alone, which ends with it
            return work()

        with ThreadPoolExecutor(1) as thread:
            return thread.submit(inside).result()

    def popen(self, *argv: str, **options: object) -> subprocess.Popen[bytes]:
        """Start a command in it."""
        return subprocess.Popen([*self.prefix, *argv], **options)  # type: ignore[call-overload, no-any-return]


@dataclass(frozen=True)
class GatewayNetwork:
    """client -- gateway -- server, over IPv4 and IPv6. The gateway forwards; the other two know of it alone."""

    client: Namespace
    gateway: Namespace
    """With the addresses that the client reaches it by."""
    server: Namespace
    inside: str
    """The gateway's interface towards the client."""
    outside: str
    """And towards the server."""


def need_namespaces() -> None:
    """Skips the test where namespaces cannot be made; in CI it fails."""
    need("ip")
    if os.geteuid() != 0:
        if in_ci():
            pytest.fail("network namespaces take root", pytrace=False)
        pytest.skip("network namespaces take root")


def _ip(*argv: str) -> None:
    done = subprocess.run([need("ip"), *argv], capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, f"ip {' '.join(argv)}: {done.stderr}"


@contextlib.contextmanager
def gateway_network() -> Iterator[GatewayNetwork]:
    """Make the three, and remove them again with all that is in them."""
    need_namespaces()
    mark = secrets.token_hex(3)
    client = Namespace(f"sp-c-{mark}", "10.77.1.2", "fd77:1::2")
    gateway = Namespace(f"sp-g-{mark}", "10.77.1.1", "fd77:1::1")
    server = Namespace(f"sp-s-{mark}", "10.77.2.2", "fd77:2::2")
    inside, outside = f"sp{mark}i", f"sp{mark}o"
    made: list[Namespace] = []
    try:
        for namespace in (client, gateway, server):
            _ip("netns", "add", namespace.name)
            made.append(namespace)
            _ip("-n", namespace.name, "link", "set", "lo", "up")
        for place, link, number in ((client, inside, 1), (server, outside, 2)):
            _ip("link", "add", link, "netns", gateway.name, "type", "veth", "peer", "name", "eth0", "netns", place.name)
            ends = ((gateway, link, 1), (place, "eth0", 2))
            for namespace, interface, host in ends:
                _ip("-n", namespace.name, "addr", "add", f"10.77.{number}.{host}/24", "dev", interface)
                # nodad: an address is there at once, and not a second later.
                _ip("-n", namespace.name, "addr", "add", f"fd77:{number}::{host}/64", "dev", interface, "nodad")
                _ip("-n", namespace.name, "link", "set", interface, "up")
            _ip("-n", place.name, "route", "add", "default", "via", f"10.77.{number}.1")
            _ip("-n", place.name, "-6", "route", "add", "default", "via", f"fd77:{number}::1")
        gateway.run("sh", "-c", "echo 1 >/proc/sys/net/ipv4/ip_forward; echo 1 >/proc/sys/net/ipv6/conf/all/forwarding")
        yield GatewayNetwork(client, gateway, server, inside, outside)
    finally:
        for namespace in made:
            _ip("netns", "delete", namespace.name)
