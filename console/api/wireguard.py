"""``/tenants/{tenant}/wireguard-peers``: the devices that may use a tenant's WireGuard listeners."""

from __future__ import annotations

from datetime import datetime
from http import HTTPStatus
from typing import Annotated, Any

from fastapi import APIRouter, Request, Response
from pydantic import Field

from console.api.models import Model, Name, Paged
from console.api.once import Creating
from console.api.paging import Paging, paged
from console.api.tagged import tagged
from console.tables import Column
from console.visit import Changing, Viewing
from control import wireguard
from control.shown import qr
from control.shown import wireguard as shown
from store.records import WireGuardPeer as Record

router = APIRouter(prefix="/tenants/{tenant}", tags=["ways in"], route_class=Creating)
COLUMNS: tuple[Column[Record], ...] = (
    Column("name", "Name", lambda one: one.name),
    Column("ipv4", "IPv4", lambda one: one.ipv4),
    Column("ipv6", "IPv6", lambda one: one.ipv6),
    Column("public_key", "Public key", lambda one: wireguard.text(one.public_key)),
    Column("created_at", "Added", lambda one: one.created_at, found=False),
    Column("created_by", "By", lambda one: one.created_by),
)


class Peer(Model):
    """A device, with its addresses in the tunnel."""

    name: Annotated[str, Field(examples=["ann's phone"])]
    public_key: Annotated[str, Field(description="base64")]
    ipv4: str
    ipv6: str | None
    created_at: datetime
    created_by: str


class Made(Peer):
    """The same, with what the device is to be told. Its private key is in it, and kept nowhere."""

    configuration: Annotated[str, Field(description="for wg-quick and the WireGuard apps")]
    qr_svg: Annotated[str | None, Field(description="the same as a QR code (SVG); null: the key is the device's own")]


class New(Model):
    """A device to be let in."""

    name: Name
    public_key: Annotated[
        str | None, Field(max_length=100, description="the device's own; null: a pair is made, and told in this answer")
    ] = None
    endpoint: Annotated[
        str | None,
        Field(
            max_length=300, description="by which the device reaches us; null: wireguard.endpoint, or the listener's"
        ),
    ] = None


class Listener(Model):
    """Where WireGuard is listened for."""

    name: str
    bind: str


class Server(Model):
    """What devices are told of us."""

    public_key: Annotated[str | None, Field(description="null: it is made with the first device")]
    endpoint: Annotated[str | None, Field(description="null: nothing says it")]
    dns: str
    listeners: list[Listener]


@router.get("/wireguard", name="show_wireguard", response_model=Server)
def server(tenant: str, visit: Viewing) -> Any:
    """Show the tenant's public key, and where its devices reach it."""
    return shown.server_as_object(visit.inst.settings, tenant, wireguard.server_key(visit.inst, tenant))


@router.get("/wireguard-peers", name="list_wireguard_peers", response_model=Paged[Peer])
def listing(tenant: str, request: Request, response: Response, visit: Viewing, asked: Paging) -> Any:
    """List the devices. ``sort``: any member, as ``created_at``."""
    tagged(response, visit, tenant)
    return paged(request, response, wireguard.peers(visit.inst, tenant), COLUMNS, asked, shown.as_object, "name")


@router.post("/wireguard-peers", name="create_wireguard_peer", status_code=HTTPStatus.CREATED, response_model=Made)
def create(tenant: str, new: New, visit: Changing) -> Any:
    """Let a device in. The answer alone has its configuration."""
    where = wireguard.reached_at(visit.inst.settings, tenant, new.endpoint)
    added = wireguard.add_peer(visit.inst, tenant, new.name, visit.now, new.public_key)
    text = wireguard.configuration(added, visit.inst.settings, where)
    drawn = qr.svg(text) if added.private_key is not None else None
    return shown.as_object(added.peer) | {"configuration": text, "qr_svg": drawn}


@router.delete("/wireguard-peers/{name:path}", name="delete_wireguard_peer", status_code=HTTPStatus.NO_CONTENT)
def delete(tenant: str, name: str, visit: Changing) -> None:
    """Let a device in no more. Its connections end within a second."""
    wireguard.remove_peer(visit.inst, tenant, name, visit.now)
