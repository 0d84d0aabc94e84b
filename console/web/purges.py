"""After another signing CA was made active: which workers have dropped what was made with the one before."""

from __future__ import annotations

import asyncio
import math
import socket
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fastapi import Request
from starlette.concurrency import run_in_threadpool

from console.parts import parts_of
from console.visit import Visit
from console.web.pages import templates_of
from control import audit_log
from store.records import AuditEntry

EVERY_SECONDS = 0.5
LOOKED_AT = 100
"""Entries of the audit log, for the last activation."""
SILENT_SECONDS = 5.0
"""How long to wait for a worker to answer at all, where none does."""
MOST_SECONDS = 120.0
"""A worker waits for what is under way with its clients, as long as ``limits.drain_timeout``."""


@dataclass(frozen=True, slots=True)
class Purge:
    """How far a worker is. ``seconds``: how long after the change nothing of the CA before was left in it."""

    node: str
    worker: int
    generation: int
    seconds: float | None
    fresh: bool = False
    """It began after the change, and had nothing to let go of."""

    @property
    def ended(self) -> bool:
        """Whether nothing is left."""
        return self.fresh or self.seconds is not None


def asked(request: Request) -> int | None:
    """The generation that a page is to follow."""
    given = request.query_params.get("purge", "")
    return int(given) if given.isascii() and given.isdigit() and len(given) <= 18 else None


def activation(visit: Visit, tenant: str) -> AuditEntry | None:
    """What made the active signing CA the active one; None where that is long ago."""
    entries = audit_log.newest(visit.inst, LOOKED_AT, tenant)
    return next((entry for entry in entries if entry.action == "signing_ca.activate"), None)


def purges(health: Sequence[Mapping[str, Any]], tenant: str, generation: int, changed: float) -> Iterator[Purge]:
    """Of every worker that serves the tenant, whether it has purged for that generation or a later one.

    ``changed``: when another CA was made active, in seconds since 1970.
    """
    for worker in sorted(health, key=lambda each: (str(each.get("node", "")), each["number"])):
        if (served := worker["tenants"].get(tenant)) is None:
            continue
        last = served["purged"]
        ended = last is not None and last["generation"] >= generation
        node = str(worker.get("node") or socket.gethostname())
        fresh = not ended and served["generation"] >= generation and worker["started"] > changed
        yield Purge(node, worker["number"], served["generation"], last["seconds"] if ended else None, fresh)


async def followed(request: Request, visit: Visit, tenant: str, generation: int) -> AsyncIterator[tuple[str, str]]:
    """The table of workers whenever it changes, until all have purged, or for two minutes."""
    parts = parts_of(request)
    template = templates_of(parts).get_template("signing_ca_purge.html")
    began, before = time.monotonic(), ""
    entry = await run_in_threadpool(activation, visit, tenant)
    changed = math.inf if entry is None else entry.at.timestamp()
    while True:
        found = list(purges(await parts.daemon.health(), tenant, generation, changed))
        ended = bool(found) and all(one.ended for one in found)
        waited = time.monotonic() - began
        over = ended or waited > (MOST_SECONDS if found else SILENT_SECONDS)
        slowest = max((one.seconds for one in found if one.seconds is not None), default=None)
        text = template.render(workers=found, ended=ended, over=over, slowest=slowest)
        if text != before:
            yield "workers", text
            before = text
        if over:
            return
        await asyncio.sleep(EVERY_SECONDS)
