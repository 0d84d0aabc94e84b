"""A signing CA whose key only a key manager has: through the daemon, while that comes and goes.

The key manager is PyKMIP's server over mutual TLS, a process of its own.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from tests.control.test_signing_cas import openssl
from tests.e2e.conftest import ISSUING, PUBLIC
from tests.harness.curl import curl
from tests.harness.daemon import Daemon
from tests.harness.kmip_server import KmipServer
from tests.harness.monitor import readiness, scrape, value
from tests.harness.origins import Nginx, Site
from tests.harness.pki import Authority
from tests.harness.processes import tree, wait_for
from tests.harness.programs import need
from tests.kms.kmip.rig import HOST, SIGNING_KEY, root, server_identity

HOSTS = 40


@pytest.fixture(scope="module")
def manager(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KmipServer]:
    with KmipServer(tmp_path_factory.mktemp("kmip"), server_identity(), root()) as server:
        server.register("signing", SIGNING_KEY)
        yield server


@pytest.fixture(scope="module")
def origin(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nginx]:
    need("nginx")
    site = Site("good.example", ISSUING.leaf(["good.example", "*.many.example"]))
    with Nginx(tmp_path_factory.mktemp("origin"), [site]) as nginx:
        yield nginx


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory, manager: KmipServer, origin: Nginx) -> Iterator[Daemon]:
    """Its client certificate signed by openssl for a key that was made here, its CA connected and active."""
    folder = tmp_path_factory.mktemp("daemon")
    hosts = {f"host{number}.many.example": "127.0.0.1" for number in range(HOSTS)}
    hosts |= {
        "passed.many.example": "127.0.0.1",
        "known.many.example": "127.0.0.1",
        "good.example": "127.0.0.1",
        "new.many.example": "127.0.0.1",
        HOST: "127.0.0.1",
    }
    with connected(folder, manager, hosts, timeout=3) as running:
        yield running


@contextmanager
def connected(
    folder: Path, manager: KmipServer, hosts: dict[str, str], leaf_timeout: float = 3, **kmip: int
) -> Iterator[Daemon]:
    extra = {"kmip": {"allow_private_addresses": True, **kmip}, "limits": {"leaf_timeout": leaf_timeout}}
    with Daemon(folder, hosts=hosts, common=PUBLIC, workers=2, metrics=True, extra=extra) as running:
        client_certificate(running, folder)
        (folder / "ca.pem").write_bytes(_issuing().chain_pem(with_root=True))
        running.told("signing-ca", "connect", "hsm", "--intermediate", str(folder / "ca.pem"), "--key-name", "signing",
                     "--primary", f"{HOST}:{manager.port}", "--activate")  # fmt: skip
        yield running


def _issuing() -> Authority:
    return Authority.root("Organisation Root").intermediate("Organisation Proxy", key=SIGNING_KEY)


def client_certificate(daemon: Daemon, folder: Path) -> None:
    """Have the key manager's CA sign a client certificate for a key that is made here, by openssl."""
    daemon.told("kmip", "csr", "--common-name", "sallyport", "--output", str(folder / "client.csr"))
    (folder / "root.pem").write_bytes(root().pem())
    (folder / "root.key").write_bytes(root().key_pem())
    (folder / "client.cnf").write_text("keyUsage=critical,digitalSignature\nextendedKeyUsage=clientAuth\n")
    openssl(folder, "x509", "-req", "-in", "client.csr", "-CA", "root.pem", "-CAkey", "root.key", "-days", "30",
            "-extfile", "client.cnf", "-out", "client.pem")  # fmt: skip
    daemon.told("kmip", "set", "--client-cert", str(folder / "client.pem"), "--server-ca", str(folder / "root.pem"))


def ask(daemon: Daemon, origin: Nginx, host: str) -> int:
    answer = curl(daemon, origin["good.example"].url(host=host), "--cacert", str(daemon.root_of("default")))
    return answer.status if answer.exit_code == 0 else -answer.exit_code


def manager_of(daemon: Daemon) -> dict[str, Any]:
    """The key manager's host, as ``sallyport nodes`` tells of it for each worker."""
    found = json.loads(daemon.told("nodes", "--json"))
    assert len(found) == 2
    (host,) = found[0]["key_manager"]["hosts"]
    return dict(host)


def told(daemon: Daemon, origin: Nginx, host: str) -> str | None:
    """The Proxy-Status of a CONNECT that is refused with 502."""
    answer = curl(daemon, origin["good.example"].url(host=host)).connect
    return answer.headers.get("proxy-status") if answer is not None and answer.status == 502 else None


def test_clients_see_leaves_that_only_the_key_manager_can_have_signed(
    daemon: Daemon, origin: Nginx, manager: KmipServer
) -> None:
    # Curl trusts the organisation's root alone, which is above what only the key manager's key can have signed.
    assert ask(daemon, origin, "good.example") == 200
    raw = SIGNING_KEY.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    secret = SIGNING_KEY.private_numbers().p.to_bytes(128)
    for path in daemon.state_dir.rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            assert raw not in content
            assert secret not in content
    for pid in tree(daemon.pids().supervisor):
        assert not _holds(pid, secret), Path(f"/proc/{pid}/cmdline").read_bytes()


