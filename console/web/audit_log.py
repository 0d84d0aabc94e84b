"""The audit log: who changed what, when and from where; of a tenant, or of all that one may see. And its export."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Literal
from urllib.parse import urlencode

from fastapi import APIRouter, Request, Response

from console import people
from console.api.logs import BIGGEST_ID
from console.visit import Visit
from console.web.pages import Here, Viewing, render
from control import audit_log
from control.audit_log import Wanted
from control.shown import audit_log as shown
from control.shown.text import clean, stamp
from store.records import AuditEntry

router = APIRouter()
PART = 100
EXPORTED = 10_000
"""Entries, the newest: the others by ``until``."""
DAY = timedelta(days=1)
LAST_YEAR = 9999
FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""What spreadsheets take for a formula where a cell begins with it (OWASP: CSV injection)."""
ASKED = ("actor", "action", "subject", "since", "until", "before")
Form = Literal["csv", "json"]


@router.get("/audit")
def everywhere(request: Request, visit: Here) -> Response:
    """Of all tenants that there are for whoever asks."""
    return _page(request, visit, None)


@router.get("/t/{tenant}/audit")
def of_tenant(tenant: str, request: Request, visit: Viewing) -> Response:
    """Of one tenant."""
    return _page(request, visit, tenant)


@router.get("/audit/export")
def export_all(request: Request, visit: Here, format: Form = "csv") -> Response:
    """All of it, as a file."""
    return _export(request, visit, None, format)


@router.get("/t/{tenant}/audit/export")
def export(tenant: str, request: Request, visit: Viewing, format: Form = "csv") -> Response:
    """A tenant's, as a file."""
    return _export(request, visit, tenant, format)


def _page(request: Request, visit: Visit, tenant: str | None) -> Response:
    asked = _asked(request)
    found = audit_log.find(visit.inst, _wanted(visit, tenant, asked), PART + 1)
    filters = {key: value for key, value in asked.items() if value and key != "before"}
    query = urlencode(filters)
    older = urlencode({**filters, "before": found[PART - 1].id}) if len(found) > PART else None
    context = {
        "entries": found[:PART],
        "asked": asked,
        "narrowed": bool(query),
        "paged": asked["before"] != "",
        "query": query,
        "older": older,
        "actions": audit_log.actions(visit.inst, _wanted(visit, tenant, dict.fromkeys(ASKED, ""))),
        "differences": shown.differences,
        "clean": clean,
        "all_tenants": tenant is None,
        "at": "/audit" if tenant is None else f"/t/{tenant}/audit",
        "exported": EXPORTED,
    }
    return render(request, "audit_log.html", context, visit=visit, tenant=tenant, here="audit")


def _export(request: Request, visit: Visit, tenant: str | None, format: Form) -> Response:
    found = audit_log.find(visit.inst, _wanted(visit, tenant, _asked(request)), EXPORTED)
    name = f"audit-log-{visit.now:%Y-%m-%d}.{format}"
    headers = {"Content-Disposition": f'attachment; filename="{name}"'}
    if format == "json":
        text = json.dumps([shown.as_object(one) | {"at": stamp(one.at)} for one in found], ensure_ascii=False, indent=1)
        return Response(text.encode("utf-8", "backslashreplace"), media_type="application/json", headers=headers)
    text = as_csv(found)
    return Response(text.encode("utf-8", "backslashreplace"), media_type="text/csv; charset=utf-8", headers=headers)


def as_csv(entries: Sequence[AuditEntry]) -> str:
    """The entries for a spreadsheet (RFC 4180), in which no cell is a formula."""
    out = io.StringIO()
    rows = csv.writer(out)
    rows.writerow(("id", "at", "tenant", "actor", "origin", "action", "subject", "before", "after"))
    for one in entries:
        cells = (one.tenant, one.actor, one.origin, one.action, one.subject, one.before, one.after)
        rows.writerow((one.id, stamp(one.at), *(_cell(each or "") for each in cells)))
    return out.getvalue()


def _cell(text: str) -> str:
    return f"'{text}" if text.startswith(FORMULA) else text


def _asked(request: Request) -> dict[str, str]:
    """What is asked for. What cannot be is as if it had not been asked."""
    return {name: request.query_params.get(name, "").strip()[:128] for name in ASKED}


def _wanted(visit: Visit, tenant: str | None, asked: dict[str, str]) -> Wanted:
    of = people.logs(visit, tenant)
    until = _day(asked["until"])
    return Wanted(
        tenant_ids=of.ids,
        of_none=of.of_none,
        actor=asked["actor"],
        action=asked["action"],
        subject=asked["subject"],
        since=_day(asked["since"]),
        until=None if until is None else until + DAY,
        before=_number(asked["before"]),
    )


def _day(text: str) -> datetime | None:
    try:
        found = datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC)
    except ValueError:
        return None
    return found if found.year < LAST_YEAR else None


def _number(text: str) -> int | None:
    return min(int(text), BIGGEST_ID) if text.isascii() and text.isdigit() else None
