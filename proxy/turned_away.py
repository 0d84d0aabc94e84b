"""Connections that are refused before they are any: told why, and let go.

The answer goes out at once, before the client has asked. Closing on bytes that were not read would reset the connection
and the answer with it (RFC 9112, section 9.6), so what the client sends is read and dropped for a second; but only so
many linger, since they are refused where there is little left. What is beyond is reset.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections import deque

SECONDS = 1.0
MOST = 128
"""Refused connections that linger, of a worker."""
READ = 16 * 1024
READS = 8
"""Pieces of a client's that are dropped; who sends more is not waiting for an answer."""
_RESET = struct.pack("ii", 1, 0)


class TurnedAway:
    """Those that linger."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._lingering: dict[socket.socket, int] = {}
        """How many pieces may still come of each."""
        self._ends: deque[tuple[float, socket.socket]] = deque()
        self._timer: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self._lingering)

    def tell(self, connection: socket.socket, answer: bytes) -> None:
        """Send the answer, and close the connection in a while."""
        try:
            connection.setblocking(False)
            # An answer is far smaller than a socket's buffer: it goes whole, or its client is gone.
            connection.send(answer)
            connection.shutdown(socket.SHUT_WR)
        except OSError:
            connection.close()
            return
        if len(self._lingering) >= MOST:
            return reset(connection)
        self._lingering[connection] = READS
        self._ends.append((self._loop.time() + SECONDS, connection))
        self._loop.add_reader(connection.fileno(), self._readable, connection)
        if self._timer is None:
            self._timer = self._loop.call_later(SECONDS, self._sweep)
        return None

    def close(self) -> None:
        """Let go of all."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for connection in tuple(self._lingering):
            self._end(connection)
        self._ends.clear()

    def _readable(self, connection: socket.socket) -> None:
        try:
            data = connection.recv(READ)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            data = b""
        self._lingering[connection] -= 1
        if not data or not self._lingering[connection]:
            self._end(connection)

    def _end(self, connection: socket.socket) -> None:
        del self._lingering[connection]
        self._loop.remove_reader(connection.fileno())
        connection.close()

    def _sweep(self) -> None:
        self._timer = None
        now, ends = self._loop.time(), self._ends
        while ends and ends[0][0] <= now:
            _, connection = ends.popleft()
            if connection in self._lingering:
                self._end(connection)
        if ends:
            self._timer = self._loop.call_later(max(0.05, ends[0][0] - now), self._sweep)


def reset(connection: socket.socket) -> None:
    """Close with RST."""
    with contextlib.suppress(OSError):  # the client was faster
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    connection.close()
