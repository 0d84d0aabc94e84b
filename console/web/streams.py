"""Progress as it comes, by server-sent events (section 9.2 of the HTML standard), told from a use case's thread.

Streams are bounded in number here, and in time by whoever tells.
"""

from __future__ import annotations

import asyncio
import secrets
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from http import HTTPStatus
from typing import cast

from anyio import CapacityLimiter, to_thread
from cachetools import TTLCache
from fastapi import Request, Response
from starlette.responses import StreamingResponse

from console.events import MEDIA_TYPE, Open, event
from console.parts import Parts, parts_of
from console.problems import Problem
from console.visit import Visit

MOST, MOST_OF_ONE = 20, 6
"""Streams at a time, of everybody and of one account."""
THREADS = 4
"""For the work of streams, which waits for others' machines: pages and sign-ins have theirs, and go on."""
KEPT, KEPT_SECONDS = 32, 300.0

FAILED = '<div class="notice problem" role="alert"><p>Sallyport failed at this; its log says where.</p></div>'

type Tell = Callable[[str, str], None]
"""Told the name of an event and its HTML, from any thread."""
type Work = Callable[[Tell], None]
"""Blocks, and tells what comes of it."""


class Streams:
    """Those that are open, and what is to be done by the next ones."""

    def __init__(self) -> None:
        self.open = Open(MOST, MOST_OF_ONE)
        self.threads = CapacityLimiter(THREADS)
        self._waiting: TTLCache[tuple[str, int], Work] = TTLCache(KEPT, KEPT_SECONDS)
        self._lock = threading.Lock()

    def keep(self, name: str, session: int, work: Work) -> None:
        """Until it is asked for."""
        with self._lock:
            self._waiting[name, session] = work

    def take(self, name: str, session: int) -> Work | None:
        """None: there is none, or there was."""
        with self._lock:
            taken: Work | None = self._waiting.pop((name, session), None)
            return taken


def _streams(parts: Parts) -> Streams:
    return cast(Streams, parts.made.setdefault("streams", Streams()))


def prepare(request: Request, visit: Visit, work: Work) -> str:
    """Have the work done once the page asks for it, in the same session; the name to ask by."""
    assert visit.signed_in is not None  # noqa: S101 - pages are for sessions
    name = secrets.token_urlsafe(16)
    _streams(parts_of(request)).keep(name, visit.signed_in.session.id, work)
    return name


def prepared(request: Request, visit: Visit, name: str) -> Response:
    """What comes of the work of that name, which is done now, and once."""
    assert visit.signed_in is not None  # noqa: S101 - pages are for sessions
    work = _streams(parts_of(request)).take(name, visit.signed_in.session.id)
    if work is None:
        return Response(status_code=HTTPStatus.NO_CONTENT)  # and a browser does not ask again
    return stream(request, visit, told_by(work, _streams(parts_of(request)).threads))


def stream(request: Request, visit: Visit, events: AsyncIterator[tuple[str, str]]) -> Response:
    """The events, up to the last or until the page is left. Raises Problem where there are too many already."""
    streams, account = _streams(parts_of(request)), visit.who.account
    if streams.open.full or streams.open.full_of(account):
        text = "Too many pages follow something already; close one, or try again in a moment."
        raise Problem(HTTPStatus.SERVICE_UNAVAILABLE, "unavailable", text, headers={"Retry-After": "5"})

    async def written() -> AsyncIterator[str]:
        with streams.open.one(account):
            async for name, text in events:
                yield event(name, text)
            yield event("done", "")

    return StreamingResponse(written(), media_type=MEDIA_TYPE, headers={"X-Accel-Buffering": "no"})


async def told_by(work: Work, threads: CapacityLimiter | None = None) -> AsyncIterator[tuple[str, str]]:
    """What the work tells, in another thread, as it does. Raises what the work raises, at the end.

    Work that waits for a thread when the page is left is not done.
    """
    loop, begun = asyncio.get_running_loop(), threading.Event()
    queue: asyncio.Queue[tuple[str, str] | None] = asyncio.Queue()

    def tell(name: str, text: str) -> None:
        with suppress(RuntimeError):  # the console has ended meanwhile
            loop.call_soon_threadsafe(queue.put_nowait, (name, text))

    def done(_: object) -> None:
        queue.put_nowait(None)

    def run() -> None:
        begun.set()
        work(tell)

    task = asyncio.ensure_future(to_thread.run_sync(run, limiter=threads))
    task.add_done_callback(done)
    try:
        while (told := await queue.get()) is not None:
            yield told
    finally:
        if not begun.is_set():
            task.cancel()
    if task.exception() is not None:
        yield "outcome", FAILED
    await task
