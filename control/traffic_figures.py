"""What the traffic of the last days came to: verdicts by defect over time, and the hosts that were blocked most."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from control.errors import Refused
from control.installation import Installation
from store import traffic_figures
from store.records import BlockedHost
from store.traffic_figures import AGE, HOUR, STEP

MOST_STEPS = 2000
MOST_HOSTS = 500
_EPOCH = datetime.fromtimestamp(0, UTC)


@dataclass(frozen=True, slots=True)
class Span:
    """The verdicts from ``begins_at`` on, until the next span begins: how many by first defect (or none) and action."""

    begins_at: datetime
    counts: Mapping[tuple[str, str], int] = field(default_factory=dict)

    @property
    def total(self) -> int:
        """All of them."""
        return sum(self.counts.values())


def verdicts(inst: Installation, tenant: str, since: datetime, until: datetime, step: timedelta) -> tuple[Span, ...]:
    """The verdicts of a tenant, one span after the other, also those in which there was none.

    ``step``: whole multiples of ten minutes; spans begin at whole ones (UTC). The first has ``since`` in it, the last
    ends at ``until`` or after it. Workers write every few seconds, so the last moments are missing. Raises Refused.
    """
    if step < STEP or step % STEP:
        raise Refused(f"a step of {step} is none: give a multiple of {STEP}")
    first = _begin_of(since, step)
    count = -((first - until) // step)  # rounded up
    if count > MOST_STEPS:
        raise Refused(f"{count} steps are more than {MOST_STEPS}: give a longer step, or less time")
    with inst.reading(tenant) as (connection, found):
        rows = traffic_figures.verdict_counts(connection, found.id, first, first + count * step)
    counts: dict[datetime, Counter[tuple[str, str]]] = {}
    for row in rows:
        counts.setdefault(_begin_of(row.begins_at, step), Counter())[row.defect, row.action] += row.count
    begins = (first + place * step for place in range(count))
    return tuple(Span(begin, counts.get(begin, {})) for begin in begins)


def top_blocked(inst: Installation, tenant: str, since: datetime, most: int) -> tuple[BlockedHost, ...]:
    """The hosts of a tenant that were blocked most from the hour on that ``since`` is in. Raises Refused."""
    if not 0 <= most <= MOST_HOSTS:
        raise Refused(f"{most} hosts cannot be listed; from 0 to {MOST_HOSTS}")
    with inst.reading(tenant) as (connection, found):
        return tuple(traffic_figures.top_blocked(connection, found.id, _begin_of(since, HOUR), most))


def _begin_of(moment: datetime, step: timedelta) -> datetime:
    """The whole step that the moment is in."""
    return moment - (moment - _EPOCH) % step


__all__ = ["AGE", "STEP", "BlockedHost", "Span", "top_blocked", "verdicts"]
