"""What every case has: an id, a docstring that states its verdict and the clause, and trust that disturbs no other."""

from __future__ import annotations

import ipaddress
import re
from collections import Counter

import pytest
from cryptography import x509

from certs.facts import facts_of
from certs.names import parse_host
from certs.verdict import Defect
from tests.harness.pki import Issued
from tests.scenarios import SCENARIOS, Scenario
from tests.scenarios.base import STATED

FEWEST = 150
FEWEST_OF_A_DEFECT = 3
CLAUSE = re.compile(r"RFC \d+ [A-Z]?\d|CA/B BR \d|X\.\d+ \d|NIST (SP|FIPS) \d+-\d|our own rule")

each = pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.id)


@each
def test_its_docstring_states_the_verdict_and_the_clause(scenario: Scenario) -> None:
    stated = STATED.fullmatch(scenario.summary)
    assert stated is not None, "a docstring begins with `Good: CLAUSE.` or `Blocked as DEFECT, DEFECT: CLAUSE.`"
    assert (stated["defects"] or "") == ", ".join(scenario.defects)
    assert CLAUSE.search(stated["clauses"]), f"{stated['clauses']!r} names no clause"


@each
def test_what_another_client_says_is_recorded_where_it_differs_and_explained(scenario: Scenario) -> None:
    ours = "accepts" if scenario.good else "refuses"
    said = {scenario.curl_says, scenario.chromium_says} - {None}
    assert ours not in said, "a client that comes to the same needs no record"
    assert bool(said) == bool(scenario.why)
    assert not said or not scenario.hindrance, "no client can be asked"


def test_no_two_have_one_id_or_one_host() -> None:
    for count in (Counter(one.id for one in SCENARIOS), Counter(one.server.host for one in SCENARIOS)):
        assert [name for name, times in count.items() if times > 1] == []


def test_every_host_can_be_asked_for_on_this_machine() -> None:
    for one in SCENARIOS:
        host = parse_host(one.server.host)
        assert host.text == one.server.host
        assert ipaddress.ip_address(host.text).is_loopback if host.is_ip else host.text.endswith(".example")


def test_there_are_many_and_some_for_every_defect() -> None:
    assert len(SCENARIOS) >= FEWEST
    found = Counter(defect for one in SCENARIOS for defect in one.defects)
    assert not {defect for defect in Defect if found[defect] < FEWEST_OF_A_DEFECT}
    assert any(one.good for one in SCENARIOS)


def test_few_cannot_be_shown_on_a_running_server() -> None:
    assert len([one for one in SCENARIOS if one.hindrance]) < len(SCENARIOS) / 40


def key_of(issued: Issued) -> tuple[object, bytes | None] | None:
    """Name and key, by which an anchor is found; None for what cannot be read."""
    try:
        facts = facts_of(issued.certificate)
    except (ValueError, x509.InvalidVersion):
        return None
    return facts.subject, facts.spki


def test_none_stands_on_what_another_trusts_and_it_does_not() -> None:
    """One daemon with one common store, and one browser, are asked about all of them."""
    trusted = {key_of(anchor): one.id for one in SCENARIOS for anchor in one.server.anchors}
    for one in SCENARIOS:
        server = one.server
        mine = {key_of(anchor) for anchor in server.anchors}
        there = {key_of(issued) for issued in (*server.sent, *server.leaf.line(with_root=True)[1:])}
        others = {trusted[key] for key in there - mine if key in trusted}
        assert not others, f"{one.id} leads to what {others} trust"
