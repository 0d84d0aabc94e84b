"""TCP as each connection of the data plane has it: what is read at once and what waits to be written are bounded."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import Buffer

READ_FIRST = 32 * 1024
READ_MOST = 256 * 1024
READ_STEP = 4 * 1024
"""Bytes of one read, at most: at first, in the end, and what each full read adds. OpenSSL's buffers stay as large as a
read once was, so that one who takes little must not cost what makes a download fast."""
WRITE_HIGH = 32 * 1024
WRITE_LOW = 16 * 1024
"""Bytes waiting to be written at which the other side is no longer read, and is read again."""
UNSENT = 128 * 1024
"""Bytes that the kernel takes beyond what it can send, which is enough to keep it busy. Without a bound it takes whole
answers, and nobody sees that a peer does not."""
_AT_ONCE = struct.pack("ii", 1, 0)

_read = memoryview(bytearray(READ_MOST))
"""Where every connection of the process is read into: asyncio fills it and hands it on in one go."""


class Reader(asyncio.BufferedProtocol):
    """A protocol whose ``data_received`` gets what came.

    asyncio's own with that method reads into 256 KiB of fresh memory each time, for which malloc goes to the kernel and
    back: several times what the read of a short message costs.
    """

    __slots__ = ("_at_once",)

    def bound(self, transport: asyncio.Transport) -> None:
        """To be called first when the connection is made."""
        self._at_once = READ_FIRST
        transport.set_write_buffer_limits(WRITE_HIGH, WRITE_LOW)
        connection = transport.get_extra_info("socket")
        if connection is None:
            return  # not TCP of its own: a stream within another connection
        with contextlib.suppress(OSError):  # the peer was faster, and its end is told in another way
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, UNSENT)

    def get_buffer(self, sizehint: int) -> Buffer:
        return _read[: self._at_once]

    def buffer_updated(self, nbytes: int) -> None:
        data = bytes(_read[:nbytes])
        if nbytes == self._at_once < READ_MOST:
            self._at_once += READ_STEP
        self.data_received(data)

    def data_received(self, data: bytes) -> None:
        """Bytes came."""
        raise NotImplementedError


def half_close(transport: asyncio.Transport) -> None:
    """Send FIN behind what is still to be written; where the peer is gone already there is nobody to tell."""
    if not transport.is_closing():
        with contextlib.suppress(OSError):  # ENOTCONN: its RST has come, and its loss is about to be told
            transport.write_eof()


def reset(transport: asyncio.Transport) -> None:
    """End a connection with RST: a FIN could be taken for the end of an answer that has no length."""
    connection = transport.get_extra_info("socket")
    if connection is not None and not transport.is_closing():
        with contextlib.suppress(OSError):  # the peer was faster
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _AT_ONCE)
    transport.abort()
