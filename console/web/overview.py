"""*Overview*: how a tenant does, at a glance."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import timedelta
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response

from console.parts import parts_of
from console.web import nodes
from console.web.pages import Here, Viewing, go, render
from control import audit_log, tenants, traffic_figures
from control.expiring import expiring
from control.traffic_figures import Span

router = APIRouter()
SPANS = {"day": (timedelta(days=1), timedelta(hours=1)), "week": (timedelta(days=7), timedelta(hours=6))}
ACTIONS = ("block", "warn", "bypass", "allow")
MOST_HOSTS = 10
MOST_CHANGES = 8
WIDTH, HEIGHT = 640, 140


@dataclass(frozen=True, slots=True)
class Bar:
    """A piece of the chart. ``action`` is its colour; the table below says the same in words."""

    x: float
    y: float
    width: float
    height: float
    action: str


@router.get("/")
def start(request: Request, visit: Here) -> Response:
    """Go to the first tenant that there is for whoever is here."""
    names = [one.name for one in tenants.listing(visit.inst) if visit.sees(one.name)]
    return go(request, f"/t/{names[0]}/" if names else "/me")


@router.get("/t/{tenant}/")
def page(tenant: str, request: Request, visit: Viewing, over: Annotated[str, Query(max_length=8)] = "day") -> Response:
    """How the tenant does."""
    over = over if over in SPANS else "day"
    age, step = SPANS[over]
    since = visit.now - age
    spans = traffic_figures.verdicts(visit.inst, tenant, since, visit.now, step)
    context: dict[str, Any] = {
        **nodes.state(request, visit, tenant),
        "over": over,
        "spans": spans,
        "bars": bars(spans),
        "chart": (WIDTH, HEIGHT),
        "by_defect": by_defect(spans),
        "total": sum(span.total for span in spans),
        "hosts": traffic_figures.top_blocked(visit.inst, tenant, since, MOST_HOSTS),
        "expiring": expiring(visit.inst, tenant, visit.now),
        "changes": audit_log.newest(visit.inst, MOST_CHANGES, tenant),
        "onboarding": parts_of(request).inst.settings.onboarding,
        "listeners": [one for one in visit.inst.settings.listeners if tenant in one.tenants],
    }
    return render(request, "overview.html", context, visit=visit, tenant=tenant, here="overview")


def by_defect(spans: tuple[Span, ...]) -> list[tuple[str, dict[str, int], int]]:
    """For each defect (none: nothing was wrong) how often each action was taken, the most frequent first."""
    counts: dict[str, Counter[str]] = {}
    for span in spans:
        for (defect, action), count in span.counts.items():
            counts.setdefault(defect, Counter())[action] += count
    return sorted(
        ((defect, dict(actions), sum(actions.values())) for defect, actions in counts.items()),
        key=lambda one: -one[2],
    )


def bars(spans: tuple[Span, ...]) -> list[Bar]:
    """The chart: a column for each span, one piece for each action."""
    most = max((span.total for span in spans), default=0)
    if not most:
        return []
    found: list[Bar] = []
    wide = WIDTH / len(spans)
    for place, span in enumerate(spans):
        y = float(HEIGHT)
        for action in reversed(ACTIONS):
            count = sum(each for (_, done), each in span.counts.items() if done == action)
            high = count / most * HEIGHT
            y -= high
            if count:
                found.append(Bar(round(place * wide + 1, 1), round(y, 1), round(wide - 2, 1), round(high, 1), action))
    return found
