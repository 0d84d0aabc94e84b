from __future__ import annotations

from typing import Any

import pytest

from certs.mentions import Mentions
from proxy import events
from proxy.events import Events
from proxy.lanes.exchange import Exchange


@pytest.fixture
def ring(monkeypatch: pytest.MonkeyPatch) -> Events:
    monkeypatch.setattr(events, "MOST", 4)
    monkeypatch.setattr(events, "LEAST", 2)
    return Events(lambda: 1_800_000_000.1234)


def keep(
    ring: Events, host: str, tenant: str = "default", event: str = "refused", notable: bool = True, **fields: Any
) -> None:
    ring.keep(event, "1d", tenant, "192.0.2.1", "", "fast", {"host": host, **fields}, notable)


def ask(ring: Events, since: int | None = None, most: int = 100, tenant: str | None = None) -> dict[str, Any]:
    return ring.answer(since, most, tenant, None)


def hosts(answer: dict[str, Any]) -> list[str]:
    return [one["host"] for one in answer["events"]]


def test_an_event_is_told_with_what_the_log_has_of_it(ring: Events) -> None:
    keep(ring, "a.example", status=502, error="", by=None, defects=["expired"])
    assert ask(ring) == {
        "token": ring.token, "last": 1, "more": False, "missed": False,
        "events": [{
            "seq": 1, "time": 1_800_000_000.123, "event": "refused", "id": "1d", "tenant": "default",
            "client": "192.0.2.1", "user": None, "lane": "fast", "host": "a.example", "status": 502,
            "defects": ["expired"],
        }],
    }  # fmt: skip


def test_a_request_is_told_as_the_log_has_it(ring: Events) -> None:
    seen = Exchange("HTTP/1.1", "GET", "a.example", "/x", 200, 1, 2, 1.0, 1.5, 2.0, more={"query": "q"})
    ring.keep("request", "1d", "default", "", "", "fast", seen)
    (told,) = ask(ring)["events"]
    assert (told["method"], told["path"], told["query"], told["status"]) == ("GET", "/x", "q", 200)
    assert (told["first_byte_ms"], told["ms"], told["outcome"]) == (500.0, 1000.0, "complete")


def test_a_verdict_with_findings_has_its_trace_apart_and_one_without_has_none(ring: Events) -> None:
    keep(ring, "a.example", event="verdict", findings=[{"defect": "expired"}], chain=[{"sha256": "00"}], tls="TLSv1.3")
    keep(ring, "b.example", event="verdict", chain=[{"sha256": "00"}], tls="TLSv1.3")
    first, second = ask(ring)["events"]
    assert first["trace"] == {"findings": [{"defect": "expired"}], "chain": [{"sha256": "00"}], "tls": "TLSv1.3"}
    assert "chain" not in first
    assert "trace" not in second


def test_the_last_stay_and_a_follower_is_told_that_it_missed_some(ring: Events) -> None:
    for number in range(3):
        keep(ring, f"h{number}.example")
    first = ask(ring)
    assert (first["last"], first["missed"]) == (3, False)
    for number in range(3, 9):
        keep(ring, f"h{number}.example")
    after = ask(ring, since=first["last"])
    assert (hosts(after), after["missed"]) == (["h5.example", "h6.example", "h7.example", "h8.example"], True)
    assert not ask(ring, since=5)["missed"]


def test_a_follower_gets_what_is_new_oldest_first_and_in_pieces(ring: Events) -> None:
    for number in range(4):
        keep(ring, f"h{number}.example", notable=number % 2 == 0)
    first = ask(ring, since=0, most=3)
    assert (hosts(first), first["last"], first["more"]) == (["h0.example", "h1.example", "h2.example"], 3, True)
    rest = ask(ring, since=first["last"], most=3)
    assert (hosts(rest), rest["last"], rest["more"]) == (["h3.example"], 4, False)
    assert ask(ring, since=4)["events"] == []
    assert ask(ring, since=4)["last"] == 4
    assert hosts(ask(ring, most=2)) == ["h2.example", "h3.example"]
    assert hosts(ask(ring, most=0)) == []


def test_an_answer_has_so_many_characters_at_most_and_goes_on_behind_them(
    ring: Events, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "LARGEST_ANSWER", 300)
    for number in range(4):
        keep(ring, f"h{number}.example", reason="x" * 5000)
    seen, last = [], 0
    for _ in range(4):
        answer = ask(ring, since=last)
        assert len(answer["events"]) == 1
        seen += hosts(answer)
        last = answer["last"]
    assert seen == [f"h{number}.example" for number in range(4)]
    assert not ask(ring, since=3)["more"]
    assert len(answer["events"][0]["reason"]) == 1024


def test_many_requests_do_not_push_out_what_somebody_may_have_to_look_at(ring: Events) -> None:
    keep(ring, "bad.example")
    for number in range(20):
        keep(ring, f"h{number}.example", event="request", notable=False)
    assert hosts(ask(ring))[0] == "bad.example"


def test_nobody_sees_another_tenants_or_pushes_them_out(ring: Events) -> None:
    keep(ring, "mine.example", tenant="acme")
    keep(ring, "nobodys.example", tenant="")
    for number in range(20):
        keep(ring, f"h{number}.example", tenant="other")
    assert hosts(ask(ring, tenant="acme")) == ["mine.example"]
    assert "mine.example" not in hosts(ask(ring, tenant="other"))
    assert ask(ring, tenant="unknown")["events"] == []
    assert not ask(ring, since=0, tenant="acme")["missed"]
    assert hosts(ask(ring))[:2] == ["mine.example", "nobodys.example"]


def test_many_tenants_share_the_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "MOST", 12)
    monkeypatch.setattr(events, "LEAST", 3)
    for tenants, each in ((1, 12), (2, 6), (100, 3)):
        ring = Events(lambda: 0.0, tenants)
        for number in range(50):
            keep(ring, f"h{number}.example")
        assert len(ask(ring)["events"]) == each


def test_what_names_a_host_of_which_nothing_is_told_is_left_out_and_passed_over(ring: Events) -> None:
    keep(ring, "a.example", reason="it sends to www.bank.example")
    keep(ring, "b.example", chain=[{"subject": "CN=www.bank.example"}])
    keep(ring, "c.example")
    keep(ring, "www.bank.example")
    answer = ring.answer(0, 100, None, Mentions(["*.bank.example"]))
    assert (hosts(answer), answer["last"]) == (["c.example"], 4)
