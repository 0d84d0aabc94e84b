"""What is measured of a proxy: each scenario is many like pieces of work, whose cost is divided by their number."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from bench.client import ClientFailed, Result, Route
from bench.machine import cpu_seconds, memory_kib
from bench.origin import FILE_BYTES


@dataclass(frozen=True)
class Measured:
    """What one round of a scenario came to. ``cost`` is in the scenario's unit; ``rate`` in pieces a second."""

    cost: float
    rate: float = 0.0
    p99_ms: float = 0.0
    errors: int = 0
    note: str = ""


@dataclass(frozen=True)
class Scene:
    """Where it is measured: the proxy's process, the way to it, its hosts' domain, and a size (1: as published)."""

    pid: int
    route: Route
    domain: str
    size: float = 1.0
    fresh: int = 0
    """The number of the first host that this proxy has not seen yet."""

    def hosts(self, first: int, count: int) -> list[str]:
        return ["--pattern", f"h%d.{self.domain}", "--first", str(first), "--hosts", str(count)]

    def scaled(self, number: int) -> int:
        return max(10, int(number * self.size))


@dataclass(frozen=True)
class Scenario:
    """``unit`` and ``title`` are for the table, ``measure`` does it."""

    name: str
    title: str
    unit: str
    meaning: str
    measure: Callable[[Scene], Measured]
    http2: bool = field(default=False)


SETTLE = 0.3
"""Seconds until what a proxy does behind a last answer is done."""


def _spent(scene: Scene, arguments: list[str], pieces: Callable[[Result], float]) -> Measured:
    before = cpu_seconds(scene.pid)
    result = scene.route.run(*arguments)
    time.sleep(SETTLE)
    spent = (cpu_seconds(scene.pid) - before) * 1e3
    done = pieces(result)
    if not done:
        raise ClientFailed(f"nothing was done: {result.troubles[:3]}")
    note = f"{result.resumed} of {result.connections} resumed" if "--resume" in arguments else ""
    if result.wrong:
        note = f"{result.wrong} WRONG ANSWERS {note}"
    return Measured(spent / done, done / result.seconds, result.request_ms.p99, result.errors, note)


def _per_connection(result: Result) -> float:
    return result.connections


def _per_request(result: Result) -> float:
    return result.requests


def idle(scene: Scene) -> Measured:
    """Memory of open connections that do nothing."""
    number = scene.scaled(300)
    before = memory_kib(scene.pid)
    held = scene.route.start(*scene.hosts(0, 20), "--open", str(number), "--threads", "16", "--gate")
    try:
        standing = held.ready()
        if not standing:
            raise ClientFailed("no connection stands")
        time.sleep(2)  # what belongs to handshakes is given back a moment later
        return Measured((memory_kib(scene.pid) - before) / standing, errors=number - standing)
    finally:
        held.end()


def cold(scene: Scene) -> Measured:
    """Host names never seen before."""
    number = scene.scaled(300)
    arguments = [*scene.hosts(scene.fresh, number), "--connections", str(number)]
    return _spent(scene, arguments, _per_connection)


def warm(scene: Scene) -> Measured:
    """Host names seen before, a new connection for each request."""
    return _spent(scene, [*scene.hosts(0, 20), "--connections", str(scene.scaled(500))], _per_connection)


def resume(scene: Scene) -> Measured:
    """The client offers its last session."""
    arguments = [*scene.hosts(0, 10), "--connections", str(scene.scaled(400)), "--threads", "2", "--resume"]
    return _spent(scene, arguments, _per_connection)


def keepalive(scene: Scene) -> Measured:
    """Requests one after the other on open connections."""
    arguments = [*scene.hosts(0, 8), "--connections", "8", "--requests", str(scene.scaled(500))]
    return _spent(scene, arguments, _per_request)


def http2(scene: Scene) -> Measured:
    """Requests on fifty streams of one connection at a time."""
    arguments = [*scene.hosts(0, 4), "--connections", "4", "--threads", "4", "--streams", "50"]
    return _spent(scene, [*arguments, "--requests", str(scene.scaled(20))], _per_request)


def bulk(scene: Scene) -> Measured:
    """A large file, as 100 MB."""
    number = max(1, round(4 * scene.size))
    arguments = [*scene.hosts(0, 2), "--connections", str(number), "--threads", "2", "--kind", "file"]
    return _spent(scene, [*arguments, "--size", str(FILE_BYTES)], lambda result: result.bytes / 1e8)


ALL = [
    Scenario("idle", "idle connection", "KiB", "memory (PSS) of one open, idle, intercepted connection", idle),
    Scenario(
        "cold", "new host", "ms", "a host name never seen before: verify, mint, two handshakes, one request", cold
    ),
    Scenario("warm", "known host", "ms", "two full handshakes and one request", warm),
    Scenario("resume", "client resumes", "ms", "the client resumes its TLS session", resume),
    Scenario("keepalive", "one more request", "ms", "one more request on an open connection, HTTP/1.1", keepalive),
    Scenario(
        "http2", "HTTP/2 request", "ms", "one of fifty requests at once on one HTTP/2 connection", http2, http2=True
    ),
    Scenario("bulk", "100 MB", "ms", "100 MB downloaded", bulk),
]
BY_NAME = {each.name: each for each in ALL}


@dataclass(frozen=True)
class Crowded:
    """The cost of work while ``open`` other connections stand."""

    open: int
    request_ms: float
    connection_ms: float
    memory_kib: float
    errors: int


def crowded(scene: Scene, number: int, requests: int, connections: int) -> Crowded:
    """Requests over all of ``number`` open connections in turn, then new connections beside them."""
    before = memory_kib(scene.pid)
    held = scene.route.start(
        *scene.hosts(0, 20),
        "--open",
        str(number),
        "--threads",
        "16",
        "--gate",
        "--over",
        "--connections",
        str(requests),
    )
    try:
        standing = held.ready()
        time.sleep(1)
        memory = (memory_kib(scene.pid) - before) / max(1, standing)
        spent = cpu_seconds(scene.pid)
        asked = held.go()
        time.sleep(SETTLE)
        per_request = (cpu_seconds(scene.pid) - spent) * 1e3 / max(1, asked.requests)
        beside = warm_beside(scene, connections)
        return Crowded(standing, per_request, beside.cost, memory, number - standing + asked.errors + beside.errors)
    finally:
        held.end()


def warm_beside(scene: Scene, connections: int) -> Measured:
    """New connections to known hosts."""
    return _spent(scene, [*scene.hosts(0, 20), "--connections", str(connections)], _per_connection)
