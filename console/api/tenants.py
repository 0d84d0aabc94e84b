"""``/tenants``: who there is, as far as whoever asks may know."""

from __future__ import annotations

from datetime import datetime
from http import HTTPStatus
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Request, Response
from pydantic import Field

from console.api.models import Model, Paged
from console.api.once import Creating
from console.api.paging import Paging, paged
from console.etags import etag
from console.tables import Column
from console.visit import Known, Viewing, Visit, for_all, for_tenant
from control import tenants
from control.authorisation import Action
from control.installation import publish_root
from control.shown import tenants as shown
from control.tenants import TenantDetails
from store.records import Tenant as Record

router = APIRouter(prefix="/tenants", tags=["tenants"], route_class=Creating)
Managing = Annotated[Visit, for_all(Action.MANAGE_TENANTS)]
ManagingIt = Annotated[Visit, for_tenant(Action.MANAGE_TENANTS)]
COLUMNS: tuple[Column[Record], ...] = (
    Column("name", "Name", lambda one: one.name),
    Column("created_at", "Created", lambda one: one.created_at, found=False),
    Column("generation", "Generation", lambda one: one.generation, found=False, numeric=True),
)


class Tenant(Model):
    """One organisation, or one part of it."""

    name: Annotated[str, Field(examples=["default"])]
    generation: Annotated[int, Field(description="numbers its working sets: each change makes the next")]
    created_at: datetime


class Details(Tenant):
    """A tenant, and what belongs to it."""

    signing_ca: Annotated[str | None, Field(description="the active one's name")]
    trusted_cas: int
    listeners: list[str]


class New(Model):
    """A tenant to be made, with a key and a built-in signing CA of its own."""

    name: Annotated[str, Field(min_length=1, max_length=63, examples=["acme"])]
    algorithm: Annotated[
        Literal["ecdsa", "rsa"] | None, Field(description="of that CA's keys; null: what the settings say")
    ] = None


@router.get("", name="list_tenants", response_model=Paged[Tenant])
def listing(request: Request, response: Response, visit: Known, asked: Paging) -> Any:
    """List the tenants that whoever asks may see."""
    found = [one for one in tenants.listing(visit.inst) if visit.sees(one.name)]
    return paged(request, response, found, COLUMNS, asked, shown.as_object, "name")


@router.post("", name="create_tenant", status_code=HTTPStatus.CREATED, response_model=Details)
def create(new: New, response: Response, visit: Managing) -> Any:
    """Create a tenant."""
    made = tenants.create(visit.inst, new.name, visit.now, new.algorithm)
    publish_root(visit.inst, made.name)
    response.headers["Location"] = f"/api/v1/tenants/{made.name}"
    return _details(tenants.show(visit.inst, made.name), response)


@router.get("/{tenant}", name="show_tenant", response_model=Details)
def show(tenant: str, response: Response, visit: Viewing) -> Any:
    """Show a tenant."""
    return _details(tenants.show(visit.inst, tenant), response)


@router.delete("/{tenant}", name="delete_tenant", status_code=HTTPStatus.NO_CONTENT)
def delete(tenant: str, visit: ManagingIt) -> None:
    """Delete a tenant: its key is destroyed, and with it every sealed copy. There is no way back."""
    tenants.delete(visit.inst, tenant, visit.now)


def _details(found: TenantDetails, response: Response) -> dict[str, Any]:
    response.headers["ETag"] = etag(found.tenant.generation)
    ca = found.signing_ca
    return shown.as_object(found.tenant) | {
        "signing_ca": None if ca is None else ca.name,
        "trusted_cas": found.trusted_cas,
        "listeners": list(found.listeners),
    }
