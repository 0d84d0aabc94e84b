"""Who takes too little of what waits is cut; who is slow but reads is not. The time is the test's, the sockets real."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable

from proxy.stalls import Stalls, acknowledged

MORE = b"x" * (16 << 20)
"""More than the kernel keeps for a connection."""


class Peer:
    """A client of ours that reads when it is told to, and the transport towards it."""

    transport: asyncio.Transport

    async def open(self) -> None:
        loop = asyncio.get_running_loop()
        with socket.create_server(("127.0.0.1", 0)) as listening:
            self.socket = socket.create_connection(listening.getsockname(), timeout=5)
            accepted, _ = listening.accept()
        self.transport, _ = await loop.connect_accepted_socket(asyncio.Protocol, accepted)
        self.transport.set_write_buffer_limits(1)

    async def takes(self, size: int) -> None:
        """Read so much, and wait until it is acknowledged and the kernel has taken more of us."""
        loop, before = asyncio.get_running_loop(), acknowledged(self.transport)
        while size > 0:
            size -= len(await loop.run_in_executor(None, self.socket.recv, size))
        async with asyncio.timeout(5):
            while acknowledged(self.transport) <= before:  # noqa: ASYNC110 - what is waited for is state that has no event
                await asyncio.sleep(0.01)


def run(test: Callable[[Peer], Awaitable[None]]) -> None:
    async def main() -> None:
        peer = Peer()
        await peer.open()
        try:
            await test(peer)
        finally:
            peer.transport.abort()
            peer.socket.close()
            await asyncio.sleep(0)

    asyncio.run(main())


async def settled(peer: Peer) -> None:
    """Until the kernel has taken no more for a quarter second: on a busy machine it rests in between."""
    seen = [-1]
    while len(seen) < 6 or len(set(seen[-6:])) > 1:
        await asyncio.sleep(0.05)
        seen.append(acknowledged(peer.transport))


def test_a_peer_that_takes_nothing_is_cut_once_its_time_is_over() -> None:
    async def test(peer: Peer) -> None:
        cut: list[str] = []
        stalls = Stalls(30, 0)
        peer.transport.write(MORE)
        await settled(peer)
        stalls.watch(peer.transport, 100.0, cut.append)
        stalls.check(129.0)
        assert not cut
        stalls.check(130.0)
        assert cut == ["took 0 bytes in 30 s while more waited"]
        stalls.check(200.0)
        assert len(cut) == 1

    run(test)


def test_what_a_peers_kernel_takes_at_first_nobody_has_read() -> None:
    async def test(peer: Peer) -> None:
        cut: list[str] = []
        stalls = Stalls(30, 1000)
        stalls.watch(peer.transport, 100.0, cut.append)
        peer.transport.write(MORE)
        await settled(peer)
        stalls.check(101.0)
        stalls.check(102.0)
        stalls.check(130.0)
        assert cut == ["took 0 bytes in 30 s while more waited"]

    run(test)


def test_a_peer_that_takes_enough_has_its_time_anew() -> None:
    async def test(peer: Peer) -> None:
        cut: list[str] = []
        stalls = Stalls(30, 1000)
        peer.transport.write(MORE)
        await settled(peer)
        stalls.watch(peer.transport, 100.0, cut.append)
        stalls.check(102.0)
        await peer.takes(4 << 20)
        await settled(peer)
        stalls.check(130.0)
        stalls.watch(peer.transport, 131.0, cut.append)  # it is watched already: nothing begins anew
        stalls.check(159.0)
        assert not cut
        stalls.check(160.0)
        assert len(cut) == 1

    run(test)


def test_a_peer_that_takes_less_than_the_least_rate_is_cut() -> None:
    async def test(peer: Peer) -> None:
        cut: list[str] = []
        stalls = Stalls(30, 1 << 20)
        peer.transport.write(MORE)
        await settled(peer)
        stalls.watch(peer.transport, 100.0, cut.append)
        stalls.check(102.0)
        await peer.takes(4 << 20)
        stalls.check(130.0)
        assert len(cut) == 1
        assert "took 0 bytes" not in cut[0]

    run(test)


def test_a_peer_that_has_taken_all_is_watched_no_more() -> None:
    async def test(peer: Peer) -> None:
        cut: list[str] = []
        stalls = Stalls(30, 0)
        peer.transport.write(b"little")
        stalls.watch(peer.transport, 100.0, cut.append)
        stalls.check(1000.0)
        assert (cut, len(stalls)) == ([], 0)

    run(test)
