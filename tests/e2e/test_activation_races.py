"""Signing CAs are activated in a race by processes that are killed, while clients are at work.

200 activations from eight processes, half of them killed with SIGKILL: exactly one is active at every commit, the
daemon follows, and no request fails but those whose connection the purge has ended. That is one that finds its
connection, which had answered before, closed in order before any byte of its answer, and which has not come to the
server: whoever sends it again does it once.
"""

from __future__ import annotations

import base64
import json
import sqlite3
import ssl
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from itertools import count, pairwise
from pathlib import Path

import pytest
from cryptography import x509

from tests.e2e.conftest import PUBLIC
from tests.harness.daemon import Daemon
from tests.harness.origins import Nginx
from tests.harness.processes import wait_for, who_holds
from tests.harness.signing_cas import Client, Ended, Racer, imported, roots, workers

NAMES = ("built-in", "ecdsa", "rsa")
RACERS = 8
KILLED_AFTER = {1: 4, 3: 10, 5: 16, 7: 22}
"""Those that are killed, and in which of their activations; another process does what they have left of their 25."""
KILLED_TOO = {1, 5}
"""Those whose other process is killed as well, in its last one: six of twelve are, in all."""
EACH = 25
PAUSE = 0.3
"""The longest rest of a racer between two activations, in seconds: so that the daemon has something to follow."""
ACTIVE = """
    SELECT tenants.name, tenants.generation, signing_cas.name, signing_cas.chain
    FROM tenants LEFT JOIN signing_cas ON signing_cas.id = tenants.active_signing_ca_id
     AND signing_cas.tenant_id = tenants.id AND signing_cas.state = 'ready'
"""


@pytest.fixture
def daemon(tmp_path: Path, origin: Nginx) -> Iterator[Daemon]:
    """One of the test's own, with another tenant whose signing CA stays what it is."""
    with Daemon(
        tmp_path / "daemon", hosts={"good.example": "127.0.0.1"}, common=PUBLIC, workers=2,
        listeners=(("explicit", "default"), ("second", "other")),
        # Sixteen processes want two cores: a leaf may take longer than it does where there is one issuer to wait for.
        extra={"log": {"privacy": {"requests": False}}, "limits": {"leaf_timeout": 30}},
    ) as running:  # fmt: skip
        yield running


@dataclass(frozen=True)
class Active:
    """A tenant's active signing CA, as the database has it."""

    generation: int
    name: str
    issuing: x509.Certificate


def read_only(daemon: Daemon) -> sqlite3.Connection:
    return sqlite3.connect(f"file:{daemon.state_dir / 'sallyport.db'}?mode=ro", uri=True, timeout=30)


def look(database: sqlite3.Connection) -> dict[str, Active]:
    """The active signing CA of each tenant. Fails where one has none, or one that cannot sign or is not its own."""
    found: dict[str, Active] = {}
    for tenant, generation, name, chain in database.execute(ACTIVE):
        assert name is not None, f"{tenant} has no active signing CA at generation {generation}"
        issuing = x509.load_der_x509_certificate(base64.b64decode(json.loads(chain)[0]))
        found[tenant] = Active(generation, name, issuing)
    assert sorted(found) == ["default", "other"]
    return found


class Load:
    """Clients of a daemon, until they are told that it is over."""

    def __init__(self, daemon: Daemon, port: int, trusted: Path) -> None:
        self.entrance, self.port, self.trusted = daemon, port, trusted
        self.over = threading.Event()
        self.numbers = count()
        self.answered: set[str] = set()
        self.ended: list[str] = []
        """Requests that found their connection ended."""
        self.failed: list[str] = []
        self.issuers: set[str] = set()

    def one_on_each_connection(self) -> None:
        """One request on each connection."""
        client = Client(self.entrance, self.port, self.trusted)
        while not self.over.wait(0.01):
            self._connection(client, 1, 0)

    def many_on_each_connection(self, pause: float, path: str = "/") -> None:
        """One after the other, fewer than nginx answers on a connection (1000), until the connection is ended."""
        client = Client(self.entrance, self.port, self.trusted)
        while not self.over.is_set():
            self._connection(client, 500, pause, path)

    def _connection(self, client: Client, requests: int, pause: float, path: str = "/") -> None:
        began, at = time.monotonic(), "handshake"
        try:
            with client.open() as opened:
                self.issuers.add(client.issuer(opened))
                for turn in range(requests):
                    at = f"{path}?{next(self.numbers)}"
                    if not self._request(client, opened, at, first=turn == 0) or self.over.wait(pause):
                        return
        except OSError as error:
            self.failed.append(f"{at}, {time.monotonic() - began:.3f} s: {error!r}")

    def _request(self, client: Client, opened: ssl.SSLSocket, path: str, first: bool) -> bool:
        """Whether there can be another. Raises OSError where the failure is one that may not be."""
        try:
            answer = client.ask(opened, path)
        except Ended as ended:
            if first or ended.answer:
                raise
            self.ended.append(path)
            return False
        assert answer.startswith(b"HTTP/1.1 200"), answer
        self.answered.add(path)
        return True


