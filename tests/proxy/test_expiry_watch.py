"""Which lines about CAs are due, at moments that the test gives."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from certs.expiry import Validity
from proxy.expiry_watch import ExpiryWatch, Fact, News, facts, news_of, say
from proxy.log import Log

NOW = datetime(2026, 11, 26, 10, 0, tzinfo=UTC)
DAY, HOUR, SECOND = timedelta(days=1), timedelta(hours=1), timedelta(seconds=1)


def signing(ends: timedelta, name: str = "built-in", problem: str = "", begins: timedelta = -90 * DAY) -> Fact:
    """The tenant's signing CA, which is near its end for its last ten days."""
    return Fact("signing", "default", name, Validity(NOW + begins, NOW + ends - 10 * DAY, NOW + ends), problem)


def trusted(ends: timedelta, name: str = "company") -> Fact:
    return Fact("trusted", "default", name, Validity(NOW - 90 * DAY, NOW + ends - 10 * DAY, NOW + ends))


@pytest.mark.parametrize(
    ("fact", "news"),
    [
        (signing(11 * DAY), None),
        (signing(9 * DAY), News.ENDS_SOON),
        (signing(-DAY), News.EXPIRED),
        (signing(11 * DAY, problem="it does not open"), News.CANNOT_SIGN),
        (signing(9 * DAY, problem="it does not open"), News.CANNOT_SIGN),
        (signing(-DAY, problem="it does not open"), News.EXPIRED),
        (signing(90 * DAY, begins=DAY), News.CANNOT_SIGN),
        (trusted(11 * DAY), None),
        (trusted(9 * DAY), News.ENDS_SOON),
        (trusted(-DAY), News.EXPIRED),
    ],
)
def test_there_is_one_thing_to_say_of_a_ca(fact: Fact, news: News | None) -> None:
    assert news_of(fact, NOW) is news


def hours(watch: ExpiryWatch, found: list[Fact], count: int, start: datetime = NOW) -> list[tuple[int, str, News]]:
    """Look every hour; what is due, and in which hour."""
    return [(hour, fact.name, news) for hour in range(count) for fact, news in watch.due(found, start + hour * HOUR)]


def test_it_is_said_when_it_is_first_seen_and_then_once_a_day() -> None:
    found = [signing(90 * DAY), trusted(9 * DAY), trusted(8 * DAY, "other")]
    assert hours(ExpiryWatch(), found, 49) == [
        (hour, name, News.ENDS_SOON) for hour in (0, 24, 48) for name in ("company", "other")
    ]


def test_a_ca_that_lives_on_is_told_of_in_time_and_when_it_has_ended() -> None:
    soon = [(hour, "built-in", News.ENDS_SOON) for hour in range(2 * 24 + 1, 12 * 24, 24)]
    behind = [(hour, "built-in", News.EXPIRED) for hour in (12 * 24 + 1, 13 * 24 + 1)]
    assert hours(ExpiryWatch(), [signing(12 * DAY)], 14 * 24) == soon + behind


def test_another_one_near_its_end_under_the_same_name_is_another_matter() -> None:
    watch = ExpiryWatch()
    assert watch.due([trusted(5 * DAY)], NOW)
    assert not watch.due([trusted(5 * DAY)], NOW + HOUR)
    assert watch.due([trusted(6 * DAY)], NOW + 2 * HOUR)


def test_another_signing_ca_in_place_of_one_that_had_stopped_is_told_of_once() -> None:
    watch = ExpiryWatch()
    broken = signing(90 * DAY, problem="it does not open")
    assert watch.due([broken], NOW) == [(broken, News.CANNOT_SIGN)]
    good = signing(90 * DAY, "theirs")
    assert watch.due([good], NOW + HOUR) == [(good, News.CAN_SIGN_AGAIN)]
    assert watch.due([good], NOW + 2 * HOUR) == []
    ends = signing(2 * DAY)
    assert [news for _, news in watch.due([ends], NOW + 3 * DAY)] == [News.EXPIRED]
    late = signing(7 * DAY, "late")
    assert [news for _, news in watch.due([late], NOW + 3 * DAY)] == [News.CAN_SIGN_AGAIN, News.ENDS_SOON]


def test_one_that_is_not_heard_of_for_a_while_is_not_told_of_anew() -> None:
    watch = ExpiryWatch()
    assert watch.due([signing(5 * DAY)], NOW)
    assert not watch.due([], NOW + HOUR)  # no worker has answered
    assert not watch.due([signing(5 * DAY)], NOW + 2 * HOUR)


def test_what_is_long_gone_is_forgotten() -> None:
    watch = ExpiryWatch()
    watch.due([trusted(5 * DAY, f"ca {number}") for number in range(100)], NOW)
    watch.due([], NOW + 3 * DAY)
    assert not watch._said


