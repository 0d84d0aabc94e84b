"""What is told of requests, of faults, and of a store that is out of reach."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
from fastapi import APIRouter, FastAPI, Request
from starlette.responses import PlainTextResponse
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message

from console import request_log
from console.middleware import Guard
from console.request_log import Answered, RequestLog

SECRET = "hunter2"


@dataclass
class Told:
    requests: list[Answered] = field(default_factory=list)
    faults: list[tuple[Exception, str]] = field(default_factory=list)
    unavailables: list[tuple[Exception, str]] = field(default_factory=list)

    def request(self, answered: Answered) -> None:
        self.requests.append(answered)

    def unavailable(self, error: Exception, id: str) -> None:
        self.unavailables.append((error, id))

    def fault(self, error: Exception, id: str) -> None:
        self.faults.append((error, id))


@dataclass
class Reply:
    status: int
    headers: dict[str, str]
    body: bytes


@pytest.fixture
def app() -> FastAPI:
    made = FastAPI(openapi_url="/api/openapi.json", docs_url=None, redoc_url=None)
    router = APIRouter(prefix="/api/v1")

    @router.get("/tenants/{tenant}")
    async def tenant(tenant: str, request: Request) -> str:
        request.state.account = "ann"
        return tenant

    @router.get("/fault")
    async def fault() -> None:
        raise RuntimeError(f"a password: {SECRET}")

    @router.get("/half")
    async def half(request: Request) -> None:
        await request._send({"type": "http.response.start", "status": 200, "headers": []})
        raise RuntimeError("after the beginning")

    @router.get("/unavailable")
    async def unavailable(request: Request) -> PlainTextResponse:
        request.state.failure = OSError("locked")
        return PlainTextResponse("later", 503)

    made.include_router(router)
    made.mount("/static", StaticFiles(directory="."))
    return made


async def run(
    app: ASGIApp,
    told: Told,
    method: str,
    path: str,
    bodies: Sequence[bytes] = (b"",),
    headers: dict[str, str] | None = None,
) -> Reply:
    sent: list[Message] = []
    left = list(bodies)
    path, _, query = path.partition("?")

    async def receive() -> Message:
        if not left:
            return {"type": "http.disconnect"}
        return {"type": "http.request", "body": left.pop(0), "more_body": bool(left)}

    async def send(message: Message) -> None:
        sent.append(message)

    ticks = iter([1.0, 3.5])
    scope: dict[str, Any] = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": method, "scheme": "https",
        "path": path, "raw_path": path.encode(), "root_path": "", "query_string": query.encode(), "state": {},
        "headers": [(name.lower().encode(), value.encode()) for name, value in (headers or {}).items()],
        "client": ("192.0.2.1", 1), "server": ("127.0.0.1", 443),
    }  # fmt: skip
    await RequestLog(app, told, lambda: next(ticks))(scope, receive, send)
    start = next((message for message in sent if message["type"] == "http.response.start"), None)
    body = b"".join(message.get("body", b"") for message in sent)
    found = {} if start is None else {name.decode(): value.decode() for name, value in start["headers"]}
    return Reply(0 if start is None else start["status"], found, body)


def ask(app: ASGIApp, told: Told, method: str, path: str, **more: Any) -> Reply:
    return asyncio.run(run(app, told, method, path, **more))


@pytest.mark.parametrize(
    ("path", "route", "status"),
    [
        ("/api/v1/tenants/acme?token=hunter2", "/api/v1/tenants/{tenant}", 200),
        ("/api/openapi.json", "/api/openapi.json", 200),
        ("/static/pyproject.toml", "/static", 200),
        ("/setup/spl_hunter2", "", 404),
    ],
)
def test_a_request_is_told_by_its_template_and_never_by_what_stands_in_it(
    app: FastAPI, path: str, route: str, status: int
) -> None:
    told = Told()
    reply = ask(app, told, "GET", path, headers={"Cookie": SECRET, "Authorization": f"Bearer {SECRET}"})
    (one,) = told.requests
    assert (one.method, one.route, one.status, one.seconds) == ("GET", route, status, 2.5)
    assert reply.status == status
    assert one.who == ("ann" if "tenants" in path else "")
    assert SECRET not in repr(one)
    assert told.faults == []


def test_a_fault_is_told_under_the_id_that_the_answer_has(app: FastAPI) -> None:
    async def answered(request: Request, error: Exception) -> PlainTextResponse:
        return PlainTextResponse("a fault", 500)

    app.add_exception_handler(Exception, answered)
    told = Told()
    reply = ask(Guard(app, {}), told, "GET", "/api/v1/fault")
    ((error, id),) = told.faults
    assert reply.headers["x-request-id"] == id == told.requests[0].id != ""
    assert (reply.status, reply.body) == (500, b"a fault")
    assert told.requests[0].status == 500
    assert isinstance(error, RuntimeError)


def test_a_fault_that_nothing_answers_is_told_and_left_to_the_server(app: FastAPI) -> None:
    told = Told()

    async def broken(scope: Any, receive: Any, send: Any) -> None:
        raise RuntimeError(SECRET)

    with pytest.raises(RuntimeError):
        ask(broken, told, "GET", "/")
    assert told.requests[0].status == 500
    assert len(told.faults) == 1


def test_a_fault_behind_the_beginning_of_an_answer_adds_nothing_to_it(app: FastAPI) -> None:
    told = Told()
    reply = ask(app, told, "GET", "/api/v1/half")
    assert (reply.status, reply.body) == (200, b"")
    assert [type(error) for error, _ in told.faults] == [RuntimeError]


def test_a_store_that_is_out_of_reach_is_told_of(app: FastAPI) -> None:
    told = Told()
    assert ask(Guard(app, {}), told, "GET", "/api/v1/unavailable").status == 503
    ((error, id),) = told.unavailables
    assert str(error) == "locked"
    assert id == told.requests[0].id
    assert told.faults == []


def test_a_head_that_is_too_large_is_refused(app: FastAPI) -> None:
    told = Told()
    reply = ask(app, told, "GET", "/api/v1/tenants/a", headers={"X": "a" * request_log.LARGEST_HEAD})
    assert reply.status == told.requests[0].status == 431
    assert told.requests[0].route == ""


def test_who_goes_away_in_the_middle_of_a_request_is_no_fault_of_ours(app: FastAPI) -> None:
    told = Told()

    async def reading(scope: Any, receive: Any, send: Any) -> None:
        await Request(scope, receive).body()

    reply = ask(reading, told, "POST", "/", bodies=[])
    assert reply.status == told.requests[0].status == 0
    assert told.faults == []
