"""Scripts that were loaded again: the old one's ``done`` is called when nothing can call its other hooks any more.

A flow keeps to the script that it began with. So the old one may be needed for a while: until the last such flow has
ended, or until its time is over, since a WebSocket may be open for days.
"""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Callable, Sequence

from proxy.lanes.inspection.hooks import Hook

DONE_SECONDS = 300.0
"""At the latest so long after it was replaced, a script is told that it is done."""


class Retired:
    """Those whose ``done`` is still to come. ``tell`` calls such a hook."""

    def __init__(self, tell: Callable[[Hook], None]) -> None:
        self._tell = tell
        self._waiting: dict[int, tuple[Sequence[Hook], weakref.finalize[..., object], asyncio.TimerHandle]] = {}
        self._made = 0

    def add(self, owner: object, hooks: Sequence[Hook]) -> None:
        """Call the hooks when nobody holds ``owner`` any more (:attr:`Hook.owner`). They must not hold it."""
        if not hooks:
            return
        loop = asyncio.get_running_loop()
        self._made += 1
        number = self._made
        # The last one who holds it may be anybody, a hook in another thread too.
        gone = weakref.finalize(owner, loop.call_soon_threadsafe, self._done, number)
        gone.atexit = False
        self._waiting[number] = hooks, gone, loop.call_later(DONE_SECONDS, self._done, number)

    def stop(self) -> None:
        """It is over for all of them."""
        for number in tuple(self._waiting):
            self._done(number)

    def _done(self, number: int) -> None:
        if (waiting := self._waiting.pop(number, None)) is None:
            return
        hooks, gone, late = waiting
        gone.detach()
        late.cancel()
        for hook in hooks:
            self._tell(hook)
