"""Peers that do not take what waits for them: watched while anything waits, and cut when they take too little.

A peer that reads a byte a second holds what it was sent, and the connection behind it, for as long as it likes. What
counts is what it has acknowledged (tcp_info(7): bytes_acked), so that one who is slow but reads is told from one who
does not.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Callable

SETTLE_SECONDS = 2.0
"""For so long nothing is counted: what the buffers of the peer's kernel and of the way there take, nobody has read."""
_ACKED_AT = 120
"""Where tcpi_bytes_acked, a u64, stands in Linux' struct tcp_info (since 4.1)."""
_ACKED = struct.Struct("=Q")


class Stalls:
    """The transports on which something waits. ``patience``: seconds; ``rate``: bytes a second, at least one in all."""

    def __init__(self, patience: float, rate: int) -> None:
        self._patience = patience
        self._settle = min(SETTLE_SECONDS, patience / 2)
        self._least = max(1, int(patience * rate))
        self._watched: dict[asyncio.Transport, tuple[float, int | None, Callable[[str], None]]] = {}

    def __len__(self) -> int:
        return len(self._watched)

    def watch(self, transport: asyncio.Transport, now: float, cut: Callable[[str], None]) -> None:
        """Something waits to be sent. ``cut`` is called once, with the reason, where the peer takes too little.

        Not so where it waits for another process of ours, over a Unix socket: that one watches who is behind it.
        """
        if transport not in self._watched and not _within(transport):
            self._watched[transport] = (now, None, cut)

    def check(self, now: float) -> None:
        """Once a second: forget those that have taken all, cut those that have had their time."""
        for transport, (since, taken, cut) in tuple(self._watched.items()):
            if not waiting(transport):
                del self._watched[transport]
            elif taken is None:
                if now - since >= self._settle:
                    self._watched[transport] = (since, acknowledged(transport), cut)
            elif now - since >= self._patience:
                acked = acknowledged(transport)
                if acked - taken < self._least:
                    del self._watched[transport]
                    cut(f"took {acked - taken} bytes in {now - since:.0f} s while more waited")
                else:
                    self._watched[transport] = (now, acked, cut)


def waiting(transport: asyncio.Transport) -> int:
    """Bytes that the peer is to take."""
    own = transport.get_extra_info("waiting")
    # What waits on a connection may all be of other streams: one that has sent all it had stalls nobody.
    return transport.get_write_buffer_size() if own is None else int(own)


def _within(transport: asyncio.Transport) -> bool:
    connection = transport.get_extra_info("socket")
    return connection is not None and connection.family == socket.AF_UNIX


def acknowledged(transport: asyncio.Transport) -> int:
    """Bytes that the peer has acknowledged; 0 where that cannot be said, and nothing will have been taken."""
    if (taken := transport.get_extra_info("taken")) is not None:
        return int(taken)  # of a stream within a connection, its windows say it
    connection = transport.get_extra_info("socket")
    try:
        info = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _ACKED_AT + _ACKED.size)
    except OSError:
        return 0
    return int(_ACKED.unpack_from(info, _ACKED_AT)[0]) if len(info) >= _ACKED_AT + _ACKED.size else 0
