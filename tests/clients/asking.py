"""Clients sent through a real daemon, and whether it went as it has to: with the root, without it, and, where asked
for, with the root in the system's store.

With the root the client has the text, and the proxy's log has the leaf that it was shown and the request. Without, it
has said that it does not trust what it is shown, and the server was asked for nothing.
"""

from __future__ import annotations

import contextlib
import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.clients import system_store
from tests.clients.base import NOTHING, SEARCH, TEXT, Client, FailedError, Setting, Visit, Way
from tests.clients.origin import Origin
from tests.harness.daemon import Daemon
from tests.harness.processes import wait_for

TRUSTING, UNTRUSTING, SYSTEM = ZONES = "clients.example", "untrusting.example", "system.example"
"""Below which the hosts of the visits are."""


@dataclass(frozen=True)
class Went:
    """What came of a client on one way. ``wrong`` is empty where all is as it has to be."""

    result: str
    """What the proxy spoke with it: ``HTTP/2, TLSv1.3``."""
    wrong: str


def version(client: Client) -> str:
    """The version that the client tells; the first that looks like one."""
    command = [shutil.which(client.version[0], path=SEARCH) or client.version[0], *client.version[1:]]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env={"PATH": SEARCH}, check=False)
    found = re.search(r"\d+(\.\d+)+", done.stdout + done.stderr)
    assert found is not None, f"{client.name} tells no version: {done.stdout}{done.stderr}"
    return found[0]


class Stage:
    """The servers, and one daemon whose tenant trusts their CA: for all clients, each with host names of its own.

    ``system``: whether clients are asked about the system's store, too.
    """

    def __init__(self, folder: Path, clients: Sequence[Client], ways: Sequence[Way], *, system: bool = False) -> None:
        self.folder = folder
        self._ways = ways
        self._system = system
        self._prefix: list[str] = []
        self._hosts = [f"{client.id}-{way.id}.{zone}" for client in clients for way in ways for zone in ZONES]
        self.origin = Origin(folder, [f"*.{zone}" for zone in ZONES])
        self._open = contextlib.ExitStack()

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as opening:
            opening.enter_context(self.origin)
            daemon = Daemon(
                self.folder / "daemon",
                hosts=dict.fromkeys(self._hosts, "127.0.0.1"),
                listeners=[(way.id, "default") for way in self._ways],
                extra={"log": {"level": "debug"}},
            )
            ca = self.folder / "private-ca.pem"
            ca.write_bytes(self.origin.ca.pem())
            daemon.told("trusted-ca", "add", "private", str(ca))
            self.daemon = opening.enter_context(daemon)
            self.root = daemon.root
            (self.folder / "shared").mkdir()
            if self._system:
                self._prefix = system_store.prefix(self.folder, self.root)
            self._open = opening.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.__exit__(kind, error, trace)

    def ask(self, client: Client, way: Way) -> Went:
        """All visits of a client."""
        proxy, system = client.ways[way.id], client.system or NOTHING
        result, wrong = self._comes_through(client, way, TRUSTING, [proxy, client.root])
        wrong = wrong or self._is_refused(client, way, UNTRUSTING, [proxy])
        if self._system and not wrong:
            if client.system is None:
                wrong = self._is_refused(client, way, SYSTEM, [proxy], self._prefix)
            else:
                _, wrong = self._comes_through(client, way, SYSTEM, [proxy, system], self._prefix)
        return Went(result, wrong)

    def _comes_through(
        self, client: Client, way: Way, zone: str, settings: Sequence[Setting], prefix: Sequence[str] = ()
    ) -> tuple[str, str]:
        """What was spoken, and what is wrong."""
        visit = self._visit(client, way, zone, settings, prefix)
        try:
            text = client.go(visit)
        except FailedError as error:
            return "", f"{zone}: it does not come through: {error}"
        if text.strip() != TEXT:
            return "", f"{zone}: it has {text[:200]!r}"
        leaf = self.daemon.wait_log("leaf", host=visit.host)[0]
        lane = self.daemon.wait_log("lane", id=leaf["id"])[0]
        request = self.daemon.wait_log("request", host=f"{visit.host}:{self.origin.port}")[0]
        wait_for("the server's log of it", lambda: self.origin.requests(visit.host))
        return f"{request['protocol']}, {lane['client_tls']}", ""

    def _is_refused(
        self, client: Client, way: Way, zone: str, settings: Sequence[Setting], prefix: Sequence[str] = ()
    ) -> str:
        """What is wrong."""
        visit = self._visit(client, way, zone, settings, prefix)
        try:
            text = client.go(visit)
        except FailedError as error:
            if not client.refuses(str(error)):
                return f"{zone}: it fails, and says something else: {error}"
        else:
            return f"{zone}: it has {text[:200]!r}, and should refuse"
        self.daemon.wait_log("connection", host=visit.host)  # so it went through the proxy
        asked = self.origin.requests(visit.host)
        return f"{zone}: the server was asked: {asked}" if asked else ""

    def _visit(self, client: Client, way: Way, zone: str, settings: Sequence[Setting], prefix: Sequence[str]) -> Visit:
        proxy = self.daemon.addresses[way.id]
        address, _, port = proxy.rpartition(":")
        places = {"proxy": proxy, "host": address, "port": port, "root": str(self.root)}
        host = f"{client.id}-{way.id}.{zone}"
        return Visit(self.origin, host, self.folder / host, settings, places, self.folder / "shared", prefix)
