"""Who has the next turn."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine

from proxy.turns import Turns


class Party:
    """Clients that want turns; ``had`` are those who had one, in that order."""

    def __init__(self) -> None:
        self.turns: Turns[str] = Turns()
        self.had: list[str] = []
        self.end = asyncio.Event()

    async def take(self, client: str, name: str) -> None:
        async with self.turns.turn(client):
            self.had.append(name)
            await self.end.wait()

    async def wait(self, client: str, name: str) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(self.take(client, name))
        await asyncio.sleep(0)
        return task


def run(scenario: Callable[[Party], Coroutine[None, None, None]]) -> None:
    async def whole() -> None:
        async with asyncio.timeout(30):
            await scenario(Party())

    asyncio.run(whole())


def test_who_wants_many_has_one_after_each_of_the_others() -> None:
    async def scenario(party: Party) -> None:
        names = ("a1", "a2", "a3", "a4", "b1", "b2", "c1")
        tasks = [await party.wait(name[0], name) for name in names]
        assert party.had == ["a1"]
        party.end.set()
        await asyncio.gather(*tasks)
        assert party.had == ["a1", "a2", "b1", "c1", "a3", "b2", "a4"]

    run(scenario)


def test_who_gives_up_waits_no_more() -> None:
    async def scenario(party: Party) -> None:
        first, gone, last = [await party.wait("a", name) for name in ("first", "gone", "last")]
        gone.cancel()
        await asyncio.wait([gone])
        party.end.set()
        await asyncio.gather(first, last)
        assert party.had == ["first", "last"]
        await party.take("b", "again")
        assert party.had[-1] == "again"

    run(scenario)


def test_who_is_cancelled_when_it_has_the_turn_or_just_gets_it_hands_it_on() -> None:
    async def scenario(party: Party) -> None:
        first, second, third = [await party.wait("a", name) for name in ("first", "second", "third")]
        first.cancel()
        await asyncio.wait([first])  # the turn is given to the second, which does not know yet
        second.cancel()
        party.end.set()
        await asyncio.wait([second, third])
        assert party.had[-1] == "third"
        assert not third.cancelled()

    run(scenario)


def test_what_fails_ends_its_turn() -> None:
    async def scenario(party: Party) -> None:
        async def fail() -> None:
            async with party.turns.turn("a"):
                await asyncio.sleep(0)
                party.had.remove("what is not there")

        found = await asyncio.gather(fail(), fail(), return_exceptions=True)
        assert [type(each) for each in found] == [ValueError, ValueError]

    run(scenario)
