"""Bypass rules: the tenant's own, the list files, and the hosts that clients seem to have pinned."""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated, Any
from urllib.parse import quote

from fastapi import APIRouter, Form, Query, Request, Response

from console import problems
from console.tables import Column
from console.visit import Visit
from console.web.ends import end_of, tomorrow
from console.web.listing import remember, view
from console.web.pages import Changing, Viewing, done, render, seen, wrong
from control import bypass_rules, pinning
from control.bypass_rules import LONGEST_REASON
from control.errors import Outdated
from control.shown.bypass_rules import file_status, status
from control.shown.text import stamp
from store.records import BypassRule

router = APIRouter(prefix="/t/{tenant}/bypass")
Text = Annotated[str, Form(max_length=1000)]
Lines = Annotated[str, Form(max_length=200_000)]
Host = Annotated[str, Form(max_length=300)]
MOST_CLIENTS = 10
"""Clients of a proposal that are named."""


@router.get("")
def page(tenant: str, request: Request, visit: Viewing) -> Response:
    """What is proposed, the rules, and the files."""
    form = _form(visit, tenant)
    listed = bypass_rules.listing(visit.inst, tenant)
    table = view(request, "bypass", listed, _columns(visit), "pattern", ("status",))
    context = {
        **form, "view": table, "status": lambda one: status(one, visit.now), "file_status": file_status,
        "files": bypass_rules.files(visit.inst, tenant), "after": visit.inst.settings.bypass.propose_after,
        "learned_for": visit.inst.settings.bypass.learned_for, "most": MOST_CLIENTS,
        "proposals": pinning.proposals(visit.inst, tenant, visit.now), "open": not listed,
    }  # fmt: skip
    response = render(request, "bypass.html", context, visit=visit, tenant=tenant, here="bypass")
    remember(request, response, "bypass")
    return response


@router.post("")
def add(
    tenant: str,
    request: Request,
    visit: Changing,
    patterns: Lines = "",
    reason: Text = "",
    expires: Text = "",
    undone: Text = "",
) -> Response:
    """Add rules, a line each, or one again that was removed."""
    try:
        made = bypass_rules.add(visit.inst, tenant, _split(patterns), visit.now, reason, end_of(expires))
    except problems.EXPECTED as error:
        if undone or isinstance(error, Outdated):
            raise
        typed = {"patterns": patterns, "reason": reason, "expires": expires, "error": wrong(error, request)}
        form = {**_form(visit, tenant, **typed), "open": True}
        return render(request, "bypass_form.html", form, tenant=tenant, status=HTTPStatus.UNPROCESSABLE_ENTITY)
    if undone:
        return done(request, visit, _address(tenant), f"{made[0].pattern} is not decrypted again.")
    return done(
        request, visit, _address(tenant), f"{_named(made)} not decrypted, from the next connection on.",
        undo=f"{_address(tenant)}/remove", fields={"patterns": "\n".join(one.pattern for one in made), "undone": "1"},
    )  # fmt: skip


@router.post("/remove")
def remove(tenant: str, request: Request, visit: Changing, patterns: Lines = "", undone: Text = "") -> Response:
    """Remove rules. One of them can be added again as it was where it had not expired."""
    gone = bypass_rules.remove(visit.inst, tenant, _split(patterns), visit.now)
    text = f"{_named(gone)} decrypted again, from the next connection on."
    if undone or len(gone) != 1 or bypass_rules.expired(gone[0], visit.now):
        return done(request, visit, _address(tenant), text)
    return done(request, visit, _address(tenant), text, undo=_address(tenant), fields=_again(gone[0]))


@router.post("/proposals/accept")
def accept(tenant: str, request: Request, visit: Changing, host: Host = "", expires: Text = "") -> Response:
    """Make the rule that is proposed."""
    made = pinning.accept(visit.inst, tenant, host, visit.now, expires_at=end_of(expires))
    fields = {"patterns": made.pattern, "undone": "1"}
    text = f"{made.pattern} is not decrypted, from the next connection on."
    return done(request, visit, _address(tenant), text, undo=f"{_address(tenant)}/remove", fields=fields)


@router.get("/proposals/dismiss")
def ask(tenant: str, request: Request, visit: Viewing, host: Annotated[str, Query(max_length=300)] = "") -> Response:
    """What dismissing a proposal means: what is forgotten cannot be had back."""
    return render(request, "bypass_dismiss.html", {"host": host, "address": f"{_address(tenant)}/proposals/dismiss"})


@router.post("/proposals/dismiss")
def dismiss(tenant: str, request: Request, visit: Changing, host: Host = "") -> Response:
    """Forget who refuses the host."""
    if not pinning.dismiss(visit.inst, tenant, host, visit.now):
        raise pinning.unknown(host)
    return done(request, visit, _address(tenant), f"It is forgotten which clients refuse {host}.")


def _columns(visit: Visit) -> tuple[Column[BypassRule], ...]:
    return (
        Column("pattern", "Pattern", lambda one: one.pattern),
        Column("status", "Status", lambda one: status(one, visit.now)),
        Column("expires_at", "Expires", lambda one: one.expires_at, found=False),
        Column("reason", "Reason", lambda one: one.reason),
        Column("created_by", "By", lambda one: one.created_by),
        Column("created_at", "Added", lambda one: one.created_at, found=False),
    )


def _form(visit: Visit, tenant: str, **typed: str) -> dict[str, Any]:
    form = {"patterns": "", "reason": "", "expires": "", "error": "", **typed}
    return {"seen": seen(visit, tenant), "form": form, "longest": LONGEST_REASON, "first_day": tomorrow(visit.now)}


def _split(lines: str) -> list[str]:
    return [line.strip() for line in lines.splitlines() if line.strip()] or [""]


def _named(rules: list[BypassRule]) -> str:
    return f"{rules[0].pattern} is" if len(rules) == 1 else f"{rules[0].pattern} and {len(rules) - 1} more are"


def _again(gone: BypassRule) -> dict[str, str]:
    """What makes it again."""
    expires = "" if gone.expires_at is None else stamp(gone.expires_at)
    return {"patterns": gone.pattern, "reason": gone.reason or "", "expires": expires, "undone": "1"}


def _address(tenant: str) -> str:
    return f"/t/{quote(tenant, safe='')}/bypass"
