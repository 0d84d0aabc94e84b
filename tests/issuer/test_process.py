"""The real process: started as the supervisor does, killed, restarted, looked into."""

from __future__ import annotations

import asyncio
import base64
import json
import re
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, load_der_private_key

from config.settings import Settings
from control.installation import Installation
from issuer.client import IssuedLeaf, IssuerClient, IssuerUnavailable
from issuer.protocol import LeafKeyRequest, LeafRequest, encode_request
from issuer.sockets import connect_unix
from kms.envelope import TenantKey
from kms.providers.local import MASTER_KEY_FILE
from store import signing_cas, tenants
from store.engine import DATABASE_FILE
from tests.issuer.rig import (
    DAY,
    REPOSITORY,
    IssuerProcess,
    active_chain,
    count_leaves,
    listening,
    locked_store,
    socket_path,
)


@contextmanager
def running(settings: Settings) -> Iterator[IssuerProcess]:
    log = settings.state_dir / "issuer.log"
    with listening(settings) as listener:
        issuer = IssuerProcess(settings, listener, log)
        try:
            issuer.wait_until_ready()
            yield issuer
        finally:
            issuer.end()


def logged(settings: Settings) -> list[str]:
    return (settings.state_dir / "issuer.log").read_text().splitlines()


async def leaf_of(client: IssuerClient, host: str) -> IssuedLeaf:
    return await client.leaf("default", host, "ecdsa", time.time() + 90 * DAY.total_seconds())


