"""Connections over a limit are told so and closed; exactly as many as it says are served, over two workers."""

from __future__ import annotations

import asyncio
import os
import resource
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from proxy.acceptor import ALONE_SECONDS
from proxy.status_client import ask_all
from tests.harness.daemon import Daemon
from tests.harness.processes import children, wait_for

LISTENERS = (("one", "default"), ("two", "default"), ("three", "other"))
PATIENT = {"connect_head_timeout": 120.0, "tls_timeout": 120.0}


@pytest.fixture(scope="module")
def server() -> Iterator[int]:
    """The port of a server that is never asked anything: connections to it wait in its queue."""
    with socket.create_server(("127.0.0.1", 0), backlog=256) as listening:
        yield listening.getsockname()[1]


class Clients:
    """Connections to a daemon that are held open."""

    def __init__(self, daemon: Daemon, server: int) -> None:
        self.daemon = daemon
        self.server = server
        self.held = ExitStack()
        self.sockets: list[socket.socket] = []

    def hold(self, name: str, source: str = "127.0.0.1", count: int = 1) -> None:
        """More connections, all at once, that are served: their CONNECT is answered with 200."""
        more = [self.held.enter_context(self._open(name, source)) for _ in range(count)]
        self.sockets += more
        for connection in more:
            answer = self._ask(connection)
            assert answer.startswith(b"HTTP/1.1 200"), answer

    def try_one(self, name: str) -> bool:
        """One more connection, held where it is served. Whether it is."""
        connection = self._open(name, "127.0.0.1")
        if not self._ask(connection).startswith(b"HTTP/1.1 200"):
            connection.close()
            return False
        self.sockets.append(self.held.enter_context(connection))
        return True

    def refused(self, name: str, source: str = "127.0.0.1") -> bytes:
        """What one that is refused is told, to its end; empty where it is served."""
        with self._open(name, source) as connection:
            answer = self._ask(connection)
            if answer.startswith(b"HTTP/1.1 200"):
                return b""
            while piece := connection.recv(65536):
                answer += piece
        return answer

    def _open(self, name: str, source: str) -> socket.socket:
        host, _, port = self.daemon.addresses[name].rpartition(":")
        return socket.create_connection((host, int(port)), timeout=10, source_address=(source, 0))

    def _ask(self, connection: socket.socket) -> bytes:
        connection.sendall(f"CONNECT 127.0.0.1:{self.server} HTTP/1.1\r\n\r\n".encode())
        return connection.recv(65536)

    def close(self) -> None:
        self.held.close()
        self.sockets.clear()


