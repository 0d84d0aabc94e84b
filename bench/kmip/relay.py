"""A TCP relay that cuts connections at random bytes, or holds what comes back until nobody waits for it any more."""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import struct
from collections import Counter
from enum import StrEnum
from types import TracebackType
from typing import Self

PIECE = 16_384


class Fate(StrEnum):
    """What happens to a connection when its bytes are used up."""

    RESET = "reset"
    CLOSED = "closed"
    HELD = "held"
    """Nothing passes for a while; then all of it, and it goes on."""


FATES = (Fate.RESET, Fate.RESET, Fate.RESET, Fate.CLOSED, Fate.CLOSED, Fate.CLOSED, Fate.HELD)


class Relay:
    """On loopback, in front of what listens on ``target`` there, from ``async with`` on to its end.

    ``mean``: bytes that pass in one direction of a connection until its fate comes, on the average; None: all pass.
    ``hold``: seconds that those which are held are.
    """

    def __init__(self, target: int, chance: random.Random, mean: int | None, hold: float) -> None:
        self.port = 0
        self.fates: Counter[Fate] = Counter()
        self.connections = 0
        self._target = target
        self._chance = chance
        self._mean = mean
        self._hold = hold
        self._server: asyncio.Server | None = None
        self._serving: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._took, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._server is not None:
            self._server.close()
        for task in list(self._serving):
            task.cancel()
        await asyncio.gather(*self._serving, return_exceptions=True)

    async def _took(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - a server's connection is served by a task
        self._serving.add(task)
        task.add_done_callback(self._serving.discard)
        self.connections += 1
        ends = [writer]
        try:
            with contextlib.suppress(OSError, asyncio.CancelledError):
                answers, there = await asyncio.open_connection("127.0.0.1", self._target)
                ends.append(there)
                both = [
                    asyncio.ensure_future(self._pass(reader, there)),
                    asyncio.ensure_future(self._pass(answers, writer)),
                ]
                try:
                    await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
                    fate = next((each.result() for each in both if each.done()), None)
                finally:
                    for each in both:
                        each.cancel()
                    await asyncio.gather(*both, return_exceptions=True)
                if fate is Fate.RESET:
                    for end in ends:
                        _reset_at_close(end)
        finally:
            for end in ends:
                end.transport.abort()

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Fate | None:
        """One direction: how it was cut, or None where a side ended it."""
        left = self._budget()
        try:
            while piece := await reader.read(PIECE if left is None else min(PIECE, left)):
                writer.write(piece)
                await writer.drain()
                if left is None:
                    continue
                left -= len(piece)
                if left == 0:
                    fate = self._chance.choice(FATES)
                    self.fates[fate] += 1
                    if fate is not Fate.HELD:
                        return fate
                    await asyncio.sleep(self._hold)
                    left = self._budget()
        except OSError:
            pass
        return None

    def _budget(self) -> int | None:
        return None if self._mean is None else 1 + int(self._chance.expovariate(1 / self._mean))


def _reset_at_close(writer: asyncio.StreamWriter) -> None:
    sock = writer.get_extra_info("socket")
    if sock is not None:
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