def test_openssl_accepts_the_leaf_with_the_root_alone(
    inst: Installation, tmp_path: Path, need: Callable[[str], str]
) -> None:
    async def run() -> IssuedLeaf:
        client = IssuerClient(socket_path(inst.settings), 5)
        leaf = await leaf_of(client, "www.example")
        await client.close()
        return leaf

    with running(inst.settings):
        leaf = asyncio.run(run())
    pem = {
        "leaf": [leaf.certificate],
        "chain": leaf.chain,
        "root": [active_chain(inst, "default")[-1].public_bytes(Encoding.DER)],
    }
    for name, certificates in pem.items():
        text = b"".join(x509.load_der_x509_certificate(der).public_bytes(Encoding.PEM) for der in certificates)
        (tmp_path / f"{name}.pem").write_bytes(text)
    command = ["verify", "-x509_strict", "-purpose", "sslserver", "-verify_hostname", "www.example"]
    verified = subprocess.run(
        [need("openssl"), *command, "-CAfile", "root.pem", "-untrusted", "chain.pem", "leaf.pem"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (verified.returncode, verified.stdout) == (0, "leaf.pem: OK\n"), verified.stderr


def test_an_issuer_that_is_killed_costs_no_request_that_was_in_flight(inst: Installation) -> None:
    settings = inst.settings
    log = settings.state_dir / "issuer.log"

    async def run() -> None:
        client = IssuerClient(socket_path(settings), 20)
        with listening(settings) as listener:
            first = IssuerProcess(settings, listener, log)
            first.wait_until_ready()
            known = await leaf_of(client, "known.example")
            first.signal(signal.SIGSTOP)
            waiting = [asyncio.ensure_future(leaf_of(client, f"h{number}.example")) for number in range(30)]
            waiting.append(asyncio.ensure_future(leaf_of(client, "known.example")))
            await asyncio.sleep(0.1)
            first.signal(signal.SIGKILL)
            assert first.wait() == -signal.SIGKILL
            second = IssuerProcess(settings, listener, log)
            try:
                answers = await asyncio.gather(*waiting)
            finally:
                await client.close()
                second.end()
                first.end()
        assert answers[-1].certificate == known.certificate, "it was in the store"
        assert len({answer.certificate for answer in answers}) == 31

    asyncio.run(run())
    assert count_leaves(settings) == 31


def test_sigterm_answers_what_is_in_flight_and_exits_with_0(inst: Installation) -> None:
    async def run(issuer: IssuerProcess) -> None:
        client = IssuerClient(socket_path(inst.settings), 5)
        await leaf_of(client, "first.example")
        with locked_store(inst.settings):
            waiting = [asyncio.ensure_future(leaf_of(client, f"h{number}.example")) for number in range(10)]
            await asyncio.sleep(0.3)
            issuer.signal(signal.SIGTERM)
            await asyncio.sleep(0.3)
        assert len(await asyncio.gather(*waiting)) == 10
        assert await asyncio.to_thread(issuer.wait) == 0
        await client.close()

    with running(inst.settings) as issuer:
        asyncio.run(run(issuer))


def test_sigterm_does_not_wait_for_a_store_that_hangs(inst: Installation) -> None:
    async def run(issuer: IssuerProcess) -> None:
        client = IssuerClient(socket_path(inst.settings), 5)
        await leaf_of(client, "first.example")
        with locked_store(inst.settings):
            waiting = asyncio.ensure_future(leaf_of(client, "second.example"))
            await asyncio.sleep(0.3)
            began = time.monotonic()
            issuer.signal(signal.SIGTERM)
            assert await asyncio.to_thread(issuer.wait) == 0
            assert time.monotonic() - began < 4
            await client.close()
            with pytest.raises(IssuerUnavailable):
                await waiting

    with running(inst.settings) as issuer:
        asyncio.run(run(issuer))


def test_it_ends_when_the_supervisor_is_gone(inst: Installation) -> None:
    with running(inst.settings) as issuer:
        issuer.control.close()
        assert issuer.wait() == 0


def test_the_terminals_signals_are_the_supervisors_to_answer(inst: Installation) -> None:
    async def run() -> None:
        client = IssuerClient(socket_path(inst.settings), 5)
        await leaf_of(client, "www.example")
        await client.close()

    with running(inst.settings) as issuer:
        issuer.signal(signal.SIGINT)
        issuer.signal(signal.SIGHUP)
        asyncio.run(run())
        assert issuer.process.poll() is None


@pytest.mark.parametrize(
    ("spoil", "expected"),
    [
        pytest.param(lambda folder: (folder / MASTER_KEY_FILE).write_text("x"), "damaged", id="corrupt key file"),
        pytest.param(lambda folder: (folder / MASTER_KEY_FILE).unlink(), "missing", id="no key file"),
        pytest.param(lambda folder: (folder / MASTER_KEY_FILE).chmod(0o644), "chmod 600", id="a key file for all"),
        pytest.param(lambda folder: (folder / DATABASE_FILE).unlink(), "no database", id="no database"),
        pytest.param(lambda folder: _newer(folder / DATABASE_FILE), "newer", id="a database of a newer version"),
        pytest.param(lambda folder: (folder / DATABASE_FILE).write_text("x" * 5000), "database", id="no SQLite"),
    ],
)
def test_what_it_cannot_start_with_is_one_line_and_exit_status_2(
    inst: Installation, spoil: Callable[[Path], object], expected: str
) -> None:
    inst.close()
    spoil(inst.state_dir)
    log = inst.state_dir / "issuer.log"
    with listening(inst.settings) as listener:
        issuer = IssuerProcess(inst.settings, listener, log)
        try:
            assert issuer.wait() == 2
        finally:
            issuer.end()
    (line,) = logged(inst.settings)
    assert line.startswith("issuer: ")
    assert expected in line


def _newer(database: Path) -> None:
    connection = sqlite3.connect(database)
    connection.execute("UPDATE alembic_version SET version_num = 'from the future'")
    connection.commit()
    connection.close()


def test_the_settings_have_to_be_settings(inst: Installation) -> None:
    command = [sys.executable, "-m", "issuer", "--listen-fd", "0", "--control-fd", "0"]
    ended = subprocess.run(command, cwd=REPOSITORY, input=b'{"workers": "a secret"}', capture_output=True, check=False)
    assert ended.returncode == 2
    assert len(ended.stderr.splitlines()) == 1
    assert b"secret" not in ended.stderr


def ca_key_numbers(inst: Installation) -> bytes:
    """The private number of the default tenant's CA, big-endian."""
    with inst.store.reading() as connection:
        ca = signing_cas.active(connection, 1)
        assert ca is not None
        sealed = signing_cas.sealed_key(connection, ca.id)
        key = TenantKey(inst.provider.unwrap(tenants.wrapped_key(connection, 1), "default"))
    private_key = load_der_private_key(key.open("default", "signing-ca-key", sealed), None)
    assert isinstance(private_key, ec.EllipticCurvePrivateKey)
    return private_key.private_numbers().private_value.to_bytes(32, "big")


def test_the_ca_key_is_in_the_issuers_memory_and_in_no_frame_and_no_log(inst: Installation) -> None:
    secret = ca_key_numbers(inst)
    received = b""
    with running(inst.settings) as issuer:
        assert not in_memory(issuer.pid, secret), "nothing is unsealed before it is needed"
        connection = connect_unix(socket_path(inst.settings))
        connection.settimeout(5)
        with connection:
            for number in range(3):
                connection.sendall(encode_request(LeafRequest(number, "default", f"h{number}.example", "ecdsa", None)))
                received += connection.recv(65_536)
            connection.sendall(encode_request(LeafKeyRequest(9, "default", 1)))
            received += connection.recv(65_536)
        assert in_memory(issuer.pid, secret)
        limits = Path(f"/proc/{issuer.pid}/limits").read_text()
    assert received.count(b'"ok":true') == 4
    for text in (received, (inst.state_dir / "issuer.log").read_bytes()):
        decoded = decoded_base64(text)
        assert secret not in text + decoded
        assert secret[::-1] not in text + decoded
    assert [line.split()[4:6] for line in limits.splitlines() if line.startswith("Max core")] == [["0", "0"]]


def decoded_base64(text: bytes) -> bytes:
    """Every base64 string of the JSON in there, decoded."""
    strings = re.findall(rb'"([A-Za-z0-9+/]{40,}={0,2})"', text)
    return b"\n".join(base64.b64decode(string) for string in strings)


def in_memory(pid: int, secret: bytes) -> bool:
    """Whether the number is in the process's memory, as bytes or as OpenSSL keeps it (limbs, the lowest first)."""
    with Path(f"/proc/{pid}/maps").open() as maps, Path(f"/proc/{pid}/mem").open("rb", buffering=0) as memory:
        for line in maps:
            addresses, mode, *_ = line.split()
            if not mode.startswith("rw"):
                continue
            start, end = (int(address, 16) for address in addresses.split("-"))
            try:
                memory.seek(start)
                content = memory.read(end - start)
            except (OSError, ValueError):
                continue
            if secret in content or secret[::-1] in content:
                return True
    return False


def test_its_memory_is_closed_to_other_processes_of_its_user() -> None:
    # PR_GET_DUMPABLE is 3. Asked in a process of its own, since a test that is root may look into everything.
    ask = "import ctypes; from issuer import hardening; hardening.keep_others_out(); print(ctypes.CDLL(None).prctl(3))"
    output = subprocess.run([sys.executable, "-c", ask], cwd=REPOSITORY, capture_output=True, check=True, text=True)
    assert output.stdout == "0\n"


def test_what_it_writes_is_its_users_alone(inst: Installation) -> None:
    with running(inst.settings) as issuer:
        assert "Umask:\t0077" in Path(f"/proc/{issuer.pid}/status").read_text()


def test_it_logs_json_lines(inst: Installation) -> None:
    with running(inst.settings) as issuer:
        issuer.signal(signal.SIGTERM)
        issuer.wait()
    events = [json.loads(line) for line in logged(inst.settings)]
    said = [event["event"] for event in events if event["event"] != "memory_not_locked"]
    assert said == ["ready", "ended"]
    assert all(event["from"] == "issuer" and event["time"] > 1.7e9 for event in events)
