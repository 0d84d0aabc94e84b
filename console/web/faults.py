"""Pages about what went wrong. Where htmx asks, a notice on the page that is there, which stays as it is."""

from __future__ import annotations

from http import HTTPStatus
from urllib.parse import quote

from fastapi import Request, Response

from console.flashes import Flash
from console.problems import Problem
from console.web.pages import is_htmx, render

SIGN_IN = "/sign-in"


def page(request: Request, problem: Problem) -> Response:
    """The answer to a page's request."""
    headers = dict(problem.headers)
    headers.pop("WWW-Authenticate", None)  # a browser would ask for a password by itself
    if problem.type == "unauthorized":
        if is_htmx(request):
            return Response(status_code=HTTPStatus.UNAUTHORIZED, headers={"X-Sign-In": "again"})
        if request.method == "GET":
            back = request.url.path + (f"?{request.url.query}" if request.url.query else "")
            return Response(
                status_code=HTTPStatus.SEE_OTHER, headers={"Location": f"{SIGN_IN}?next={quote(back, safe='')}"}
            )
    context = {"problem": problem, "id": request.state.id}
    if is_htmx(request):
        headers |= {"HX-Retarget": "#notices", "HX-Reswap": "innerHTML"}
        context["flash"] = Flash(problem.detail, "problem")
        return render(request, "notice.html", context, status=problem.status, headers=headers)
    return render(request, "problem.html", context, status=problem.status, headers=headers)
