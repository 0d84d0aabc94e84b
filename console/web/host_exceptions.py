"""Exceptions to the error settings: the list, a form for another one, removing with a way back."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Annotated, Any
from urllib.parse import quote

from fastapi import APIRouter, Form, Path, Query, Request, Response

from certs.verdict import UNTRUSTED, Defect
from console import problems
from console.api.host_exceptions import COLUMNS
from console.trying import try_it
from console.visit import Visit
from console.web import trials
from console.web.defects import ACTIONS, title
from console.web.ends import tomorrow
from console.web.listing import remember, view
from console.web.pages import Changing, Viewing, done, render, seen, wrong
from control import host_exceptions, recent_traffic
from control.errors import Outdated
from control.host_exceptions import LONGEST_REASON, Wanted
from control.installation import Installation
from control.recent_traffic import Seen
from control.shown.certificates import common_name
from control.shown.text import clean, stamp
from store.records import HostException

router = APIRouter(prefix="/t/{tenant}/errors/exceptions")
Text = Annotated[str, Form(max_length=1000)]
Asked = Annotated[str, Query(max_length=1000)]
DEFECTS = tuple((row, title(row)) for row in (UNTRUSTED, *(defect.value for defect in Defect)))
MOST_SEEN = 5


@router.get("")
def page(
    tenant: str, request: Request, visit: Viewing, host: Asked = "", defect: Asked = "", fingerprint: Asked = ""
) -> Response:
    """The list. ``host``, ``defect`` and ``fingerprint`` are put into the form, where another page leads here."""
    form = _form(visit, tenant, host=host, defect=defect if defect in dict(DEFECTS) else "", fingerprint=fingerprint)
    listed = host_exceptions.listing(visit.inst, tenant, visit.now)
    table = view(request, "exceptions", listed, COLUMNS, "host", ("defect", "action", "status"))
    context = {
        **form, "view": table, "tab": "exceptions", "actions": ACTIONS, "title": title, "open": bool(host or defect),
        "defects": sorted({one.exception.defect for one in listed}),
    }  # fmt: skip
    response = render(request, "exceptions.html", context, visit=visit, tenant=tenant, here="errors")
    remember(request, response, "exceptions")
    return response


@router.get("/seen")
def last_seen(tenant: str, request: Request, visit: Viewing, host: Asked = "") -> Response:
    """What a host showed last, to pin an exception to it."""
    found = _seen(visit.inst, tenant, host, visit) if host.strip() else []
    return render(request, "exception_seen.html", {"servers": found, "host": host, "common_name": _name})


@router.post("/trial")
def trial(
    tenant: str,
    request: Request,
    visit: Changing,
    host: Text = "",
    defect: Text = "",
    action: Text = "",
    fingerprint: Text = "",
) -> Response:
    """What the exception would do to the last day's servers; nothing where it cannot be yet."""
    wanted = Wanted(host.strip(), defect, action, "tried", fingerprint.strip() or None)
    context: dict[str, Any] = {"told": None, "most": trials.MOST_SHOWN, "error": ""}
    if wanted.host:
        try:
            context["told"] = trials.told(
                try_it(visit, tenant, lambda inst: host_exceptions.add(inst, tenant, wanted, visit.now))
            )
        except problems.EXPECTED as error:
            context["error"] = wrong(error, request)
    return render(request, "exception_trial.html", context)


@router.post("")
def add(
    tenant: str,
    request: Request,
    visit: Changing,
    host: Text = "",
    defect: Text = "",
    action: Text = "",
    fingerprint: Text = "",
    expires: Text = "",
    reason: Text = "",
    undone: Text = "",
) -> Response:
    """Make one, or make one again that was removed."""
    wanted = Wanted(host.strip(), defect, action, reason, fingerprint.strip() or None, expires.strip() or None)
    try:
        made = host_exceptions.add(visit.inst, tenant, wanted, visit.now)
    except problems.EXPECTED as error:
        if undone or isinstance(error, Outdated):
            raise
        form = _form(visit, tenant, **_typed(wanted), error=wrong(error, request))
        return render(
            request,
            "exception_form.html",
            {**form, "open": True},
            tenant=tenant,
            status=HTTPStatus.UNPROCESSABLE_ENTITY,
        )
    if undone:
        return done(request, visit, _address(tenant), f"The exception for {made.pattern} is back.")
    text = f"{title(made.defect)} of {made.pattern}: {made.action}."
    return done(
        request, visit, _address(tenant), text, undo=f"{_address(tenant)}/{made.id}/remove", fields={"undone": "1"}
    )


@router.post("/{id}/remove")
def remove(
    tenant: str, id: Annotated[int, Path(ge=1, le=2**63 - 1)], request: Request, visit: Changing, undone: Text = ""
) -> Response:
    """Take one away. It can be made again where it had not expired."""
    gone = host_exceptions.remove(visit.inst, tenant, str(id), visit.now)
    text = (
        f"The exception for {gone.pattern} ({title(gone.defect).lower()}) is removed; the error settings count again."
    )
    if undone or (gone.expires_at is not None and gone.expires_at <= visit.now):
        return done(request, visit, _address(tenant), text)
    return done(request, visit, _address(tenant), text, undo=_address(tenant), fields=_again(gone))


def _form(visit: Visit, tenant: str, **typed: str) -> dict[str, Any]:
    empty = {"host": "", "defect": "", "action": "allow", "fingerprint": "", "expires": "", "reason": "", "error": ""}
    servers = _seen(visit.inst, tenant, typed.get("host", ""), visit)
    return {
        "seen": seen(visit, tenant), "form": {**empty, **typed}, "choices": DEFECTS, "may_do": tuple(ACTIONS.items()),
        "longest": LONGEST_REASON, "first_day": tomorrow(visit.now), "servers": servers, "host": typed.get("host", ""),
        "common_name": _name,
    }  # fmt: skip


def _typed(wanted: Wanted) -> Mapping[str, str]:
    return {
        "host": wanted.host, "defect": wanted.defect, "action": wanted.action, "reason": wanted.reason,
        "fingerprint": wanted.fingerprint or "", "expires": wanted.expires or "",
    }  # fmt: skip


def _seen(inst: Installation, tenant: str, host: str, visit: Visit) -> list[Seen]:
    return recent_traffic.last_seen(inst, tenant, host, visit.now)[:MOST_SEEN] if host.strip() else []


def _name(server: Seen) -> str:
    return clean(common_name(server.leaf))


def _again(gone: HostException) -> dict[str, str]:
    """What makes it again."""
    return {
        "host": gone.pattern, "defect": gone.defect, "action": gone.action, "reason": gone.reason,
        "fingerprint": "" if gone.fingerprint is None else gone.fingerprint.hex(),
        "expires": "" if gone.expires_at is None else stamp(gone.expires_at), "undone": "1",
    }  # fmt: skip


def _address(tenant: str) -> str:
    return f"/t/{quote(tenant, safe='')}/errors/exceptions"
