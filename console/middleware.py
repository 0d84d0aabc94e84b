"""What every request and answer goes through: an id, a limit on the body, and the fields that make browsers careful.

Plain ASGI, outermost: it holds for what the framework answers by itself as well.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping
from http import HTTPStatus

from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from console.problems import MEDIA_TYPE, Problem

MOST_BODY = 8 << 20
"""Bytes of a request: several uploads of up to a MiB each."""
MOST_AT_ONCE = 64 << 20
"""Bytes of all requests that are being answered, beyond what is free of each: strangers may send bodies, too."""
FREE = 64 << 10
"""Bytes of each request that are not counted, so that who signs in meanwhile is let in."""
SAID = f"The request has more than {MOST_BODY >> 20} MiB."
FRAMED_TWICE = "A request says once how long its body is: with Content-Length, or with Transfer-Encoding."
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "font-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
)
FIELDS = (
    ("content-security-policy", POLICY),
    ("strict-transport-security", "max-age=31536000"),
    ("x-content-type-options", "nosniff"),
    ("x-frame-options", "DENY"),
    ("referrer-policy", "same-origin"),
    ("cross-origin-opener-policy", "same-origin"),
    ("cross-origin-resource-policy", "same-origin"),
    ("permissions-policy", "camera=(), geolocation=(), microphone=(), payment=(), usb=()"),
)
"""After OWASP's HTTP Headers Cheat Sheet. Nothing is loaded from elsewhere, and no script or style is in a page."""


class TooLarge(HTTPException):
    """The body has more bytes than are taken, whatever was said of it before."""

    def __init__(self) -> None:
        super().__init__(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, SAID)


class TooMuch(HTTPException):
    """There are too many large requests at a time."""

    def __init__(self) -> None:
        said = "Too much is being sent just now; try again in a moment."
        super().__init__(HTTPStatus.SERVICE_UNAVAILABLE, said, {"Retry-After": "5"})


class Guard:
    """The outermost layer. The request's id is in ``scope["state"]["id"]``, and in the answer."""

    def __init__(self, app: ASGIApp, state: Mapping[str, object]) -> None:
        """``state``: what every request has in its ``scope["state"]``."""
        self._app = app
        self._state = state
        self._held = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        state = scope.setdefault("state", {})
        state.update(self._state)
        id = state["id"] = secrets.token_hex(8)

        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in FIELDS:
                    headers.setdefault(name, value)
                headers["x-request-id"] = id
                headers.setdefault("cache-control", "no-store")
            await send(message)

        if _framed_twice(scope):
            await _refuse(id, answer, Problem(HTTPStatus.BAD_REQUEST, "invalid", FRAMED_TWICE))
            return
        if _declared(scope) > MOST_BODY:
            await _refuse(id, answer, Problem(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "too-large", SAID))
            return
        read = held = 0

        async def bounded() -> Message:
            nonlocal read, held
            message = await receive()
            read += len(message.get("body", b""))
            if read > MOST_BODY:
                raise TooLarge
            more = max(0, read - FREE) - held
            if self._held + more > MOST_AT_ONCE:
                raise TooMuch
            held, self._held = held + more, self._held + more
            return message

        try:
            await self._app(scope, bounded, answer)
        finally:
            self._held -= held


def _framed_twice(scope: Scope) -> bool:
    """Whether two fields say where the body ends: a proxy in front may have believed the other (RFC 9112 6.1)."""
    return {b"content-length", b"transfer-encoding"} <= {name for name, _ in scope["headers"]}


def _declared(scope: Scope) -> int:
    """What Content-Length says; the server has checked that it is a number."""
    for name, value in scope["headers"]:
        if name == b"content-length":
            return int(value)
    return 0


async def _refuse(id: str, send: Send, problem: Problem) -> None:
    body = json.dumps(problem.document(id)).encode()
    headers = [
        (b"content-type", MEDIA_TYPE.encode()), (b"content-length", str(len(body)).encode()), (b"connection", b"close"),
    ]  # fmt: skip
    await send({"type": "http.response.start", "status": int(problem.status), "headers": headers})
    await send({"type": "http.response.body", "body": body})
