"""*Traffic*: what connections come to, as they do; and the trace of a verdict with both chains."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response

from certs.verdict import Action, Defect
from console.api.traffic import streamed, traced
from console.asked import ask
from console.events import event as written
from console.following import last
from console.parts import parts_of
from console.web.pages import Viewing, render, templates_of, wrong
from control.errors import Refused
from control.traffic import Event, Wanted

router = APIRouter(prefix="/t/{tenant}/traffic")
SHOWN = 200
"""Rows of the page; older ones make room."""
Text = Annotated[str, Query(max_length=255)]
_KINDS = {"block": "bad", "warn": "warn", "bypass": "", "allow": "good"}
TOLD = frozenset({"verdict", "refused", "request", "connection", "bypass"})
"""Events that people look for; the others stand in a connection's trace."""


@router.get("")
def page(
    tenant: str, request: Request, visit: Viewing, host: Text = "", client: Text = "", defect: Text = "",
    action: Text = "", blocked: Text = "", live: Text = "1",
) -> Response:  # fmt: skip
    """The last events, and those that come."""
    error, wanted = "", Wanted()
    try:
        wanted = Wanted.of(host.strip(), client.strip(), defect, action, blocked=blocked == "1")
    except Refused as refused:
        error = wrong(refused, request)
    found = ask(last, parts_of(request).daemon, tenant, wanted, 2000)
    context = {
        "events": [each for each in reversed(found) if each.kind in TOLD][:SHOWN],
        "given": {"host": host, "client": client, "defect": defect, "action": action, "blocked": blocked},
        "defects": list(Defect),
        "actions": list(Action),
        "live": live == "1" and not error,
        "error": error,
        "query": str(request.url.query),
        "most": SHOWN,
        "kind": kind,
        "said": said,
    }
    return render(request, "traffic.html", context, visit=visit, tenant=tenant, here="traffic")


@router.get("/stream")
def stream(
    tenant: str, request: Request, visit: Viewing, host: Text = "", client: Text = "", defect: Text = "",
    action: Text = "", blocked: Text = "",
) -> Response:  # fmt: skip
    """Rows as they come."""
    wanted = Wanted.of(host.strip(), client.strip(), defect, action, blocked=blocked == "1")
    row = templates_of(parts_of(request)).get_template("traffic_row.html")
    line = partial(_line, row, tenant)
    return streamed(request, visit, tenant, wanted, line)


@router.get("/trace")
def trace(tenant: str, request: Request, visit: Viewing, which: Annotated[str, Query(max_length=300)]) -> Response:
    """The last verdict on a connection or a host, for the side panel."""
    context: dict[str, Any] = {"which": which, "error": "", "trace": None, "kind": kind, "said": said, "now": visit.now}
    try:
        context["trace"] = traced(request, visit, tenant, which)
    except Refused as refused:
        context["error"] = wrong(refused, request)
    return render(request, "trace.html", context, visit=visit, tenant=tenant)


def kind(event: Event) -> str:
    """How the event's outcome is coloured beside its words."""
    if event.kind == "connection":
        return ""
    return _KINDS.get(event.action or "", "")


def said(event: Event) -> str:
    """What it came to, in a few words."""
    match event.kind:
        case "verdict":
            return {"block": "blocked", "warn": "warned", "bypass": "not decrypted", "allow": "allowed"}.get(
                event.action or "", event.action or "judged"
            )
        case "refused":
            return f"refused {event.status}" if event.status else "refused"
        case "request":
            return f"answered {event.status}" if event.status else event.outcome or "request"
        case "connection":
            return "closed"
        case _:
            return event.kind


def _line(row: Any, tenant: str, event: Event) -> str:
    if event.kind not in TOLD:
        return ""
    html = row.render(event=event, tenant=tenant, kind=kind, said=said)
    return written("traffic", "\n".join(line for line in html.splitlines() if line.strip()))
