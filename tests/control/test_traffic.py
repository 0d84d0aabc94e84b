"""Events as workers tell them, which of them somebody wants to see, and following them."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import pytest

from control.errors import Refused
from control.traffic import Event, Follower, Wanted, events_of, in_order

AT = 1_795_525_200.5


def told(seq: int = 1, event: str = "request", **fields: Any) -> dict[str, Any]:
    return {"seq": seq, "time": AT, "event": event, "id": "1d", "tenant": "default", "client": "192.0.2.7", **fields}


def answer(*events: object, of: str = "7-1", number: int = 1, last: int = 1, **more: Any) -> dict[str, Any]:
    return {"token": of, "number": number, "last": last, "more": False, "missed": False, "events": [*events], **more}


def one(event: str = "request", **fields: Any) -> Event:
    (found,) = events_of(answer(told(1, event, **fields)))
    return found


def test_a_request_is_read() -> None:
    seen = one(method="GET", host="a.example", path="/x", status=200, outcome="complete", ms=12, lane="fast")
    assert seen.at == datetime.fromtimestamp(AT, UTC)
    assert (seen.worker, seen.token, seen.seq, seen.kind, seen.id) == (1, "7-1", 1, "request", "1d")
    assert (seen.tenant, seen.client, seen.host, seen.port) == ("default", "192.0.2.7", "a.example", None)
    assert (seen.method, seen.path, seen.status, seen.outcome) == ("GET", "/x", 200, "complete")
    assert (seen.milliseconds, seen.lane, seen.blocked) == (12.0, "fast", False)


def test_what_was_refused_was_blocked_and_why_a_connection_ended_is_its_outcome() -> None:
    refused = one("refused", status=502, error="tls_certificate_error", details="expired", defects=["expired"])
    assert (refused.action, refused.blocked, refused.details, refused.defects) == (
        "block", True, "expired", ("expired",),
    )  # fmt: skip
    assert one("refused", error="connection_timeout").details == "connection_timeout"
    ended = one("connection", state="open", reason="client closed", action="block")
    assert (ended.outcome, ended.blocked) == ("client closed", False)


@pytest.mark.parametrize(
    "bad",
    [
        None, 3, [], {}, {"token": "7-1", "number": 1}, {"token": 7, "number": 1, "events": []},
        answer("text", {"seq": 1}, {"seq": "1", "time": AT, "event": "x", "id": "y"}),
        answer({"seq": 1, "time": 1e300, "event": "x", "id": "y"}),
        answer({"seq": 1, "time": AT, "event": 1, "id": "y"}),
    ],
)  # fmt: skip
def test_what_is_not_as_it_should_be_is_passed_over(bad: Any) -> None:
    assert events_of(bad) == []


def test_values_of_another_kind_are_none() -> None:
    seen = one(host=["a"], port="443", status=True, defects={"a": 1}, action=7, trace="text", ms="12", path="")
    assert (seen.host, seen.port, seen.status, seen.defects, seen.action) == (None, None, None, (), None)
    assert (seen.trace, seen.milliseconds, seen.path) == (None, None, None)
    assert one(defects=["expired", 3]).defects == ("expired",)


BLOCKED = {"host": "www.shop.example", "defects": ["expired", "hostname_mismatch"], "action": "block"}


@pytest.mark.parametrize(
    ("wanted", "event", "fields", "seen"),
    [
        ({}, "connection", {}, True),
        ({"host": "shop.example"}, "verdict", BLOCKED, False),
        ({"host": "*.shop.example"}, "verdict", BLOCKED, True),
        ({"host": ".Shop.Example"}, "verdict", BLOCKED, True),
        ({"host": "www.shop.example"}, "request", {"host": "www.shop.example:8443"}, True),
        ({"host": "*"}, "connection", {}, False),
        ({"host": "2001:db8::1"}, "request", {"host": "[2001:db8::1]:443"}, True),
        ({"host": "a.example"}, "request", {"host": "not a host"}, False),
        ({"client": "192.0.2.7"}, "request", {}, True),
        ({"client": "192.0.2.8"}, "request", {}, False),
        ({"client": "192.0.2.0/24"}, "request", {}, True),
        ({"client": "192.0.2.8"}, "request", {"client": "192.0.2.0/24"}, True),
        ({"client": "2001:db8::/64"}, "request", {}, False),
        ({"client": "192.0.2.7"}, "request", {"client": None}, False),
        ({"defect": "hostname_mismatch"}, "verdict", BLOCKED, True),
        ({"defect": "self_signed"}, "verdict", BLOCKED, False),
        ({"action": "block"}, "verdict", BLOCKED, True),
        ({"action": "block"}, "refused", {}, True),
        ({"action": "warn"}, "verdict", BLOCKED, False),
        ({"blocked": True}, "verdict", BLOCKED, True),
        ({"blocked": True}, "refused", {}, True),
        ({"blocked": True}, "connection", BLOCKED, False),
        ({"blocked": True}, "verdict", {**BLOCKED, "action": "warn"}, False),
        ({"blocked": True, "host": "a.example"}, "verdict", BLOCKED, False),
    ],
)
def test_which_events_are_wanted(wanted: dict[str, Any], event: str, fields: dict[str, Any], seen: bool) -> None:
    assert Wanted.of(**wanted).has(one(event, **fields)) is seen


@pytest.mark.parametrize(
    ("wanted", "what"),
    [
        ({"host": "a.*.example"}, "write *.example.com"),
        ({"client": "nobody"}, "write 192.0.2.7 or 192.0.2.0/24"),
        ({"defect": "ugly"}, "ugly: no defect; one of malformed, "),
        ({"action": "eat"}, "eat: no action; one of block, warn, bypass, allow"),
    ],
)
def test_what_cannot_be_wanted_is_refused_with_what_to_write(wanted: dict[str, str], what: str) -> None:
    with pytest.raises(Refused) as refused:
        Wanted.of(**wanted)
    assert what in str(refused.value)


def test_events_of_several_workers_come_by_their_time_and_those_of_one_by_their_number() -> None:
    first = events_of(answer(told(9), told(10, time=AT + 1)))
    second = events_of(answer(told(2, time=AT + 0.5), of="8-1"))
    assert [event.seq for event in in_order([*second, *reversed(first)])] == [9, 2, 10]


def test_a_follower_asks_behind_what_it_has_seen_and_hears_of_workers_that_are_new() -> None:
    follower = Follower()
    first = follower.took([answer(told(4), last=4), answer(of="8-1", number=2, last=0)])
    assert ([event.seq for event in first.events], first.anew) == ([4], ())
    assert follower.since == {"7-1": 4, "8-1": 0}
    # One does not answer, the other has been started anew.
    second = follower.took([answer(told(1), of="9-5", number=1, last=1, more=True)])
    assert (second.anew, second.more, second.missed) == ((1,), True, False)
    assert follower.since == {"7-1": 4, "8-1": 0, "9-5": 1}
    third = follower.took([answer(told(5), last=5, missed=True)])
    assert (third.anew, third.missed, [event.seq for event in third.events]) == ((), True, [5])


def test_a_follower_passes_over_what_is_no_answer_and_remembers_so_many_workers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("control.traffic.MOST_WORKERS", 2)
    follower = Follower()
    assert follower.took([{"token": "7-1", "number": 1, "last": "x"}, {}]).events == ()
    for number in range(4):
        follower.took([answer(of=f"{number}-1")])
    assert list(follower.since) == ["2-1", "3-1"]


def test_reading_goes_on_until_there_is_no_more() -> None:
    asked: list[tuple[dict[str, int], int]] = []

    async def ask(since: Mapping[str, int], most: int) -> list[dict[str, Any]]:
        asked.append((dict(since), most))
        last = since.get("7-1")
        if last is None:
            return [answer(last=0)]
        return [answer(told(last + 1), last=last + 1, more=last < 2)]

    follower = Follower()
    news = asyncio.run(follower.read(ask))
    assert ([event.seq for event in news.events], news.more, news.anew) == ([1, 2, 3], False, ())
    assert asked == [({}, 0), ({"7-1": 0}, 500), ({"7-1": 1}, 500), ({"7-1": 2}, 500)]
    assert [event.seq for event in asyncio.run(follower.read(ask)).events] == [4]


def test_where_nobody_answers_nothing_is_read() -> None:
    async def ask(since: Mapping[str, int], most: int) -> list[dict[str, Any]]:
        return []

    follower = Follower()
    assert asyncio.run(follower.read(ask)).events == ()
    assert follower.since == {}
