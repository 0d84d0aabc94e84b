"""What is passed on between a peer's stream and a worker: all, with its ends, and no more at once than is taken."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from issuer.sockets import bind_unix
from proxy.wireguard import stream as module
from proxy.wireguard.stream import READ, WRITE, Relay

HEADER = b"header"


@dataclass
class Peer:
    """A stream of mitmproxy_rs's, without a network: what it sends is queued, what it gets is kept."""

    sends: asyncio.Queue[bytes] = field(default_factory=asyncio.Queue)
    got: bytearray = field(default_factory=bytearray)
    largest: int = 0
    reading: bool = False
    ended: bool = False
    closed: bool = False
    gone: bool = False
    takes: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.takes.set()

    async def read(self, n: int) -> bytes:
        assert not self.reading, "mitmproxy_rs ends with the process's thread here"
        self.reading = True
        data = await self.sends.get()
        self.reading = False
        return data[:n]

    def write(self, data: bytes) -> None:
        self.largest = max(self.largest, len(data))
        self.got += data

    async def drain(self) -> None:
        if self.gone:
            raise OSError("connection closed")
        await self.takes.wait()

    def write_eof(self) -> None:
        self.ended = True

    def close(self) -> None:
        self.closed = True


class Worker:
    """The other end."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection

    async def read(self, size: int) -> bytes:
        got = b""
        while len(got) < size and (
            data := await asyncio.get_running_loop().sock_recv(self.connection, size - len(got))
        ):
            got += data
        return got

    async def write(self, data: bytes) -> None:
        await asyncio.get_running_loop().sock_sendall(self.connection, data)


@asynccontextmanager
async def relayed(
    folder: Path, half_close: float = 30, write: float = 30
) -> AsyncIterator[tuple[Peer, Worker, asyncio.Task[None]]]:
    peer, path = Peer(), folder / "workers.sock"
    with bind_unix(path) as listening:
        task = asyncio.get_running_loop().create_task(Relay(peer, half_close, write).run(path, HEADER))
        async with asyncio.timeout(30):
            connection, _ = await asyncio.get_running_loop().sock_accept(listening)
            connection.setblocking(False)
            with connection:
                worker = Worker(connection)
                assert await worker.read(len(HEADER)) == HEADER
                yield peer, worker, task
                await task
    assert peer.closed


def test_both_ways_and_both_ends(tmp_path: Path) -> None:
    async def run() -> None:
        async with relayed(tmp_path) as (peer, worker, _):
            peer.sends.put_nowait(b"question")
            assert await worker.read(8) == b"question"
            peer.sends.put_nowait(b"")
            assert await worker.read(1) == b""
            assert not peer.ended
            await worker.write(b"answer" * 20_000)  # after the peer's end
            worker.connection.shutdown(socket.SHUT_WR)
        assert (bytes(peer.got), peer.ended) == (b"answer" * 20_000, True)
        assert peer.largest <= WRITE

    asyncio.run(run())


def test_the_worker_may_end_first(tmp_path: Path) -> None:
    async def run() -> None:
        async with relayed(tmp_path) as (peer, worker, _):
            await worker.write(b"bye")
            worker.connection.shutdown(socket.SHUT_WR)
            while not peer.ended:  # noqa: ASYNC110 - what is waited for is state that has no event
                await asyncio.sleep(0.01)
            peer.sends.put_nowait(b"still here")
            assert await worker.read(10) == b"still here"
            peer.sends.put_nowait(b"")
        assert bytes(peer.got) == b"bye"

    asyncio.run(run())


def test_who_says_nothing_after_the_others_end_is_not_waited_for(tmp_path: Path) -> None:
    async def run() -> None:
        async with relayed(tmp_path, half_close=0.05) as (_, worker, _task):
            worker.connection.shutdown(socket.SHUT_WR)

    asyncio.run(run())


def test_a_peer_that_takes_nothing_is_cut(tmp_path: Path) -> None:
    async def run() -> None:
        async with relayed(tmp_path, write=0.05) as (peer, worker, _):
            peer.takes.clear()
            await worker.write(b"x" * WRITE)
        assert not peer.ended

    asyncio.run(run())


def test_no_more_is_read_than_is_taken(tmp_path: Path) -> None:
    async def run() -> None:
        async with relayed(tmp_path) as (peer, worker, _):
            peer.takes.clear()
            sending = asyncio.get_running_loop().create_task(worker.write(b"x" * 4_000_000))
            await asyncio.sleep(0.2)
            assert not sending.done()
            assert len(peer.got) == WRITE
            peer.takes.set()
            await sending
            for _ in range(100):
                peer.sends.put_nowait(b"y" * READ)
            await asyncio.sleep(0.2)
            assert peer.sends.qsize() > 50  # what the worker does not take stays in the tunnel
            await worker.read(100 * READ)
            peer.sends.put_nowait(b"")
            worker.connection.shutdown(socket.SHUT_WR)
        assert len(peer.got) == 4_000_000

    asyncio.run(run())


def test_a_stream_that_was_reset_is_no_end(tmp_path: Path) -> None:
    """The worker's connection is closed, both ways at once."""

    async def run() -> None:
        async with relayed(tmp_path) as (peer, worker, task):
            peer.gone = True
            peer.sends.put_nowait(b"")
            await task
            with pytest.raises(BrokenPipeError):
                worker.connection.send(b"more")

    asyncio.run(run())


def test_a_worker_that_is_gone_ends_the_stream(tmp_path: Path) -> None:
    async def run() -> None:
        async with relayed(tmp_path) as (peer, worker, _):
            worker.connection.close()
            peer.sends.put_nowait(b"to nobody")
            peer.sends.put_nowait(b"to nobody")

    asyncio.run(run())


def test_where_no_worker_is_there_the_stream_is_closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def refused() -> Peer:
        peer = Peer()
        with pytest.raises(OSError, match=r"."):
            await Relay(peer, 1, 1).run(tmp_path / "none.sock", HEADER)
        return peer

    assert asyncio.run(refused()).closed
    with bind_unix(tmp_path / "none.sock"):
        monkeypatch.setattr(module, "peer_uid", lambda _: 12345)
        assert asyncio.run(refused()).closed
