"""Names looked up on threads of their own: a resolver that hangs costs a deadline, and so many threads."""

from __future__ import annotations

import asyncio
import re
import threading
from collections.abc import Coroutine
from typing import Any

import pytest

from kms.kmip.errors import KmipError, Reason
from kms.kmip.lookups import Lookups
from tests.issuer.rig import until


class Resolver:
    """Says nothing until it may, and counts who asks."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.may_answer = threading.Event()

    def __call__(self, name: str) -> list[str]:
        self.asked.append(name)
        self.may_answer.wait(60)
        return ["192.0.2.1"]


def run[A](work: Coroutine[Any, Any, A]) -> A:
    async def within() -> A:
        async with asyncio.timeout(30):
            return await work

    return asyncio.run(within())


def test_a_name_is_looked_up_once_for_all_who_ask() -> None:
    async def work() -> None:
        resolver = Resolver()
        lookups = Lookups(look_up=resolver, seconds=30)
        asked = [asyncio.ensure_future(lookups.addresses("kms.example")) for _ in range(5)]
        await until("it is asked", lambda: bool(resolver.asked))
        asked[0].cancel()
        resolver.may_answer.set()
        assert await asyncio.gather(*asked[1:]) == [["192.0.2.1"]] * 4
        assert resolver.asked == ["kms.example"]
        await lookups.addresses("kms.example")
        assert len(resolver.asked) == 2, "an answer is not kept"

    run(work())


def test_one_that_hangs_costs_a_deadline_and_no_more_than_so_many_threads() -> None:
    async def work() -> None:
        resolver = Resolver()
        lookups = Lookups(most=2, seconds=0.05, look_up=resolver)
        for name in ("a.example", "b.example", "a.example"):
            with pytest.raises(KmipError, match=rf"no answer from DNS for {re.escape(name)} within 0\.05 s") as late:
                await lookups.addresses(name)
            assert late.value.reason is Reason.NAME
        with pytest.raises(KmipError, match=r"c\.example is not looked up: DNS has not answered for 2 others yet"):
            await lookups.addresses("c.example")
        assert resolver.asked == ["a.example", "b.example"]
        # The loop's own threads are free all the while.
        assert await asyncio.get_running_loop().run_in_executor(None, lambda: 1) == 1
        resolver.may_answer.set()
        await until("the threads are free again", lambda: not lookups._asking)
        assert await lookups.addresses("c.example") == ["192.0.2.1"]

    run(work())


def test_a_name_that_has_none_is_said_to_have_none() -> None:
    for name in ("nobody.invalid", "x" * 64 + ".example"):
        with pytest.raises(KmipError) as caught:
            run(Lookups(seconds=30).addresses(name))
        assert caught.value.reason is Reason.NAME
        assert name in str(caught.value)
