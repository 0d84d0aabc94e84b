"""*Nodes*: the workers of the running daemon, and whether each has what was changed last."""

from __future__ import annotations

import socket
from typing import Any

from fastapi import APIRouter, Request, Response

from console.asked import ask
from console.parts import parts_of
from console.visit import Visit
from console.web.pages import Viewing, is_htmx, render
from control import tenants
from control.shown import nodes as shown

router = APIRouter(prefix="/t/{tenant}/nodes")


@router.get("")
def page(tenant: str, request: Request, visit: Viewing) -> Response:
    """The workers. The table asks for itself again, as long as somebody looks."""
    template = "nodes_table.html" if is_htmx(request) else "nodes.html"
    return render(request, template, state(request, visit, tenant), visit=visit, tenant=tenant, here="nodes")


def state(request: Request, visit: Visit, tenant: str) -> dict[str, Any]:
    """What workers say, for a tenant."""
    daemon = parts_of(request).daemon
    details = tenants.show(visit.inst, tenant)
    generation = details.tenant.generation
    health = ask(daemon.health)
    managers = ask(daemon.key_managers, [tenant]) if health else None
    found = managers.found.get(tenant) if managers is not None else None
    return {
        "node": socket.gethostname(),
        "details": details,
        "generation": generation,
        "workers": [_worker(each, tenant, generation) for each in health],
        "manager": None if found is None else shown.manager_as_object(found, visit.now),
        "unknown": managers.unknown if managers is not None else None,
    }


def _worker(told: Any, tenant: str, generation: int) -> dict[str, Any]:
    mine = told["tenants"].get(tenant)
    purged = mine.get("purged") if mine is not None else None
    store, issuer = told["store"], told["issuer"]
    unsigned = issuer["tenants"].get(tenant)
    problems = [
        text
        for text, bad in (
            (f"the store: {store['problem']}", store["problem"]),
            ("its working set is too old, so it begins nothing new", store["outdated"]),
            (f"the issuer: {issuer['unreachable']}", issuer["unreachable"]),
            (f"no leaf can be made: {unsigned}", unsigned),
        )
        if bad
    ]
    return {
        "number": told["number"],
        "pid": told["pid"],
        "started": told["started"],
        "draining": told["draining"],
        "sessions": told["sessions"],
        "memory": told["memory"],
        "lag": told["loop_lag"],
        "generation": mine["generation"] if mine is not None else None,
        "behind": mine is not None and mine["generation"] < generation,
        "signing_ca": mine["signing_ca"]["name"] if mine is not None else None,
        "purged_at": purged["at"] if purged else None,
        "purge_seconds": purged["seconds"] if purged else None,
        "problems": problems,
    }
