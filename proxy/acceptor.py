"""Accepting connections from a listening socket that several workers share.

asyncio's own server accepts as many at once as its backlog is long, and makes a task of each: under a flood the
connections that are open wait meanwhile. Here a turn of the loop accepts a few, and what is open has its turn in
between. One whose client has left already is let go at once: to see that nobody is there costs a thirtieth of what is
made of a connection otherwise, and whoever waits behind a flood of such waits for each of them.

Whoever wakes first has the connection, and takes all that wait with it: of four connections that stay, three to one is
usual. So a worker that had better not have the next one (it has more than its share, or would only refuse it) leaves
what comes to the others for a moment, and takes what it finds afterwards. Where they let several such moments pass, or
a long one, they are busy or gone, and nothing is left to them for a while.
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
UNWANTED = 8
"""After so many moments in which others let something wait, or one that was so many times as long as it should have
been (a turn of the loop may be), nothing is left to them …"""
ALONE_SECONDS = 0.1
"""… for so long at least …"""
ALONE_TIMES = 10
"""… and for so many times the last moment: who has long turns has few."""
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
        patience: Callable[[], float],
        exhausted: Callable[[OSError], None],
        left: Callable[[], None],
    ) -> None:
        """``full``: asked before each accept, whether another worker has to have it. ``left``: a client had left.

        ``patience``: for how many seconds what comes is left to the others; 0 where this worker may have it.
        """
        self._loop = loop
        self._listening = listening
        self._arrived = arrived
        self._full = full
        self._patience = patience
        self._exhausted = exhausted
        self._left = left
        self._paused: asyncio.TimerHandle | None = None
        self._leaving: asyncio.TimerHandle | None = None
        """Ends a moment in which others may take what waits."""
        self._moment = (0.0, 0.0)
        """When the last one began, and how long it was to be."""
        self._unwanted = 0
        """How many have passed since others last took something in one."""
        self._alone_until = 0.0
        self._closed = False

    def start(self) -> None:
        """Accept from now on."""
        self._loop.add_reader(self._listening.fileno(), self._readable)

    def close(self) -> None:
        """Accept no more. What waits in the queue is for the other workers."""
        if self._closed:
            return
        self._closed = True
        for timer in (self._paused, self._leaving):
            if timer is not None:
                timer.cancel()
        self._paused = self._leaving = None
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

    def _leave(self, seconds: float) -> None:
        """What waits may be another's, for a moment."""
        self._loop.remove_reader(self._listening.fileno())
        self._moment = (self._loop.time(), seconds)
        self._leaving = self._loop.call_later(seconds, self._take)

    def _take(self) -> None:
        """The moment is over: what is there now is taken, the first of it whatever this worker has."""
        self._leaving = None
        self.start()
        self._readable(left=True)

    def _nobody_else(self) -> None:
        """After a moment in which others could take what waits, something does."""
        self._unwanted += 1
        began, seconds = self._moment
        lasted = self._loop.time() - began
        if self._unwanted >= UNWANTED or lasted >= UNWANTED * seconds:
            self._unwanted = 0
            self._alone_until = began + lasted + max(ALONE_SECONDS, ALONE_TIMES * lasted)

    def _readable(self, left: bool = False) -> None:
        """Something waits. ``left``: the first has been left to others already."""
        accept, arrived, full, patience = self._listening.accept, self._arrived, self._full, self._patience
        places = AT_ONCE
        for looked_at in range(LOOKED_AT):
            if full():
                return self._pause()
            if not left and (seconds := patience()) and self._loop.time() >= self._alone_until:
                return None if looked_at else self._leave(seconds)  # whether more waits, the loop will say
            try:
                connection, address = accept()
            except (BlockingIOError, InterruptedError):
                if left:
                    self._unwanted = 0
                return None  # the queue is empty, or another worker was faster
            except OSError as error:
                if error.errno in LOST:
                    continue
                # The machine or its limits give no more: connections wait in the queue meanwhile.
                self._exhausted(error)
                return self._pause()
            if left:
                self._nobody_else()
                left = False
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
