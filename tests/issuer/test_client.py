"""The client against issuers that are not there, go away, or talk nonsense."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from issuer.client import IssuerClient, IssuerUnavailable
from issuer.protocol import (
    Code,
    Failure,
    FrameReader,
    LeafAnswer,
    LeafKeyAnswer,
    Request,
    decode_request,
    encode_answer,
)
from issuer.sockets import bind_unix
from tests.issuer.rig import REPOSITORY

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def answer_to(request: Request) -> bytes:
    return encode_answer(LeafAnswer(request.id, b"leaf", (b"ca",), 1, 2, 3, 4.0, 3.0))


async def requests(reader: asyncio.StreamReader) -> AsyncIterator[Request]:
    frames = FrameReader()
    while data := await reader.read(65_536):
        frames.feed(data)
        while (frame := frames.next()) is not None:
            yield decode_request(frame)


@asynccontextmanager
async def issuer_that(tmp_path: Path, serve: Serve, seconds: float = 5) -> AsyncIterator[IssuerClient]:
    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            await serve(reader, writer)
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()

    path = tmp_path / "issuer.sock"
    with bind_unix(path) as listener:
        server = await asyncio.start_server(connected, sock=listener)
        client = IssuerClient(path, seconds)
        try:
            yield client
        finally:
            await client.close()
            server.close()
            await server.wait_closed()


async def refused(client: IssuerClient) -> str:
    with pytest.raises(IssuerUnavailable) as caught:
        await client.leaf("default", "www.example", "ecdsa", None)
    return caught.value.code


def test_answers_find_their_requests_in_any_order(tmp_path: Path) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen = []
        async for request in requests(reader):
            seen.append(request)
            if len(seen) == 3:
                for one in reversed(seen):
                    answer = LeafAnswer(one.id, one.host.encode(), (), 1, 2, 3, 4.0, 3.0)  # type: ignore[union-attr]  # all are for leaves
                    writer.write(encode_answer(answer))

    async def run() -> None:
        async with issuer_that(tmp_path, serve) as client:
            hosts = ("a.example", "b.example", "c.example")
            leaves = await asyncio.gather(*(client.leaf("t", host, "ecdsa", None) for host in hosts))
            assert [leaf.certificate.decode() for leaf in leaves] == list(hosts)
            assert client._waiting == {}

    asyncio.run(run())


def test_no_issuer_is_a_timeout_within_the_time_given(tmp_path: Path) -> None:
    async def run() -> None:
        client = IssuerClient(tmp_path / "issuer.sock", 0.3)
        loop = asyncio.get_running_loop()
        began = loop.time()
        assert await refused(client) == "timeout"
        assert 0.25 < loop.time() - began < 1
        assert client._waiting == {}
        await client.close()

    asyncio.run(run())


def test_an_issuer_that_is_silent_is_a_timeout_and_its_late_answer_is_dropped(tmp_path: Path) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async for request in requests(reader):
            if request.id == 1:
                await asyncio.sleep(0.4)
            writer.write(answer_to(request))

    async def run() -> None:
        async with issuer_that(tmp_path, serve, seconds=0.3) as client:
            assert await refused(client) == "timeout"
            assert (await client.leaf("default", "www.example", "ecdsa", None)).certificate == b"leaf"

    asyncio.run(run())


def test_what_was_unanswered_is_asked_again_on_a_new_connection(tmp_path: Path) -> None:
    seen: list[list[int]] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append([])
        async for request in requests(reader):
            seen[-1].append(request.id)
            if len(seen) == 1:
                if len(seen[0]) == 3:
                    writer.write(answer_to(request))
                    await writer.drain()
                    return  # the first two are never answered here
            else:
                writer.write(answer_to(request))

    async def run() -> None:
        async with issuer_that(tmp_path, serve) as client:
            await asyncio.gather(*(client.leaf("t", f"{n}.example", "ecdsa", None) for n in range(3)))
            assert seen == [[1, 2, 3], [1, 2]]

    asyncio.run(run())


def test_a_request_that_ends_every_connection_is_not_repeated_without_pause(tmp_path: Path) -> None:
    connections = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        await reader.read(10)

    async def run() -> None:
        async with issuer_that(tmp_path, serve, seconds=1) as client:
            assert await refused(client) == "timeout"
            assert 2 <= connections <= 12

    asyncio.run(run())


@pytest.mark.parametrize("nonsense", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\x00\x00\x00\x02{}", b"\x00\x00\x00\x00"])
def test_nonsense_is_asked_again_and_then_a_timeout(tmp_path: Path, nonsense: bytes) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async for _ in requests(reader):
            writer.write(nonsense)

    async def run() -> None:
        async with issuer_that(tmp_path, serve, seconds=0.3) as client:
            assert await refused(client) == "timeout"

    asyncio.run(run())


def test_an_answer_to_another_question_is_an_error(tmp_path: Path) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async for request in requests(reader):
            writer.write(encode_answer(LeafKeyAnswer(request.id, "ecdsa", b"not a key")))

    async def run() -> None:
        async with issuer_that(tmp_path, serve) as client:
            assert await refused(client) == "protocol"
            with pytest.raises(IssuerUnavailable, match="cannot be parsed") as caught:
                await client.leaf_key("default", 1)
            assert "not a key" not in str(caught.value)
            assert caught.value.__cause__ is None

    asyncio.run(run())


def test_the_issuers_refusal_is_passed_on(tmp_path: Path) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async for request in requests(reader):
            writer.write(encode_answer(Failure(request.id, Code.UNKNOWN_TENANT, "create it")))

    async def run() -> None:
        async with issuer_that(tmp_path, serve) as client:
            with pytest.raises(IssuerUnavailable, match="create it") as caught:
                await client.leaf("default", "www.example", "ecdsa", None)
            assert (caught.value.code, caught.value.message) == ("unknown_tenant", "create it")

    asyncio.run(run())


def test_who_waits_when_the_client_is_closed_is_told(tmp_path: Path) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async def run() -> None:
        async with issuer_that(tmp_path, serve) as client:
            waiting = asyncio.ensure_future(refused(client))
            await asyncio.sleep(0.05)
            await client.close()
            assert await waiting == "closed"
            assert await refused(client) == "closed"

    asyncio.run(run())


def test_the_data_plane_gets_no_custody_of_keys_by_importing_the_client() -> None:
    ask = (
        "import sys, issuer.client, issuer.sockets\n"
        "print(sorted(name for name in sys.modules if name.split('.')[0] in"
        " ('kms', 'store', 'sqlalchemy', 'alembic', 'pydantic', 'certs')"
        " or name in ('issuer.keyring', 'issuer.service', 'issuer.log')))\n"
    )
    output = subprocess.run([sys.executable, "-c", ask], cwd=REPOSITORY, capture_output=True, check=True, text=True)
    assert output.stdout == "[]\n"
