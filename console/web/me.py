"""One's own account."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from console.web.pages import Here, render

router = APIRouter()


@router.get("/me")
def page(request: Request, visit: Here) -> Response:
    """Who is signed in."""
    return render(request, "me.html", {}, visit=visit, here="me")