@pytest.fixture(scope="module")
def limited(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    limits = {
        "connections": 9, "connections_per_listener": 6, "connections_per_tenant": 8, "connections_per_client": 3,
    }  # fmt: skip
    folder = tmp_path_factory.mktemp("limited")
    log = {"tenants": {"other": {"client": "network"}}}
    with Daemon(folder, listeners=LISTENERS, workers=2, extra={"limits": limits | PATIENT, "log": log}) as daemon:
        yield daemon


@pytest.fixture
def clients(limited: Daemon, server: int) -> Iterator[Clients]:
    """No connection is open before a test."""
    made = Clients(limited, server)
    try:
        yield made
    finally:
        made.close()
        workers = limited.pids().workers
        limited.resting_files(*workers)


def details(answer: bytes) -> str:
    assert answer.startswith(b"HTTP/1.1 503 Service Unavailable\r\n"), answer
    head, _, page = answer.partition(b"\r\n\r\n")
    fields = dict(line.split(b": ", 1) for line in head.split(b"\r\n")[1:])
    assert fields[b"Retry-After"] == b"5"
    assert fields[b"Connection"] == b"close"
    assert len(page) == int(fields[b"Content-Length"])
    status = fields[b"Proxy-Status"].decode()
    prefix, _, which = status.partition('details="')
    assert prefix == "sallyport; error=connection_limit_reached; "
    return which.rstrip('"')


def test_one_client_has_its_connections_and_another_has_its_own(clients: Clients) -> None:
    for name in ("one", "two", "three"):
        clients.hold(name, "127.0.0.2")
    for _ in range(5):
        assert details(clients.refused("one", "127.0.0.2")) == "connections_per_client"
    assert clients.refused("one", "127.0.0.3") == b""
    clients.sockets[1].close()
    wait_for("room", lambda: clients.refused("two", "127.0.0.2") == b"")


def test_a_listener_has_its_connections(clients: Clients) -> None:
    for number in range(6):
        clients.hold("one", f"127.0.0.{10 + number // 3}")
    assert details(clients.refused("one", "127.0.0.20")) == "connections_per_listener"
    assert clients.refused("two", "127.0.0.20") == b""


def test_a_tenant_has_its_connections_over_its_listeners(clients: Clients) -> None:
    for number in range(8):
        clients.hold(("one", "two")[number % 2], f"127.0.0.{10 + number // 3}")
    assert details(clients.refused("two", "127.0.0.20")) == "connections_per_tenant"
    assert clients.refused("three", "127.0.0.20") == b""


def test_the_node_has_its_connections_and_says_in_the_log_how_many_it_refused(
    clients: Clients, limited: Daemon
) -> None:
    for number in range(9):
        clients.hold(("one", "two", "three")[number % 3], f"127.0.0.{10 + number // 3}")
    answers = [clients.refused("three", f"127.0.0.{20 + number}") for number in range(12)]
    assert {details(answer) for answer in answers} == {"connections"}

    def all_told() -> bool:
        return sum(entry["count"] for entry in limited.log("refused", details="connections")) == 12

    wait_for("the log to tell of all of them", all_told)
    told = limited.log("refused", details="connections")
    assert len(told) < 12
    # Two of two workers at once, and what gathered within a second.
    assert all(entry["error"] == "connection_limit_reached" and entry["status"] == 503 for entry in told)
    assert {entry["listener"] for entry in told} == {"three"}
    assert {entry["client"] for entry in told} == {"127.0.0.0/24"}, "it is told as the tenant's privacy has it"
    assert any(entry["id"].encode() in answer for entry in told for answer in answers)


def test_what_a_killed_worker_had_open_makes_room(tmp_path: Path, server: int) -> None:
    extra = {"limits": {"connections": 8} | PATIENT}
    with Daemon(tmp_path, workers=2, extra=extra) as daemon:
        clients = Clients(daemon, server)
        for _ in range(8):
            clients.hold("explicit")
        assert details(clients.refused("explicit")) == "connections"
        workers = daemon.pids().workers
        for worker in workers:
            os.kill(worker, signal.SIGKILL)
        wait_for("new workers", lambda: len(set(daemon.pids().workers) - set(workers)) == 2, 60)
        clients.close()
        for _ in range(8):
            clients.hold("explicit")
        assert details(clients.refused("explicit")) == "connections"
        clients.close()


def test_who_has_more_connections_leaves_the_next_ones_to_others(tmp_path: Path, server: int) -> None:
    with Daemon(tmp_path, workers=2, extra={"limits": PATIENT}) as daemon:
        clients = Clients(daemon, server)

        def shares() -> dict[int, int]:
            answers = asyncio.run(ask_all(daemon.state_dir, {"ask": "health"}))
            return {worker["pid"]: worker["sessions"] for worker in answers}

        def caught_up(worker: int) -> int:
            """Of 20 that come while the other has 20 and this one none: how many it gets."""
            os.kill(worker, signal.SIGSTOP)
            clients.hold("explicit", count=20)
            os.kill(worker, signal.SIGCONT)
            time.sleep(2 * ALONE_SECONDS)  # whoever was alone takes everything for so long
            for _ in range(20):
                clients.hold("explicit")
            found = shares()
            assert sum(found.values()) == 40
            clients.close()
            wait_for("nobody to have any", lambda: sum(shares().values()) == 0)
            return found[worker]

        # Each of them, since one may be the first to wake whatever it has. And not each time: a machine that is busy
        # may not let it run within the millisecond.
        assert any(min(map(caught_up, daemon.pids().workers)) >= 17 for _ in range(5))


def test_without_a_limit_descriptors_are_and_what_is_open_goes_on(tmp_path: Path, server: int) -> None:
    with Daemon(tmp_path, workers=1, extra={"limits": PATIENT}) as daemon:
        assert daemon.wait_log("limits", 30)
        # The next worker inherits it from the supervisor.
        resource.prlimit(daemon.pids().supervisor, resource.RLIMIT_NOFILE, (128, 128))
        before = daemon.pids().workers
        os.kill(before[0], signal.SIGKILL)
        wait_for("a new worker", lambda: daemon.pids().workers != before and len(daemon.log("limits")) == 2, 60)
        most = daemon.log("limits")[-1]["connections"]
        assert most == (128 - 64) // 2
        clients = Clients(daemon, server)
        for _ in range(most):
            clients.hold("explicit")
        assert details(clients.refused("explicit")) == "connections"
        assert not daemon.log("out of resources")
        assert daemon.open_files(daemon.pids().workers[0]) <= 128
        clients.sockets[0].close()
        wait_for("room", lambda: clients.refused("explicit") == b"")
        clients.close()


def test_a_worker_that_has_no_memory_left_says_so(tmp_path: Path, server: int) -> None:
    # A worker takes more than that with no connection at all.
    with Daemon(tmp_path, extra={"limits": {"memory": 64 << 20}}) as daemon:
        assert [entry for entry in daemon.wait_log("limits") if "leaves no room" in entry.get("reason", "")]
        clients = Clients(daemon, server)
        assert details(wait_for("memory to be measured", lambda: clients.refused("explicit"))) == "memory"
        assert daemon.wait_log("shedding", reason="memory")


FULL = """
import sys
if "--number=2" in sys.argv:
    held = bytearray(b"x") * (250 << 20)
def requestheaders(flow):
    pass
"""


def test_a_worker_that_sheds_leaves_new_connections_to_one_that_does_not(tmp_path: Path, server: int) -> None:
    addon = tmp_path / "full.py"
    addon.write_text(FULL)
    extra = {"limits": {"memory": 256 << 20} | PATIENT, "inspection": {"addons": [str(addon)]}}
    with Daemon(tmp_path / "daemon", workers=2, extra=extra) as daemon:
        assert daemon.wait_log("shedding", reason="memory")
        clients = Clients(daemon, server)

        def served() -> int:
            found = sum(clients.try_one("explicit") for _ in range(40))
            clients.close()
            return found

        assert len(daemon.log("shedding")) == 1
        # Each connection makes one worker the one with most of them, and the other has none ever. Not each time: on a
        # machine that is busy the one that serves may come too late.
        assert any(served() > 30 for _ in range(5))


def test_the_page_says_whose_limit_it_is_and_what_to_do(clients: Clients) -> None:
    for _ in range(3):
        clients.hold("one")
    page = clients.refused("one").partition(b"\r\n\r\n")[2].decode()
    assert "Your address has as many connections to this proxy open as one may have." in page
    assert "Close programs or tabs that you do not need" in page
    assert "connection_limit_reached (connections_per_client)" in page


@pytest.mark.parametrize(
    "option", [pytest.param([], id="reload", marks=pytest.mark.long), pytest.param(["--exec"], id="upgrade")]
)
def test_what_is_open_on_workers_that_were_replaced_counts_until_it_is_closed(
    tmp_path: Path, server: int, option: list[str]
) -> None:
    limits = {"connections": 4, "drain_timeout": 120.0} | PATIENT
    with Daemon(tmp_path, workers=1, extra={"limits": limits}) as daemon:
        clients = Clients(daemon, server)
        for _ in range(3):
            clients.hold("explicit")
        before = daemon.pids().workers
        # Another value somewhere, so that a reload has something to replace workers for.
        daemon.settings["limits"]["cached_hosts"] = 1999
        daemon.write_config()
        told = daemon.told("reload", *option, timeout=170)
        assert "counted anew" not in told
        clients.hold("explicit")
        assert before[0] in children(daemon.process.pid)
        assert details(clients.refused("explicit")) == "connections"
        clients.close()
        for _ in range(4):
            wait_for("room", lambda: clients.refused("explicit") == b"")
        assert not daemon.log("connections counted anew")
