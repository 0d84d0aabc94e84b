from __future__ import annotations

from datetime import timedelta

import pytest

from control import audit_log, bypass_rules, pinning, tenants
from control.errors import Missing
from control.installation import Installation
from store import refusals
from store.records import Refusal
from tests.harness.pki import DAY, NOW


def refused(inst: Installation, *found: tuple[str, str, int, str], tenant: str = "default", days: int = 0) -> None:
    at = NOW - days * DAY
    with inst.changing(tenant) as (connection, known):
        refusals.add(connection, known.id, [Refusal(host, client, n, how, at, at) for host, client, n, how in found])


def shown(inst: Installation, tenant: str = "default") -> list[tuple[str, int, bool]]:
    return [(one.host, len(one.clients), one.enough) for one in pinning.proposals(inst, tenant, NOW)]


def test_hosts_with_most_clients_come_first_and_enough_of_them_are_a_proposal(inst: Installation) -> None:
    refused(inst, ("a.example", "1", 1, "alert"), ("b.example", "1", 1, "alert"), ("b.example", "2", 5, "closed"),
            ("b.example", "3", 1, "alert"), ("c.example", "1", 2, "closed"))  # fmt: skip
    assert shown(inst) == [("b.example", 3, True), ("a.example", 1, False)]
    (first, _) = pinning.proposals(inst, "default", NOW)
    assert (first.clients, first.count) == (("1", "2", "3"), 7)


def test_what_is_long_ago_is_proposed_no_more(inst: Installation) -> None:
    refused(inst, ("a.example", "1", 9, "alert"), days=29)
    assert shown(inst) == [("a.example", 1, False)]
    assert pinning.proposals(inst, "default", NOW + timedelta(days=2)) == []


def test_what_is_dismissed_is_forgotten_for_that_tenant(inst: Installation) -> None:
    tenants.create(inst, "acme", NOW)
    for tenant in ("default", "acme"):
        refused(inst, ("a.example", "1", 1, "alert"), tenant=tenant)
    refused(inst, ("a.example", "2", 3, "closed"), ("b.example", "1", 1, "alert"))
    assert pinning.dismiss(inst, "default", "a.example", NOW)
    assert pinning.dismiss(inst, "default", "b.example", NOW)
    assert not pinning.dismiss(inst, "default", "a.example", NOW)
    told = [(one.action, one.subject, one.before, one.after) for one in audit_log.newest(inst)]
    assert ("pinning.dismiss", "a.example", '{"clients": 2, "refusals": 4}', None) in told
    assert (shown(inst), shown(inst, "acme")) == ([], [("a.example", 1, False)])


@pytest.mark.parametrize("count", [1, 3])
def test_a_client_that_only_closes_counts_from_three_times_on(inst: Installation, count: int) -> None:
    refused(inst, ("a.example", "1", count, "closed"))
    assert shown(inst) == ([("a.example", 1, False)] if count == 3 else [])


def test_what_is_accepted_is_bypassed_for_what_clients_did_and_proposed_no_more(inst: Installation) -> None:
    refused(inst, *(("app.example", client, 2, "alert") for client in "123"), ("2001:db8::1", "1", 1, "alert"))
    rule = pinning.accept(inst, "default", "app.example", NOW, expires_at=NOW + DAY)
    assert rule.reason == f"pinned: 3 clients refused our certificate 6 times, {NOW:%Y-%m-%d} to {NOW:%Y-%m-%d}"
    assert (rule.pattern, rule.expires_at) == ("app.example", NOW + DAY)
    found = {one.host: one for one in pinning.proposals(inst, "default", NOW)}
    assert (found["app.example"].rule, found["app.example"].proposed) == ("app.example", False)
    assert found["2001:db8::1"].rule is None
    # Once the rule has ended, or is removed, it is proposed again.
    assert {one.host: one.proposed for one in pinning.proposals(inst, "default", NOW + 2 * DAY)}["app.example"]
    bypass_rules.remove(inst, "default", ["app.example"], NOW)
    bypass_rules.add(inst, "default", ["2001:db8::/32"], NOW)
    again = {one.host: (one.proposed, one.rule) for one in pinning.proposals(inst, "default", NOW)}
    assert again == {"app.example": (True, None), "2001:db8::1": (False, "2001:db8::/32")}


def test_what_nobody_refuses_cannot_be_accepted(inst: Installation) -> None:
    with pytest.raises(Missing, match=r"nothing is known of 'other\.example'"):
        pinning.accept(inst, "default", "other.example", NOW)
    assert bypass_rules.listing(inst, "default") == []
