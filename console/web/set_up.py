"""The one-time link: the first owner's name and password."""

from __future__ import annotations

from http import HTTPStatus

from fastapi import APIRouter, Request, Response

from console import problems
from console.parts import parts_of
from console.visit import actor, source_of
from console.web.pages import go, render, wrong
from console.web.sign_in import Text, keep, refuse_foreign
from control import first_owner, sign_in
from control.errors import Refused

router = APIRouter()


@router.get("/setup/{token}")
def page(token: str, request: Request) -> Response:
    """Ask for name and password, where the link works."""
    parts = parts_of(request)
    open = first_owner.is_open(parts.inst, token, parts.clock())
    context = {"open": open, "token": token, "name": "", "error": ""}
    return render(request, "set_up.html", context, status=HTTPStatus.OK if open else HTTPStatus.GONE)


@router.post("/setup/{token}")
def redeem(token: str, request: Request, name: Text = "", password: Text = "", repeated: Text = "") -> Response:
    """Make the first owner, and sign in."""
    refuse_foreign(request)
    parts = parts_of(request)
    inst, name = parts.inst.acting(actor("nobody", request)), name.strip().lower()
    try:
        if password != repeated:
            raise Refused("the two passwords differ; type the same one twice")
        first_owner.redeem(inst, token, name, password, parts.clock(), parts.hashing)
    except problems.EXPECTED as error:
        text = wrong(error, request)
        open = first_owner.is_open(parts.inst, token, parts.clock())
        context = {"open": open, "token": token, "name": name, "error": text}
        return render(request, "set_up.html", context, status=problems.of(error, parts.clock()).status)
    begun = sign_in.sign_in(inst, name, password, source_of(request), parts.clock(), parts.hashing)
    return keep(go(request, "/"), begun)
