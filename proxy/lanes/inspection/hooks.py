"""Calling inspectors: in order, each within its time, and what becomes of one that fails.

A hook runs on the event loop. One that awaits holds up nobody. One that does not come back is ended: at its time
limit a watchdog thread sends the main thread a signal, whose handler raises in the middle of the hook. (A call in C
that looks at no signals cannot be ended so; it is reported by name while it lasts.)
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import signal
import sys
import threading
import time
import traceback
from collections.abc import Awaitable, Callable, Coroutine, Generator, Sequence
from dataclasses import dataclass
from types import FrameType
from typing import Any

from mitmproxy.connection import Client
from mitmproxy.exceptions import AddonHalt

from config.settings import Inspector
from proxy.log import ERROR, WARNING, Log

BLOCKS_SECONDS = 0.5
"""A hook that keeps the event loop for longer is reported: nothing else is served meanwhile."""
LOOK_SECONDS = 0.1
OVERDUE_SIGNAL = signal.SIGALRM


class Overdue(Exception):  # noqa: N818 - it is raised into an inspector, which may show it
    """A hook has had its time."""


class InspectorFailed(Exception):  # noqa: N818 - what became of it
    """An inspector failed, and what it looked at must not pass."""

    def __init__(self, inspector: str, hook: str, reason: str) -> None:
        super().__init__(f"inspector {inspector} failed in {hook}: {reason}")
        self.inspector = inspector
        self.hook = hook
        self.reason = reason


@dataclass(frozen=True, slots=True, eq=False)
class Hook:
    """One inspector's function for one hook."""

    inspector: str
    name: str
    function: Callable[..., Any]
    settings: Inspector
    owner: object = None
    """What has to live for as long as the function may be called."""