def test_a_clock_that_is_put_back_silences_nothing() -> None:
    watch = ExpiryWatch()
    assert watch.due([signing(5 * DAY)], NOW)
    assert watch.due([signing(5 * DAY)], NOW - HOUR)
    assert not watch.due([signing(5 * DAY)], NOW)


# What workers say


def ca(name: str, ends: float) -> dict[str, Any]:
    return {"name": name, "begins": 0.0, "warns": ends - 10, "ends": ends}


def worker(generation: int = 1, name: str = "built-in", *, draining: bool = False, **unusable: str) -> dict[str, Any]:
    tenant = {"generation": generation, "signing_ca": ca(name, 1000.0), "trusted_cas": [ca("company", 2000.0)]}
    return {"draining": draining, "tenants": {"default": tenant}, "issuer": {"unusable": unusable}}


def test_what_several_workers_say_is_one_fact_each() -> None:
    assert facts([worker(), worker()]) == [
        Fact("signing", "default", "built-in", validity(1000)),
        Fact("trusted", "default", "company", validity(2000)),
    ]


def validity(ends: int) -> Validity:
    return Validity(*(datetime.fromtimestamp(seconds, UTC) for seconds in (0, ends - 10, ends)))


@pytest.mark.parametrize(
    ("health", "name", "problem"),
    [
        ([worker(1, "old"), worker(2, "new")], "new", ""),
        ([worker(2, "new"), worker(1, "old", default="it does not open")], "new", ""),
        ([worker(2, "new"), worker(2, "new", default="it does not open")], "new", "it does not open"),
        ([worker(1, "old"), worker(2, "new", draining=True)], "old", ""),
    ],
)
def test_a_worker_that_is_behind_or_leaves_is_not_asked(health: list[dict[str, Any]], name: str, problem: str) -> None:
    told = facts(health)[0]
    assert (told.name, told.problem) == (name, problem)


@pytest.mark.parametrize(
    "odd",
    [
        {},
        {"draining": False},
        {"draining": False, "tenants": [], "issuer": {"unusable": {}}},
        {**worker(), "issuer": {"unusable": None}},  # it has not asked yet
        {**worker(), "issuer": {}},  # of the version before
        {**worker(), "tenants": {"default": {"generation": 1, "signing_ca_end": 5.0}}},
        {**worker(), "tenants": {"default": {"generation": "1", "signing_ca": ca("a", 1.0), "trusted_cas": []}}},
        *(
            {**worker(), "tenants": {"default": {"generation": 1, "signing_ca": one, "trusted_cas": [None, 1]}}}
            for one in (None, ca("a", 1e300), ca("a", float("nan")), ca("a", -1e18), {**ca("a", 1.0), "name": 7})
        ),
    ],
)
def test_what_is_not_as_it_should_be_is_passed_over(odd: dict[str, Any]) -> None:
    assert facts([odd]) == []
    assert facts([odd, worker()]) == facts([worker()])


# The lines


@pytest.mark.parametrize(
    ("fact", "line"),
    [
        (
            signing(5 * DAY + HOUR),
            {"level": "warning", "event": "signing CA ends soon", "tenant": "default", "name": "built-in",
             "ends": "2026-12-01T11:00:00Z", "days_left": 5},
        ),
        (
            trusted(HOUR),
            {"level": "warning", "event": "trusted CA ends soon", "tenant": "default", "name": "company",
             "ends": "2026-11-26T11:00:00Z", "days_left": 0},
        ),
        (
            signing(-SECOND),
            {"level": "error", "event": "signing CA has expired", "tenant": "default", "name": "built-in",
             "ends": "2026-11-26T09:59:59Z",
             "effect": "nothing is intercepted for this tenant; activate another signing CA"},
        ),
        (
            trusted(-DAY),
            {"level": "warning", "event": "trusted CA has expired", "tenant": "default", "name": "company",
             "ends": "2026-11-25T10:00:00Z",
             "effect": "servers behind it are blocked; add the CA's new certificate"},
        ),
        (
            signing(90 * DAY, problem="it does not open"),
            {"level": "error", "event": "signing CA cannot sign", "tenant": "default", "name": "built-in",
             "reason": "it does not open",
             "effect": "nothing is intercepted for this tenant; activate another signing CA"},
        ),
        (
            signing(90 * DAY, begins=HOUR),
            {"level": "error", "event": "signing CA cannot sign", "tenant": "default", "name": "built-in",
             "reason": "it is not valid before 2026-11-26T11:00:00Z",
             "effect": "nothing is intercepted for this tenant; activate another signing CA"},
        ),
    ],
)  # fmt: skip
def test_a_line_says_what_ends_and_what_that_means(fact: Fact, line: dict[str, Any]) -> None:
    reading, writing = os.pipe()
    log = Log(writing, "info", "supervisor", lambda: 0.0)
    ((told, news),) = ExpiryWatch().due([fact], NOW)
    say(log, told, news, NOW)
    os.close(writing)
    with os.fdopen(reading) as written:
        assert json.loads(written.read()) == {"time": 0.0, "from": "supervisor", **line}
