"""What a peer may have of what comes out of its tunnel, and what it is told."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import dns.message
import pytest

from config.settings import WireGuard
from issuer.sockets import bind_unix
from proxy.admission import Resolver
from proxy.listeners.proxy_header import read_header
from proxy.wireguard import names, tunnel
from proxy.wireguard.tunnel import Shared, Tunnel
from store.records import WireGuardPeer

MINE, MINE6, OTHER, SERVER = "10.113.0.2", "fd00::2", "10.113.0.3", "192.0.2.1"
PEER = WireGuardPeer(1, 1, "phone", bytes(32), MINE, MINE6, datetime(2026, 1, 1, tzinfo=UTC), "ann")
QUESTION = dns.message.make_query("four.example", "A").to_wire()


@dataclass
class Stream:
    """Of mitmproxy_rs's. It gives what it has, then waits, or ends where it is to."""

    source: str = MINE
    destination: str = SERVER
    port: int = 443
    has: list[bytes] = field(default_factory=list)
    ends: bool = False
    got: list[bytes] = field(default_factory=list)
    closed: bool = False

    def get_extra_info(self, name: str) -> tuple[str, int]:
        return {"peername": (self.source, 40000), "sockname": (self.destination, self.port)}[name]

    async def read(self, n: int) -> bytes:
        if self.has:
            return self.has.pop(0)
        if not self.ends:
            await asyncio.Event().wait()
        return b""

    def write(self, data: bytes) -> None:
        self.got.append(data)

    async def drain(self) -> None:
        """It takes all."""

    def write_eof(self) -> None:
        """Nobody looks."""

    def close(self) -> None:
        self.closed = True


class Rig:
    def __init__(self, folder: Path, **settings: int) -> None:
        self.path = folder / "workers.sock"
        self.listening = bind_unix(self.path)
        self.said: list[object] = []
        resolver = Resolver({"four.example": "192.0.2.4"}, 5, threads=1)
        self.shared = Shared(WireGuard(**settings), 30, 30, resolver, self.said.append)
        self.tunnel = Tunnel(self.shared, PEER, self.path, self.said.append, lambda: self.said.append("exceeded"))

    def close(self) -> None:
        self.listening.close()
        self.shared.resolver.close()


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    made = Rig(tmp_path, streams_per_peer=2, streams=3)
    yield made
    made.close()


async def accepted(rig: Rig) -> socket.socket:
    async with asyncio.timeout(20):
        connection, _ = await asyncio.get_running_loop().sock_accept(rig.listening)
    connection.setblocking(False)
    return connection


@pytest.mark.parametrize(("source", "destination"), [(MINE, SERVER), (MINE6, "2001:db8::1")])
def test_a_worker_hears_whose_it_is_and_where_it_goes(rig: Rig, source: str, destination: str) -> None:
    async def run() -> None:
        task = asyncio.get_running_loop().create_task(rig.tunnel._tcp(Stream(source, destination)))
        with await accepted(rig) as worker:
            header = read_header(await asyncio.get_running_loop().sock_recv(worker, 1000))
            assert header is not None
            assert (header.source, header.destination) == ((source, 40000), (destination, 443))
            assert (rig.tunnel.streams, rig.shared.streams) == (1, 1)
            rig.tunnel.close()
            await task
            assert await asyncio.get_running_loop().sock_recv(worker, 1) == b""
        assert (rig.tunnel.streams, rig.shared.streams, rig.said) == (0, 0, [])

    asyncio.run(run())


def test_another_address_and_more_streams_than_may_be_are_refused_by_name(rig: Rig) -> None:
    async def run() -> None:
        loop = asyncio.get_running_loop()
        stolen = Stream(OTHER)
        await rig.tunnel._tcp(stolen)
        tasks = [loop.create_task(rig.tunnel._tcp(Stream())) for _ in range(2)]
        workers = [await accepted(rig) for _ in range(2)]
        third = Stream()
        await rig.tunnel._tcp(third)
        rig.tunnel.streams, rig.shared.streams = 0, 3
        await rig.tunnel._tcp(Stream())
        rig.tunnel.streams, rig.shared.streams = 2, 2
        rig.tunnel.close()
        await asyncio.gather(*tasks)
        await rig.tunnel._tcp(Stream())
        for worker in workers:
            worker.close()
        assert rig.said == [
            "not an address of this peer's", "wireguard.streams_per_peer", "wireguard.streams", "removed",
        ]  # fmt: skip
        assert stolen.closed
        assert third.closed

    asyncio.run(run())


def test_who_goes_on_with_what_is_refused_loses_the_tunnel(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tunnel, "MOST_REFUSED", 3)

    async def run() -> None:
        for _ in range(4):
            await rig.tunnel._tcp(Stream(OTHER))

    asyncio.run(run())
    assert rig.said[-1] == "exceeded"
    assert rig.said.count("exceeded") == 1


def test_where_no_worker_is_there_the_reason_is_told(rig: Rig) -> None:
    rig.path.unlink()
    stream = Stream()
    asyncio.run(rig.tunnel._tcp(stream))
    assert rig.said == ["No such file or directory"]
    assert (stream.closed, rig.shared.streams) == (True, 0)


def test_questions_are_answered_and_all_else_is_dropped(rig: Rig) -> None:
    async def run() -> None:
        asking = Stream(port=53, has=[QUESTION, b"no question", QUESTION], ends=True)
        await rig.tunnel._udp(asking)
        answers = [dns.message.from_wire(said) for said in asking.got]
        assert ["192.0.2.4" in str(said) for said in answers] == [True, True]
        for other in (Stream(port=443, has=[b"QUIC"]), Stream(OTHER, port=53, has=[QUESTION])):
            await rig.tunnel._udp(other)
            assert (other.closed, other.got) == (True, [])
        rig.tunnel.questions = tunnel.MOST_QUESTIONS
        late = Stream(port=53, has=[QUESTION])
        await rig.tunnel._udp(late)
        assert (late.closed, late.got) == (True, [])

    asyncio.run(run())


def test_a_fault_of_ours_is_told(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken(*_: object) -> bytes:
        await asyncio.sleep(0)
        raise RuntimeError("ours")

    monkeypatch.setattr(names, "answer", broken)
    asyncio.run(rig.tunnel._udp(Stream(port=53, has=[QUESTION])))
    assert [str(error) for error in rig.said] == ["ours"]
    assert rig.tunnel.questions == 0
