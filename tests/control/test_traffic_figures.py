from __future__ import annotations

from datetime import datetime, timedelta

import pytest

from control import tenants
from control.errors import Refused
from control.installation import Installation
from control.traffic_figures import MOST_HOSTS, STEP, Span, top_blocked, verdicts
from store import traffic_figures
from tests.harness.pki import NOW

BEGIN = NOW.replace(hour=10, minute=0, second=0, microsecond=0)
HOUR = timedelta(hours=1)


def count(inst: Installation, begins: datetime, defect: str, action: str, number: int, tenant: str = "default") -> None:
    with inst.changing(tenant) as (c, found):
        traffic_figures.add_verdicts(c, found.id, {(begins, defect, action): number})


def test_verdicts_come_by_step_and_steps_without_any_are_there(inst: Installation) -> None:
    count(inst, BEGIN, "none", "allow", 5)
    count(inst, BEGIN + STEP, "expired", "block", 2)
    count(inst, BEGIN + 2 * HOUR, "expired", "block", 1)
    count(inst, BEGIN + 3 * HOUR, "none", "allow", 9)  # behind the end
    found = verdicts(inst, "default", BEGIN + 2 * STEP, BEGIN + 2.5 * HOUR, HOUR)
    assert found == (
        Span(BEGIN, {("none", "allow"): 5, ("expired", "block"): 2}),
        Span(BEGIN + HOUR, {}),
        Span(BEGIN + 2 * HOUR, {("expired", "block"): 1}),
    )
    assert [span.total for span in found] == [7, 0, 1]
    assert [span.total for span in verdicts(inst, "default", BEGIN, BEGIN + 3 * STEP, STEP)] == [5, 2, 0]


def test_steps_begin_at_whole_ones_of_the_clock(inst: Installation) -> None:
    found = verdicts(inst, "default", BEGIN + timedelta(minutes=50), BEGIN + timedelta(minutes=61), 3 * STEP)
    assert [span.begins_at for span in found] == [BEGIN + timedelta(minutes=30), BEGIN + HOUR]
    assert verdicts(inst, "default", BEGIN, BEGIN, STEP) == ()
    assert verdicts(inst, "default", BEGIN + HOUR, BEGIN, STEP) == ()


@pytest.mark.parametrize(
    ("step", "days", "what"),
    [
        (timedelta(0), 1, "give a multiple of 0:10:00"), (timedelta(minutes=15), 1, "give a multiple of 0:10:00"),
        (-STEP, 1, "give a multiple of 0:10:00"), (STEP, 20, "2880 steps are more than 2000"),
    ],
)  # fmt: skip
def test_a_step_that_cannot_be_is_refused(inst: Installation, step: timedelta, days: int, what: str) -> None:
    with pytest.raises(Refused, match=what):
        verdicts(inst, "default", BEGIN, BEGIN + timedelta(days=days), step)


def test_blocked_hosts_come_from_the_hour_that_the_beginning_is_in(inst: Installation) -> None:
    with inst.changing("default") as (c, found):
        traffic_figures.add_blocked(c, found.id, {
            (BEGIN - HOUR, "old.example", "expired"): 9, (BEGIN, "a.example", "expired"): 1,
            (BEGIN, "b.example", "expired"): 3,
        })  # fmt: skip
    assert [one.host for one in top_blocked(inst, "default", BEGIN + 5 * STEP, 10)] == ["b.example", "a.example"]
    assert top_blocked(inst, "default", BEGIN, 0) == ()
    for most in (-1, MOST_HOSTS + 1):
        with pytest.raises(Refused, match="cannot be listed"):
            top_blocked(inst, "default", BEGIN, most)


def test_a_tenant_sees_its_own(inst: Installation) -> None:
    tenants.create(inst, "acme", NOW)
    count(inst, BEGIN, "none", "allow", 5, tenant="acme")
    assert [span.total for span in verdicts(inst, "default", BEGIN, BEGIN + STEP, STEP)] == [0]
    with pytest.raises(Refused, match="there is no tenant 'gone'"):
        verdicts(inst, "gone", BEGIN, BEGIN + STEP, STEP)
    with pytest.raises(Refused, match="there is no tenant 'gone'"):
        top_blocked(inst, "gone", BEGIN, 1)
