"""The first page."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from console.web.pages import Here, Viewing, go, render
from control import tenants

router = APIRouter()


@router.get("/")
def start(request: Request, visit: Here) -> Response:
    """Go to the first tenant that there is for whoever is here."""
    names = [one.name for one in tenants.listing(visit.inst) if visit.sees(one.name)]
    return go(request, f"/t/{names[0]}/" if names else "/me")


@router.get("/t/{tenant}/")
def page(tenant: str, request: Request, visit: Viewing) -> Response:
    """How the tenant does."""
    return render(request, "overview.html", {}, visit=visit, tenant=tenant, here="overview")
