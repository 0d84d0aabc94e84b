"""Proxy users: who tells by name and password that his connections are the tenant's. Passwords are shown once."""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated, Any
from urllib.parse import quote

from fastapi import APIRouter, Form, Query, Request, Response

from config.passwords import LONGEST_PASSWORD, SHORTEST_PASSWORD
from console import problems
from console.api.proxy_users import COLUMNS
from console.visit import Visit
from console.web.listing import View, view
from console.web.pages import Changing, Viewing, done, render, wrong
from control import proxy_users
from control.errors import Outdated
from store.records import ProxyUser

router = APIRouter(prefix="/t/{tenant}/users")
Text = Annotated[str, Form(max_length=4096)]
Name = Annotated[str, Query(max_length=1000)]
IN_DIALOG = {"HX-Retarget": "#dialog", "HX-Reswap": "innerHTML"}


@router.get("")
def page(tenant: str, request: Request, visit: Viewing) -> Response:
    """The list, and a form for another one."""
    context = {**_form(tenant), "view": _table(request, visit, tenant), "listeners": _listeners(visit, tenant)}
    return render(request, "users.html", context, visit=visit, tenant=tenant, here="users")


@router.post("")
def add(tenant: str, request: Request, visit: Changing, name: Text = "", password: Text = "") -> Response:
    """Let somebody in. A password that is made here is told in this answer alone."""
    chosen = password or proxy_users.generate()
    try:
        user = proxy_users.add(visit.inst, tenant, name.strip(), chosen, visit.now)
    except problems.EXPECTED as error:
        if isinstance(error, Outdated):
            raise
        form = _form(tenant, name=name, error=wrong(error, request))
        return render(request, "users_form.html", form, tenant=tenant, status=HTTPStatus.UNPROCESSABLE_ENTITY)
    if password:
        return done(request, visit, _address(tenant), f"{user.name} is let in, from the next connection on.")
    return _told(request, visit, tenant, user, chosen)


@router.get("/password")
def ask_password(tenant: str, request: Request, visit: Viewing, name: Name = "") -> Response:
    """Ask for another password."""
    return _dialog(request, "users_password.html", tenant, name)


@router.post("/password")
def set_password(tenant: str, request: Request, visit: Changing, name: Text = "", password: Text = "") -> Response:
    """Give somebody another password."""
    chosen = password or proxy_users.generate()
    try:
        user = proxy_users.set_password(visit.inst, tenant, name, chosen, visit.now)
    except problems.EXPECTED as error:
        if isinstance(error, Outdated):
            raise
        return _dialog(request, "users_password.html", tenant, name, wrong(error, request))
    if password:
        text = f"{user.name} has another password; open connections end within a second."
        return done(request, visit, _address(tenant), text)
    return _told(request, visit, tenant, user, chosen)


@router.get("/delete")
def ask_delete(tenant: str, request: Request, visit: Viewing, name: Name = "") -> Response:
    """What deleting means: the password is known to nobody here, so it cannot be taken back."""
    return _dialog(request, "users_delete.html", tenant, name)


@router.post("/delete")
def delete(tenant: str, request: Request, visit: Changing, name: Text = "") -> Response:
    """Let somebody in no more."""
    user = proxy_users.delete(visit.inst, tenant, name, visit.now)
    return done(
        request, visit, _address(tenant), f"{user.name} is let in no more; open connections end within a second."
    )


def _told(request: Request, visit: Visit, tenant: str, user: ProxyUser, password: str) -> Response:
    """The password, this once, and the table as it is now behind it."""
    context = {"user": user, "password": password, "view": _table(request, visit, tenant), "may_change": True}
    return render(request, "users_told.html", {**_form(tenant), **context}, tenant=tenant, headers=IN_DIALOG)


def _dialog(request: Request, template: str, tenant: str, name: str, error: str = "") -> Response:
    context = {**_form(tenant), "name": name, "error": error, "address": _address(tenant)}
    return render(
        request, template, context, tenant=tenant, status=HTTPStatus.UNPROCESSABLE_ENTITY if error else HTTPStatus.OK
    )


def _form(tenant: str, name: str = "", error: str = "") -> dict[str, Any]:
    return {
        "form": {"name": name, "error": error}, "shortest": SHORTEST_PASSWORD, "longest": LONGEST_PASSWORD,
        "tab": "users", "oob": False,
    }  # fmt: skip


def _table(request: Request, visit: Visit, tenant: str) -> View[ProxyUser]:
    return view(request, "users", proxy_users.listing(visit.inst, tenant), COLUMNS, "name")


def _listeners(visit: Visit, tenant: str) -> list[str]:
    """Those at which a name and password of the tenant's is asked for."""
    return [
        f"{one.name} ({one.bind})"
        for one in visit.inst.settings.listeners
        if one.authentication is not None and tenant in one.authentication.tenants
    ]


def _address(tenant: str) -> str:
    return f"/t/{quote(tenant, safe='')}/users"
