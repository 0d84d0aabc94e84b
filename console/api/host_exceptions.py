"""``/tenants/{tenant}/exceptions``: what is done about one defect of some hosts, for a reason, for a while."""

from __future__ import annotations

from datetime import datetime
from http import HTTPStatus
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Path, Query, Request, Response
from pydantic import Field

from console.api.models import Model, Paged
from console.api.once import Creating
from console.api.paging import Paging, paged
from console.api.tagged import tagged
from console.api.trials import TRIED, DryRun, tried
from console.tables import Column
from console.visit import Changing, Viewing
from control import host_exceptions
from control.errors import Missing
from control.host_exceptions import LONGEST_REASON, Listed, Wanted
from control.shown.error_settings import exception_as_object

router = APIRouter(prefix="/tenants/{tenant}/exceptions", tags=["exceptions"], route_class=Creating)
Id = Annotated[int, Path(ge=1, le=2**63 - 1)]
COLUMNS: tuple[Column[Listed], ...] = (
    Column("host", "Host", lambda one: one.exception.pattern),
    Column("defect", "Defect", lambda one: one.exception.defect),
    Column("action", "Action", lambda one: one.exception.action),
    Column("status", "Status", lambda one: "expired" if one.expired else "active"),
    Column("fingerprint", "Certificate or key", lambda one: (one.exception.fingerprint or b"").hex() or None),
    Column("expires_at", "Expires", lambda one: one.exception.expires_at, found=False),
    Column("reason", "Reason", lambda one: one.exception.reason),
    Column("created_by", "By", lambda one: one.exception.created_by),
    Column("created_at", "Made", lambda one: one.exception.created_at, found=False, shown=False),
    Column("id", "Number", lambda one: one.exception.id, found=False, shown=False, numeric=True),
)


class HostException(Model):
    """What is done about one defect of the hosts of a pattern."""

    id: int
    host: Annotated[str, Field(examples=["printer.example", "*.lab.example"])]
    defect: Annotated[str, Field(description="a defect, or untrusted", examples=["self_signed"])]
    action: Annotated[str, Field(examples=["allow"])]
    fingerprint: Annotated[str | None, Field(description="SHA-256 of the certificate or key; null: of any")]
    expires_at: datetime | None
    expired: Annotated[bool, Field(description="it no longer counts")]
    reason: str
    created_at: datetime
    created_by: str


class New(Model):
    """An exception to be made. One that has expired, for the same host, defect and fingerprint, gives way to it."""

    host: Annotated[str, Field(min_length=1, max_length=1000, examples=["printer.example"])]
    defect: Annotated[str, Field(max_length=40, examples=["self_signed"])]
    action: Annotated[str, Field(max_length=40, examples=["allow"])]
    reason: Annotated[
        str, Field(min_length=1, max_length=LONGEST_REASON, examples=["Its maker offers no other certificate."])
    ]
    fingerprint: Annotated[
        str | None, Field(max_length=100, description="64 hexadecimal digits, with or without colons")
    ] = None
    expires_at: Annotated[
        str | None,
        Field(max_length=40, description="a date, whose end in UTC is meant, or a time", examples=["2027-06-30"]),
    ] = None


@router.get("", name="list_exceptions", response_model=Paged[HostException])
def listing(
    tenant: str,
    request: Request,
    response: Response,
    visit: Viewing,
    asked: Paging,
    defect: Annotated[str | None, Query(max_length=40, description="only of this one")] = None,
    action: Annotated[str | None, Query(max_length=40, description="only with this one")] = None,
    status: Annotated[Literal["active", "expired"] | None, Query(description="only those")] = None,
) -> Any:
    """List the exceptions, those that have expired too. ``sort``: any member, as ``expires_at``."""
    tagged(response, visit, tenant)
    found = [
        one
        for one in host_exceptions.listing(visit.inst, tenant, visit.now)
        if defect in (None, one.exception.defect)
        and action in (None, one.exception.action)
        and status in (None, "expired" if one.expired else "active")
    ]
    return paged(request, response, found, COLUMNS, asked, _told, "host")


@router.post("", name="create_exception", status_code=HTTPStatus.CREATED, response_model=HostException, responses=TRIED)
def create(
    tenant: str, new: New, request: Request, response: Response, visit: Changing, dry_run: DryRun = False
) -> Any:
    """Make an exception."""
    wanted = Wanted(new.host, new.defect, new.action, new.reason, new.fingerprint, new.expires_at)
    if dry_run:
        return tried(visit, tenant, lambda inst: host_exceptions.add(inst, tenant, wanted, visit.now))
    made = host_exceptions.add(visit.inst, tenant, wanted, visit.now)
    response.headers["Location"] = f"{request.url.path}/{made.id}"
    return exception_as_object(made, expired=False)


@router.get("/{id}", name="show_exception", response_model=HostException)
def show(tenant: str, id: Id, response: Response, visit: Viewing) -> Any:
    """Show an exception."""
    tagged(response, visit, tenant)
    for one in host_exceptions.listing(visit.inst, tenant, visit.now):
        if one.exception.id == id:
            return _told(one)
    raise Missing(f"tenant {tenant} has no exception {id}")


@router.delete("/{id}", name="delete_exception", status_code=HTTPStatus.NO_CONTENT, responses=TRIED)
def delete(tenant: str, id: Id, visit: Changing, dry_run: DryRun = False) -> Response:
    """Take an exception away, so that the error settings count again."""
    if dry_run:
        return tried(visit, tenant, lambda inst: host_exceptions.remove(inst, tenant, str(id), visit.now))
    host_exceptions.remove(visit.inst, tenant, str(id), visit.now)
    return Response(status_code=HTTPStatus.NO_CONTENT)


def _told(one: Listed) -> dict[str, Any]:
    return exception_as_object(one.exception, one.expired)
