"""Routes that create: done once for each idempotency key."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request, Response
from fastapi.routing import APIRoute
from starlette.concurrency import run_in_threadpool

from console.idempotency import HEADER, Answer
from console.parts import parts_of
from console.visit import SAFE, known

DROPPED = frozenset({"content-length", "date", "server", "x-request-id"})


class Creating(APIRoute):
    """A route whose answers are remembered for the key that a request came with (:mod:`console.idempotency`)."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The handler, around the route's own."""
        handle = super().get_route_handler()

        async def once(request: Request) -> Response:
            key = request.headers.get(HEADER)
            if request.method in SAFE:
                return await handle(request)
            visit = await run_in_threadpool(known, request)  # before the body is read: nobody's is
            if key is None or request.method != "POST":
                return await handle(request)
            answers, who = parts_of(request).answers, visit.who
            body = await request.body()
            # With its query: what was only tried (dry_run) is not done.
            path = f"{request.url.path}?{request.url.query}"
            if (kept := answers.begin(who, key, request.method, path, body)) is not None:
                return Response(kept.body, kept.status, dict(kept.headers) | {"Idempotency-Replayed": "true"})
            answer = None
            try:
                response = await handle(request)
                if response.status_code < 300:
                    headers = tuple((k, v) for k, v in response.headers.items() if k not in DROPPED)
                    answer = Answer(response.status_code, headers, bytes(response.body))
                return response
            finally:
                answers.end(who, key, answer)

        return once
