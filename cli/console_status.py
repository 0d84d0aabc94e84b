"""What the console's process tells of itself, on a Unix socket as the workers have: for ``sallyport nodes``."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from proxy.status_client import StatusError, ask
from proxy.status_socket import StatusSocket

if TYPE_CHECKING:
    from cli.console_tls import Identity
    from config.settings import Console

SOCKET = ("run", "console.sock")


class ConsoleStatus:
    """Answers from :meth:`start` to :meth:`stop`, whatever is asked."""

    def __init__(self, state_dir: Path, address: str, identity: Identity) -> None:
        """``address``: where the console listens."""
        self._address = address
        self._identity = identity
        self._socket = StatusSocket(state_dir.joinpath(*SOCKET), self.answer)

    async def start(self) -> None:
        """Listen, in the place of the process before. Raises OSError."""
        await self._socket.start()

    def stop(self) -> None:
        """Answer no more."""
        self._socket.stop()

    def answer(self, asked: object) -> dict[str, Any]:
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