def test_each_host_costs_one_signature_whoever_asks(daemon: Daemon, origin: Nginx, manager: KmipServer) -> None:
    before = manager.signed()
    with ThreadPoolExecutor(8) as pool:
        hosts = [f"host{number % HOSTS}.many.example" for number in range(HOSTS * 3)]
        statuses = list(pool.map(lambda host: ask(daemon, origin, host), hosts))
    assert set(statuses) == {200}
    assert manager.signed() - before == HOSTS
    labels = {"tenant": "default", "signer": "kmip"}
    minted = wait_for("the counts are told", lambda: value(scrape(daemon), "leaves_minted_total", **labels), 10)
    assert minted >= HOSTS
    host = manager_of(daemon)
    assert (host["address"], host["state"], host["down_since"]) == (f"{HOST}:{manager.port}", "well", None)
    assert host["connections"] >= 1
    assert 0 < host["signature_seconds"] < 60
    assert host["last_signature"] is not None


def test_a_key_manager_that_hangs_or_is_gone_holds_up_new_hosts_alone_and_is_used_again_when_it_is_back(
    daemon: Daemon, origin: Nginx, manager: KmipServer
) -> None:
    for known in ("good.example", "known.many.example"):
        assert ask(daemon, origin, known) == 200
    manager.stop()
    try:
        with ThreadPoolExecutor(2) as pool:
            hanging = pool.submit(ask, daemon, origin, "new.many.example")
            assert ask(daemon, origin, "good.example") == 200
            assert hanging.result(30) < 0
    finally:
        manager.go_on()
    manager.kill()
    # As soon as it is known, who comes for a new host is told in the answer to the CONNECT; others notice nothing.
    refused = wait_for("who cannot be served is told", lambda: told(daemon, origin, "new.many.example"), 20)
    assert refused == 'sallyport; error=proxy_internal_error; details="key_manager"'
    assert ask(daemon, origin, "good.example") == 200
    assert ask(daemon, origin, "known.many.example") == 200
    assert manager_of(daemon)["state"] == "down"
    # It may have been given up while it hung, and then the next try is what finds it gone.
    said = (f"{HOST}:{manager.port}", "down since 20", "next try 20", f"no connection to {HOST}")
    wait_for("nodes to say why", lambda: all(words in daemon.told("nodes") for words in said), 20)
    # What is not decrypted needs no leaf.
    (daemon.folder / "public.pem").write_bytes(PUBLIC.pem())
    url, own = origin["good.example"].url(host="passed.many.example"), ("--cacert", str(daemon.folder / "public.pem"))
    daemon.told("bypass", "add", "passed.many.example")
    assert wait_for("the rule to count", lambda: curl(daemon, url, *own).status == 200)
    manager.start()
    wait_for("the key manager is used again", lambda: ask(daemon, origin, "new.many.example") == 200, 20)
    assert daemon.log("kmip_host_down")
    assert daemon.log("kmip_host_up")
    assert manager_of(daemon)["state"] == "well"


def test_more_new_hosts_than_it_may_be_asked_for_are_told_so_and_nothing_else_is_touched(
    tmp_path: Path, origin: Nginx, manager: KmipServer
) -> None:
    new = [f"host{number}.many.example" for number in range(400)]
    hosts = dict.fromkeys([*new, "good.example", HOST], "127.0.0.1")
    with (
        connected(tmp_path, manager, hosts, leaf_timeout=10, signatures_per_second=1) as daemon,
        ThreadPoolExecutor(8) as pool,
    ):
        assert wait_for("a first leaf", lambda: ask(daemon, origin, "good.example") == 200, 30)
        left, before = iter(new), manager.signed()
        began = time.monotonic()

        def all_at_once() -> set[str]:
            asked = pool.map(partial(told, daemon, origin), islice(left, 8))
            return {answer for answer in asked if answer is not None}

        refused = wait_for("who cannot be served is told", all_at_once, 60)
        assert refused == {'sallyport; error=proxy_internal_error; details="key_manager"'}
        assert ask(daemon, origin, "good.example") == 200
        assert readiness(daemon) == (200, ["ready"])
        assert manager.signed() - before <= time.monotonic() - began + 2
        labels = {"host": f"{HOST}:{manager.port}", "reason": "limited"}
        assert wait_for("it is counted", lambda: value(scrape(daemon), "kmip_errors_total", **labels), 10)


def _holds(pid: int, secret: bytes) -> bool:
    """Whether a process has these octets in memory that it can write."""
    for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
        where, rights = line.split()[:2]
        if "w" not in rights or "[v" in line:
            continue
        begin, _, end = where.partition("-")
        with Path(f"/proc/{pid}/mem").open("rb") as memory:
            try:
                memory.seek(int(begin, 16))
                content = memory.read(int(end, 16) - int(begin, 16))
            except (OSError, ValueError, OverflowError):
                continue
        if secret in content or secret[::-1] in content:
            return True
    return False


def test_what_would_be_found_in_memory_is_found_there() -> None:
    """The search above is worth something: this process has such octets."""
    secret = os.urandom(64)
    kept = bytearray(b"before" + secret + b"behind")
    assert _holds(os.getpid(), secret)
    assert kept
