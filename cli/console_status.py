"""What the console's process tells of itself, on a Unix socket as the workers have: for ``sallyport nodes``."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from issuer.sockets import bind_unix
from proxy.status import MOST_ASKERS, Asker
from proxy.status_client import StatusError, ask

if TYPE_CHECKING:
    from cli.console_tls import Identity
    from config.settings import Console

SOCKET = ("run", "console.sock")


class ConsoleStatus:
    """Answers from :meth:`start` to :meth:`stop`, whatever is asked."""

    def __init__(self, state_dir: Path, address: str, identity: Identity) -> None:
        """``address``: where the console listens."""
        self._path = state_dir.joinpath(*SOCKET)
        self._address = address
        self._identity = identity
        self._server: asyncio.Server | None = None
        self._inode = 0
        self.askers: set[asyncio.Transport] = set()

    async def start(self) -> None:
        """Listen, in the place of the process before. Raises OSError."""
        listening = bind_unix(self._path, backlog=MOST_ASKERS)
        self._inode = self._path.stat().st_ino
        self._server = await asyncio.get_running_loop().create_server(lambda: Asker(self), sock=listening)

    def stop(self) -> None:
        """Answer no more."""
        if self._server is not None:
            self._server.close()
        for transport in tuple(self.askers):
            transport.abort()
        try:
            if self._path.stat().st_ino == self._inode:  # else it is that of the process after us
                self._path.unlink()
        except FileNotFoundError:
            pass

    def answer(self, question: bytes) -> dict[str, Any]:
        """How it is. ``problem``: what is wrong with its certificate."""
        return {"pid": os.getpid(), "address": self._address, "problem": self._identity.problem}


async def listens_at(state_dir: Path) -> str | None:
    """ADDRESS:PORT of a console that answers; None where none does."""
    try:
        found = (await ask(state_dir.joinpath(*SOCKET), {"ask": "health"})).get("address")
    except StatusError:
        return None
    return found if isinstance(found, str) else None


async def problem_of(console: Console, state_dir: Path) -> str | None:
    """Why the console cannot be used, in words; None where it can, or is switched off."""
    if not console.enabled:
        return None
    try:
        answer = await ask(state_dir.joinpath(*SOCKET), {"ask": "health"})
    except StatusError:
        return "its process does not answer; the daemon's log says why"
    problem = answer.get("problem")
    return f"its certificate: {problem}" if problem else None
