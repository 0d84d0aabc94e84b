"""What the scenarios stand on: a daemon whose signing CA's key a key manager has, its clients, a forwarder between.

Each scenario has a daemon of its own, so that all hosts are new to it.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.client import Route
from bench.daemon import FAST, INSPECTED, LoadedDaemon, generous
from bench.kmip.managers import KEY_NAME, Manager
from bench.load import KNOWN
from bench.origin import Origin
from config.settings import Kmip, Limits
from issuer.key_managers import SHARE
from tests.harness.kmip_forwarder import ForwarderProcess
from tests.harness.kmip_server import client_certificate
from tests.harness.pki import Authority, Issued
from tests.kms.kmip.rig import HOST, SIGNING_KEY, client, root

FRESH = 2000
"""Hosts of the fast lane."""
WORKERS = 2
OTHER = "other.example"
"""The alternate's name, as HOST is the primary's."""
INSIDE = Authority.root("Forwarder Root")
"""Of the forwarder's certificate, and of its clients'."""
SIGNING_SECONDS = min(Kmip().timeout, Limits().leaf_timeout * SHARE)
"""For a signature all in all: the deadline of whoever waits for one."""
PATTERN = ("--pattern", f"h%d.{FAST}")


def names() -> list[str]:
    """All that are asked for, for the origin's certificates."""
    return [f"h{number}.{FAST}" for number in range(FRESH)] + [f"h{number}.{INSPECTED}" for number in range(KNOWN)]


def say(text: str = "") -> None:
    """Progress, at once."""
    print(text, flush=True)


@dataclass
class Outcome:
    """What a scenario came to: ``told`` in words and figures; ``problems``: why it has not held."""

    name: str
    told: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    table: str = ""
    """Figures for the page, as markdown."""

    def must(self, held: bool, otherwise: str) -> None:
        """A condition, and what is wrong where it does not hold."""
        if not held:
            self.problems.append(otherwise)


@dataclass
class Standing:
    """A daemon that runs, and the way through it."""

    daemon: LoadedDaemon
    route: Route
    floor: Route

    def again(self) -> None:
        """End the daemon in order, and start it with what it has stored. The way through it is another."""
        self.daemon.stop()
        self.daemon.start()
        self.route = Route(self.route.program, self.route.target, self.route.root, self.daemon.proxy)


@dataclass
class Stage:
    """What the scenarios of one run share."""

    folder: Path
    origin: Origin
    program: Path
    quick: bool = False
    forwarder: bool = False
    """Whether a forwarder stands before each key manager."""

    def scaled(self, number: int, quick: int) -> int:
        """The amount of work."""
        return quick if self.quick else number

    def fresh_folder(self, what: str) -> Path:
        """One that nothing else has."""
        return Path(tempfile.mkdtemp(prefix=f"{what}-", dir=self.folder))

    @contextlib.contextmanager
    def forwarded(self, managers: Sequence[Manager]) -> Iterator[list[int]]:
        """The ports to be connected to: the key managers' own, or those of forwarders before them."""
        with contextlib.ExitStack() as ending:
            ports = [manager.port for manager in managers]
            if self.forwarder:
                ports = [ending.enter_context(forwarding(self.fresh_folder("forwarder"), port)).port for port in ports]
            yield ports

    @contextlib.contextmanager
    def standing(self, managers: Sequence[Manager], kmip: Mapping[str, Any] | None = None) -> Iterator[Standing]:
        """A daemon that signs through the key managers; without any, with the same key here."""
        folder = self.fresh_folder("daemon")
        hosts = dict.fromkeys([*(f"h{number}.{FAST}" for number in range(FRESH)), HOST, OTHER], "127.0.0.1")
        extra = {"kmip": {"allow_private_addresses": True, **(kmip or {})}}
        daemon = LoadedDaemon(folder, self.origin, workers=WORKERS, limits=generous(), hosts=hosts, extra=extra)
        authority = Authority.root("Organisation Root").intermediate("Organisation Proxy", key=SIGNING_KEY)
        (folder / "ca.pem").write_bytes(authority.chain_pem(with_root=True))
        with self.forwarded(managers) as ports, daemon:
            if ports:
                connect(daemon, folder, ports, self.identity())
            else:
                (folder / "ca.key").touch(0o600)
                (folder / "ca.key").write_bytes(authority.key_pem())
                daemon.told("signing-ca", "import", "hsm", "--cert", str(folder / "ca.pem"), "--key",
                            str(folder / "ca.key"), "--activate")  # fmt: skip
            route = Route(self.program, self.origin.address, daemon.root, daemon.proxy)
            yield Standing(daemon, route, Route(self.program, self.origin.address, self.origin.root_file, None))

    def identity(self) -> tuple[Issued, Authority]:
        """Who we are to what we connect to, and whose its certificate is."""
        return (client_certificate(INSIDE), INSIDE) if self.forwarder else (client(), root())


def connect(daemon: LoadedDaemon, folder: Path, ports: Sequence[int], identity: tuple[Issued, Authority]) -> None:
    """Save the key managers as what signs for the tenant, the alternate where there is one."""
    ours, theirs = identity
    certificate, key = ours.write(folder, "kmip-client")
    (folder / "kmip-ca.pem").write_bytes(theirs.pem())
    daemon.told("kmip", "set", "--client-cert", str(certificate), "--client-key", str(key), "--server-ca",
                str(folder / "kmip-ca.pem"))  # fmt: skip
    ends = ["--primary", f"{HOST}:{ports[0]}"]
    if len(ports) > 1:
        ends += ["--alternate", f"{OTHER}:{ports[1]}"]
    daemon.told("signing-ca", "connect", "hsm", "--intermediate", str(folder / "ca.pem"), "--key-name", KEY_NAME,
                *ends, "--activate")  # fmt: skip


@contextlib.contextmanager
def forwarding(folder: Path, target: int) -> Iterator[ForwarderProcess]:
    """A forwarder before what listens on that port, for the one key."""
    own = INSIDE.leaf([HOST, OTHER])
    # How much it lets through is its own matter; here it is to be in nobody's way.
    made = ForwarderProcess(folder, target, own, INSIDE, client(), root(), "--key-name", KEY_NAME, "--rate", "100000")
    try:
        yield made
    finally:
        made.end()