class Caller:
    """Calls hooks. ``running`` is the one that has the event loop just now."""

    def __init__(self, log: Log, failed: Callable[[str, str], None]) -> None:
        self.log = log
        self.failed = failed
        """Counts a failure, by inspector and kind: ``error``, ``timeout``, ``blocks``."""
        self._loop: asyncio.AbstractEventLoop | None = None
        self.running: Hook | None = None
        self.since = 0.0
        self.given: Sequence[Any] = ()
        """What the running hook was called with."""
        self._told: tuple[int, float] | None = None
        self._ours = 0
        """How deep a hook is in code of ours, which is not to be torn off in its middle."""
        self._main = threading.main_thread().ident or 0
        self._stop = threading.Event()
        self._watchdog = threading.Thread(target=self._watch, name="inspectors", daemon=True)

    def start(self, loop: asyncio.AbstractEventLoop | None) -> None:
        """Watch from now on. On the main thread."""
        self._loop = loop
        signal.signal(OVERDUE_SIGNAL, self._overdue)
        self._watchdog.start()

    def stop(self) -> None:
        """Watch no more."""
        self._stop.set()

    def call(self, hooks: Sequence[Hook], arguments: Sequence[Any]) -> Awaitable[None] | None:
        """Call them in order; None where all have come back at once, else what to await.

        Raises InspectorFailed for the first that fails and may not be passed over.
        """
        for place, hook in enumerate(hooks):
            try:
                result = self.watched(hook, hook.function, *arguments, given=arguments)
            except AddonHalt:
                return None
            except BaseException as error:  # noqa: BLE001 - whatever it is, it is acted on: no hook ends the worker
                self._failed(hook, error, arguments)
                continue
            if result is not None and inspect.isawaitable(result):
                return self._rest(hooks, place, result, arguments)
        return None

    async def _rest(self, hooks: Sequence[Hook], place: int, first: Awaitable[Any], arguments: Sequence[Any]) -> None:
        hook = hooks[place]
        limit = asyncio.timeout(hook.settings.timeout)
        error: BaseException | None
        try:
            async with limit:
                error = await _Steps(self, hook, first, arguments)
        except TimeoutError as late:
            error = late
        if isinstance(error, AddonHalt):
            return
        if error is not None:
            self._failed(hook, Overdue() if limit.expired() else error, arguments)
        if (more := self.call(hooks[place + 1 :], arguments)) is not None:
            await more

    def connection(self) -> str:
        """The id of the connection that the running hook was called for; "" where none is running, or for none."""
        return _connection_of(self.given) if self.running is not None else ""

    def tell(self, hook: Hook) -> Coroutine[Any, Any, None] | None:
        """Call a hook that no traffic depends on: what it does wrong is said. None, or what to await, without a limit.

        It may wait for as long as it likes; its time limit is for what keeps the event loop.
        """
        try:
            result = self.watched(hook, hook.function)
        except BaseException as error:  # noqa: BLE001 - no traffic depends on it; it is said
            self.report(hook, error)
            return None
        return self._told_of(hook, result) if result is not None and inspect.isawaitable(result) else None

    async def _told_of(self, hook: Hook, rest: Awaitable[Any]) -> None:
        if (error := await _Steps(self, hook, rest, ())) is not None:
            self.report(hook, error)

    def change(
        self, hook: Hook, function: Callable[[bytes], Any], data: bytes, most: int, given: Sequence[Any] = ()
    ) -> list[bytes] | None:
        """What a script's stream function makes of a piece of a body: pieces, none of them empty.

        None: it failed, and is to be passed over. Raises InspectorFailed where it may not, or where it gives more than
        ``most`` bytes for one piece.
        """
        try:
            return self.watched(hook, _pieces, function, data, most, given=given)
        except BaseException as error:  # noqa: BLE001 - whatever it is, it is acted on
            self._failed(hook, error, given)
        return None

    def watched[T](self, hook: Hook, function: Callable[..., T], *arguments: Any, given: Sequence[Any] = ()) -> T:
        """Call code of an inspector: the watchdog ends it at its time limit, and names it while it blocks.

        ``given``: what it is about, where that is not what the code around it is about.
        Raises whatever it raises, KeyboardInterrupt and such too. One may call into another, which has its own time.
        """
        outer, began, about = self.running, self.since, self.given
        self.since = time.monotonic()
        self.running, self.given = hook, given or about
        try:
            try:
                return function(*arguments)
            finally:
                self.running, self.since, self.given = outer, began, about
        finally:  # once more: the watchdog's signal may have come in the middle of that line
            self.running, self.since, self.given = outer, began, about

    def ours(self, function: Callable[..., None], *arguments: Any, **named: Any) -> None:
        """Do something of ours that a hook has called for, whole: a hook whose time is over ends behind it."""
        if threading.get_ident() != self._main:
            function(*arguments, **named)
            return
        self._ours += 1
        try:
            function(*arguments, **named)
        finally:
            self._ours -= 1

    def _failed(self, hook: Hook, error: BaseException, given: Sequence[Any]) -> None:
        reason = self.report(hook, error, hook.settings.on_error, given)
        if hook.settings.on_error == "block":
            raise InspectorFailed(hook.inspector, hook.name, reason)

    def report(self, hook: Hook, error: BaseException, action: str | None = None, given: Sequence[Any] = ()) -> str:
        """Count a failure and log it; ``given`` is what the hook was about. Returns the reason."""
        late = isinstance(error, Overdue)
        self.failed(hook.inspector, "timeout" if late else "error")
        reason = f"no end within {hook.settings.timeout:g} s" if late else self.said(hook, error)
        self.log.event(
            ERROR, "inspector failed", id=_connection_of(given or self.given), inspector=hook.inspector,
            hook=hook.name, reason=reason[:300], where=_where(error), action=action,
        )  # fmt: skip
        return reason

    def said(self, hook: Hook, error: BaseException) -> str:
        """An exception in words: its own, if it has any, which is a script's code too."""
        kind = type(error).__name__
        try:
            return f"{kind}: {self.watched(hook, str, error)}"
        except BaseException:  # noqa: BLE001 - it was about to be said, and what it is still is
            return kind

    # --- hooks that do not come back ---

    def _watch(self) -> None:
        while not self._stop.wait(LOOK_SECONDS):
            hook, since, given = self.running, self.since, self.given
            if hook is None:
                continue
            for_seconds = time.monotonic() - since
            if for_seconds > BLOCKS_SECONDS and self._told != (id(hook), since):
                self._told = (id(hook), since)  # not the hook: that would keep a script that was replaced
                if self._loop is not None:
                    with contextlib.suppress(RuntimeError):  # the loop is closed: the process is about to end
                        self._loop.call_soon_threadsafe(self.failed, hook.inspector, "blocks")
                self.log.event(
                    WARNING, "inspector blocks", id=_connection_of(given), inspector=hook.inspector,
                    hook=hook.name, seconds=round(for_seconds, 1), where=self._at(),
                )  # fmt: skip
            if for_seconds > hook.settings.timeout:
                signal.pthread_kill(self._main, OVERDUE_SIGNAL)

    def _at(self) -> str:
        frame = sys._current_frames().get(self._main)
        return f"{frame.f_code.co_filename}:{frame.f_lineno}" if frame is not None else ""

    def _overdue(self, number: int, frame: FrameType | None) -> None:
        hook = self.running
        if self._ours:
            return  # the watchdog comes again
        if hook is not None and time.monotonic() - self.since > hook.settings.timeout:
            self.since = time.monotonic()  # what it does in answer to this has its time too
            raise Overdue("its time is over")


