"""An installation and an issuer for tests: in this process with a clock of the test's, or as the real process."""

from __future__ import annotations

import asyncio
import os
import select
import signal
import socket
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from certs.authority import make_built_in
from config.settings import Metrics, Settings
from control.installation import Installation
from issuer.client import IssuedLeaf, IssuerClient
from issuer.service import Service
from issuer.sockets import bind_unix
from kms.envelope import TenantKey
from store import changes, signing_cas, tenants
from store.engine import DATABASE_FILE, Connection

REPOSITORY = Path(__file__).parents[2]
DAY = timedelta(days=1)


class Clock:
    """The time of a test: the real time at its beginning, and what the test adds."""

    def __init__(self) -> None:
        self.now = datetime.now(UTC)  # noqa: TID251 - CAs made now are valid now

    def __call__(self) -> datetime:
        return self.now

    def later(self, by: timedelta) -> None:
        self.now += by

    def after(self, by: timedelta) -> float:
        return (self.now + by).timestamp()


def settings_for(tmp_path: Path, **sections: Any) -> Settings:
    """The settings of an installation below ``tmp_path``, with no limit on the rate unless a test sets one."""
    sections["limits"] = {"leaves_per_second": 100_000, "leaves_per_second_per_tenant": 100_000} | sections.get(
        "limits", {}
    )
    return Settings(state_dir=tmp_path / "state", **({"metrics": Metrics(enabled=False)} | sections))


def socket_path(settings: Settings) -> Path:
    folder = settings.state_dir / "run"
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder / "issuer.sock"


@contextmanager
def installation(settings: Settings, clock: Clock) -> Iterator[Installation]:
    with Installation.open(settings, clock()) as opened:
        yield opened


@asynccontextmanager
async def issuer_here(inst: Installation, clock: Clock) -> AsyncIterator[tuple[Service, IssuerClient]]:
    """A service on this loop, and a client of it."""
    path = socket_path(inst.settings)
    listener = bind_unix(path)
    service = Service(inst.store, inst.provider, inst.settings, clock)
    await service.start(listener)
    client = IssuerClient(path, inst.settings.limits.leaf_timeout)
    try:
        yield service, client
    finally:
        await client.close()
        await service.stop()
        listener.close()


class IssuerProcess:
    """``python -m issuer``, started as the supervisor does, on a listening socket that outlives it."""

    def __init__(self, settings: Settings, listener: socket.socket, log: Path) -> None:
        self.control, theirs = socket.socketpair()
        fds = (listener.fileno(), theirs.fileno())
        with log.open("ab") as stderr:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "issuer", "--listen-fd", str(fds[0]), "--control-fd", str(fds[1])],
                stdin=subprocess.PIPE,
                stderr=stderr,
                pass_fds=fds,
                cwd=REPOSITORY,
            )
        theirs.close()
        assert self.process.stdin is not None
        self.process.stdin.write(settings.model_dump_json().encode())
        self.process.stdin.close()

    @property
    def pid(self) -> int:
        return self.process.pid

    def wait_until_ready(self, timeout: float = 30) -> None:
        assert select.select([self.control], [], [], timeout)[0], "the issuer did not become ready"
        assert self.control.recv(1) == b"r"

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def wait(self, timeout: float = 20) -> int:
        return self.process.wait(timeout)

    def end(self) -> None:
        self.control.close()
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(20)


@contextmanager
def listening(settings: Settings) -> Iterator[socket.socket]:
    with bind_unix(socket_path(settings)) as listener:
        yield listener


def count_leaves(settings: Settings) -> int:
    """Rows of the issuance log, read apart from the store under test."""
    return int(_query(settings, "SELECT count(*) FROM leaves"))


def count_leaf_keys(settings: Settings) -> int:
    return int(_query(settings, "SELECT count(*) FROM leaf_keys"))


def _query(settings: Settings, statement: str) -> Any:
    connection = sqlite3.connect(settings.state_dir / DATABASE_FILE)
    try:
        return connection.execute(statement).fetchone()[0]
    finally:
        connection.close()


@contextmanager
def locked_store(settings: Settings) -> Iterator[None]:
    """Somebody else holds the lock that writing needs."""
    connection = sqlite3.connect(settings.state_dir / DATABASE_FILE, isolation_level=None)
    try:
        connection.execute("BEGIN IMMEDIATE")
        yield
        connection.execute("ROLLBACK")
    finally:
        connection.close()


def activate_new_ca(inst: Installation, tenant: str, now: datetime) -> int:
    """Make another CA the tenant's active one, and return its number."""
    with inst.store.transaction() as connection:
        return switch_ca(inst, connection, tenant, now)


def switch_ca(inst: Installation, connection: Connection, tenant: str, now: datetime) -> int:
    """The same, in the caller's transaction."""
    authority = make_built_in(tenant, "test", now)
    found = tenants.by_name(connection, tenant)
    assert found is not None
    key = TenantKey(inst.provider.unwrap(tenants.wrapped_key(connection, found.id), tenant))
    pkcs8 = authority.intermediate_key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    ca = signing_cas.add(
        connection,
        found.id,
        f"ca-{os.urandom(4).hex()}",
        "built_in",
        [authority.intermediate.public_bytes(Encoding.DER), authority.root.public_bytes(Encoding.DER)],
        key.seal(tenant, "signing-ca-key", pkcs8),
        None,
        now,
        "ann",
    )
    signing_cas.activate(connection, found.id, ca.id, now, "ann")
    changes.announce(connection, found.id, "signing_ca_activated", now)
    return ca.id


def active_chain(inst: Installation, tenant: str) -> tuple[x509.Certificate, ...]:
    with inst.store.reading() as connection:
        found = tenants.by_name(connection, tenant)
        assert found is not None
        ca = signing_cas.active(connection, found.id)
    assert ca is not None
    return tuple(x509.load_der_x509_certificate(der) for der in ca.chain)


def parsed(leaf: IssuedLeaf) -> x509.Certificate:
    return x509.load_der_x509_certificate(leaf.certificate)


async def until(what: str, ask: Callable[[], bool], seconds: float = 5) -> None:
    """Wait for something to become true on the running loop. Fails the test, saying what was waited for."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + seconds
    while not ask():
        assert loop.time() < deadline, f"waited {seconds} s for {what}"
        await asyncio.sleep(0.01)
