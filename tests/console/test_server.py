"""The console's HTTP server on real sockets: TLS, what a client may have it wait for, whose X-Forwarded-For counts."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path

import pytest
from fastapi import FastAPI, Request

from cli.console_tls import context_with
from config.settings import Network
from console import server as its
from console.middleware import Guard
from console.request_log import LARGEST_HEAD
from console.server import Server
from tests.harness.pki import Authority

ROOT = Authority.root("Console Root")
LEAF = ROOT.leaf(["127.0.0.1", "localhost"])
PATIENCE = 20


def app() -> Guard:
    made = FastAPI()

    @made.get("/client")
    def client(request: Request) -> str:
        assert request.client is not None
        return f"{request.client.host} {request.url.scheme}"

    @made.post("/body")
    async def body(request: Request) -> int:
        return len(await request.body())

    return Guard(made, {})


@contextlib.asynccontextmanager
async def serving(
    certificates: Callable[[str], ssl.SSLContext | None] | None = None, trusted: Sequence[Network] = ()
) -> AsyncIterator[tuple[Server, int]]:
    context = context_with([LEAF.certificate], LEAF.key)
    server = Server(app(), certificates or (lambda _: context), trusted)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.setblocking(False)
        task = asyncio.get_running_loop().create_task(server.serve([listening]))
        await asyncio.wait_for(server.ready.wait(), PATIENCE)
        try:
            yield server, listening.getsockname()[1]
        finally:
            server.end()
            await asyncio.wait_for(task, PATIENCE)


async def connect(port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    context = ssl.create_default_context(cadata=ROOT.pem().decode())
    context.set_alpn_protocols(["h2", "http/1.1"])
    return await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname="127.0.0.1")


async def said(port: int, sent: bytes) -> bytes:
    """Everything that is answered until the server closes."""
    reader, writer = await connect(port)
    try:
        writer.write(sent)
        return await asyncio.wait_for(reader.read(), PATIENCE)
    except ConnectionError:
        return b""
    finally:
        writer.close()


def ask(work: Callable[[Server, int], Awaitable[bytes]], **how: object) -> bytes:
    async def run() -> bytes:
        async with serving(**how) as (server, port):  # type: ignore[arg-type] # by name
            return await work(server, port)

    return asyncio.run(run())


def get(path: str, *fields: str) -> bytes:
    return "\r\n".join((f"GET {path} HTTP/1.1", "Host: localhost", "Connection: close", *fields, "", "")).encode()


def test_it_answers_over_http_1_1_and_does_not_say_what_it_is() -> None:
    answer = ask(lambda _, port: said(port, get("/client")))
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert answer.endswith(b'"127.0.0.1 https"')
    assert b"server:" not in answer.lower()
    assert b"date:" in answer.lower()


def test_a_client_of_tls_1_1_and_one_without_tls_get_nothing() -> None:
    async def work(server: Server, port: int) -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(get("/client"))
        with contextlib.suppress(ConnectionError):
            assert b"HTTP" not in await asyncio.wait_for(reader.read(), PATIENCE)
        writer.close()
        old = ssl.create_default_context(cadata=ROOT.pem().decode())
        old.set_ciphers("ALL:@SECLEVEL=0")
        with pytest.warns(DeprecationWarning, match="TLSv1"):
            old.minimum_version = ssl.TLSVersion.TLSv1
        with pytest.warns(DeprecationWarning, match="TLSv1_1"):
            old.maximum_version = ssl.TLSVersion.TLSv1_1
        with pytest.raises(OSError):  # noqa: PT011 - reset, or an end in the middle of the handshake
            await asyncio.open_connection("127.0.0.1", port, ssl=old, server_hostname="127.0.0.1")
        assert await said(port, get("/client"))
        await gone(server)
        return b""

    ask(work)


async def gone(server: Server) -> None:
    async with asyncio.timeout(PATIENCE):
        while server.taken:  # noqa: ASYNC110 - nobody else wants an event for it
            await asyncio.sleep(0.01)


def test_without_a_certificate_nobody_is_answered() -> None:
    async def work(server: Server, port: int) -> bytes:
        with pytest.raises(OSError):  # noqa: PT011 - reset, or an end in the middle of the handshake
            await connect(port)
        assert not server.taken
        return b""

    ask(work, certificates=lambda _: None)


def test_the_address_that_was_reached_is_asked_for() -> None:
    reached: list[str] = []
    context = context_with([LEAF.certificate], LEAF.key)

    def certificates(address: str) -> ssl.SSLContext:
        reached.append(address)
        return context

    ask(lambda _, port: said(port, get("/client")), certificates=certificates)
    assert reached == ["127.0.0.1"]


def test_a_session_cannot_be_resumed() -> None:
    async def work(_: Server, port: int) -> bytes:
        context = ssl.create_default_context(cadata=ROOT.pem().decode())
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname="127.0.0.1")
        session = writer.get_extra_info("ssl_object").session
        writer.close()
        assert not session.has_ticket
        return b""

    ask(work)


@pytest.mark.parametrize(
    "sent",
    [b"", b"GET / HTTP/1.1\r\nHost: a\r\nX: ", b"POST /body HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n12"],
    ids=["nothing", "half a head", "half a body"],
)
def test_a_request_that_does_not_arrive_ends_the_connection(sent: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(its, "REQUEST_SECONDS", 0.3)
    assert b" 200 " not in ask(lambda _, port: said(port, sent))


def test_the_time_for_the_next_request_begins_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """A second one over a kept connection has its own time, and is ended by it too."""

    async def work(server: Server, port: int) -> bytes:
        reader, writer = await connect(port)
        whole = b"GET /client HTTP/1.1\r\nHost: a\r\n\r\n"
        for _ in range(2):
            writer.write(whole)
            await asyncio.wait_for(reader.readuntil(b'https"'), PATIENCE)
        monkeypatch.setattr(its, "REQUEST_SECONDS", 0.2)
        writer.write(whole[:20])
        with contextlib.suppress(ConnectionError):
            assert await asyncio.wait_for(reader.read(), PATIENCE) == b""
        writer.close()
        await gone(server)
        return b""

    ask(work)


def test_a_head_that_does_not_end_is_refused() -> None:
    async def work(_: Server, port: int) -> bytes:
        reader, writer = await connect(port)
        writer.write(b"GET / HTTP/1.1\r\nHost: a\r\nX: ")
        await writer.drain()
        writer.write(b"a" * 2 * LARGEST_HEAD)
        try:
            return await asyncio.wait_for(reader.read(), PATIENCE)
        finally:
            writer.close()

    assert ask(work).startswith(b"HTTP/1.1 400 ")


@pytest.mark.parametrize("limit", ["MOST_CONNECTIONS", "MOST_FROM_ONE"])
def test_a_connection_too_many_is_closed_and_one_that_ends_makes_room(
    limit: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(its, limit, 2)

    async def work(server: Server, port: int) -> bytes:
        held = [await connect(port) for _ in range(2)]
        with pytest.raises(OSError):  # noqa: PT011 - reset, or an end in the middle of the handshake
            await connect(port)
        for _, writer in held:
            writer.close()
        await gone(server)
        return await said(port, get("/client"))

    assert ask(work).startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize(
    ("trusted", "seen"),
    [((), b"127.0.0.1 https"), (("127.0.0.0/8",), b"192.0.2.7 https"), (("10.0.0.0/8",), b"127.0.0.1 https")],
)
def test_only_a_trusted_proxy_says_whom_it_asks_for(trusted: Sequence[str], seen: bytes) -> None:
    sent = get("/client", "X-Forwarded-For: 203.0.113.1, 192.0.2.7")
    networks = [ipaddress.ip_network(each) for each in trusted]
    assert seen in ask(lambda _, port: said(port, sent), trusted=networks)


def test_an_upgrade_to_web_sockets_is_not_taken() -> None:
    sent = (
        b"GET /client HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, close\r\nUpgrade: websocket\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
    assert b" 101 " not in ask(lambda _, port: said(port, sent))


def test_the_key_is_in_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    context_with([LEAF.certificate], LEAF.key)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "fields",
    [
        b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n",
        b"Transfer-Encoding: chunked\r\nContent-Length: 4\r\n",
        b"Content-Length: 4\r\nContent-Length: 5\r\n",
        b"Content-Length: +4\r\n",
        b"Transfer-Encoding: identity, chunked\r\n",
        b"Transfer-Encoding : chunked\r\n",
        b"Transfer-Encoding: \x0bchunked\r\n",
    ],
)
def test_a_request_whose_end_is_told_in_two_ways_is_refused_and_nothing_behind_it_read(fields: bytes) -> None:
    async def smuggling(_: Server, port: int) -> bytes:
        head = b"POST /body HTTP/1.1\r\nHost: x\r\n" + fields + b"\r\n"
        return await said(port, head + b"0\r\n\r\nGET /client HTTP/1.1\r\nHost: x\r\n\r\n")

    answer = ask(smuggling)
    assert answer.split(b" ")[1] in (b"400", b"501")
    assert answer.count(b"HTTP/1.1 ") == 1
    assert b"127.0.0.1" not in answer
