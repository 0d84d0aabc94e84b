"""Work that is done once for all who ask for the same at the same time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Hashable
from functools import partial


class Joined[K: Hashable, V]:
    """Runs one task per key; who asks for a key that is being worked on waits for that task."""

    def __init__(self) -> None:
        self._tasks: dict[K, asyncio.Task[V]] = {}

    async def run(self, key: K, work: Callable[[], Coroutine[None, None, V]]) -> V:
        """The result of ``work``, or of the task that is already at it. Raises what it raises.

        Who is cancelled, by a deadline of its own, cancels nobody else's work.
        """
        task = self._tasks.get(key)
        if task is None:
            task = self._tasks[key] = asyncio.get_running_loop().create_task(work())
            task.add_done_callback(partial(self._finished, key))
        return await asyncio.shield(task)

    def _finished(self, key: K, task: asyncio.Task[V]) -> None:
        del self._tasks[key]
        if not task.cancelled():
            task.exception()  # looked at, so that asyncio does not complain where all who waited have given up
