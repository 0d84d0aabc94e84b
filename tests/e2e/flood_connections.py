"""``make flood``: thousands of connections without a word, beside somebody who is served.

Not collected by ``make test``: it takes a minute, and a machine that nothing else is busy on.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import socket
import ssl
import statistics
import time
from collections.abc import Callable
from multiprocessing.synchronize import Event, Semaphore
from pathlib import Path

from tests.e2e.conftest import ISSUING, PUBLIC
from tests.harness.daemon import Daemon
from tests.harness.origins import Nginx, Site
from tests.harness.processes import pss_kib
from tests.harness.raw_http import open_tunnel

CONNECTIONS = int(os.environ.get("FLOOD", "5000"))
LIMIT = 2000
"""Open connections that are served: the flood is far beyond it."""
REQUESTS = 300
ALLOWED = 0.05
"""Seconds that the canary's 99th of 100 may be above quiet."""


def flood(address: tuple[str, int], source: str, count: int, done: Semaphore, over: Event) -> None:
    """Connect without a word, and let go of nothing before all is over."""
    held = []
    for _ in range(count):
        with contextlib.suppress(OSError):
            held.append(socket.create_connection(address, timeout=10, source_address=(source, 0)))
    done.release()
    over.wait()


def canary(connection: ssl.SSLSocket, going_on: Callable[[], bool]) -> list[float]:
    """Seconds that each request on an open connection took."""
    times = []
    while len(times) < REQUESTS or going_on():
        started = time.perf_counter()
        connection.sendall(b"GET / HTTP/1.1\r\nHost: good.example\r\n\r\n")
        assert connection.recv(65536).startswith(b"HTTP/1.1 200")
        times.append(time.perf_counter() - started)
        time.sleep(0.01)
    return times


def p99(times: list[float]) -> float:
    return statistics.quantiles(times, n=100)[98]


def test_a_flood_of_connections_is_not_noticed_on_an_open_one(tmp_path: Path) -> None:
    extra = {"limits": {"connections": LIMIT, "connect_head_timeout": 300.0}}
    with (
        Nginx(tmp_path, [Site("good.example", ISSUING.leaf("good.example"))]) as site,
        Daemon(tmp_path / "d", hosts={"good.example": "127.0.0.1"}, common=PUBLIC, workers=2, extra=extra) as daemon,
    ):
        context = ssl.create_default_context(cafile=str(daemon.root))
        tunnel = open_tunnel(daemon.proxy, "good.example", site["good.example"].port)
        with context.wrap_socket(tunnel, server_hostname="good.example") as connection:
            quiet = p99(canary(connection, lambda: False))
            host, port = daemon.proxy.split(":")
            processes = multiprocessing.get_context("spawn")
            done, over = processes.Semaphore(0), processes.Event()
            attackers = [
                processes.Process(
                    target=flood, args=((host, int(port)), f"127.0.0.{n}", CONNECTIONS // 2, done, over), daemon=True
                )
                for n in (2, 3)
            ]
            started = time.monotonic()
            for attacker in attackers:
                attacker.start()
            under_way = len(attackers)

            def going_on() -> bool:
                nonlocal under_way
                under_way -= done.acquire(block=False)
                return under_way > 0

            times = canary(connection, going_on)
            seconds = time.monotonic() - started
            memory = [pss_kib(pid) for pid in daemon.pids().workers]
            over.set()
        for attacker in attackers:
            attacker.join()
        refused = sum(entry["count"] for entry in daemon.log("refused", details="connections"))
        lines = len(daemon.log("refused"))
        print(  # noqa: T201 - the figures are what it is run for
            f"\n{CONNECTIONS} connections in {seconds:.1f} s, {refused} refused in {lines} lines of the log; p99 of "
            f"the canary {quiet * 1e3:.1f} ms quiet, {p99(times) * 1e3:.1f} ms in the flood; workers {memory} KiB"
        )
        assert refused >= CONNECTIONS - LIMIT - 10
        assert lines <= 4 * seconds + 8
        assert p99(times) < quiet + ALLOWED
        assert not daemon.log("fault")
