"""The forwarder, a process between our client and a real PyKMIP server: what passes, and what does not."""

from __future__ import annotations

import asyncio
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator, Coroutine, Iterator, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from kmip.core import attributes, enums, objects
from kmip.core.messages import payloads

from kms.kmip import operations
from kms.kmip.connection import Connection, connect
from kms.kmip.enrolment import EnrolmentError, create_key, public_key
from kms.kmip.errors import KmipError, Reason
from kms.kmip.forwarder import Forwarder, ForwarderLimits
from kms.kmip.gate import LARGEST_REQUEST
from kms.kmip.messages import VERSIONS, Encoder, Question
from kms.kmip.operations import SignatureScheme
from kms.kmip.validation import Step, steps
from tests.harness.kmip_forwarder import ForwarderProcess
from tests.harness.kmip_server import KmipServer, client_certificate
from tests.harness.pki import Authority
from tests.harness.processes import free_port, wait_for
from tests.kms.kmip.rig import HOST, SIGNING_KEY, at, client, identity_of, reach, root, server_identity

SCHEME = SignatureScheme("RSA", "SHA_256")
INSIDE = Authority.root("Forwarder Root")
"""Of the forwarder's certificate, and of who may connect to it: another PKI than the key manager's."""


def forwarding(folder: Path, target: int, *options: str) -> ForwarderProcess:
    return ForwarderProcess(folder, target, INSIDE.leaf(HOST), INSIDE, client(), root(), *options)


@pytest.fixture(scope="module")
def manager(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KmipServer]:
    with KmipServer(tmp_path_factory.mktemp("kmip"), server_identity(), root()) as server:
        server.register("signing", SIGNING_KEY)
        server.register("another", SIGNING_KEY)
        server.register_public("signing", SIGNING_KEY.public_key())
        yield server


@pytest.fixture(scope="module")
def forwarder(tmp_path_factory: pytest.TempPathFactory, manager: KmipServer) -> Iterator[ForwarderProcess]:
    made = forwarding(tmp_path_factory.mktemp("forwarder"), manager.port, "--key-name", "signing")
    yield made
    assert made.end() == 0
    assert made.events("ended")


def inside(**more: Any) -> Any:
    """How a client of the forwarder reaches it."""
    return reach(identity_of(client_certificate(INSIDE, **more), server_ca=INSIDE))


def run[A](work: Coroutine[Any, Any, A]) -> A:
    async def within() -> A:
        async with asyncio.timeout(30):
            return await work

    return asyncio.run(within())


async def refused(connection: Connection, question: Question[Any]) -> KmipError:
    with pytest.raises(KmipError) as caught:
        await connection.ask(question)
    assert caught.value.reason is Reason.REFUSED
    assert connection.usable
    return caught.value


def test_what_a_signing_ca_needs_passes_step_by_step(forwarder: ForwarderProcess) -> None:
    async def work() -> list[tuple[Step, bool]]:
        looking = steps(at(forwarder.port), inside(), "signing", SIGNING_KEY.public_key(), False, 10)
        return [(found.step, found.passed) async for found in looking]

    assert run(work()) == [(step, True) for step in Step]


@pytest.mark.parametrize("version", VERSIONS)
def test_every_version_passes(forwarder: ForwarderProcess, version: tuple[int, int]) -> None:
    async def work() -> None:
        agreed = await connect(at(forwarder.port), inside())
        connection = Connection(agreed.at, version, None)
        assert "SIGN" in (await connection.ask(operations.query())).operations
        (found,) = await connection.ask(operations.locate_private_keys("signing"))
        assert (await connection.ask(operations.get_attributes(found))).state == "ACTIVE"
        assert len(await connection.ask(operations.sign(found, SCHEME, b"data"))) == 256
        await connection.close()

    run(work())


def test_no_key_is_made_through_it_and_no_public_key_got_which_is_said_plainly(forwarder: ForwarderProcess) -> None:
    async def work() -> None:
        place, within = at(forwarder.port), inside()
        with pytest.raises(EnrolmentError) as caught:
            await create_key([place], within, "new", 2048, 10)
        assert "no key pair was made: CreateKeyPair was refused (OPERATION_NOT_SUPPORTED): " in str(caught.value)
        assert "CreateKeyPair does not pass this forwarder; make it there" in str(caught.value)
        with pytest.raises(EnrolmentError) as caught:
            await public_key(place, within, "signing", 10)
        assert "Get does not pass this forwarder; give it with --public-key FILE" in str(caught.value)

    run(work())


