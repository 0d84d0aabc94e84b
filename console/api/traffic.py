"""``/events`` and ``/tenants/{tenant}/…``: what connections come to, a verdict with both chains, and figures."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from http import HTTPStatus
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.responses import StreamingResponse
from pydantic import Field

from console.api.models import Certificate, Json, Model
from console.asked import ask
from console.events import MEDIA_TYPE as STREAM
from console.events import event as written
from console.following import Followers, follow, last
from console.parts import parts_of
from console.problems import FieldError, Problem
from console.visit import Known, Viewing, Visit, find
from control import traces, traffic_figures
from control.authorisation import Action
from control.errors import Refused
from control.shown import traffic as shown
from control.traffic import Event, Wanted

router = APIRouter(tags=["traffic"])
MOST = 1000


class Events(Model):
    """What connections came to lately, the oldest first: as the log tells it (docs/operations.md)."""

    items: list[Json]


class Found(Model):
    """Something that is wrong."""

    defect: str
    explanation: str | None
    clause: str | None


class Link(Model):
    """A certificate of a chain. ``certificate`` is null where it is not remembered."""

    subject: str
    issuer: str
    serial: str
    not_before: datetime | None
    not_after: datetime | None
    sha256: str
    names: list[str]
    from_: Annotated[str | None, Field(alias="from")]
    findings: list[Found]
    certificate: Certificate | None


class Trace(Model):
    """A server as it was judged, with the chain that it showed and the one that its client was shown."""

    tenant: str
    host: str
    port: int | None
    id: str | None
    at: datetime
    action: str | None
    defects: list[str]
    by: list[str]
    anchor: str | None
    completed: str | None
    tls: str | None
    findings: list[Found]
    server_chain: list[Link]
    our_chain: list[Link]
    signing_ca: str | None
    untrusted: bool
    remarks: list[str]
    events: list[Json]


class Figures(Model):
    """Verdicts by first defect and action over time, and the hosts that were blocked most."""

    verdicts: list[Json]
    blocked_hosts: list[Json]


def _wanted(
    host: Annotated[str, Query(max_length=255, description="example.com, .example.com, *.example.com")] = "",
    client: Annotated[str, Query(max_length=64, description="an address or a network")] = "",
    defect: Annotated[str, Query(max_length=40)] = "",
    action: Annotated[str, Query(max_length=20)] = "",
    blocked: bool = False,
) -> Wanted:
    try:
        return Wanted.of(host, client, defect, action, blocked=blocked)
    except Refused as error:
        raise Problem(
            HTTPStatus.UNPROCESSABLE_ENTITY, "invalid", str(error), errors=[FieldError("?", str(error))]
        ) from None


Asked = Annotated[Wanted, Depends(_wanted)]
Most = Annotated[int, Query(ge=1, le=MOST)]


@router.get(
    "/events",
    name="events",
    response_model=Events,
    responses={200: {"content": {STREAM: {"schema": {"type": "string"}}}}},
)
def events(
    request: Request, visit: Known, wanted: Asked, tenant: Annotated[str, Query(max_length=63)], most: Most = 100
) -> Any:
    """The last events of a tenant; with ``Accept: text/event-stream`` also what comes, as it comes."""
    visit.need(Action.VIEW, tenant)
    return _answer(request, visit, tenant, wanted, most)


@router.get(
    "/tenants/{tenant}/events",
    name="tenant_events",
    response_model=Events,
    responses={200: {"content": {STREAM: {"schema": {"type": "string"}}}}},
)
def of_tenant(tenant: str, request: Request, visit: Viewing, wanted: Asked, most: Most = 100) -> Any:
    """The same."""
    return _answer(request, visit, tenant, wanted, most)


@router.get("/tenants/{tenant}/traces/{which:path}", name="trace", response_model=Trace, response_model_by_alias=True)
def trace(tenant: str, which: str, request: Request, visit: Viewing) -> Any:
    """The last verdict on a connection (its id) or on a host, with both chains."""
    return shown.as_object(traced(request, visit, tenant, which))


@router.get("/tenants/{tenant}/figures", name="figures", response_model=Figures)
def figures(
    tenant: str,
    visit: Viewing,
    hours: Annotated[int, Query(ge=1, le=168)] = 24,
    step: Annotated[int, Query(ge=10, le=1440, multiple_of=10, description="minutes")] = 60,
    most: Annotated[int, Query(ge=0, le=traffic_figures.MOST_HOSTS)] = 20,
) -> Any:
    """Verdicts over the last hours, and the hosts that were blocked most."""
    since = visit.now - timedelta(hours=hours)
    spans = traffic_figures.verdicts(visit.inst, tenant, since, visit.now, timedelta(minutes=step))
    return shown.figures_as_object(spans, traffic_figures.top_blocked(visit.inst, tenant, since, most))


def traced(request: Request, visit: Visit, tenant: str, which: str) -> traces.Trace:
    """The last verdict on a connection or a host. Raises Refused."""
    told = ask(last, parts_of(request).daemon, tenant, Wanted(), 100_000)
    if any(event.id == which for event in told):
        return traces.of_connection(visit.inst, tenant, which, told, visit.now)
    return traces.of_host(visit.inst, tenant, which, told, visit.now)


def _answer(request: Request, visit: Visit, tenant: str, wanted: Wanted, most: int) -> Any:
    parts = parts_of(request)
    if STREAM not in request.headers.get("accept", ""):
        return {"items": [shown.event_as_object(each) for each in ask(last, parts.daemon, tenant, wanted, most)]}
    return streamed(request, visit, tenant, wanted, _line)


def streamed(request: Request, visit: Visit, tenant: str, wanted: Wanted, line: Any) -> Response:
    """What comes, as server-sent events (HTML, section 9.2), while whoever asked may see it. Raises Problem."""
    followers = parts_of(request).made.setdefault("followers", Followers())
    assert isinstance(followers, Followers)  # noqa: S101 - nobody else puts anything there
    followers.admit(visit.who.account)
    return StreamingResponse(_streamed(request, visit, tenant, wanted, line, followers), media_type=STREAM)


async def _streamed(
    request: Request, visit: Visit, tenant: str, wanted: Wanted, line: Any, followers: Followers
) -> AsyncIterator[str]:
    parts = parts_of(request)

    def still() -> bool:
        found = find(request, parts)
        return found is not None and found.sees(tenant)

    yield ": begun\n\n"
    try:
        news = follow(parts.daemon, tenant, wanted, request.is_disconnected, still, followers, visit.who.account)
        async for found in news:
            yield "".join(line(event) for event in found) if found else ": quiet\n\n"
    except Problem:  # others have come in between; the answer has begun
        yield "retry: 30000\n\n"


def _line(event: Event) -> str:
    return written("traffic", json.dumps(shown.event_as_object(event), default=str))
