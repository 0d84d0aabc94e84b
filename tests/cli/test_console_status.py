"""How the console's process is asked how it is."""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path

from cli.console_status import SOCKET, ConsoleStatus, listens_at, problem_of
from config.settings import Console


class Shown:
    def __init__(self, problem: str | None) -> None:
        self.problem = problem

    async def look(self) -> bool:
        return False

    def certificate(self, reached: str) -> ssl.SSLContext | None:
        return None


def test_it_tells_where_it_listens_and_what_is_wrong_and_its_absence_is_told_too(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()

    async def run() -> None:
        assert await problem_of(Console(), tmp_path) == "its process does not answer; the daemon's log says why"
        assert await problem_of(Console(enabled=False), tmp_path) is None
        assert await listens_at(tmp_path) is None
        shown = Shown(None)
        status = ConsoleStatus(tmp_path, "127.0.0.1:1", shown)
        await status.start()
        assert await problem_of(Console(), tmp_path) is None
        assert await listens_at(tmp_path) == "127.0.0.1:1"
        shown.problem = "it has expired"
        assert await problem_of(Console(), tmp_path) == "its certificate: it has expired"
        # The next process takes the place, and this one does not take it away when it ends.
        following = ConsoleStatus(tmp_path, "127.0.0.1:2", Shown(None))
        await following.start()
        status.stop()
        assert await listens_at(tmp_path) == "127.0.0.1:2"
        following.stop()
        assert not tmp_path.joinpath(*SOCKET).exists()

    asyncio.run(run())
