"""One thing at a time, and a fair order of who waits: who asks for much waits behind its own, and nobody behind it."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Hashable
from contextlib import asynccontextmanager


class Turns[Client: Hashable]:
    """Clients that wait have their turns one after the other, each with the one of its own that came first."""

    def __init__(self) -> None:
        self._taken = False
        self._waiting: dict[Client, deque[asyncio.Future[None]]] = {}
        """In the order of their turns."""

    @asynccontextmanager
    async def turn(self, client: Client) -> AsyncIterator[None]:
        """Wait for a turn, and have it until the end of the block. Who is cancelled meanwhile waits no more."""
        if self._taken:
            await self._wait(client)
        self._taken = True
        try:
            yield
        finally:
            self._next()

    async def _wait(self, client: Client) -> None:
        mine: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(client, deque()).append(mine)
        try:
            await mine
        except asyncio.CancelledError:
            if mine.cancelled():
                self._leave(client, mine)
            else:
                self._next()  # cancelled in the very moment in which it was its turn
            raise

    def _leave(self, client: Client, mine: asyncio.Future[None]) -> None:
        if (queue := self._waiting.get(client)) is not None and mine in queue:
            queue.remove(mine)
            if not queue:
                del self._waiting[client]

    def _next(self) -> None:
        while self._waiting:
            client = next(iter(self._waiting))
            queue = self._waiting.pop(client)
            first = queue.popleft()
            if queue:
                self._waiting[client] = queue  # behind all others
            if not first.done():
                first.set_result(None)
                return
        self._taken = False
