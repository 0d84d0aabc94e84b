"""Hosts that clients seem to have pinned: what the workers found, put together into proposals to bypass them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby
from operator import attrgetter

from control.installation import Installation
from store import refusals
from store.records import Refusal


@dataclass(frozen=True, slots=True)
class Proposal:
    """A host that so many clients refuse. ``enough``: as many as the configuration asks for."""

    host: str
    clients: tuple[str, ...]
    count: int
    first_at: datetime
    last_at: datetime
    enough: bool


def proposals(inst: Installation, tenant: str, now: datetime) -> list[Proposal]:
    """The hosts, those with most clients first. Raises Refused for an unknown tenant."""
    with inst.reading(tenant) as (connection, found):
        known = refusals.listing(connection, found.id, now - refusals.AGE)
    made = [_proposal(host, group, inst.settings.bypass.propose_after) for host, group in _by_host(known)]
    return sorted((one for one in made if one.clients), key=lambda one: (-len(one.clients), one.host))


def dismiss(inst: Installation, tenant: str, host: str) -> bool:
    """Forget what is known of a host, as if nobody had refused it. False where nothing was known."""
    with inst.changing(tenant) as (connection, found):
        return refusals.forget(connection, found.id, host) > 0


def _by_host(known: Iterable[Refusal]) -> Iterable[tuple[str, list[Refusal]]]:
    return ((host, list(group)) for host, group in groupby(known, attrgetter("host")))


def _proposal(host: str, group: list[Refusal], after: int) -> Proposal:
    counting = refusals.counting(group)
    return Proposal(
        host=host,
        clients=tuple(one.client for one in counting),
        count=sum(one.count for one in counting),
        first_at=min(one.first_at for one in group),
        last_at=max(one.last_at for one in group),
        enough=len(counting) >= after,
    )
