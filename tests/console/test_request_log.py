"""What is told of requests, and what a fault of ours, or too much of a body, is answered with."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any

import pytest
from fastapi import APIRouter, Body, FastAPI, Request
from starlette.responses import PlainTextResponse
from starlette.staticfiles import StaticFiles

from console import request_log
from console.request_log import Answered, App, Message, RequestLog

SECRET = "hunter2"


@dataclass
class Told:
    requests: list[Answered] = field(default_factory=list)
    faults: list[tuple[Exception, str]] = field(default_factory=list)

    def request(self, answered: Answered) -> None:
        self.requests.append(answered)

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
        request.state.who = "ann"
        return tenant

    @router.post("/upload")
    async def upload(data: Annotated[bytes, Body(media_type="application/octet-stream")]) -> int:
        return len(data)

    @router.get("/fault")
    async def fault() -> None:
        raise RuntimeError(f"a password: {SECRET}")

    @router.get("/half")
    async def half(request: Request) -> None:
        await request._send({"type": "http.response.start", "status": 200, "headers": []})
        raise RuntimeError("after the beginning")

    @router.get("/own-500")
    async def own() -> PlainTextResponse:
        return PlainTextResponse("meant", 500)

    made.include_router(router)
    made.mount("/static", StaticFiles(directory="."))
    return made


async def run(
    app: App,
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


def ask(app: App, told: Told, method: str, path: str, **more: Any) -> Reply:
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


def test_a_fault_is_answered_without_its_insides_under_an_id_that_is_told(app: FastAPI) -> None:
    told = Told()
    reply = ask(app, told, "GET", "/api/v1/fault")
    problem = json.loads(reply.body)
    ((error, id),) = told.faults
    assert reply.status == problem["status"] == 500
    assert reply.headers["content-type"] == "application/problem+json"
    assert reply.headers["cache-control"] == "no-store"
    assert problem["id"] == id == told.requests[0].id
    assert told.requests[0].status == 500
    assert isinstance(error, RuntimeError)
    assert SECRET not in reply.body.decode()


def test_a_fault_behind_the_beginning_of_an_answer_adds_nothing_to_it(app: FastAPI) -> None:
    told = Told()
    reply = ask(app, told, "GET", "/api/v1/half")
    assert (reply.status, reply.body) == (200, b"")
    assert [type(error) for error, _ in told.faults] == [RuntimeError]


def test_an_answer_of_500_that_the_application_means_is_its_own(app: FastAPI) -> None:
    told = Told()
    reply = ask(app, told, "GET", "/api/v1/own-500")
    assert (reply.status, reply.body) == (500, b"meant")
    assert told.faults == []


@pytest.mark.parametrize("announced", [True, False], ids=["announced", "in chunks"])
def test_a_body_that_is_too_large_is_refused(app: FastAPI, monkeypatch: pytest.MonkeyPatch, announced: bool) -> None:
    monkeypatch.setattr(request_log, "LARGEST_BODY", 10)
    told = Told()
    headers = {"Content-Type": "application/octet-stream"} | ({"Content-Length": "11"} if announced else {})
    reply = ask(app, told, "POST", "/api/v1/upload", bodies=[b"12345", b"678901", b"2"], headers=headers)
    assert reply.status == told.requests[0].status == 413
    assert reply.headers["connection"] == "close"
    assert told.faults == []
    fits = ask(app, Told(), "POST", "/api/v1/upload", bodies=[b"12345", b"67890"], headers={"Content-Length": "10"})
    assert fits.status != 413


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
