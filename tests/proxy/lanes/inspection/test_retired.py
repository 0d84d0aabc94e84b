"""When a script that was replaced is told that it is done."""

from __future__ import annotations

import asyncio

import pytest

from config.settings import Inspector
from proxy.lanes.inspection import retired
from proxy.lanes.inspection.hooks import Hook
from proxy.lanes.inspection.retired import Retired


class Owner:
    """What flows hold."""


DONE = Hook("old", "done", lambda: None, Inspector(script="block_url"))


async def turn() -> None:
    """Let the loop do what is due."""
    for _ in range(3):
        await asyncio.sleep(0)


def test_it_is_told_once_when_nobody_holds_it_any_more() -> None:
    async def main() -> None:
        told: list[Hook] = []
        waiting, owner = Retired(told.append), Owner()
        waiting.add(owner, [DONE])
        await turn()
        assert not told
        del owner
        await turn()
        assert told == [DONE]
        waiting.stop()
        assert told == [DONE]

    asyncio.run(main())


def test_it_is_told_once_at_the_end_of_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retired, "DONE_SECONDS", 0)

    async def main() -> None:
        told: list[Hook] = []
        waiting, owner = Retired(told.append), Owner()
        waiting.add(owner, [DONE])
        await turn()
        assert told == [DONE]
        del owner
        await turn()
        assert told == [DONE]

    asyncio.run(main())


def test_it_is_told_once_at_the_proxy_s_end() -> None:
    told: list[Hook] = []
    owners = [Owner()]

    async def main() -> None:
        waiting = Retired(told.append)
        waiting.add(owners[0], [DONE])
        waiting.stop()
        waiting.stop()

    asyncio.run(main())
    owners.clear()  # the loop is closed by now, and nothing is asked of it
    assert told == [DONE]
