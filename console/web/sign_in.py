"""Signing in, with the second factor where there is one, and out."""

from __future__ import annotations

from http import HTTPStatus
from string import punctuation
from typing import Annotated
from urllib.parse import quote, urlsplit

from fastapi import APIRouter, Form, Request, Response

from console import problems
from console.parts import parts_of
from console.visit import COOKIE, SAFE, Visit, actor, find, source_of
from console.web.pages import go, is_htmx, page_with, pages_of, render, wrong
from control import sessions, sign_in
from control.due import Due
from control.sessions import LASTS
from control.sign_in import Begun

router = APIRouter()
Text = Annotated[str, Form(max_length=4096)]
Leaving = Annotated[Visit, page_with(*Due)]


@router.get("/sign-in")
def page(request: Request, next: str = "/") -> Response:
    """Ask for name and password."""
    if find(request, parts_of(request)) is not None:
        return go(request, _own(next))
    return render(request, "sign_in.html", {"next": _own(next), "name": "", "error": ""})


@router.get("/sign-in/again")
def again(request: Request) -> Response:
    """The same on top of a page whose session has ended."""
    return render(request, "sign_in_again.html", {"name": "", "error": "", "code": False})


@router.post("/sign-in")
def begin(request: Request, name: Text = "", password: Text = "", next: Text = "/") -> Response:
    """Begin a session, to the end or as far as the code."""
    refuse_foreign(request)
    parts = parts_of(request)
    inst = parts.inst.acting(actor(name[:80] or "nobody", request))
    try:
        begun = sign_in.sign_in(inst, name, password, source_of(request), parts.clock(), parts.hashing)
    except problems.EXPECTED as error:
        return _failed(request, error, "sign_in", {"next": _own(next), "name": name})
    # The browser forgets the session that it had, so nobody else is to go on with it (ASVS 7.2.4).
    sessions.sign_out(inst, request.cookies.get(COOKIE, ""), parts.clock())
    if begun.session.awaits_code:
        context = {"next": _own(next), "error": "", "code": True, "name": name}
        template = "sign_in_again.html" if is_htmx(request) else "code.html"
        return keep(render(request, template, context), begun)
    return keep(_in(request, begun, next), begun)


@router.post("/sign-in/code")
def code(request: Request, code: Text = "", next: Text = "/") -> Response:
    """Go on with the second factor."""
    refuse_foreign(request)
    parts = parts_of(request)
    inst = parts.inst.acting(actor("nobody", request))
    token = request.cookies.get(COOKIE, "")
    try:
        begun = sign_in.enter_code(inst, token, code, source_of(request), parts.clock())
    except problems.EXPECTED as error:
        return _failed(request, error, "code", {"next": _own(next), "code": True, "name": ""})
    return keep(_in(request, begun, next), begun)


@router.post("/sign-out")
def out(request: Request, visit: Leaving) -> Response:
    """End the session."""
    assert visit.token is not None  # noqa: S101 - pages are for sessions
    sessions.sign_out(visit.inst, visit.token, visit.now)
    pages_of(parts_of(request)).forget(request)
    response = go(request, "/sign-in")
    response.delete_cookie(COOKIE, path="/", secure=True, httponly=True, samesite="lax")
    response.headers["Clear-Site-Data"] = '"cache", "storage"'
    return response


def keep(response: Response, begun: Begun) -> Response:
    """Have the browser keep the session's token, until the session ends or the browser does."""
    keep_token(response, begun.token)
    return response


def keep_token(response: Response, token: str) -> None:
    """The same for a token alone: one that a session has got in place of another."""
    seconds = int(LASTS.total_seconds())
    response.set_cookie(COOKIE, token, max_age=seconds, path="/", secure=True, httponly=True, samesite="lax")


def refuse_foreign(request: Request) -> None:
    """Raise Problem where another site has sent this: nobody is to be signed in as somebody else (login CSRF)."""
    origin, site = request.headers.get("origin"), request.headers.get("sec-fetch-site", "same-origin")
    foreign = origin is not None and urlsplit(origin).netloc != request.headers.get("host", "")
    if request.method not in SAFE and (foreign or site not in ("same-origin", "none")):
        raise problems.Problem(HTTPStatus.FORBIDDEN, "csrf", "This was sent by another site; open the console itself.")


def _in(request: Request, begun: Begun, next: str) -> Response:
    if not is_htmx(request):
        return go(request, _own(next))
    # Signed in again on top of a page: its changes are to carry the new session's CSRF token.
    told = f'{{"signed-in": {{"csrf": "{sessions.csrf(begun.token)}"}}}}'
    return Response(status_code=HTTPStatus.OK, headers={"HX-Trigger": told})


def _failed(request: Request, error: Exception, template: str, context: dict[str, object]) -> Response:
    text = wrong(error, request)
    found = problems.of(error, parts_of(request).clock())
    name = "sign_in_again.html" if is_htmx(request) else f"{template}.html"
    shown = {"code": template == "code", **context, "error": text}
    return render(request, name, shown, status=found.status, headers=found.headers)


def _own(address: str) -> str:
    """The address where it is one of ours: a path, and nothing that browsers take for another host. In ASCII."""
    foreign = address.startswith(("//", "/\\")) or urlsplit(address.replace("\\", "/")).netloc
    ours = address.startswith("/") and not foreign and address.isprintable()
    return quote(address, safe=punctuation) if ours and not address.startswith("/sign-in") else "/"
