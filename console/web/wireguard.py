"""WireGuard peers: the devices that may use the tenant's WireGuard listeners. A configuration is shown once."""

from __future__ import annotations

import base64
from http import HTTPStatus
from typing import Annotated, Any
from urllib.parse import quote

from fastapi import APIRouter, Form, Query, Request, Response

from console import problems
from console.api.wireguard import COLUMNS
from console.visit import Visit
from console.web.listing import View, view
from console.web.pages import Changing, Viewing, done, render, wrong
from control import wireguard
from control.errors import Outdated
from control.names import LONGEST_NAME
from control.shown import qr
from control.shown.wireguard import server_as_object
from control.wireguard import Added
from store.records import WireGuardPeer

router = APIRouter(prefix="/t/{tenant}/users/wireguard")
Text = Annotated[str, Form(max_length=1000)]
IN_DIALOG = {"HX-Retarget": "#dialog", "HX-Reswap": "innerHTML"}


@router.get("")
def page(tenant: str, request: Request, visit: Viewing) -> Response:
    """The list, a form for another one, and what devices are told of us."""
    context = {
        **_form(visit, tenant), "view": _table(request, visit, tenant), "server": _server(visit, tenant),
        "key_of": wireguard.text,
    }  # fmt: skip
    return render(request, "peers.html", context, visit=visit, tenant=tenant, here="users")


@router.post("")
def add(
    tenant: str, request: Request, visit: Changing, name: Text = "", endpoint: Text = "", public_key: Text = ""
) -> Response:
    """Let a device in. Its configuration is told in this answer alone."""
    try:
        where = wireguard.reached_at(visit.inst.settings, tenant, endpoint.strip() or None)
        added = wireguard.add_peer(visit.inst, tenant, name.strip(), visit.now, public_key.strip() or None)
    except problems.EXPECTED as error:
        if isinstance(error, Outdated):
            raise
        form = _form(visit, tenant, name=name, endpoint=endpoint, public_key=public_key, error=wrong(error, request))
        return render(request, "peers_form.html", form, tenant=tenant, status=HTTPStatus.UNPROCESSABLE_ENTITY)
    return _told(request, visit, tenant, added, wireguard.configuration(added, visit.inst.settings, where))


@router.get("/remove")
def ask(tenant: str, request: Request, visit: Viewing, name: Annotated[str, Query(max_length=1000)] = "") -> Response:
    """What removing means: the device's key is known to nobody here, so it cannot be taken back."""
    return render(request, "peers_remove.html", {"name": name, "address": _address(tenant)})


@router.post("/remove")
def remove(tenant: str, request: Request, visit: Changing, name: Text = "") -> Response:
    """Let a device in no more."""
    peer = wireguard.remove_peer(visit.inst, tenant, name, visit.now)
    text = f"{peer.name} is let in no more; its connections end within a second."
    return done(request, visit, _address(tenant), text)


def _told(request: Request, visit: Visit, tenant: str, added: Added, text: str) -> Response:
    """The configuration, this once, and the table as it is now behind it."""
    image = base64.b64encode(qr.svg(text).encode()).decode() if added.private_key is not None else None
    context = {
        **_form(visit, tenant), "peer": added.peer, "configuration": text, "image": image, "key_of": wireguard.text,
        "file": base64.b64encode(text.encode()).decode(), "view": _table(request, visit, tenant), "may_change": True,
        "server": _server(visit, tenant),
    }  # fmt: skip
    return render(request, "peers_told.html", context, tenant=tenant, headers=IN_DIALOG)


def _form(visit: Visit, tenant: str, **typed: str) -> dict[str, Any]:
    form = {"name": "", "endpoint": "", "public_key": "", "error": "", **typed}
    known = wireguard.endpoint(visit.inst.settings, tenant)
    return {"form": form, "known": known, "longest": LONGEST_NAME, "tab": "peers", "oob": False}


def _table(request: Request, visit: Visit, tenant: str) -> View[WireGuardPeer]:
    return view(request, "peers", wireguard.peers(visit.inst, tenant), COLUMNS, "name")


def _server(visit: Visit, tenant: str) -> dict[str, Any]:
    return server_as_object(visit.inst.settings, tenant, wireguard.server_key(visit.inst, tenant))


def _address(tenant: str) -> str:
    return f"/t/{quote(tenant, safe='')}/users/wireguard"
