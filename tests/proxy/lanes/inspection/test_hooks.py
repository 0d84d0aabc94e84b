"""Hooks that end in ways that no hook should, and code of ours that they call into."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from mitmproxy.exceptions import AddonHalt
from mitmproxy.test import tflow

from config.settings import Inspector
from proxy.lanes.inspection.hooks import Caller, Hook, InspectorFailed, Overdue
from proxy.log import Log


class Panic(BaseException):
    """What a library of another language raises for its own panics."""


class Unsayable(Exception):  # noqa: N818 - as scripts do
    """One whose words are a mistake too."""

    def __str__(self) -> str:
        raise Panic


BAD = [Panic("it"), KeyboardInterrupt("it"), GeneratorExit("it"), SystemExit("it"), asyncio.CancelledError("it")]
NAMED = pytest.mark.parametrize("error", BAD, ids=lambda error: type(error).__name__)


class Watched:
    """A caller with its log."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "log"
        self.file = self.path.open("wb")
        self.failures: Counter[tuple[str, str]] = Counter()
        self.caller = Caller(Log(self.file.fileno(), "info", "test", time.time), self.failed)

    def failed(self, inspector: str, kind: str) -> None:
        self.failures[inspector, kind] += 1

    def said(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.path.read_text().splitlines()]


@pytest.fixture
def watched(tmp_path: Path) -> Iterator[Watched]:
    made = Watched(tmp_path)
    yield made
    made.caller.stop()
    made.file.close()


def hook(function: Callable[..., Any], on_error: str = "block", timeout: float = 5) -> Hook:
    settings = Inspector(script="block_url").model_copy(update={"on_error": on_error, "timeout": timeout})
    return Hook("bad", "request", function, settings)


def raising(error: BaseException, kind: str) -> Callable[[], Any]:
    def sync() -> None:
        raise error

    async def at_once() -> None:
        raise error

    async def later() -> None:
        await asyncio.sleep(0)
        raise error

    return {"sync": sync, "at once": at_once, "later": later}[kind]


async def called(caller: Caller, *hooks: Hook) -> None:
    if (rest := caller.call(hooks, ())) is not None:
        await rest


@NAMED
@pytest.mark.parametrize("kind", ["sync", "at once", "later"])
def test_whatever_a_hook_raises_is_its_failure(watched: Watched, error: BaseException, kind: str) -> None:
    caller, after = watched.caller, []
    with pytest.raises(InspectorFailed, match=f"{type(error).__name__}: it"):
        asyncio.run(called(caller, hook(raising(error, kind))))
    assert caller.running is None
    asyncio.run(called(caller, hook(raising(error, kind), "pass"), hook(lambda: after.append("called"))))
    assert caller.running is None
    assert after == ["called"]
    (first, second) = watched.said()
    assert (first["event"], first["action"], second["action"]) == ("inspector failed", "block", "pass")
    assert first["reason"] == f"{type(error).__name__}: it"
    assert first["where"].startswith(f"{__file__}:")
    assert watched.failures["bad", "error"] == 2


@NAMED
@pytest.mark.parametrize("kind", ["sync", "at once", "later"])
def test_what_a_hook_of_its_own_life_raises_is_said_in_the_same_way(
    watched: Watched, error: BaseException, kind: str
) -> None:
    async def tell() -> None:
        if (rest := watched.caller.tell(hook(raising(error, kind)))) is not None:
            await rest

    asyncio.run(tell())
    (said,) = watched.said()
    assert (said["event"], said["inspector"], said["hook"]) == ("inspector failed", "bad", "request")
    assert said["reason"] == f"{type(error).__name__}: it"
    assert watched.caller.running is None
    assert watched.failures["bad", "error"] == 1


def test_a_hook_whose_task_was_cancelled_has_failed(watched: Watched) -> None:
    async def request() -> None:
        waiting = asyncio.ensure_future(asyncio.sleep(9))
        await asyncio.sleep(0)
        waiting.cancel()
        await waiting

    with pytest.raises(InspectorFailed, match="CancelledError"):
        asyncio.run(called(watched.caller, hook(request)))
    assert watched.said()


def test_a_cancellation_of_ours_cancels(watched: Watched) -> None:
    told: list[str] = []

    async def request() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            told.append("it ends")

    async def main() -> None:
        task = asyncio.ensure_future(called(watched.caller, hook(request), hook(lambda: told.append("the next"))))
        await asyncio.sleep(0)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        assert task.cancelled()

    asyncio.run(main())
    assert told == ["it ends"]
    assert not watched.said()
    assert watched.caller.running is None


def test_the_time_limit_is_told_from_a_timeout_of_the_hook_s_own(watched: Watched) -> None:
    async def own() -> None:
        async with asyncio.timeout(0):
            await asyncio.Event().wait()

    async def for_ever() -> None:
        await asyncio.Event().wait()

    with pytest.raises(InspectorFailed, match="TimeoutError"):
        asyncio.run(called(watched.caller, hook(own)))
    with pytest.raises(InspectorFailed, match=r"no end within 0\.01 s"):
        asyncio.run(called(watched.caller, hook(for_ever, timeout=0.01)))
    assert watched.failures == {("bad", "error"): 1, ("bad", "timeout"): 1}