def _questions() -> Sequence[tuple[str, Any]]:
    return (
        ("GET", payloads.GetRequestPayload("1")),
        ("CREATE_KEY_PAIR", operations.create_key_pair("new", "new-public", 2048, {}).payload),
        ("DESTROY", payloads.DestroyRequestPayload()),
        ("ACTIVATE", payloads.ActivateRequestPayload(attributes.UniqueIdentifier("1"))),
        ("REVOKE", payloads.RevokeRequestPayload(attributes.UniqueIdentifier("1"), objects.RevocationReason())),
        ("CREATE", payloads.CreateRequestPayload(enums.ObjectType.SYMMETRIC_KEY, objects.TemplateAttribute())),
        ("DECRYPT", payloads.DecryptRequestPayload("1", None, b"data")),
        ("GET_ATTRIBUTE_LIST", payloads.GetAttributeListRequestPayload("1")),
    )


@pytest.mark.parametrize(("name", "payload"), _questions(), ids=[name for name, _ in _questions()])
def test_other_operations_do_not_pass_and_are_logged(forwarder: ForwarderProcess, name: str, payload: Any) -> None:
    async def work() -> KmipError:
        connection = await connect(at(forwarder.port), inside())
        error = await refused(connection, Question(enums.Operation[name], payload, lambda found: found))
        # The connection, and the key manager, go on.
        assert await connection.ask(operations.locate_private_keys("signing"))
        await connection.close()
        return error

    error = run(work())
    assert error.said == "OPERATION_NOT_SUPPORTED"
    assert "does not pass this forwarder" in str(error)
    assert wait_for(
        "it to be logged", lambda: [one for one in forwarder.events("denied") if name in one.get("operations", ())]
    )


def test_keys_of_other_names_can_neither_be_found_nor_used(forwarder: ForwarderProcess) -> None:
    async def work() -> None:
        connection = await connect(at(forwarder.port), inside())
        error = await refused(connection, operations.locate_private_keys("another"))
        assert "by the name of one that may be used here" in str(error)
        for question in (operations.get_attributes("2"), operations.sign("2", SCHEME, b"data")):
            assert (await refused(connection, question)).said == "ITEM_NOT_FOUND"
        everything = payloads.LocateRequestPayload()
        await refused(connection, Question(enums.Operation.LOCATE, everything, lambda found: found))
        await connection.close()

    run(work())


def test_who_has_no_certificate_of_its_ca_does_not_come_in(forwarder: ForwarderProcess) -> None:
    for stranger in (
        reach(identity_of(client(), server_ca=INSIDE)),
        inside(eku=["server"]),
    ):
        with pytest.raises(KmipError, match="client certificate"):
            run(connect(at(forwarder.port), stranger))


@pytest.mark.parametrize(
    "octets",
    [
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        bytes.fromhex("42007801") + (LARGEST_REQUEST + 1).to_bytes(4),
        bytes.fromhex("4200780100000008") + bytes(8),
        bytes.fromhex("4200780100000000"),
    ],
)
def test_what_is_no_request_is_answered_with_an_error_or_nothing(forwarder: ForwarderProcess, octets: bytes) -> None:
    async def work() -> bytes:
        connection = await connect(at(forwarder.port), inside())
        connection.at.writer.write(octets)
        connection.at.writer.write_eof() if connection.at.writer.can_write_eof() else None
        answer = await connection.at.reader.read(8)
        connection.abort()
        again = await connect(at(forwarder.port), inside())
        await again.close()
        return answer

    assert run(work())[:4] in (b"", bytes.fromhex("42007b01"))


def test_it_says_whether_a_key_manager_can_be_reached(forwarder: ForwarderProcess, tmp_path: Path) -> None:
    assert wait_for("it to be well", lambda: forwarder.healthy() == (200, "ok\n"))
    nobody = forwarding(tmp_path / "nobody", free_port())
    try:
        status, text = wait_for("it to have looked", lambda: "refused" in (found := nobody.healthy())[1] and found)
        assert status == 503
        assert text.startswith("no target: no connection to 127.0.0.1:")
        with pytest.raises(KmipError) as caught:
            run(connect(at(nobody.port), inside()))
        # As if the key manager itself had closed: another host of it is asked.
        assert not caught.value.answered
    finally:
        nobody.end()


