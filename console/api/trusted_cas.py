"""``/tenants/{tenant}/trusted-cas``: the private CAs that a tenant trusts beside the common store."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request, Response
from pydantic import Field

from console.api.models import Certificate, Model, Paged
from console.api.once import Creating
from console.api.paging import Paging, paged
from console.api.tagged import tagged
from console.tables import Column
from console.visit import Viewing
from control import recent_traffic, trusted_cas
from control.shown import trusted_cas as shown
from control.shown.certificates import common_name
from store.records import TrustedCa as Record

router = APIRouter(prefix="/tenants/{tenant}/trusted-cas", tags=["trusted CAs"], route_class=Creating)
COLUMNS: tuple[Column[Record], ...] = (
    Column("name", "Name", lambda one: one.name),
    Column("status", "Status", shown.status),
    Column("common_name", "Common name", lambda one: common_name(shown.anchor_of(one)[0])),
    Column("expires", "Expires", lambda one: shown.anchor_of(one)[0].not_valid_after_utc, found=False),
    Column("changed_at", "Last modified", lambda one: one.changed_at, found=False),
)


class TrustedCa(Model):
    """A private CA; ``certificates`` in order, the anchor last."""

    name: Annotated[str, Field(examples=["Example Corporate Root"])]
    status: Literal["active", "inactive"]
    hosts: Annotated[list[str], Field(description="patterns of the hosts that it may vouch for; *: all")]
    created_at: datetime
    changed_at: datetime
    changed_by: str
    not_after: Annotated[str | None, Field(description="the anchor's end")]
    expiry: Annotated[str | None, Field(examples=["fine", "soon", "expired"])]
    certificates: list[Certificate]


class Used(TrustedCa):
    """The same, with what the last day's traffic says of it."""

    used_by_hosts: Annotated[int | None, Field(description="in the last 24 hours; null: not remembered")]
    first_hosts: list[str] | None


@router.get("", name="list_trusted_cas", response_model=Paged[TrustedCa])
def listing(
    tenant: str,
    request: Request,
    response: Response,
    visit: Viewing,
    asked: Paging,
    status: Annotated[Literal["active", "inactive"] | None, Query(description="only those")] = None,
) -> Any:
    """List the trusted CAs. ``sort``: name, status, common_name, expires or changed_at."""
    found = [one for one in trusted_cas.listing(visit.inst, tenant) if status in (None, shown.status(one))]
    tagged(response, visit, tenant)
    return paged(request, response, found, COLUMNS, asked, lambda one: shown.as_object(one, visit.now), "name")


@router.get("/{name:path}", name="show_trusted_ca", response_model=Used)
def show(tenant: str, name: str, response: Response, visit: Viewing) -> Any:
    """Show a trusted CA."""
    tagged(response, visit, tenant)
    record = trusted_cas.show(visit.inst, tenant, name)
    using = recent_traffic.hosts_by_ca(visit.inst, tenant, visit.now)
    return shown.as_object(record, visit.now) | shown.used_by_object(using, record)