def test_a_hook_that_halts_the_others_has_not_failed(watched: Watched) -> None:
    after: list[str] = []
    for kind in ("sync", "at once", "later"):
        asyncio.run(called(watched.caller, hook(raising(AddonHalt(), kind)), hook(lambda: after.append("called"))))
    assert not after
    assert not watched.said()


def test_an_exception_that_cannot_be_said_is_named(watched: Watched) -> None:
    with pytest.raises(InspectorFailed, match=r"Unsayable$"):
        asyncio.run(called(watched.caller, hook(raising(Unsayable(), "sync"))))
    assert watched.said()[0]["reason"] == "Unsayable"


def test_a_loop_in_what_closes_a_hook_is_ended(watched: Watched) -> None:
    """What will not be cancelled is closed; its ``finally`` is watched as all of it."""

    async def request() -> None:
        try:
            while True:
                with contextlib.suppress(asyncio.CancelledError):
                    await asyncio.Event().wait()
        finally:
            while True:
                pass

    watched.caller.start(None)
    with pytest.raises(InspectorFailed, match="no end within"):
        asyncio.run(called(watched.caller, hook(request, timeout=0.1)))
    assert watched.caller.running is None


def test_code_of_ours_is_not_torn_off_where_a_hook_has_called_it(watched: Watched) -> None:
    caller, done = watched.caller, []

    def ours() -> None:
        for _ in range(3):  # as the watchdog does, long after the time
            signal.raise_signal(signal.SIGALRM)
            done.append("a line of ours")

    def request() -> None:
        caller.since -= 60
        caller.ours(ours)
        done.append("the hook goes on")
        signal.raise_signal(signal.SIGALRM)
        done.append("never")

    caller.start(None)
    with pytest.raises(InspectorFailed, match="no end within"):
        asyncio.run(called(caller, hook(request)))
    assert done == ["a line of ours"] * 3 + ["the hook goes on"]
    with pytest.raises(InspectorFailed, match="no end within"):  # it can be ended again
        asyncio.run(called(caller, hook(request)))


def test_a_script_that_another_one_calls_has_a_time_of_its_own(watched: Watched) -> None:
    caller = watched.caller
    seen: list[object] = []

    def inner() -> None:
        seen.append(caller.running)
        caller.since -= 60
        signal.raise_signal(signal.SIGALRM)

    def outer() -> None:
        began = caller.since
        with contextlib.suppress(Overdue):
            caller.watched(within, within.function)
        seen.extend([caller.running, caller.since == began])

    caller.start(None)
    within, around = hook(inner), hook(outer)
    asyncio.run(called(caller, around))
    assert seen == [within, around, True]
    assert not watched.said()


@pytest.mark.parametrize(
    ("given", "pieces"),
    [(b"", []), (b"a", [b"a"]), ([b"a", b"", b"b"], [b"a", b"b"]), (iter([b"a"]), [b"a"]), ([bytearray(b"a")], [b"a"])],
)
def test_a_stream_function_gives_pieces(watched: Watched, given: Any, pieces: list[bytes]) -> None:
    assert watched.caller.change(hook(lambda: None), lambda data: given, b"x", 10) == pieces


@pytest.mark.parametrize("given", [None, "text", ["text"], [b"a" * 6, b"a" * 5], 7])
def test_a_stream_function_that_gives_something_else_has_failed(watched: Watched, given: Any) -> None:
    with pytest.raises(InspectorFailed):
        watched.caller.change(hook(lambda: None), lambda data: given, b"x", 10)
    assert watched.caller.change(hook(lambda: None, "pass"), lambda data: given, b"x", 10) is None
    assert len(watched.said()) == 2


@NAMED
def test_a_stream_function_that_raises_has_failed(watched: Watched, error: BaseException) -> None:
    def function(data: bytes) -> Iterator[bytes]:
        yield data
        raise error

    with pytest.raises(InspectorFailed):
        watched.caller.change(hook(lambda: None), function, b"x", 10)
    assert watched.caller.running is None


def test_what_fails_and_what_it_says_has_the_id_of_its_connection(watched: Watched) -> None:
    caller, flow = watched.caller, tflow.tflow()
    ids: list[str] = []

    def within() -> None:
        ids.append(caller.connection())
        raise Panic

    def fails(of: object) -> None:
        caller.tell(hook(within))
        raise Panic

    async def fails_later(of: object) -> None:
        await asyncio.sleep(0)
        ids.append(caller.connection())
        raise Panic

    async def all_of_them() -> None:
        for function in (fails, fails_later):
            if (rest := caller.call([hook(function, "pass")], [flow])) is not None:
                await rest
            ids.append(caller.connection())

    asyncio.run(all_of_them())
    caller.change(hook(within, "pass"), lambda data: None, b"x", 10, (flow.client_conn,))
    assert ids == [flow.client_conn.id, "", flow.client_conn.id, ""]
    assert [line["id"] for line in watched.said()] == [flow.client_conn.id] * 4
    assert caller.given == ()