@asynccontextmanager
async def forwarder_here(target: int, folder: Path, limits: ForwarderLimits) -> AsyncIterator[tuple[int, list[Any]]]:
    """One in this process: its port, and what it logs."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(cadata=INSIDE.raw)
    context.load_cert_chain(*map(str, INSIDE.leaf(HOST).write(folder, "own")))
    said: list[Any] = []
    forwarder = Forwarder([at(target)], reach(), limits, None, lambda event, **more: said.append((event, more)), clock)
    async with await forwarder.listen("127.0.0.1", 0, context) as server:
        yield server.sockets[0].getsockname()[1], said
        server.close_clients()


def clock() -> float:
    return 0.0


async def ended(reader: asyncio.StreamReader) -> bool:
    try:
        return await reader.read() == b""
    except ConnectionResetError:
        return True


def test_who_connects_and_says_nothing_is_bounded_and_let_go(manager: KmipServer, tmp_path: Path) -> None:
    async def work() -> None:
        limits = ForwarderLimits(connections=8, request=3.0)
        async with forwarder_here(manager.port, tmp_path, limits) as (port, said):
            silent = [await asyncio.open_connection("127.0.0.1", port) for _ in range(4)]
            for reader, _ in silent[2:]:
                assert await ended(reader), "one address has a quarter of the places"
            assert len(said) == 1, "and that is not logged for each"
            assert said[0][0] == "too many connections"
            assert said[0][1]["client"] == "127.0.0.1"
            for reader, _ in silent[:2]:
                assert await ended(reader), "their handshake has taken too long"
            connection = await connect(at(port), inside())
            assert await connection.ask(operations.locate_private_keys("signing"))
            await connection.close()
            for _, writer in silent:
                writer.close()

    run(work())


def test_no_more_than_so_many_are_served_and_who_leaves_makes_room(manager: KmipServer, tmp_path: Path) -> None:
    async def work() -> None:
        async with forwarder_here(manager.port, tmp_path, ForwarderLimits(connections=1)) as (port, said):
            first = await connect(at(port), inside())
            with pytest.raises(KmipError):
                await connect(at(port), inside())
            assert said[0][1]["reason"] == "connections; at most 1"
            await first.close()
            again: list[Connection] = []
            while not again:
                with suppress(KmipError):
                    again.append(await connect(at(port), inside()))
            await again[0].close()

    run(work())


def test_what_is_said_in_the_clear_is_no_request(manager: KmipServer, tmp_path: Path) -> None:
    async def work() -> None:
        before = manager.signed()
        async with forwarder_here(manager.port, tmp_path, ForwarderLimits()) as (port, said):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(Encoder((1, 4)).request(operations.sign("1", SCHEME, b"data")).octets)
            with suppress(ConnectionResetError):
                assert await reader.read(4) != bytes.fromhex("42007b01")
            writer.close()
            assert said == []
        assert manager.signed() == before

    run(work())


def test_more_connections_than_there_can_be_open_files_are_refused_with_how_many_there_can_be() -> None:
    options = " ".join(f"--{name} x" for name in ("cert", "key", "client-ca", "target-cert", "target-key", "target-ca"))
    command = f"{sys.executable} -m cli.main kmip forwarder --listen 127.0.0.1:1 --target a.example {options}"
    done = subprocess.run(
        ["bash", "-c", f"ulimit -n 400; exec {command} --connections 500"], capture_output=True, check=False
    )
    assert done.returncode == 2
    assert b"--connections 500 needs 1564 open files, and this process may have 400: at most 112" in done.stderr


def test_a_key_that_others_may_read_is_refused(tmp_path: Path) -> None:
    certificate, key = INSIDE.leaf(HOST).write(tmp_path, "own")
    key.chmod(0o644)
    ca = tmp_path / "ca.pem"
    ca.write_bytes(INSIDE.pem())
    files = ["--cert", certificate, "--key", key, "--client-ca", ca, "--target-cert", certificate, "--target-key", key]
    command = [
        sys.executable,
        "-m",
        "cli.main",
        "kmip",
        "forwarder",
        "--listen",
        "127.0.0.1:1",
        "--target",
        "a.example",
    ]
    done = subprocess.run([*command, *map(str, files), "--target-ca", str(ca)], capture_output=True, check=False)
    assert done.returncode == 2
    assert b"others may read this private key; chmod 600 it" in done.stderr
