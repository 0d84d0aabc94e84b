from __future__ import annotations

import os
from pathlib import Path

import pytest

from certs.mentions import Mentions
from certs.names import parse_host
from certs.verdict import Action
from proxy import figures
from proxy.figures import Figures
from proxy.log import Log
from tests.harness.pki import NOW

ME, ANOTHER = "192.0.2.1", "192.0.2.2"
START = int(NOW.timestamp()) // 3600 * 3600


class Clock:
    def __init__(self) -> None:
        self.now = float(START)

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def log(tmp_path: Path) -> Log:
    return Log(os.open(tmp_path / "log", os.O_WRONLY | os.O_CREAT), "info", "test", lambda: 0.0)


def visit(
    counts: Figures, host: str = "a.example", client: str = ME, defect: str = "expired", action: Action = Action.BLOCK
) -> None:
    counts.judged("default", client, parse_host(host), defect, action)


def test_verdicts_count_by_ten_minutes_and_blocked_hosts_by_the_hour(clock: Clock, log: Log) -> None:
    counts = Figures(clock, log)
    visit(counts)
    clock.now += 599.9
    visit(counts)
    visit(counts, defect="none", action=Action.ALLOW)
    clock.now += 0.1
    visit(counts)
    gathered = counts.gathered()
    assert gathered.verdicts == {
        ("default", START, "expired", "block"): 2, ("default", START, "none", "allow"): 1,
        ("default", START + 600, "expired", "block"): 1,
    }  # fmt: skip
    assert gathered.blocked == {("default", START, "a.example", "expired"): 3}
    assert not counts.gathered()


def test_only_what_is_blocked_counts_among_blocked_hosts(clock: Clock, log: Log) -> None:
    counts = Figures(clock, log)
    for action in (Action.WARN, Action.ALLOW, Action.BYPASS):
        visit(counts, action=action)
    assert not counts.gathered().blocked


def test_of_hosts_of_which_nothing_is_logged_nothing_counts(clock: Clock, log: Log) -> None:
    log.never = Mentions(["*.bank.example"])
    counts = Figures(clock, log)
    visit(counts, "www.bank.example")
    assert not counts.gathered()


def test_where_no_host_is_to_be_remembered_verdicts_count_all_the_same(clock: Clock, log: Log) -> None:
    counts = Figures(clock, log, hosts=False)
    visit(counts)
    gathered = counts.gathered()
    assert gathered.verdicts.total() == 1
    assert not gathered.blocked


def test_one_client_has_half_of_an_hours_places_and_what_has_one_goes_on_counting(
    clock: Clock, log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(figures, "MOST_BLOCKED", 8)
    counts = Figures(clock, log, workers=2)
    for number in range(10):
        visit(counts, f"h{number}.example")
    assert [key[2] for key in counts.gathered().blocked] == ["h0.example", "h1.example"]
    visit(counts, "h0.example")  # it has its place, also behind a writing
    visit(counts, "h7.example")
    visit(counts, "theirs.example", ANOTHER)
    visit(counts, "theirs.example")
    assert {key[2]: count for key, count in counts.gathered().blocked.items()} == {
        "h0.example": 1, "theirs.example": 2,
    }  # fmt: skip
    clock.now += 3600
    visit(counts, "h7.example")
    assert [key[2] for key in counts.gathered().blocked] == ["h7.example"]


def test_all_addresses_of_an_ipv6_network_are_one_client(
    clock: Clock, log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(figures, "MOST_BLOCKED", 2)
    counts = Figures(clock, log)
    for number in range(1, 5):
        visit(counts, f"h{number}.example", f"2001:db8::{number}")
    assert len(counts.gathered().blocked) == 1


def test_a_worker_holds_so_many_between_two_writings_and_verdicts_count_all_the_same(
    clock: Clock, log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(figures, "GATHERED", 3)
    counts = Figures(clock, log)
    for number in range(5):
        visit(counts, f"h{number}.example", f"192.0.2.{number}")
    gathered = counts.gathered()
    assert len(gathered.blocked) == 3
    assert gathered.verdicts.total() == 5


def test_what_could_not_be_written_is_added_to_what_came_since(
    clock: Clock, log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(figures, "GATHERED", 2)
    counts = Figures(clock, log)
    for host in ("a.example", "b.example"):
        visit(counts, host)
    lost = counts.gathered()
    for host in ("a.example", "c.example"):
        visit(counts, host)
    counts.again(lost)
    gathered = counts.gathered()
    assert {key[2]: count for key, count in gathered.blocked.items()} == {"a.example": 2, "c.example": 1}
    assert gathered.verdicts.total() == 4
