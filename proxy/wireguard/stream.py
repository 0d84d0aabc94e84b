"""One TCP connection out of a tunnel: to a worker, and both ways from then on.

What one side does not take is not read from the other, so no more waits here than a read brings. An end is passed on as
such. What is cut is told apart from an end towards the worker where that can be seen; towards the peer it cannot be
told, since mitmproxy_rs can send FIN and no RST.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from pathlib import Path
from typing import Protocol

from issuer.sockets import connect_unix, is_ours, peer_uid

READ = 64 * 1024
WRITE = 16 * 1024
"""Bytes that are given to the peer at once, and that it has to take in its time: mitmproxy_rs cannot tell of less."""


class Stream(Protocol):
    """What is used of mitmproxy_rs.Stream. A second read must not begin before the first has ended."""

    async def read(self, n: int) -> bytes: ...

    def write(self, data: bytes) -> None: ...

    async def drain(self) -> None: ...

    def write_eof(self) -> None: ...

    def close(self) -> None: ...


class Relay:
    """Passes a stream on to a worker."""

    def __init__(self, stream: Stream, half_close_timeout: float, write_timeout: float) -> None:
        """``half_close_timeout``: seconds for which a direction may be silent when the other has ended.

        ``write_timeout``: seconds in which the peer has to take what it is given. The worker cannot see that it does
        not.
        """
        self._stream = stream
        self._write_timeout = write_timeout
        self._timeout = half_close_timeout
        self._loop = asyncio.get_running_loop()
        self._moved = self._loop.time()
        self._done: list[asyncio.Task[bool]] = []

    async def run(self, worker: Path, header: bytes) -> None:
        """Connect to the workers' socket, send the header, then all that comes. Raises OSError where there is none."""
        try:
            with connect_unix(worker) as connection:
                if not is_ours(peer_uid(connection)):
                    raise PermissionError(f"{worker} belongs to another user")
                await self._loop.sock_sendall(connection, header)
                await self._both(connection)
        finally:
            with contextlib.suppress(OSError):  # its server is gone
                self._stream.close()

    async def _both(self, connection: socket.socket) -> None:
        up = self._loop.create_task(self._up(connection))
        down = self._loop.create_task(self._down(connection))
        waiting = {up, down}
        try:
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            # After the end of one direction, the other may go on; not so where one was cut.
            while all(task.result() for task in (up, down) if task.done()) and not (up.done() and down.done()):
                left = self._moved + self._timeout - self._loop.time()
                # What the worker sends has the worker's own time limits.
                if not up.done() and left <= 0:
                    break
                await asyncio.wait({up, down} - {task for task in (up, down) if task.done()},
                                   timeout=None if up.done() else left)  # fmt: skip
        finally:
            for task in waiting:
                task.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)

    async def _up(self, connection: socket.socket) -> bool:
        """Peer to worker; False where it was cut."""
        try:
            while data := await self._stream.read(READ):
                self._moved = self._loop.time()
                await self._loop.sock_sendall(connection, data)
            # Of a stream that was reset nothing is left to drain.
            await self._stream.drain()
            connection.shutdown(socket.SHUT_WR)
        except OSError:
            return False
        return True

    async def _down(self, connection: socket.socket) -> bool:
        """Worker to peer; False where it was cut."""
        try:
            while data := await self._loop.sock_recv(connection, WRITE):
                self._moved = self._loop.time()
                self._stream.write(data)
                async with asyncio.timeout(self._write_timeout):
                    await self._stream.drain()
            self._stream.write_eof()
        except OSError:  # TimeoutError is one
            return False
        return True