def race(daemon: Daemon) -> list[str]:
    """Activations, eight processes at a time; what was attempted, in no order."""
    all_ready = threading.Barrier(RACERS)

    def one(seed: int) -> Iterator[str]:
        first = KILLED_AFTER.get(seed, EACH)
        with Racer(daemon.state_dir, seed, NAMES, first, killed=first < EACH, pause=PAUSE) as racer:
            racer.ready()
            all_ready.wait(60)
            racer.go()
            yield from racer.attempts()
        if first < EACH:
            killed = seed in KILLED_TOO
            with Racer(daemon.state_dir, seed + RACERS, NAMES, EACH - first, killed=killed, pause=PAUSE) as racer:
                racer.ready()
                racer.go()
                yield from racer.attempts()

    with ThreadPoolExecutor(RACERS) as running:
        return [name for attempts in running.map(lambda seed: list(one(seed)), range(RACERS)) for name in attempts]


def shown_by(daemon: Daemon, client: Client) -> dict[int, x509.Certificate]:
    """The leaf that each worker shows in a new handshake."""
    pids = daemon.pids().workers
    found: dict[int, x509.Certificate] = {}

    def asked() -> bool:
        with client.open() as opened:
            pid = who_holds(opened, pids)
            assert pid is not None, "no worker has the connection"
            found[pid] = client.leaf(opened)
        return len(found) == len(pids)

    wait_for("every worker to take a connection", asked, timeout=30, pause=0)
    return found


def each_took_over(database: sqlite3.Connection, tenant: str) -> list[str]:
    """What was made the active one, commit by commit: each from the one that the commit before had made it."""
    entries = database.execute(
        "SELECT before, after FROM audit_log WHERE tenant = ? AND action = 'signing_ca.activate' ORDER BY id", (tenant,)
    )
    commits = [(json.loads(before)["name"], json.loads(after)["name"]) for before, after in entries]
    assert all(earlier[1] == later[0] for earlier, later in pairwise(commits)), commits
    return [after for _, after in commits]


def test_however_activations_race_and_die_one_is_active_the_daemon_follows_and_no_request_fails(
    daemon: Daemon, origin: Nginx
) -> None:
    cas = [imported(daemon, "ecdsa")[0], imported(daemon, "rsa", key="rsa2048")[0]]
    trusted, port = roots(daemon, *cas), origin["good.example"].port
    load = Load(daemon, port, trusted)
    (origin.www / "long").write_bytes(bytes(100_000) + origin["good.example"].text.encode())  # 1.5 s of /slow/
    second = daemon.listener("second")
    with closing(read_only(daemon)) as database:
        before = look(database)

    def observe() -> int:
        looks = 0
        with closing(read_only(daemon)) as database:
            while not load.over.wait(0.002):
                assert look(database)["other"] == before["other"]
                looks += 1
        return looks

    with Client(second, port, second.root).open() as untouched, ThreadPoolExecutor(7) as running:
        Client.ask(untouched)
        observing = running.submit(observe)
        clients = [running.submit(load.one_on_each_connection) for _ in range(2)]
        clients += [running.submit(load.many_on_each_connection, pause) for pause in (0.005, 0.05, 0.3)]
        clients += [running.submit(load.many_on_each_connection, 0, "/slow/long")]
        try:
            attempts = race(daemon)
        finally:
            load.over.set()
        for each in clients:
            each.result()
        assert observing.result() > 100
        Client.ask(untouched)  # the other tenant's connections are none of the purge's

    assert len(attempts) == RACERS * EACH
    with closing(read_only(daemon)) as database:
        active = look(database)["default"]
        commits = each_took_over(database, "default")
    assert set(commits) == set(NAMES)
    assert commits[-1] == active.name
    assert active.generation == before["default"].generation + len(commits)

    def follow() -> bool:
        told = [one["generation"] for one in workers(daemon) if one["tenant"] == "default"]
        return told == [active.generation] * 2

    wait_for("every worker to follow", follow, timeout=20)
    shown = shown_by(daemon, Client(daemon, port, trusted))
    assert len(shown) == 2
    for leaf in shown.values():
        leaf.verify_directly_issued_by(active.issuing)

    assert load.failed == []
    assert load.ended, "no purge has ended any connection"
    assert len(load.issuers) == len(NAMES)
    assert daemon.log("fault") == []

    def at_the_server() -> set[str]:
        return {one["uri"] for one in origin.requests("good.example")} - {"/"}

    wait_for("nginx to have logged every request", lambda: at_the_server() >= load.answered)
    assert at_the_server() == load.answered
