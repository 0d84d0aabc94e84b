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
from collections.abc import Awaitable, Callable, Generator, Sequence
from dataclasses import dataclass
from types import FrameType
from typing import Any

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


@dataclass(frozen=True, slots=True)
class Hook:
    """One inspector's function for one hook."""

    inspector: str
    name: str
    function: Callable[..., Any]
    settings: Inspector


class Caller:
    """Calls hooks. ``running`` is the one that has the event loop just now."""

    def __init__(self, log: Log, failed: Callable[[str, str], None]) -> None:
        self.log = log
        self.failed = failed
        """Counts a failure, by inspector and kind: ``error``, ``timeout``, ``blocks``."""
        self._loop: asyncio.AbstractEventLoop | None = None
        self.running: Hook | None = None
        self.since = 0.0
        self._told: tuple[Hook, float] | None = None
        self._main = threading.main_thread().ident or 0
        self._stop = threading.Event()
        self._watchdog = threading.Thread(target=self._watch, name="inspectors", daemon=True)

    def start(self) -> None:
        """Watch from now on. On the main thread."""
        self._loop = asyncio.get_running_loop()
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
                self.since = time.monotonic()
                self.running = hook
                result = hook.function(*arguments)
                self.running = None
            except AddonHalt:
                self.running = None
                return None
            except (Exception, SystemExit, asyncio.CancelledError) as error:  # noqa: BLE001 - whatever it is, it is acted on
                self.running = None
                self._failed(hook, error)
                continue
            if result is not None and inspect.isawaitable(result):
                return self._rest(hooks, place, result, arguments)
        return None

    async def _rest(self, hooks: Sequence[Hook], place: int, first: Awaitable[Any], arguments: Sequence[Any]) -> None:
        hook = hooks[place]
        try:
            async with asyncio.timeout(hook.settings.timeout):
                await _Steps(self, hook, first)
        except AddonHalt:
            return
        except TimeoutError as error:
            self._failed(hook, Overdue() if not str(error) else error)
        except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever it is, it is acted on
            self._failed(hook, error)
        if (more := self.call(hooks[place + 1 :], arguments)) is not None:
            await more

    def _failed(self, hook: Hook, error: BaseException) -> None:
        late = isinstance(error, Overdue)
        self.failed(hook.inspector, "timeout" if late else "error")
        reason = f"no end within {hook.settings.timeout:g} s" if late else f"{type(error).__name__}: {error}"
        frames = traceback.extract_tb(error.__traceback__)
        where = f"{frames[-1].filename}:{frames[-1].lineno}" if frames else None
        self.log.event(
            ERROR, "inspector failed", inspector=hook.inspector, hook=hook.name, reason=reason[:300], where=where,
            action=hook.settings.on_error,
        )  # fmt: skip
        if hook.settings.on_error == "block":
            raise InspectorFailed(hook.inspector, hook.name, reason)

    # --- hooks that do not come back ---

    def _watch(self) -> None:
        while not self._stop.wait(LOOK_SECONDS):
            hook, since = self.running, self.since
            if hook is None:
                continue
            for_seconds = time.monotonic() - since
            if for_seconds > BLOCKS_SECONDS and self._told != (hook, since):
                self._told = (hook, since)
                if self._loop is not None:
                    with contextlib.suppress(RuntimeError):  # the loop is closed: the process is about to end
                        self._loop.call_soon_threadsafe(self.failed, hook.inspector, "blocks")
                self.log.event(
                    WARNING, "inspector blocks", inspector=hook.inspector, hook=hook.name,
                    seconds=round(for_seconds, 1), where=self._where(),
                )  # fmt: skip
            if for_seconds > hook.settings.timeout:
                signal.pthread_kill(self._main, OVERDUE_SIGNAL)

    def _where(self) -> str:
        frame = sys._current_frames().get(self._main)
        return f"{frame.f_code.co_filename}:{frame.f_lineno}" if frame is not None else ""

    def _overdue(self, number: int, frame: FrameType | None) -> None:
        hook = self.running
        if hook is not None and time.monotonic() - self.since > hook.settings.timeout:
            self.since = time.monotonic()  # what it does in answer to this has its time too
            raise Overdue


class _Steps:
    """An awaitable, watched in each of its steps: between them it does not have the event loop."""

    def __init__(self, caller: Caller, hook: Hook, inner: Awaitable[Any]) -> None:
        self._caller = caller
        self._hook = hook
        self._inner = inner
        self._deadline = time.monotonic() + hook.settings.timeout

    def __await__(self) -> Generator[Any, Any, None]:
        steps = self._inner.__await__()
        caller, value, thrown = self._caller, None, None
        while True:
            caller.since = time.monotonic()
            caller.running = self._hook
            try:
                wanted = steps.send(value) if thrown is None else steps.throw(thrown)
            except StopIteration:
                return
            finally:
                caller.running = None
            if isinstance(thrown, asyncio.CancelledError) and time.monotonic() >= self._deadline:
                # It was told to end, and waits for something else: it is not waited for.
                with contextlib.suppress(RuntimeError):
                    steps.close()
                raise thrown
            thrown = None
            try:
                value = yield wanted
            except GeneratorExit:
                steps.close()
                raise
            except BaseException as error:  # noqa: BLE001 - handed on to the inspector, which it is meant for
                thrown = error
