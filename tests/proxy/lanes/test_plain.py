"""The plain lane on real sockets: curl and nginx, and servers that a test scripts byte by byte."""

import asyncio
import gc
import socket
import struct
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from certs.names import Host
from proxy import refusals
from proxy.lanes.exchange import Exchange
from proxy.lanes.plain import PlainLane, _ServerSide
from proxy.refusals import Refusal, RefusedError
from tests.harness.origins import Nginx, Site

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"
MIB = 1024 * 1024
Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def reset(transport: asyncio.BaseTransport) -> None:
    """End with RST; asyncio's abort alone closes, which sends FIN where nothing is unread."""
    if (sock := transport.get_extra_info("socket")) is not None and sock.fileno() >= 0:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    assert isinstance(transport, asyncio.Transport)
    transport.abort()


class Port(asyncio.Protocol):
    """A client's connection: the smallest owner that a lane can have."""

    def __init__(self, proxy: "Proxy") -> None:
        self.proxy = proxy
        self.transport: asyncio.Transport | None = None
        self.lane = PlainLane(self, proxy.dial, proxy.exchanges.append, time.monotonic, "id1", proxy.refusals.append)
        proxy.ports.append(self)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.lane.data_received(data)

    def eof_received(self) -> bool:
        self.lane.eof_received()
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        self.lane.connection_lost()
        self.proxy.lost += 1

    def pause_writing(self) -> None:
        self.lane.pause_writing()

    def resume_writing(self) -> None:
        self.lane.resume_writing()

    def write(self, data: bytes) -> None:
        assert self.transport is not None
        self.transport.write(data)

    def pause_reading(self) -> None:
        assert self.transport is not None
        self.transport.pause_reading()

    def resume_reading(self) -> None:
        assert self.transport is not None
        self.transport.resume_reading()

    def close(self) -> None:
        assert self.transport is not None
        self.transport.close()

    def abort(self) -> None:
        assert self.transport is not None
        reset(self.transport)


class Proxy:
    """A listener whose connections go to plain lanes; every host is this machine."""

    def __init__(self) -> None:
        self.exchanges: list[Exchange] = []
        self.refusals: list[Refusal] = []
        self.ports: list[Port] = []
        self.dialled: list[tuple[str, int]] = []
        self.dial_delay = 0.0
        self.lost = 0
        self.port = 0

    async def dial(self, host: Host, port: int, protocol: asyncio.Protocol) -> asyncio.Transport:
        self.dialled.append((host.text, port))
        await asyncio.sleep(self.dial_delay)
        if host.text == "nowhere.example":
            raise RefusedError(refusals.dns_error(host.text, "id1"))
        loop = asyncio.get_running_loop()
        transport, _ = await loop.create_connection(lambda: protocol, "127.0.0.1", port)
        return transport


@asynccontextmanager
async def proxying() -> AsyncIterator[Proxy]:
    proxy = Proxy()
    server = await asyncio.get_running_loop().create_server(lambda: Port(proxy), "127.0.0.1", 0)
    proxy.port = server.sockets[0].getsockname()[1]
    try:
        yield proxy
    finally:
        server.close()
        for port in proxy.ports:
            if port.transport is not None:
                port.transport.abort()
        await server.wait_closed()


