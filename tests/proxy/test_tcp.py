"""What is read at once and what waits to be written are bounded. Sockets are real, and the other end is the test's."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable

from proxy.tcp import READ_FIRST, READ_MOST, READ_STEP, Reader

MUCH = 16 << 20


class Counting(Reader):
    """Notes each read, and whether it may write."""

    def __init__(self) -> None:
        self.reads: list[bytes] = []
        self.size = 0
        self.paused = False
        self.ended = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.bound(transport)

    def data_received(self, data: bytes) -> None:
        self.reads.append(data)
        self.size += len(data)

    def eof_received(self) -> bool:
        self.ended.set()
        return True

    def pause_writing(self) -> None:
        self.paused = True


def run(test: Callable[[Counting, socket.socket], Awaitable[None]]) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        with socket.create_server(("127.0.0.1", 0)) as listening:
            peer = socket.create_connection(listening.getsockname(), timeout=5)
            accepted, _ = listening.accept()
        with peer:
            transport, protocol = await loop.connect_accepted_socket(Counting, accepted)
            try:
                await test(protocol, peer)
            finally:
                transport.abort()
                await asyncio.sleep(0)

    asyncio.run(main())


def test_reads_begin_small_and_grow_with_what_comes() -> None:
    async def test(protocol: Counting, peer: socket.socket) -> None:
        sent = bytes(range(256)) * (MUCH // 256)

        def send() -> None:
            peer.sendall(sent)
            peer.shutdown(socket.SHUT_WR)

        await asyncio.gather(asyncio.to_thread(send), asyncio.wait_for(protocol.ended.wait(), 20))
        assert b"".join(protocol.reads) == sent
        most = READ_FIRST
        for read in protocol.reads:
            assert len(read) <= most
            if len(read) == most < READ_MOST:
                most += READ_STEP

    run(test)


def test_what_was_read_stays_what_it_was() -> None:
    async def test(protocol: Counting, peer: socket.socket) -> None:
        for message in (b"first", b"second", b"third"):
            before = len(protocol.reads)
            peer.sendall(message)
            async with asyncio.timeout(5):
                while len(protocol.reads) == before:  # noqa: ASYNC110 - nothing here has an event for a read
                    await asyncio.sleep(0.001)
        assert protocol.reads == [b"first", b"second", b"third"]

    run(test)


def test_of_what_a_peer_does_not_read_the_kernel_takes_little() -> None:
    async def test(protocol: Counting, peer: socket.socket) -> None:
        protocol.transport.write(b"x" * MUCH)
        assert protocol.paused
        taken, before = MUCH - protocol.transport.get_write_buffer_size(), -1
        while taken != before:
            await asyncio.sleep(0.05)
            before, taken = taken, MUCH - protocol.transport.get_write_buffer_size()
        # A peer's own buffer may fill, and the kernel's bound is about what is not even sent.
        assert taken < peer.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) + 512 * 1024

    run(test)
