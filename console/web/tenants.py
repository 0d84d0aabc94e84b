"""Tenants: who there is, and what belongs to each."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Request, Response

from console import problems
from console.api.tenants import COLUMNS
from console.visit import Visit
from console.web.forms import Text, again
from console.web.listing import remember, view
from console.web.pages import Here, Viewing, done, go, is_htmx, page_of_tenant, render
from control import signing_cas, tenants
from control.authorisation import Action
from control.errors import Refused
from control.installation import publish_root
from control.shown import certificates, expiry

router = APIRouter()
ManagingIt = Annotated[Visit, page_of_tenant(Action.MANAGE_TENANTS)]


def _manages_all(visit: Here) -> Visit:
    visit.need(Action.MANAGE_TENANTS, None)
    return visit


Managing = Annotated[Visit, Depends(_manages_all)]


@router.get("/tenants")
def listing(request: Request, visit: Here) -> Response:
    """Which tenants there are for whoever asks."""
    rows = [one for one in tenants.listing(visit.inst) if visit.sees(one.name)]
    context = {
        "view": view(request, "tenants", rows, COLUMNS, "name"),
        "may_create": visit.may(Action.MANAGE_TENANTS, None),
    }
    response = render(request, "tenants.html", context, visit=visit, here="tenants")
    remember(request, response, "tenants")
    return response


@router.get("/tenants:new")
def new(request: Request, visit: Managing) -> Response:
    """Ask for its name."""
    if not is_htmx(request):
        return go(request, "/tenants")
    return render(request, "tenant_new.html", {"name": "", "algorithm": "", "error": ""})


@router.post("/tenants")
def create(request: Request, visit: Managing, name: Text = "", algorithm: Text = "") -> Response:
    """Make it, with a key and a built-in signing CA of its own."""
    name = name.strip().lower()
    try:
        made = tenants.create(visit.inst, name, visit.now, _algorithm(algorithm))
        publish_root(visit.inst, made.name)
    except problems.EXPECTED as error:
        return again(request, error, "tenant_new.html", {"name": name, "algorithm": algorithm})
    return done(request, visit, f"/tenants/{name}", f"Tenant {name} is created, with a built-in signing CA of its own.")


@router.get("/tenants/{tenant}")
def page(tenant: str, request: Request, visit: Viewing) -> Response:
    """One tenant."""
    details = tenants.show(visit.inst, tenant)
    ca = details.signing_ca
    chain = certificates.load(ca.chain) if ca else []
    context: dict[str, Any] = {
        "details": details,
        "expires": expiry.as_object(chain, visit.now) if chain else None,
        "problem": signing_cas.key_problem(visit.inst, tenant, ca.name) if ca else None,
        "may_delete": visit.may(Action.MANAGE_TENANTS, tenant),
    }
    return render(request, "tenant.html", context, visit=visit, tenant=tenant, here="tenants")


@router.get("/tenants/{tenant}/delete")
def ask_delete(tenant: str, request: Request, visit: ManagingIt) -> Response:
    """Ask for its name, before it goes for good."""
    tenants.show(visit.inst, tenant)
    if not is_htmx(request):
        return go(request, f"/tenants/{tenant}")
    return render(request, "tenant_delete.html", {"name": tenant, "typed": "", "error": ""})


@router.post("/tenants/{tenant}/delete")
def delete(tenant: str, request: Request, visit: ManagingIt, typed: Text = "") -> Response:
    """Delete it: its key is destroyed."""
    try:
        if typed.strip() != tenant:
            raise Refused(f"type {tenant}, the tenant's name, to delete it")
        remains = tenants.delete(visit.inst, tenant, visit.now)
    except problems.EXPECTED as error:
        return again(request, error, "tenant_delete.html", {"name": tenant, "typed": typed})
    text = f"Tenant {tenant} is deleted, and with it its keys."
    if remains:
        text += "\nCopies of its key, wrapped with the master key, may still be in: " + "; ".join(remains)
    return done(request, visit, "/tenants", text, level="note" if remains else "done")


def _algorithm(text: str) -> Literal["ecdsa", "rsa"] | None:
    match text:
        case "":
            return None
        case "ecdsa" | "rsa":
            return text
        case _:
            raise Refused(f"there is no kind of key {text[:40]!r}; choose ECDSA or RSA")