@asynccontextmanager
async def origin(handler: Handler) -> AsyncIterator[int]:
    """A server that does what the test says; its port."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await handler(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        server.close_clients()
        await server.wait_closed()


@asynccontextmanager
async def client(proxy: Proxy) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
    try:
        yield reader, writer
    finally:
        reset(writer.transport)
        await asyncio.sleep(0)


async def head(reader: asyncio.StreamReader) -> bytes:
    return await reader.readuntil(b"\r\n\r\n")


def get(port: int, host: str = "a.example", more: bytes = b"") -> bytes:
    return b"GET http://%s:%d/x HTTP/1.1\r\nHost: a\r\n%s\r\n" % (host.encode(), port, more)


async def until(done: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not done():  # noqa: ASYNC110 - what is waited for is state that has no event
            await asyncio.sleep(0.01)


def play(scene: Coroutine[None, None, None]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(60):
            await scene
        # Nothing may stay behind: neither a task of the lane nor a socket.
        await asyncio.sleep(0.05)
        others = asyncio.all_tasks() - {asyncio.current_task()}
        assert not [task for task in others if "PlainLane" in repr(task)]

    asyncio.run(bounded(), debug=False)
    gc.collect()


# --- curl and nginx ---


@pytest.fixture
def nginx(need: Callable[[str], str], tmp_path: Path) -> Iterator[Nginx]:
    need("nginx")
    with Nginx(tmp_path, [Site("one.example", None), Site("two.example", None)]) as running:
        yield running


async def curl(need: Callable[[str], str], proxy: Proxy, *arguments: str) -> str:
    process = await asyncio.create_subprocess_exec(
        need("curl"), "-sS", "--proxy", f"http://127.0.0.1:{proxy.port}", "--noproxy", "", *arguments,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, env={},
    )  # fmt: skip
    out, errors = await process.communicate()
    assert process.returncode == 0, errors.decode()
    return out.decode()


def test_curl_gets_pages_of_changing_hosts_over_one_connection(need: Callable[[str], str], nginx: Nginx) -> None:
    one, two = nginx["one.example"], nginx["two.example"]

    async def scene() -> None:
        async with proxying() as proxy:
            out = await curl(need, proxy, one.url("/?q"), one.url("/"), two.url("/"))
            assert out == "hello from one.example\n" * 2 + "hello from two.example\n"
            assert len(proxy.ports) == 1
            assert proxy.dialled == [("one.example", one.port), ("two.example", two.port)]
            assert [(e.method, e.host, e.path, e.status, e.outcome) for e in proxy.exchanges] == [
                ("GET", f"one.example:{one.port}", "/", 200, "complete"),
                ("GET", f"one.example:{one.port}", "/", 200, "complete"),
                ("GET", f"two.example:{two.port}", "/", 200, "complete"),
            ]
            assert [e.response_bytes for e in proxy.exchanges] == [23, 23, 23]

    play(scene())


def test_curl_downloads_and_uploads_much(need: Callable[[str], str], nginx: Nginx, tmp_path: Path) -> None:
    site, size = nginx["one.example"], 64 * MIB
    path = nginx.file("big", size)
    source = tmp_path / "source"
    with source.open("wb") as made:
        made.truncate(size)

    async def scene() -> None:
        async with proxying() as proxy:
            assert await curl(need, proxy, "-o", "/dev/null", "-w", "%{size_download}", site.url(path)) == str(size)
            for chunked in ([], ["-H", "Transfer-Encoding: chunked"]):
                await curl(need, proxy, "-T", str(source), *chunked, site.url("/upload/it"))
                assert nginx.uploaded("it").stat().st_size == size
                nginx.uploaded("it").unlink()
            assert [(e.request_bytes, e.status) for e in proxy.exchanges] == [(0, 200), (size, 201), (size, 201)]
            assert proxy.exchanges[0].response_bytes == size

    play(scene())


def test_curl_gets_every_kind_of_answer(need: Callable[[str], str], nginx: Nginx) -> None:
    site = nginx["one.example"]

    async def scene() -> None:
        async with proxying() as proxy:
            for code in (204, 304, 404, 500):
                out = await curl(need, proxy, "-o", "/dev/null", "-w", "%{http_code}", site.url(f"/status/{code}"))
                assert out == str(code)
            assert "200 OK" in await curl(need, proxy, "-I", site.url("/"), site.url("/"))
            assert await curl(need, proxy, "-0", site.url("/")) == site.text
            refused = await curl(need, proxy, "-i", "http://nowhere.example/")
            assert refused.startswith("HTTP/1.1 502 ")
            assert "Proxy-Status: sallyport; error=dns_error" in refused
            assert "ask the people who run this proxy" in refused
            direct = await curl(need, proxy, "--proxy", "", f"http://127.0.0.1:{proxy.port}/")
            assert "This is a proxy, not a website" in direct

    play(scene())


# --- servers that a test scripts ---


def test_the_servers_connection_lives_no_longer_than_the_clients() -> None:
    ended = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for _ in range(2):
            await head(reader)
            writer.write(OK)
        assert await reader.read() == b""
        ended.set()

    async def scene() -> None:
        async with proxying() as proxy, origin(serve) as port:
            async with client(proxy) as (reader, writer):
                for _ in range(2):
                    writer.write(get(port))
                    assert (await head(reader)).startswith(b"HTTP/1.1 200 OK\r\n")
                    assert await reader.readexactly(2) == b"hi"
                assert proxy.dialled == [("a.example", port)]
                assert not proxy.ports[0].lane.busy
            await ended.wait()

    play(scene())


def test_a_server_that_speaks_first_is_heard_only_after_the_request() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(OK)
        await writer.drain()
        await head(reader)

    async def scene() -> None:
        async with proxying() as proxy, origin(serve) as port, client(proxy) as (reader, writer):
            writer.write(get(port))
            assert (await head(reader)).startswith(b"HTTP/1.1 200")

    play(scene())


def test_a_server_that_is_slow_to_reach_gets_the_whole_request() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await head(reader)
        body = await reader.readexactly(300_000)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n%d" % body.count(b"x"))

    async def scene() -> None:
        async with proxying() as proxy, origin(serve) as port, client(proxy) as (reader, writer):
            proxy.dial_delay = 0.2
            writer.write(
                b"PUT http://a:%d/ HTTP/1.1\r\nHost: a\r\nContent-Length: 300000\r\n\r\n" % port + b"x" * 300_000
            )
            await head(reader)
            assert await reader.readexactly(6) == b"300000"

    play(scene())


def test_a_client_that_does_not_read_stops_the_server() -> None:
    sent = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        await head(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (100 * MIB))
        while sent < 100 * MIB:
            writer.write(b"x" * 65536)
            await writer.drain()
            sent += 65536

    async def scene() -> None:
        async with proxying() as proxy, origin(serve) as port:
            loop = asyncio.get_running_loop()
            with socket.socket() as slow:
                slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
                slow.setblocking(False)
                await loop.sock_connect(slow, ("127.0.0.1", proxy.port))
                await loop.sock_sendall(slow, get(port))
                await until(lambda: sent > 0)
                before = -1
                while before != sent:
                    before = sent
                    await asyncio.sleep(0.3)
                assert sent < 30 * MIB
                transport = proxy.ports[0].transport
                assert transport is not None
                assert transport.get_write_buffer_size() < 2 * MIB
                got = 0
                while got < 100 * MIB:
                    got += len(await loop.sock_recv(slow, MIB))
            assert sent == 100 * MIB

    play(scene())


def test_a_server_that_does_not_read_stops_the_client() -> None:
    go = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await head(reader)
        await go.wait()
        left = 100 * MIB
        while left:
            left -= len(await reader.read(MIB))
        writer.write(OK)

    async def scene() -> None:
        sent = 0
        async with proxying() as proxy, origin(serve) as port, client(proxy) as (reader, writer):

            async def upload() -> None:
                nonlocal sent
                while sent < 100 * MIB:
                    writer.write(b"x" * 65536)
                    await writer.drain()
                    sent += 65536

            writer.write(b"PUT http://a:%d/ HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % (port, 100 * MIB))
            task = asyncio.get_running_loop().create_task(upload())
            before = -1
            while before != sent or not sent:
                before = sent
                await asyncio.sleep(0.3)
            assert sent < 30 * MIB
            go.set()
            await task
            assert (await head(reader)).startswith(b"HTTP/1.1 200")

    play(scene())


def test_a_websocket_handshake_turns_into_bytes_both_ways_and_both_ends_end_it() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert b"\r\nUpgrade: websocket\r\n" in await head(reader)
        writer.write(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n\x81\x01!")
        assert await reader.readexactly(3) == b"\x81\x01?"
        assert await reader.read() == b""
        writer.write(b"\x88\x00")

    async def scene() -> None:
        async with proxying() as proxy, origin(serve) as port, client(proxy) as (reader, writer):
            writer.write(get(port, more=b"Connection: Upgrade\r\nUpgrade: websocket\r\n"))
            assert (await head(reader)).startswith(b"HTTP/1.1 101 ")
            assert await reader.readexactly(3) == b"\x81\x01!"
            writer.write(b"\x81\x01?")
            writer.write_eof()
            assert await reader.read() == b"\x88\x00"
            await until(lambda: bool(proxy.exchanges))
            assert [(e.protocol, e.status, e.request_bytes, e.response_bytes, e.outcome) for e in proxy.exchanges] == [
                ("WebSocket", 101, 3, 5, "upgraded")
            ]

    play(scene())


def test_a_response_that_breaks_off_resets_the_client() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await head(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\nabc")

    async def scene() -> None:
        async with proxying() as proxy, origin(serve) as port, client(proxy) as (reader, writer):
            writer.write(get(port))
            with pytest.raises(ConnectionResetError):
                await reader.readexactly(10_000)
            await until(lambda: bool(proxy.exchanges))
            assert proxy.exchanges[0].outcome == "cut"

    play(scene())


def test_a_client_that_goes_while_the_server_is_dialled_leaves_nothing_behind() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async def scene() -> None:
        async with proxying() as proxy, origin(serve) as port:
            proxy.dial_delay = 30
            async with client(proxy) as (_, writer):
                writer.write(get(port))
                await until(lambda: bool(proxy.dialled))
            await until(lambda: proxy.lost == 1)
            assert [exchange.outcome for exchange in proxy.exchanges] == ["cut"]

    play(scene())


def test_a_client_that_goes_in_the_middle_takes_the_server_with_it() -> None:
    gone = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await head(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 99999\r\n\r\nabc")
        assert await reader.read() == b""
        gone.set()

    async def scene() -> None:
        async with proxying() as proxy, origin(serve) as port:
            async with client(proxy) as (reader, writer):
                writer.write(get(port))
                await head(reader)
            await gone.wait()
            assert [(e.status, e.outcome) for e in proxy.exchanges] == [(200, "cut")]

    play(scene())


def test_a_fault_in_dialling_resets_the_client_and_is_not_hidden() -> None:
    async def scene() -> None:
        faults: list[str] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: faults.append(str(context["exception"])))
        async with proxying() as proxy:
            proxy.dial = None  # type: ignore[assignment,method-assign] # a fault of ours, whatever it is
            async with client(proxy) as (reader, writer):
                writer.write(get(80))
                with pytest.raises(ConnectionResetError):
                    await reader.readexactly(1)
        gc.collect()
        assert faults == ["'NoneType' object is not callable"]

    play(scene())


def test_to_end_the_connection_of_a_server_that_has_reset_is_no_fault() -> None:
    class Reset(asyncio.Transport):
        def is_closing(self) -> bool:
            return False

        def write_eof(self) -> None:
            raise OSError(107, "Transport endpoint is not connected")

    side = _ServerSide(Port(Proxy()).lane)
    side.transport = Reset()
    side.end()


def test_a_client_that_reads_again_gets_its_next_request_served() -> None:
    async def scene() -> None:
        async with proxying() as proxy:
            port = Port(proxy)
            lane = port.lane
            port.transport = asyncio.Transport()
            lane.pause_writing()
            lane.data_received(get(80, "nowhere.example"))
            await asyncio.sleep(0.01)
            assert proxy.dialled == []
            assert not lane.reading_head
            proxy.dial_delay = 60
            lane.resume_writing()
            await until(lambda: proxy.dialled == [("nowhere.example", 80)])
            lane.connection_lost()
            proxy.ports.remove(port)

    play(scene())
