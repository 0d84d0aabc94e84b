"""What dies is replaced and costs only what it must; no worker's memory holds a CA key."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_der_private_key

from kms.envelope import TenantKey
from kms.providers.local import MASTER_KEY_FILE, LocalProvider
from store import signing_cas, tenants
from store.engine import Store
from tests.e2e.conftest import ISSUING, PUBLIC
from tests.harness.curl import command, curl
from tests.harness.daemon import Daemon
from tests.harness.origins import Nginx, Site
from tests.harness.processes import wait_for


@pytest.fixture
def sites(tmp_path: Path) -> Iterator[Nginx]:
    with Nginx(
        tmp_path, [Site(name, ISSUING.leaf(name)) for name in ("one.example", "two.example", "new.example")]
    ) as it:
        yield it


def run(folder: Path, sites: Nginx, workers: int = 2) -> Daemon:
    return Daemon(folder / "daemon", hosts=dict.fromkeys(sites.sites, "127.0.0.1"), common=PUBLIC, workers=workers)


def test_a_killed_worker_costs_only_its_connections(tmp_path: Path, sites: Nginx) -> None:
    with run(tmp_path, sites) as daemon:
        assert curl(daemon, sites["one.example"].url()).status == 200
        workers = daemon.pids().workers
        os.kill(workers[0], signal.SIGKILL)
        # The other worker goes on at once; nobody is refused in between.
        for _ in range(20):
            assert curl(daemon, sites["one.example"].url()).status == 200
        wait_for("a new worker", lambda: len(set(daemon.pids().workers) - {workers[0]}) == 2)
        assert workers[1] in daemon.pids().workers
        assert daemon.wait_log("process died", pid=workers[0])


def test_a_killed_worker_that_was_alone_is_back_and_nobody_is_refused(tmp_path: Path, sites: Nginx) -> None:
    with run(tmp_path, sites, workers=1) as daemon:
        before = daemon.pids().workers[0]
        os.kill(before, signal.SIGKILL)
        # The socket is the supervisor's: a connection waits in its queue until the new worker takes it.
        assert curl(daemon, sites["one.example"].url()).status == 200
        assert daemon.pids().workers[0] != before


def test_a_killed_issuer_costs_known_hosts_nothing_and_new_ones_the_time_of_its_start(
    tmp_path: Path, sites: Nginx
) -> None:
    with run(tmp_path, sites, workers=1) as daemon:
        assert curl(daemon, sites["one.example"].url()).status == 200
        issuer = daemon.pids().issuer
        os.kill(issuer, signal.SIGKILL)
        known = curl(daemon, sites["one.example"].url())
        new = curl(daemon, sites["new.example"].url())
        assert (known.status, new.status) == (200, 200)
        assert daemon.pids().issuer != issuer

        def ready() -> list[float]:
            return [entry["time"] for entry in daemon.log("ready") if entry["from"] == "issuer"]

        wait_for("both issuers in the log", lambda: len(ready()) == 2)
        *_, for_known, for_new = [entry["time"] for entry in daemon.log("request")]
        # How long a program takes to start is the machine's; what counts is what waits for it, and for how long.
        assert for_known < ready()[1]
        assert for_new < ready()[1] + 1


def test_when_the_supervisor_is_killed_nothing_is_left(tmp_path: Path, sites: Nginx) -> None:
    with run(tmp_path, sites) as daemon:
        pids = daemon.pids()
        os.kill(pids.supervisor, signal.SIGKILL)
        wait_for(
            "the issuer and the workers to end",
            lambda: not any(Path(f"/proc/{pid}/exe").exists() for pid in (pids.issuer, *pids.workers)),
        )
        daemon.kill()
        daemon.start()
        assert curl(daemon, sites["one.example"].url()).status == 200


def test_sigterm_lets_a_download_end(tmp_path: Path, sites: Nginx) -> None:
    path = sites.file("slow.bin", 200_000)
    with run(tmp_path, sites) as daemon:
        workers = daemon.pids().workers
        resting = daemon.resting_files(*workers)
        download = subprocess.Popen(
            command(daemon, sites["one.example"].url(f"/slow{path}"), "-o", "/dev/null", "-w", "%{size_download}"),
            stdout=subprocess.PIPE,
            text=True,
        )
        idle = socket.create_connection(daemon.proxy.split(":"))
        # Two for the download, one for the client that says nothing.
        wait_for("the download to begin", lambda: sum(daemon.open_files(pid) for pid in workers) >= resting + 3)
        os.kill(daemon.pids().supervisor, signal.SIGTERM)
        assert download.communicate(timeout=30)[0] == "200000"
        assert idle.recv(1) == b""
        idle.close()
        wait_for("the daemon to end", lambda: daemon.process.poll() is not None)
        daemon.stop()


def memory_holds(pid: int, needle: bytes) -> bool:
    """Whether the process's readable memory has these bytes anywhere."""
    with Path(f"/proc/{pid}/mem").open("rb", buffering=0) as memory:
        for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
            match = re.match(r"([0-9a-f]+)-([0-9a-f]+) r", line)
            if match is None or "[v" in line:
                continue
            start, end = int(match[1], 16), int(match[2], 16)
            try:
                memory.seek(start)
                if needle in memory.read(end - start):
                    return True
            except OSError:
                continue
    return False


