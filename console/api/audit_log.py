"""``/audit-log``: who changed what, when and from where, with what it was and became."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request, Response
from pydantic import Field

from console import people
from console.api.logs import LIMIT, Before, Limit, Log, Part, Since, Until, logged
from console.api.models import Json, Model
from console.visit import Known, Viewing, Visit
from control import audit_log
from control.audit_log import Wanted
from control.shown import audit_log as shown

router = APIRouter(tags=["logs"])
Which = Annotated[
    str, Query(max_length=128, description="noun.verb, or a noun: all its verbs", examples=["token.create"])
]


class Change(Model):
    """Something that somebody changed. ``before`` and ``after``: what it was and is; null: there was nothing."""

    id: int
    at: datetime
    tenant: Annotated[str | None, Field(description="null: it is no tenant's, as accounts are")]
    actor: Annotated[str, Field(examples=["ann"])]
    origin: Annotated[str, Field(examples=["console from 192.0.2.7"])]
    action: Annotated[str, Field(examples=["trusted_ca.add"])]
    subject: str
    before: Json | None
    after: Json | None


def _asked(
    actor: Part = "",
    action: Which = "",
    subject: Part = "",
    since: Since = None,
    until: Until = None,
    before: Before = None,
) -> Wanted:
    """What is asked of the log, of no tenant yet and of nothing that is no tenant's."""
    return Wanted(None, (), False, actor, action, subject, since, until, before)


Asked = Annotated[Wanted, Depends(_asked)]


@router.get("/audit-log", name="list_changes", response_model=Log[Change])
def everywhere(
    request: Request,
    response: Response,
    visit: Known,
    asked: Asked,
    tenant: Annotated[str | None, Query(max_length=128, description="of that tenant, which may be gone")] = None,
    limit: Limit = LIMIT,
) -> Any:
    """List the changes of every tenant that one may see, and those of accounts and tokens where one may see these."""
    of = people.logs(visit)
    wanted = replace(asked, tenant=tenant, tenant_ids=of.ids, of_none=of.of_none)
    return _listed(request, response, visit, wanted, limit)


@router.get("/tenants/{tenant}/audit-log", name="list_tenant_changes", response_model=Log[Change])
def of_tenant(
    tenant: str, request: Request, response: Response, visit: Viewing, asked: Asked, limit: Limit = LIMIT
) -> Any:
    """List a tenant's changes."""
    return _listed(request, response, visit, replace(asked, tenant_ids=people.logs(visit, tenant).ids), limit)


def _listed(request: Request, response: Response, visit: Visit, wanted: Wanted, limit: int) -> dict[str, Any]:
    return logged(request, response, lambda most: audit_log.find(visit.inst, wanted, most), limit, shown.as_object)
