"""What a worker may do on its connection, and what ends it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import struct
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from control.installation import Installation
from issuer.client import IssuedLeaf, IssuerClient, IssuerUnavailable
from issuer.connection import MOST_IN_FLIGHT
from issuer.protocol import LeafRequest, encode_request
from issuer.service import Service
from issuer.sockets import connect_unix
from tests.issuer.rig import (
    Clock,
    installation,
    issuer_here,
    locked_store,
    settings_for,
    socket_path,
    until,
)

GOOD = encode_request(LeafRequest(1, "default", "www.example", "ecdsa", None))


@asynccontextmanager
async def raw(inst: Installation) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A connection for bytes that no client sends."""
    reader, writer = await asyncio.open_connection(sock=connect_unix(socket_path(inst.settings)))
    try:
        yield reader, writer
    finally:
        writer.transport.abort()
        with contextlib.suppress(OSError):  # it was closed by the other side; that is what these tests are about
            await writer.wait_closed()


def frame(message: object) -> bytes:
    body = message if isinstance(message, bytes) else json.dumps(message).encode()
    return struct.pack(">I", len(body)) + body


@pytest.mark.parametrize(
    "garbage",
    [
        pytest.param(b"GET / HTTP/1.1\r\nHost: issuer\r\n\r\n", id="HTTP"),
        pytest.param(struct.pack(">I", 65_537), id="an oversize frame"),
        pytest.param(struct.pack(">I", 0), id="an empty frame"),
        pytest.param(frame(b"\x00\xff"), id="no JSON"),
        pytest.param(frame({"id": 1, "op": "signing_ca_key", "tenant": "default"}), id="an unknown op"),
        pytest.param(frame({"id": 1, "op": "leaf_key", "tenant": "default", "leaf_key": "1"}), id="a wrong type"),
    ],
)
def test_garbage_ends_that_connection_with_one_line(
    inst: Installation, clock: Clock, capsys: pytest.CaptureFixture[str], garbage: bytes
) -> None:
    async def run() -> None:
        async with issuer_here(inst, clock) as (service, client):
            await client.leaf("default", "www.example", "ecdsa", None)
            capsys.readouterr()
            async with raw(inst) as (reader, writer):
                writer.write(garbage)
                async with asyncio.timeout(5):
                    assert await _until_closed(reader) == b""
            lines = capsys.readouterr().err.splitlines()
            assert [json.loads(line)["event"] for line in lines] == ["peer_garbage"]
            await client.leaf("default", "www.example", "ecdsa", None)  # the others go on
            await until("the end of the connection", lambda: len(service._connections) == 1)

    asyncio.run(run())


async def _until_closed(reader: asyncio.StreamReader) -> bytes:
    try:
        return await reader.read()
    except ConnectionResetError:
        return b""


def test_requests_before_the_garbage_are_not_lost_to_others(inst: Installation, clock: Clock) -> None:
    async def run() -> None:
        async with issuer_here(inst, clock) as (_, client):
            async with raw(inst) as (_, writer):
                writer.write(GOOD + b"\xff\xff\xff\xff")
                leaf = await client.leaf("default", "www.example", "ecdsa", None)
            assert isinstance(leaf, IssuedLeaf)

    asyncio.run(run())


def test_a_frame_may_come_byte_by_byte(inst: Installation, clock: Clock) -> None:
    async def run() -> None:
        async with issuer_here(inst, clock), raw(inst) as (reader, writer):
            for place in range(len(GOOD)):
                writer.write(GOOD[place : place + 1])
                await asyncio.sleep(0)
            (length,) = struct.unpack(">I", await reader.readexactly(4))
            answer = json.loads(await reader.readexactly(length))
            assert (answer["id"], answer["ok"]) == (1, True)

    asyncio.run(run())


def test_a_worker_that_asks_too_often_is_told_so_and_others_are_not_affected(tmp_path: Path, clock: Clock) -> None:
    async def run(inst: Installation) -> None:
        async with issuer_here(inst, clock) as (_, client):
            await client.leaf("default", "www.example", "ecdsa", None)
            asked = await asyncio.gather(
                *(client.leaf("default", "www.example", "ecdsa", None) for _ in range(60)), return_exceptions=True
            )
            refused = [answer for answer in asked if isinstance(answer, IssuerUnavailable)]
            assert {error.code for error in refused} == {"rate_limited"}
            assert 30 <= len(refused) <= 41
            other = IssuerClient(socket_path(inst.settings), 5)
            await other.leaf("default", "www.example", "ecdsa", None)
            await other.close()
            await asyncio.sleep(0.2)
            await client.leaf("default", "www.example", "ecdsa", None)  # the bucket fills again

    with installation(settings_for(tmp_path, limits={"leaves_per_second": 20}), clock) as inst:
        asyncio.run(run(inst))


def test_a_tenant_has_its_share_of_new_leaves_over_all_workers_and_known_ones_cost_nothing(
    tmp_path: Path, clock: Clock
) -> None:
    async def run(inst: Installation) -> None:
        async with issuer_here(inst, clock) as (_, client):
            other = IssuerClient(socket_path(inst.settings), 5)
            asked = await asyncio.gather(
                *((client, other)[n % 2].leaf("default", f"h{n}.example", "ecdsa", None) for n in range(30)),
                return_exceptions=True,
            )
            refused = [answer for answer in asked if isinstance(answer, IssuerUnavailable)]
            assert {(error.code, error.message) for error in refused} == {
                ("rate_limited", "more new leaves in a second than a tenant may have; try again")
            }
            assert 10 <= len(refused) <= 20
            signed = next(n for n, answer in enumerate(asked) if not isinstance(answer, BaseException))
            await asyncio.gather(*(other.leaf("default", f"h{signed}.example", "ecdsa", None) for _ in range(30)))
            with pytest.raises(IssuerUnavailable) as unknown:
                await other.leaf("stranger", "h1.example", "ecdsa", None)
            assert unknown.value.code != "rate_limited"  # each tenant has a share of its own
            await other.close()

    with installation(settings_for(tmp_path, limits={"leaves_per_second_per_tenant": 10}), clock) as inst:
        asyncio.run(run(inst))


