"""A Unix socket on which a process of the daemon answers one question and closes.

A question is one line of JSON, the answer one JSON object. Who asks must be our own user, or root. Whoever asks is
bounded: in bytes, in time, in number.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from issuer.sockets import bind_unix, is_ours, peer_uid

LARGEST_QUESTION = 1024
QUESTION_SECONDS = 2.0
MOST_ASKERS = 16


class StatusSocket:
    """Answers at ``path`` from :meth:`start` to :meth:`stop`.

    ``answer`` gets what was asked; None for what is no JSON.
    """

    def __init__(self, path: Path, answer: Callable[[object], dict[str, Any]]) -> None:
        self.answer = answer
        self.askers: set[asyncio.Transport] = set()
        self._path = path
        self._server: asyncio.Server | None = None
        self._inode = 0

    async def start(self) -> None:
        """Listen, in the place of a process before that had the same path. Raises OSError."""
        # Not create_unix_server: the path may be longer than an address holds.
        listening = bind_unix(self._path, backlog=MOST_ASKERS)
        self._inode = self._path.stat().st_ino
        self._server = await asyncio.get_running_loop().create_server(lambda: Asker(self), sock=listening)

    def stop(self) -> None:
        """Answer no more. What a killed process leaves behind the supervisor removes."""
        if self._server is None:
            return
        self._server.close()
        for transport in tuple(self.askers):
            transport.abort()
        with contextlib.suppress(FileNotFoundError):
            if self._path.stat().st_ino == self._inode:  # else it is that of the process after us
                self._path.unlink()


class Asker(asyncio.Protocol):
    """One connection of whoever asks."""

    def __init__(self, status: StatusSocket) -> None:
        self._status = status
        self._question = b""
        self._transport: asyncio.Transport | None = None
        self._late: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - create_server makes no other kind
        self._transport = transport
        try:
            ours = is_ours(peer_uid(transport.get_extra_info("socket")))
        except OSError:
            ours = False
        if not ours or len(self._status.askers) >= MOST_ASKERS:
            transport.abort()
            return
        self._status.askers.add(transport)
        self._late = asyncio.get_running_loop().call_later(QUESTION_SECONDS, transport.abort)

    def data_received(self, data: bytes) -> None:
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        self._question += data
        line, end, _ = self._question.partition(b"\n")
        if end:
            transport.write(json.dumps(self._status.answer(_read(line)), default=str).encode() + b"\n")
            transport.close()
        elif len(line) > LARGEST_QUESTION:
            transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._late is not None:
            self._late.cancel()
        if self._transport is not None:
            self._status.askers.discard(self._transport)


def _read(line: bytes) -> object:
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return None
