"""What is told of each request, and what becomes of one that a fault of ours has ended.

Around the whole application, so that nothing gets past it. It tells of a request what may be told: never a query, a
header or a body, and of the path only the route's template, since a path can hold what is secret (``/setup/TOKEN``).
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from typing import Any, Protocol

from starlette.requests import ClientDisconnect

type Scope = MutableMapping[str, Any]
type Message = MutableMapping[str, Any]
type Receive = Callable[[], Awaitable[Message]]
type Send = Callable[[Message], Awaitable[None]]
type App = Callable[[Scope, Receive, Send], Awaitable[None]]

WHO = "who"
"""In a request's state (``request.state.who``): the name of the account or token, set by who has found it out."""
ID = "id"
"""In a request's state: what the log has too."""
LARGEST_HEAD = 32 * 1024
LARGEST_BODY = 8 << 20
"""Bytes; a file of certificates that is uploaded has 1 MiB at most."""


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


class Told(Protocol):
    """Who is told."""

    def request(self, answered: Answered) -> None:
        """A request has ended."""

    def fault(self, error: Exception, id: str) -> None:
        """A request was ended by what is no fault of whoever sent it."""


class RequestLog:
    """An application around another. ``monotonic`` tells seconds."""

    def __init__(self, app: App, told: Told, monotonic: Callable[[], float]) -> None:
        self._app = app
        self._told = told
        self._monotonic = monotonic

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request = _Request(scope, receive, send)
        began = self._monotonic()
        try:
            await request.run(self._app)
        except ClientDisconnect:
            pass  # whoever asked has gone, in the middle of what was asked
        except Exception as error:  # noqa: BLE001 - told, and answered as a fault of ours
            self._told.fault(error, request.id)
            await request.failed()
        finally:
            who = scope["state"].get(WHO)
            self._told.request(
                Answered(
                    request.id, scope["method"], _route(scope), request.status, self._monotonic() - began,
                    who if isinstance(who, str) else "",
                )
            )  # fmt: skip


class _Request:
    """One of them: counts what comes, and keeps back what the framework says of a fault."""

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.id = secrets.token_hex(8)
        self.status = 0
        scope.setdefault("state", {})[ID] = self.id
        self._scope = scope
        self._receive_next = receive
        self._send_on = send
        self._size = 0
        self._too_large = False
        self._kept: list[Message] = []

    async def run(self, app: App) -> None:
        # The server bounds a head that does not come to its end, but not one that comes at once.
        if _size_of_head(self._scope) > LARGEST_HEAD:
            detail = f"The head of a request has at most {LARGEST_HEAD >> 10} KiB."
            await self._problem(431, "Head too large", detail, close=True)
            return
        if any(name == b"content-length" and _number(value) > LARGEST_BODY for name, value in self._scope["headers"]):
            await self._refuse_size()
            return
        try:
            await app(self._scope, self._receive, self._send)
        except Exception:
            if not self._too_large or self.status:
                raise
        if self._too_large and not self.status:
            await self._refuse_size()
        for message in self._kept:
            await self._pass_on(message)

    async def failed(self) -> None:
        if self.status:
            return  # its beginning is out already: uvicorn closes the connection
        await self._problem(500, "A fault of Sallyport's own", f"The log says where, under the id {self.id}.")

    async def _receive(self) -> Message:
        message = await self._receive_next()
        self._size += len(message.get("body", b""))
        if self._size > LARGEST_BODY:
            self._too_large = True
            raise _TooLargeError
        return message

    async def _send(self, message: Message) -> None:
        if self._too_large and not self.status:
            return
        # The framework answers a fault before it raises it, in its own words.
        if self._kept or (message["type"] == "http.response.start" and _is_frameworks_own(message)):
            self._kept.append(message)
            return
        await self._pass_on(message)

    async def _pass_on(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
        await self._send_on(message)

    async def _refuse_size(self) -> None:
        await self._problem(413, "Too large", f"A request has at most {LARGEST_BODY >> 20} MiB.", close=True)

    async def _problem(self, status: int, title: str, detail: str, *, close: bool = False) -> None:
        """An answer in the form of RFC 9457."""
        body = json.dumps({"type": "about:blank", "title": title, "status": status, "detail": detail, "id": self.id})
        headers = [
            (b"content-type", b"application/problem+json"),
            (b"content-length", str(len(body)).encode()),
            (b"cache-control", b"no-store"),
            (b"x-content-type-options", b"nosniff"),
        ]
        if close:
            headers.append((b"connection", b"close"))  # nobody reads the rest
        await self._pass_on({"type": "http.response.start", "status": status, "headers": headers})
        await self._pass_on({"type": "http.response.body", "body": body.encode()})


class _TooLargeError(Exception):
    """The body has more than is taken."""


def _is_frameworks_own(start: Message) -> bool:
    return start["status"] == 500 and any(
        name.lower() == b"content-type" and value.startswith(b"text/plain") for name, value in start["headers"]
    )


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


def _number(value: bytes) -> int:
    # h11 has seen to it that these are digits.
    return int(value) if len(value) <= 20 else LARGEST_BODY + 1
