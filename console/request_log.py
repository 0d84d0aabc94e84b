"""What is told of each request, around the whole application, so that nothing gets past it.

Of a request is told what may be: never a query, a header or a body, and of the path only the route's template, since a
path can hold what is secret (``/setup/TOKEN``).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

LARGEST_HEAD = 32 * 1024
"""Bytes of a request's target and fields. The server bounds a head that does not end, not one that comes whole."""


@dataclass(frozen=True, slots=True)
class Answered:
    """A request that has ended. ``status`` 0: it was cut before there was an answer. ``seconds``: what it took."""

    id: str
    method: str
    route: str
    """The template that its path fits, as in ``/api/v1/tenants/{tenant}``; empty where none does."""
    status: int
    seconds: float
    who: str
    """The name of the account or token, where that is known."""


class Told(Protocol):
    """Who is told."""

    def request(self, answered: Answered) -> None:
        """A request has ended."""

    def unavailable(self, error: Exception, id: str) -> None:
        """A request was refused since the store is out of reach."""

    def fault(self, error: Exception, id: str) -> None:
        """A request was ended by what is no fault of whoever sent it."""


class RequestLog:
    """An application around another. ``monotonic`` tells seconds.

    Of the request's state (``request.state``) it tells ``id``, ``account``, and of what went wrong ``failure``.
    """

    def __init__(self, app: ASGIApp, told: Told, monotonic: Callable[[], float]) -> None:
        self._app = app
        self._told = told
        self._monotonic = monotonic

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Have one request answered, and tell of it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began, status = self._monotonic(), 0
        state = scope.setdefault("state", {})

        async def answer(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            if _size_of_head(scope) > LARGEST_HEAD:
                await _refuse_head(answer)
            else:
                await self._app(scope, receive, answer)
        except ClientDisconnect:
            status = 0  # whoever asked has gone, in the middle of what was asked
        except Exception as error:
            self._told.fault(error, state.get("id", ""))
            if status == 0:
                status = 500
                raise  # for the server, which answers without a word about it
        finally:
            if isinstance(failure := state.get("failure"), Exception):
                self._told.unavailable(failure, state.get("id", ""))
            seconds, who = self._monotonic() - began, state.get("account") or ""
            self._told.request(Answered(state.get("id", ""), scope["method"], _route(scope), status, seconds, who))


async def _refuse_head(send: Send) -> None:
    said = f"The head of a request has at most {LARGEST_HEAD >> 10} KiB.\n".encode()
    headers = [
        (b"content-type", b"text/plain; charset=utf-8"), (b"content-length", str(len(said)).encode()),
        (b"cache-control", b"no-store"), (b"x-content-type-options", b"nosniff"), (b"connection", b"close"),
    ]  # fmt: skip
    await send({"type": "http.response.start", "status": 431, "headers": headers})
    await send({"type": "http.response.body", "body": said})


def _size_of_head(scope: Scope) -> int:
    target = len(scope["raw_path"]) + len(scope["query_string"])
    return target + sum(len(name) + len(value) + 4 for name, value in scope["headers"])


def _route(scope: Scope) -> str:
    """The template of the path; of what lies below a mounted application that has none, where that is mounted."""
    route, endpoint = scope.get("route"), scope.get("endpoint")
    if route is None and endpoint is not None:  # Starlette's own routes are not named in the scope
        routes = getattr(scope.get("router"), "routes", ())
        route = next((each for each in routes if getattr(each, "endpoint", None) is endpoint), None)
    return f"{scope.get('root_path', '')}{getattr(route, 'path', '')}"
