"""Whose a packet is: known by a handshake alone, kept apart by addresses, and nobody else's business."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime
from typing import Any

import pytest

from proxy.wireguard import front as module
from proxy.wireguard.front import PATHS, Front
from store.records import WireGuardPeer
from tests.harness.wireguard import initiation, public_of

SERVER = bytes([1]) * 32
KEYS = {name: bytes([n]) * 32 for n, name in enumerate(("phone", "laptop"), start=2)}
DATA = b"\4\0\0\0" + bytes(40)


def peer(name: str) -> WireGuardPeer:
    at = datetime(2026, 1, 1, tzinfo=UTC)
    return WireGuardPeer(1, 1, name, public_of(KEYS[name]), f"10.0.0.{len(name)}", None, at, "ann")


class Behind:
    """A tunnel whose server keeps what it gets, and answers when it is told to."""

    def __init__(self, peer: WireGuardPeer) -> None:
        self.peer = peer
        self.address: tuple[str, int] | None = None
        self.closed = False
        self.may_start = asyncio.Event()
        self.may_start.set()
        self.server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.sources: list[tuple[str, int]] = []

    async def start(self, private_key: bytes) -> None:
        assert private_key == SERVER
        await self.may_start.wait()
        self.server.bind(("127.0.0.1", 0))
        self.server.setblocking(False)
        self.address = self.server.getsockname()

    def got(self) -> list[bytes]:
        found = []
        while True:
            try:
                packet, source = self.server.recvfrom(2000)
            except OSError:
                return found
            found.append(packet)
            self.sources.append(source)

    def close(self) -> None:
        self.closed = True
        self.server.close()


class Rig:
    def __init__(self) -> None:
        self.listening = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.listening.bind(("127.0.0.1", 0))
        self.made: list[Behind] = []
        self.told: list[tuple[str, str]] = []
        self.held = False
        self.front = Front(self.listening, self._make, lambda peer, why: self.told.append((peer.name, why)))
        self.front.serve(SERVER, [peer("phone"), peer("laptop")])
        self.front.start()
        self.clients: list[socket.socket] = []

    def _make(self, peer: WireGuardPeer) -> Any:
        self.made.append(Behind(peer))
        if self.held:
            self.made[-1].may_start.clear()
        return self.made[-1]

    def client(self) -> socket.socket:
        made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        made.setblocking(False)
        made.connect(self.listening.getsockname())
        self.clients.append(made)
        return made

    async def rest(self) -> None:
        """Packets on loopback are there when they are sent; what is left is turns of the loop."""
        for _ in range(20):
            await asyncio.sleep(0.001)

    def close(self) -> None:
        self.front.close()
        for each in (self.listening, *self.clients):
            each.close()


def running(test: Callable[[Rig], Coroutine[Any, Any, None]]) -> Callable[[], None]:
    def run() -> None:
        async def inside() -> None:
            rig = Rig()
            try:
                await test(rig)
            finally:
                rig.close()

        asyncio.run(inside())

    run.__name__ = test.__name__
    return run


def hello(name: str, at: int = 1) -> bytes:
    return initiation(KEYS[name], public_of(SERVER), at=at)


@running
async def test_each_peer_has_a_tunnel_of_its_own_and_answers_go_back_to_it(rig: Rig) -> None:
    phone, laptop = rig.client(), rig.client()
    first, second = hello("phone"), hello("laptop")
    phone.send(first)
    laptop.send(second)
    await rig.rest()
    assert [behind.peer.name for behind in rig.made] == ["phone", "laptop"]
    phone.send(DATA)
    await rig.rest()
    assert rig.made[0].got() == [first, DATA]
    assert rig.made[1].got() == [second]
    rig.made[0].server.sendto(b"back", rig.made[0].sources[0])
    await rig.rest()
    assert phone.recv(100) == b"back"
    with pytest.raises(BlockingIOError):
        laptop.recv(100)
    assert rig.told == [("phone", ""), ("laptop", "")]


@running
async def test_a_stranger_gets_nothing_and_reaches_nobody(rig: Rig) -> None:
    stranger = rig.client()
    for packet in (
        b"", b"\1", DATA, b"\1\0\0\0" + bytes(144), bytes(148), initiation(bytes([9]) * 32, public_of(SERVER)),
        initiation(KEYS["phone"], public_of(bytes([9]) * 32)),
    ):  # fmt: skip
        stranger.send(packet)
    await rig.rest()
    assert rig.made == []
    phone = rig.client()
    phone.send(hello("phone"))
    await rig.rest()
    stranger.send(DATA)  # from an address that has not begun a handshake
    await rig.rest()
    assert len(rig.made[0].got()) == 1
    with pytest.raises(BlockingIOError):
        stranger.recv(100)


@running
async def test_a_message_that_somebody_kept_is_worth_nothing(rig: Rig) -> None:
    phone, thief = rig.client(), rig.client()
    kept = hello("phone", 5)
    phone.send(kept)
    await rig.rest()
    rig.made[0].got()
    for packet in (kept, hello("phone", 4), DATA):
        thief.send(packet)
    await rig.rest()
    assert rig.made[0].got() == []
    thief.send(hello("phone", 6))  # who can make a new one is the phone
    await rig.rest()
    assert len(rig.made[0].got()) == 1


@running
async def test_a_peer_that_is_removed_is_gone_at_once_and_the_others_stay(rig: Rig) -> None:
    phone, laptop = rig.client(), rig.client()
    phone.send(hello("phone"))
    laptop.send(hello("laptop"))
    await rig.rest()
    rig.made[1].got()
    rig.front.serve(SERVER, [peer("laptop")])
    assert (rig.made[0].closed, rig.made[1].closed) == (True, False)
    assert rig.told[-1] == ("phone", "removed")
    phone.send(DATA)
    phone.send(hello("phone", 9))
    laptop.send(DATA)
    await rig.rest()
    assert len(rig.made) == 2
    assert rig.made[1].got() == [DATA]
    rig.front.serve(b"", [peer("laptop")])
    assert rig.made[1].closed
    assert rig.told[-1] == ("laptop", "the tenant's key is another")


@running
async def test_what_comes_while_a_tunnel_is_started_is_kept_once(rig: Rig) -> None:
    rig.held = True
    phone = rig.client()
    packets = [hello("phone", at) for at in (1, 2, 3)]
    for packet in packets:
        phone.send(packet)
    await rig.rest()
    assert (len(rig.made), rig.told) == (1, [])
    rig.made[0].may_start.set()
    await rig.rest()
    assert rig.made[0].got() == packets[-1:]


@running
async def test_a_peer_that_is_removed_while_its_tunnel_is_started_gets_none(rig: Rig) -> None:
    rig.held = True
    phone = rig.client()
    phone.send(hello("phone"))
    await rig.rest()
    rig.front.serve(SERVER, [])
    assert rig.front.tunnels == {}
    rig.made[0].server.close()
    rig.made[0].server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    rig.made[0].may_start.set()
    await rig.rest()
    assert rig.made[0].got() == []
    rig.made[0].server.close()


@running
async def test_a_peer_may_be_at_a_few_addresses_and_the_oldest_goes(rig: Rig) -> None:
    at = [rig.client() for _ in range(PATHS + 1)]
    for n, client in enumerate(at):
        client.send(hello("phone", n + 1))
        await rig.rest()
    rig.made[0].got()
    for n, client in enumerate(at):
        client.send(DATA + bytes([n]))
    await rig.rest()
    assert sorted(packet[-1] for packet in rig.made[0].got()) == [1, 2, 3, 4]


@running
async def test_more_handshakes_than_can_be_read_are_dropped(rig: Rig) -> None:
    rig.front._second = rig.front.loop.time() + 3600  # a second that does not end
    rig.front._handshakes = module.HANDSHAKES
    phone = rig.client()
    phone.send(hello("phone"))
    await rig.rest()
    assert rig.made == []


@running
async def test_what_is_silent_for_long_is_ended(rig: Rig) -> None:
    phone = rig.client()
    phone.send(hello("phone"))
    await rig.rest()
    rig.front.sweep()
    assert rig.told == [("phone", "")]
    for path in rig.front._paths.values():
        path.used -= module.IDLE_SECONDS + 1
    rig.front.sweep()
    assert rig.told[-1] == ("phone", "idle")
    assert rig.made[0].closed