def test_a_thousand_requests_are_in_flight_at_most(tmp_path: Path, clock: Clock) -> None:
    async def run(inst: Installation) -> None:
        async with issuer_here(inst, clock) as (service, client):
            await client.leaf("default", "first.example", "ecdsa", None)
            (connection,) = service._connections
            with locked_store(inst.settings):
                asked = [
                    asyncio.ensure_future(client.leaf("default", f"h{number}.example", "ecdsa", None))
                    for number in range(1500)
                ]
                await until("the first requests", lambda: len(connection._tasks) == MOST_IN_FLIGHT)
                await asyncio.sleep(0.2)
                assert len(connection._tasks) == MOST_IN_FLIGHT
                assert connection._transport is not None
                assert not connection._transport.is_reading()
            answers = await asyncio.gather(*asked)
            assert len({leaf.certificate for leaf in answers}) == 1500
            assert connection._transport.is_reading()

    limits = {"leaf_timeout": 60.0, "leaves_per_second": 100_000}
    with installation(settings_for(tmp_path, limits=limits), clock) as inst:
        asyncio.run(run(inst))


def test_reading_goes_on_as_soon_as_one_is_answered(
    inst: Installation, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("issuer.connection.MOST_IN_FLIGHT", 2)

    async def run() -> None:
        async with issuer_here(inst, clock) as (_, client):
            asked = (client.leaf("default", f"h{number}.example", "ecdsa", None) for number in range(9))
            assert len({leaf.certificate for leaf in await asyncio.gather(*asked)}) == 9

    asyncio.run(run())


def test_a_worker_that_reads_no_answers_is_not_answered_into_memory(inst: Installation, clock: Clock) -> None:
    async def run() -> None:
        async with issuer_here(inst, clock) as (service, client):
            await client.leaf("default", "www.example", "ecdsa", None)
            before = set(service._connections)
            async with raw(inst) as (_, writer):
                for _ in range(400):
                    writer.write(GOOD * 50)
                await asyncio.sleep(0.5)
                ((connection),) = service._connections - before
                assert connection._transport is not None
                assert not connection._writing
                assert connection._transport.get_write_buffer_size() < 1 << 20
                assert len(connection._reader._buffer) < 1 << 20

    asyncio.run(run())


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_another_user_is_refused_even_where_the_files_let_it_in(
    inst: Installation, clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    stranger = (
        "import os, socket, sys\n"
        "os.chdir(sys.argv[1])\n"
        "os.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
        "s = socket.socket(socket.AF_UNIX)\n"
        "s.settimeout(5)\n"
        "s.connect('issuer.sock')\n"
        "try:\n"
        "    s.sendall(bytes.fromhex(sys.argv[2]))\n"
        "    print(len(s.recv(100000)))\n"
        "except (ConnectionResetError, BrokenPipeError):\n"
        "    print(0)\n"
    )

    async def run() -> None:
        async with issuer_here(inst, clock) as (_, client):
            await client.leaf("default", "www.example", "ecdsa", None)
            path = socket_path(inst.settings)
            path.chmod(0o666)
            path.parent.chmod(0o711)
            child = await asyncio.create_subprocess_exec(
                sys.executable, "-c", stranger, str(path.parent), GOOD.hex(), stdout=asyncio.subprocess.PIPE
            )
            output, _ = await child.communicate()
            assert (child.returncode, output) == (0, b"0\n")
            refused = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
            assert [(line["event"], line["uid"]) for line in refused] == [("peer_refused", 65534)]

    asyncio.run(run())


def test_what_is_under_way_at_the_end_is_still_answered(inst: Installation, clock: Clock) -> None:
    async def run() -> None:
        async with issuer_here(inst, clock) as (service, client):
            await client.leaf("default", "first.example", "ecdsa", None)
            (connection,) = service._connections
            with locked_store(inst.settings):
                asked = [
                    asyncio.ensure_future(client.leaf("default", f"h{number}.example", "ecdsa", None))
                    for number in range(20)
                ]
                await until("the requests", lambda: len(connection._tasks) == 20)
                stopping = asyncio.ensure_future(service.stop())
                await asyncio.sleep(0.1)
            assert len(await asyncio.gather(*asked)) == 20
            await stopping

    asyncio.run(run())


def test_an_error_of_our_own_is_answered_without_its_text(
    inst: Installation, clock: Clock, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async def run() -> None:
        async with issuer_here(inst, clock) as (service, client):

            def broken(service: Service) -> None:
                raise ZeroDivisionError("a secret")

            monkeypatch.setattr(service.issuance, "_find_kept", broken)
            monkeypatch.setattr(service.issuance, "_log", None)
            with pytest.raises(IssuerUnavailable) as caught:
                await client.leaf("default", "www.example", "ecdsa", None)
            assert caught.value.code == "internal"
            assert "secret" not in str(caught.value) + capsys.readouterr().err

    asyncio.run(run())
