"""``/tenants/{tenant}/proxy-users``: who tells by name and password that his connections are the tenant's."""

from __future__ import annotations

from datetime import datetime
from http import HTTPStatus
from typing import Annotated, Any

from fastapi import APIRouter, Request, Response
from pydantic import Field, SecretStr

from console.api.models import Model, Paged
from console.api.once import Creating
from console.api.paging import Paging, paged
from console.api.tagged import tagged
from console.tables import Column
from console.visit import Changing, Viewing
from control import proxy_users
from control.shown.proxy_users import as_object
from store.records import ProxyUser as Record

router = APIRouter(prefix="/tenants/{tenant}/proxy-users", tags=["ways in"], route_class=Creating)
COLUMNS: tuple[Column[Record], ...] = (
    Column("name", "Name", lambda one: one.name),
    Column("created_at", "Added", lambda one: one.created_at, found=False),
    Column("changed_at", "Password from", lambda one: one.changed_at, found=False),
    Column("changed_by", "By", lambda one: one.changed_by),
)
Password = Annotated[
    SecretStr | None, Field(max_length=1024, description="null: one is made, and told in this answer alone")
]


class ProxyUser(Model):
    """Somebody who may use the tenant's listeners by name and password. Those in htpasswd files are not here."""

    name: Annotated[str, Field(examples=["build-server"])]
    created_at: datetime
    changed_at: Annotated[datetime, Field(description="when the password was set")]
    changed_by: str


class Told(ProxyUser):
    """The same, with the password that was made."""

    password: Annotated[str | None, Field(description="null: it was given")]


class New(Model):
    """Somebody to be let in."""

    name: Annotated[str, Field(min_length=1, max_length=1000)]
    password: Password = None


class Another(Model):
    """Another password."""

    password: Password = None


@router.get("", name="list_proxy_users", response_model=Paged[ProxyUser])
def listing(tenant: str, request: Request, response: Response, visit: Viewing, asked: Paging) -> Any:
    """List the tenant's proxy users. ``sort``: name, created_at, changed_at or changed_by."""
    tagged(response, visit, tenant)
    return paged(request, response, proxy_users.listing(visit.inst, tenant), COLUMNS, asked, as_object, "name")


@router.post("", name="create_proxy_user", status_code=HTTPStatus.CREATED, response_model=Told)
def create(tenant: str, new: New, visit: Changing) -> Any:
    """Let somebody in, from the next connection on."""
    password = _chosen(new.password)
    made = proxy_users.add(visit.inst, tenant, new.name, password, visit.now)
    return as_object(made) | {"password": password if new.password is None else None}


@router.post("/{name:path}:password", name="set_proxy_user_password", response_model=Told)
def set_password(tenant: str, name: str, visit: Changing, given: Another | None = None) -> Any:
    """Give somebody another password. The old one is worth nothing within a second, and his connections end."""
    asked = None if given is None else given.password
    password = _chosen(asked)
    user = proxy_users.set_password(visit.inst, tenant, name, password, visit.now)
    return as_object(user) | {"password": password if asked is None else None}


@router.delete("/{name:path}", name="delete_proxy_user", status_code=HTTPStatus.NO_CONTENT)
def delete(tenant: str, name: str, visit: Changing) -> None:
    """Let somebody in no more. His connections end within a second."""
    proxy_users.delete(visit.inst, tenant, name, visit.now)


def _chosen(given: SecretStr | None) -> str:
    return proxy_users.generate() if given is None else given.get_secret_value()
