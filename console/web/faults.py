"""Pages about what went wrong. Where htmx asks, a notice on the page that is there, which stays as it is."""

from __future__ import annotations

from http import HTTPStatus
from urllib.parse import quote

from fastapi import Request, Response
from starlette.responses import HTMLResponse

from console.flashes import Flash
from console.parts import parts_of
from console.problems import Problem
from console.web.pages import go, is_htmx, pages_of, render, templates_of

SIGN_IN = "/sign-in"
FIRST = "/me/first"
"""What somebody has to do before anything else."""
AS_IT_WAS = "<!-- as it was -->"
"""Where a page that is shown again says so."""


def page(request: Request, problem: Problem) -> Response:
    """The answer to a page's request."""
    headers = dict(problem.headers)
    headers.pop("WWW-Authenticate", None)  # a browser would ask for a password by itself
    if problem.type == "unauthorized":
        if is_htmx(request):
            return Response(status_code=HTTPStatus.UNAUTHORIZED, headers={"X-Sign-In": "again"})
        if request.method == "GET":
            # As it came: a name in it may have what would begin a query, or end a header.
            path = request.scope["raw_path"].decode("ascii", "replace")
            back = path + (f"?{request.url.query}" if request.url.query else "")
            return Response(
                status_code=HTTPStatus.SEE_OTHER, headers={"Location": f"{SIGN_IN}?next={quote(back, safe='')}"}
            )
    if problem.type == "due":
        return go(request, FIRST)
    context = {"problem": problem, "id": request.state.id}
    if problem.type == "unavailable" and request.method == "GET" and not is_htmx(request):
        parts = parts_of(request)
        if (before := pages_of(parts).find(request)) is not None:
            notice = templates_of(parts).get_template("as_it_was.html").render(at=before.at)
            return HTMLResponse(before.html.replace(AS_IT_WAS, notice, 1), headers=headers)
    if is_htmx(request):
        headers |= {"HX-Retarget": "#notices", "HX-Reswap": "innerHTML"}
        context["flash"] = Flash(problem.detail, "problem")
        return render(request, "notice.html", context, status=problem.status, headers=headers)
    return render(request, "problem.html", context, status=problem.status, headers=headers)
