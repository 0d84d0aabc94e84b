"""Accepting connections from a listening socket that several workers share.

asyncio's own server accepts as many at once as its backlog is long, and makes a task of each: under a flood the
connections that are open wait meanwhile. Here a turn of the loop accepts a few, and what is open has its turn in
between. One whose client has left already is let go at once: to see that nobody is there costs a thirtieth of what is
made of a connection otherwise, and whoever waits behind a flood of such waits for each of them.
"""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Callable
from typing import Any

AT_ONCE = 16
"""Connections that are accepted in one turn of the loop. Fewer cost a call of epoll_wait more for each; with so many, a
turn takes two or three milliseconds."""
LOOKED_AT = 64
"""The same with those whose clients have left."""
PAUSE_SECONDS = 1.0
"""How long nothing is accepted when the machine or its limits give no more, unless a connection ends before."""
LOST = frozenset({
    errno.ECONNABORTED, errno.EPERM, errno.EPROTO, errno.ENOPROTOOPT, errno.ENETDOWN, errno.ENETUNREACH,
    errno.EHOSTDOWN, errno.EHOSTUNREACH, errno.ENONET, errno.EOPNOTSUPP,
})  # fmt: skip
"""What is wrong with the one connection that was to be accepted (accept(2)); the next may be well."""

Arrived = Callable[[socket.socket, tuple[Any, ...]], None]
"""Takes a connection and the address of its client, as sockets have it: host, port, and for IPv6 two more."""


class Acceptor:
    """Accepts from one listening socket, which is closed with it."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        listening: socket.socket,
        arrived: Arrived,
        full: Callable[[], bool],
        exhausted: Callable[[OSError], None],
        left: Callable[[], None],
    ) -> None:
        """``full``: asked before each accept, whether another worker should have it. ``left``: a client had left."""
        self._loop = loop
        self._listening = listening
        self._arrived = arrived
        self._full = full
        self._exhausted = exhausted
        self._left = left
        self._paused: asyncio.TimerHandle | None = None
        self._closed = False

    def start(self) -> None:
        """Accept from now on."""
        self._loop.add_reader(self._listening.fileno(), self._readable)

    def close(self) -> None:
        """Accept no more. What waits in the queue is for the other workers."""
        if self._closed:
            return
        self._closed = True
        if self._paused is not None:
            self._paused.cancel()
            self._paused = None
        self._loop.remove_reader(self._listening.fileno())
        self._listening.close()

    def resume(self) -> None:
        """A connection has ended: there may be room again."""
        if self._paused is not None:
            self._paused.cancel()
            self._paused = None
            self.start()

    def _pause(self) -> None:
        self._loop.remove_reader(self._listening.fileno())
        self._paused = self._loop.call_later(PAUSE_SECONDS, self.resume)

    def _readable(self) -> None:
        accept, arrived, full = self._listening.accept, self._arrived, self._full
        places = AT_ONCE
        for _ in range(LOOKED_AT):
            if full():
                return self._pause()
            try:
                connection, address = accept()
            except (BlockingIOError, InterruptedError):
                return None  # the queue is empty, or another worker was faster
            except OSError as error:
                if error.errno in LOST:
                    continue
                # The machine or its limits give no more: connections wait in the queue meanwhile.
                self._exhausted(error)
                return self._pause()
            if is_left(connection):
                connection.close()
                self._left()
                continue
            arrived(connection, address)
            places -= 1
            if not places:
                return None
        return None


def is_left(connection: socket.socket) -> bool:
    """Whether its client has left without a word: it has reset it, or ended its side."""
    try:
        return not connection.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
    except (BlockingIOError, InterruptedError):
        return False
    except OSError:
        return True
