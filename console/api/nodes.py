"""``/nodes``: the workers of the running daemon, what each works with, and how its key managers are."""

from __future__ import annotations

import socket
from typing import Annotated, Any

from fastapi import APIRouter, Request
from pydantic import Field

from console.api.models import Json, Model
from console.asked import ask
from console.parts import parts_of
from console.visit import Known
from control.shown import nodes as shown

router = APIRouter(prefix="/nodes", tags=["nodes"])


class Node(Model):
    """What a worker of a node works with for a tenant."""

    node: str
    worker: Annotated[int, Field(description="its place among the workers, from 1")]
    pid: int
    draining: Annotated[bool, Field(description="others have taken over, and it lets its connections end")]
    tenant: str
    generation: int
    purged_generation: Annotated[int | None, Field(description="the one whose signing CA is the first in it")]
    purged_at: str | None
    purge_seconds: Annotated[float | None, Field(description="from the change until nothing of the CA before is left")]
    key_manager: Json | None


class Nodes(Model):
    """What answers. ``unknown``: why something is not known of key managers."""

    items: list[Node]
    unknown: str | None


@router.get("", name="list_nodes", response_model=Nodes)
def listing(request: Request, visit: Known) -> Any:
    """List the workers that answer, for the tenants that whoever asks may see; none: the daemon does not run."""
    daemon = parts_of(request).daemon
    health = ask(daemon.health)
    names = sorted({name for worker in health for name in worker["tenants"] if visit.sees(name)})
    managers = ask(daemon.key_managers, names) if names else None
    found = {} if managers is None else managers.found
    rows = [row for row in shown.rows(socket.gethostname(), health, found, visit.now) if visit.sees(row["tenant"])]
    return {"items": rows, "unknown": managers.unknown if managers is not None and names else None}