def _connection_of(arguments: Sequence[Any]) -> str:
    """The id of the client's connection that a hook's argument is about: a flow, a connection, or data of one."""
    for argument in arguments:
        context = getattr(argument, "context", argument)
        client = getattr(context, "client_conn", None) or getattr(context, "client", None) or context
        if isinstance(client, Client):
            return client.id
    return ""


class _Steps:
    """An awaitable, watched in each of its steps: between them it does not have the event loop.

    Gives what the hook raised, or None. Raises only what is meant for whoever awaits it: that it is cancelled.
    """

    def __init__(self, caller: Caller, hook: Hook, inner: Awaitable[Any], given: Sequence[Any]) -> None:
        self._caller = caller
        self._given = given
        self._hook = hook
        self._inner = inner
        self._deadline = time.monotonic() + hook.settings.timeout

    def __await__(self) -> Generator[Any, Any, BaseException | None]:
        caller, hook, given = self._caller, self._hook, self._given
        value: Any = None
        thrown: BaseException | None = None
        try:
            steps = caller.watched(hook, self._inner.__await__, given=given)
        except BaseException as error:  # noqa: BLE001 - the hook's own
            return error
        while True:
            try:
                wanted = caller.watched(
                    hook, steps.send if thrown is None else steps.throw, value if thrown is None else thrown,
                    given=given,
                )  # fmt: skip
            except StopIteration:
                return None
            except asyncio.CancelledError as error:
                if _cancelling():
                    raise
                return error  # something that the hook awaited was cancelled, or it says so itself: nobody told it to
            except BaseException as error:  # noqa: BLE001 - the hook's own
                return error
            if isinstance(thrown, asyncio.CancelledError) and time.monotonic() >= self._deadline:
                # It was told to end, and waits for something else: it is not waited for.
                self._close(steps)
                raise thrown
            thrown = None
            try:
                value = yield wanted
            except GeneratorExit:
                self._close(steps)
                raise
            except BaseException as error:  # noqa: BLE001 - handed on to the inspector, which it is meant for
                thrown = error

    def _close(self, steps: Any) -> None:
        # Its ``finally`` is a script's code like any other. What it raises changes nothing: it is over.
        with contextlib.suppress(BaseException):
            self._caller.watched(self._hook, steps.close, given=self._given)


def _cancelling() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def _pieces(function: Callable[[bytes], Any], data: bytes, most: int) -> list[bytes]:
    given = function(data)
    if isinstance(given, bytes):
        given = (given,)
    pieces, size = [], 0
    for piece in given:
        if not isinstance(piece, (bytes, bytearray, memoryview)):
            raise TypeError(f"a stream function has to give bytes, not {type(piece).__name__}")
        size += len(piece)
        if size > most:
            raise ValueError(f"more than {most} bytes for one piece of a body")
        if piece:  # an empty chunk would be the body's end (RFC 9112 section 7.1)
            pieces.append(bytes(piece))
    return pieces


def _where(error: BaseException) -> str | None:
    """The file and line that raised it."""
    at = None
    for frame, line in traceback.walk_tb(error.__traceback__):
        if frame.f_code is not Caller._overdue.__code__:
            at = f"{frame.f_code.co_filename}:{line}"
    return at
