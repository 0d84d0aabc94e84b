"""The application: what is put together here answers every request of API and pages."""

from __future__ import annotations

from functools import cache
from http import HTTPStatus

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse
from starlette.types import ASGIApp

from console import problems
from console.api import documentation
from console.api.routes import API, router
from console.middleware import Guard
from console.parts import Parts, parts_of
from console.problems import FieldError, Problem
from console.web import faults, routes, static

TITLE = "Sallyport"


def create(parts: Parts) -> ASGIApp:
    """The application, answering from these parts."""
    return Guard(routed(), {"parts": parts})


@cache
def routed() -> FastAPI:
    """What answers, whatever it answers from: that comes with each request. To put it together takes a second."""
    app = FastAPI(
        title=TITLE,
        version="1",
        description=documentation.DESCRIPTION,
        openapi_url="/api/openapi.json",
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        generate_unique_id_function=lambda route: route.name,
    )
    app.include_router(router)
    app.include_router(routes.router)
    static.mount(app)
    documentation.install(app)
    for kind in problems.EXPECTED:
        app.add_exception_handler(kind, _expected)
    app.add_exception_handler(Problem, _problem)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _framework)
    app.add_exception_handler(Exception, _unforeseen)
    return app


def _is_api(request: Request) -> bool:
    return request.url.path.startswith(("/api/", API))


def _answer(request: Request, problem: Problem) -> Response:
    if not _is_api(request):
        return faults.page(request, problem)
    return JSONResponse(
        problem.document(request.state.id), problem.status, problem.headers, media_type=problems.MEDIA_TYPE
    )


async def _problem(request: Request, error: Exception) -> Response:
    assert isinstance(error, Problem)  # noqa: S101 - it is installed for these alone
    return _answer(request, error)


async def _expected(request: Request, error: Exception) -> Response:
    found = problems.of(error, parts_of(request).clock())
    if found.status is HTTPStatus.SERVICE_UNAVAILABLE:
        request.state.failure = error
    return _answer(request, found)


async def _invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)  # noqa: S101 - it is installed for these alone
    found = [FieldError(_pointer(one["loc"]), str(one["msg"])) for one in error.errors()]
    detail = "; ".join(f"{one.pointer}: {one.detail}" for one in found[:5])
    return _answer(request, Problem(HTTPStatus.UNPROCESSABLE_ENTITY, "invalid", detail, errors=found[:50]))


def _pointer(place: tuple[object, ...]) -> str:
    """Where in the request: a member of its body as a JSON pointer (RFC 6901), a parameter as ``?name``."""
    source, *rest = (str(each) for each in place)
    if source == "body":
        return "#" + "".join(f"/{each}" for each in rest)
    return {"query": "?", "path": "/", "header": "", "cookie": ""}.get(source, "") + "/".join(rest)


async def _framework(request: Request, error: Exception) -> Response:
    """What the framework refuses by itself: no such path, another method, a body that cannot be read."""
    assert isinstance(error, HTTPException)  # noqa: S101 - it is installed for these alone
    status = HTTPStatus(error.status_code)
    type = {404: "missing", 405: "method", 413: "too-large", 503: "unavailable"}.get(status, "invalid")
    detail = {
        404: "There is nothing at this address.",
        405: f"This address does not take {request.method}.",
    }.get(status, str(error.detail))
    return _answer(request, Problem(status, type, detail, headers=dict(error.headers or {})))


async def _unforeseen(request: Request, error: Exception) -> Response:
    """Our own fault. Whoever asks gets no insides; the log has them, under the same id."""
    detail = f"Sallyport failed at this request; its log says where, under {request.state.id}."
    return _answer(request, Problem(HTTPStatus.INTERNAL_SERVER_ERROR, "internal", detail))
