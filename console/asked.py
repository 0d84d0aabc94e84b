"""Asking the running daemon from a route, which has a thread of its own and may wait."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from anyio import from_thread


def ask[**P, T](call: Callable[P, Awaitable[T]], *args: P.args, **kwargs: P.kwargs) -> T:
    """What the daemon says; asked on the event loop, while this thread waits."""

    async def asked() -> T:
        return await call(*args, **kwargs)

    return from_thread.run(asked)