def test_a_workers_memory_holds_no_ca_key_and_the_issuers_does(tmp_path: Path, sites: Nginx) -> None:
    if os.geteuid() != 0:
        pytest.skip("reading another process's memory takes root")
    with run(tmp_path, sites) as daemon:
        for _ in range(6):
            assert curl(daemon, sites["one.example"].url()).status == 200
            assert curl(daemon, sites["two.example"].url()).status == 200
        with Store.open(daemon.state_dir / "sallyport.db", create=False) as store, store.reading() as connection:
            tenant = tenants.by_name(connection, "default")
            assert tenant is not None
            authority = signing_cas.active(connection, tenant.id)
            assert authority is not None
            wrapped = tenants.wrapped_key(connection, tenant.id)
            sealed = signing_cas.sealed_key(connection, authority.id)
        provider = LocalProvider.open(daemon.state_dir / MASTER_KEY_FILE, create=False)
        raw = provider.unwrap(wrapped, "default")
        key = load_der_private_key(TenantKey(raw).open("default", "signing-ca-key", sealed), None)
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        secret = key.private_numbers().private_value
        # OpenSSL keeps the number as machine words, the lowest first; DER has it the other way round.
        forms = [secret.to_bytes(32, "little"), secret.to_bytes(32, "big")]
        pids = daemon.pids()
        assert any(memory_holds(pids.issuer, form) for form in forms)
        for worker in (pids.supervisor, *pids.workers):
            assert not any(memory_holds(worker, form) for form in forms)
            assert not memory_holds(worker, raw)
        # The search works on a worker too: it finds what a worker does hold.
        assert any(memory_holds(worker, b"one.example") for worker in pids.workers)


def test_nothing_secret_is_in_the_log_or_on_a_command_line(tmp_path: Path, sites: Nginx) -> None:
    with run(tmp_path, sites) as daemon:
        curl(daemon, sites["one.example"].url("/?token=abracadabra"), "-H", "Authorization: Bearer abracadabra")
        daemon.wait_log("request")
        assert "abracadabra" not in daemon.stderr_text()
        assert "PRIVATE KEY" not in daemon.stderr_text()


def test_idle_connections_end_in_their_time(tmp_path: Path, sites: Nginx) -> None:
    limits = {"connect_head_timeout": 1.0, "tls_timeout": 1.0, "idle_timeout": 2.0}
    with Daemon(
        tmp_path / "daemon", hosts={"one.example": "127.0.0.1"}, common=PUBLIC, extra={"limits": limits}
    ) as daemon:
        host, port = daemon.proxy.split(":")
        started = time.monotonic()
        silent = socket.create_connection((host, int(port)))
        slow = socket.create_connection((host, int(port)))
        slow.sendall(b"CONNECT one.example:443 HT")
        half = socket.create_connection((host, int(port)))
        half.sendall(f"CONNECT one.example:{sites['one.example'].port} HTTP/1.1\r\n\r\n".encode())
        assert half.recv(100).startswith(b"HTTP/1.1 200")
        half.sendall(b"\x16\x03\x01")
        for connection in (silent, slow, half):
            connection.settimeout(10)
            while connection.recv(4096):
                pass
            connection.close()
        assert time.monotonic() - started < 8
