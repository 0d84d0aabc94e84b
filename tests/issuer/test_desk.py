"""What is done on the loop, what on the thread, and that there is only ever one round."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from functools import partial

from issuer.desk import MOST_ON_LOOP, SharedDesk, settle

type Step = Mapping[int, str | Exception] | None


class Rounds:
    """Rounds that wait for :attr:`open` where it is not set, and note what they were and on which thread."""

    def __init__(self) -> None:
        self.open = threading.Event()
        self.open.set()
        self.done: list[tuple[bool, list[str]]] = []
        self.running = 0

    def __call__(self, values: Sequence[str]) -> Iterator[Step]:
        self.running += 1
        assert self.running == 1, "two at once"
        if "broken" in values:
            self.running -= 1
            raise ZeroDivisionError
        if not self.open.is_set():
            yield {place: "early" for place, value in enumerate(values) if value == "early"}
            yield None
            assert threading.current_thread() is not threading.main_thread()
            self.open.wait(5)
        if "fails" in values:
            self.running -= 1
            raise ArithmeticError
        self.done.append((threading.current_thread() is threading.main_thread(), list(values)))
        self.running -= 1
        yield {place: value.upper() for place, value in enumerate(values) if value != "early"}


def with_desk(test: Callable[[Rounds, Callable[[str], asyncio.Future[str]]], Coroutine[None, None, None]]) -> None:
    async def run() -> None:
        rounds = Rounds()
        desk: SharedDesk[str, str] = SharedDesk("test", rounds)

        def ask(value: str) -> asyncio.Future[str]:
            future: asyncio.Future[str] = asyncio.get_running_loop().create_future()
            desk.submit(value, partial(settle, future))
            return future

        try:
            async with asyncio.timeout(10):
                await test(rounds, ask)
        finally:
            rounds.open.set()
            await desk.stop(5)

    asyncio.run(run())


def test_what_need_not_wait_is_done_on_the_loop_and_together() -> None:
    async def test(rounds: Rounds, ask: Callable[[str], asyncio.Future[str]]) -> None:
        assert await asyncio.gather(ask("a"), ask("b"), ask("c")) == ["A", "B", "C"]
        assert await ask("d") == "D"
        assert rounds.done == [(True, ["a", "b", "c"]), (True, ["d"])]

    with_desk(test)


def test_others_have_their_turn_between_rounds_on_the_loop() -> None:
    async def test(rounds: Rounds, ask: Callable[[str], asyncio.Future[str]]) -> None:
        asked = [ask(str(number)) for number in range(MOST_ON_LOOP * 2 + 1)]
        await asyncio.sleep(0)
        assert [len(values) for _, values in rounds.done] == [MOST_ON_LOOP]
        assert await asyncio.gather(*asked) == [str(number) for number in range(MOST_ON_LOOP * 2 + 1)]
        assert [len(values) for _, values in rounds.done] == [MOST_ON_LOOP, MOST_ON_LOOP, 1]

    with_desk(test)


def test_what_waits_is_finished_on_the_thread_and_what_comes_meanwhile_follows_it_there() -> None:
    async def test(rounds: Rounds, ask: Callable[[str], asyncio.Future[str]]) -> None:
        rounds.open.clear()
        first = [ask("a"), ask("early"), ask("b")]
        assert await first[1] == "early"
        later = []
        for value in ("c", "d", "e"):
            later.append(ask(value))
            await asyncio.sleep(0.01)
        assert not any(future.done() for future in (first[0], first[2], *later))
        rounds.open.set()
        assert await asyncio.gather(*first, *later) == ["A", "early", "B", "C", "D", "E"]
        assert rounds.done == [(False, ["a", "early", "b"]), (False, ["c", "d", "e"])]
        assert await ask("f") == "F"
        assert rounds.done[-1] == (True, ["f"]), "back on the loop"

    with_desk(test)


def test_what_a_round_raises_is_told_to_all_of_it_and_the_next_one_is_not_affected() -> None:
    async def test(rounds: Rounds, ask: Callable[[str], asyncio.Future[str]]) -> None:
        outcomes = await asyncio.gather(ask("a"), ask("broken"), return_exceptions=True)
        assert [type(outcome) for outcome in outcomes] == [ZeroDivisionError] * 2
        rounds.open.clear()
        asked = [ask("early"), ask("fails"), ask("a")]
        await asked[0]
        later = ask("b")
        await asyncio.sleep(0.01)
        rounds.open.set()
        outcomes = await asyncio.gather(*asked, return_exceptions=True)
        assert [type(outcome) for outcome in outcomes] == [str, ArithmeticError, ArithmeticError]
        assert (await later, await ask("c")) == ("B", "C")
        assert rounds.done == [(False, ["b"]), (True, ["c"])]

    with_desk(test)


def test_who_gave_up_is_no_trouble() -> None:
    async def test(rounds: Rounds, ask: Callable[[str], asyncio.Future[str]]) -> None:
        gone, other = ask("a"), ask("b")
        gone.cancel()
        assert await other == "B"

    with_desk(test)
