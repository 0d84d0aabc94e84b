"""Defects in order, and the action that an administrator's rows come to."""

from __future__ import annotations

import pytest

from certs.verdict import COVERED_BY_UNTRUSTED, ORDER, UNTRUSTED, Action, Defect, ErrorSettings, Finding, Verdict

CONTRACT_ORDER = [
    "malformed",
    "bad_signature",
    "own_ca",
    "revoked",
    "weak_key",
    "weak_signature",
    "constraint_violation",
    "wrong_purpose",
    "self_signed",
    "incomplete_chain",
    "untrusted_root",
    "expired",
    "not_yet_valid",
    "hostname_mismatch",
    "revocation_unknown",
    "protocol",
]


def found(*defects: Defect) -> list[Finding]:
    return [Finding(defect, f"it is {defect}", "a clause") for defect in defects]


def test_the_defects_are_named_in_the_order_of_the_contract() -> None:
    assert [defect.value for defect in sorted(Defect, key=ORDER.__getitem__)] == CONTRACT_ORDER


def test_a_verdict_names_its_findings_in_order_whatever_the_order_they_came_in() -> None:
    verdict = Verdict.of(found(Defect.PROTOCOL, Defect.EXPIRED, Defect.MALFORMED, Defect.SELF_SIGNED))
    assert verdict.defects == (Defect.MALFORMED, Defect.SELF_SIGNED, Defect.EXPIRED, Defect.PROTOCOL)


def test_a_verdict_names_each_defect_once_and_keeps_every_finding() -> None:
    verdict = Verdict.of(found(Defect.EXPIRED, Defect.WEAK_KEY, Defect.EXPIRED))
    assert verdict.defects == (Defect.WEAK_KEY, Defect.EXPIRED)
    assert len(verdict.findings) == 3


def test_a_verdict_is_good_only_without_findings() -> None:
    assert Verdict().ok
    assert not Verdict.of(found(Defect.EXPIRED)).ok


@pytest.mark.parametrize("defect", list(Defect))
def test_what_has_no_row_is_blocked(defect: Defect) -> None:
    assert ErrorSettings().action_of(defect) is Action.BLOCK


def test_nothing_wrong_is_allowed() -> None:
    assert ErrorSettings().action_for([]) is Action.ALLOW
    assert ErrorSettings({"expired": Action.BLOCK}).action_for([]) is Action.ALLOW


@pytest.mark.parametrize("defect", [each for each in Defect if each is not Defect.OWN_CA])
def test_a_row_decides_for_its_defect_and_no_other(defect: Defect) -> None:
    settings = ErrorSettings({defect.value: Action.ALLOW})
    assert [each for each in Defect if settings.action_of(each) is not Action.BLOCK] == [defect]


def test_the_master_row_covers_just_three() -> None:
    settings = ErrorSettings({UNTRUSTED: Action.ALLOW})
    allowed = {each for each in Defect if settings.action_of(each) is Action.ALLOW}
    assert allowed == COVERED_BY_UNTRUSTED == {Defect.SELF_SIGNED, Defect.UNTRUSTED_ROOT, Defect.INCOMPLETE_CHAIN}


@pytest.mark.parametrize("defect", sorted(COVERED_BY_UNTRUSTED))
def test_a_row_of_its_own_wins_over_the_master_row_both_ways(defect: Defect) -> None:
    stricter = ErrorSettings({UNTRUSTED: Action.ALLOW, defect.value: Action.BLOCK})
    milder = ErrorSettings({UNTRUSTED: Action.BLOCK, defect.value: Action.ALLOW})
    assert stricter.action_of(defect) is Action.BLOCK
    assert milder.action_of(defect) is Action.ALLOW


@pytest.mark.parametrize("row", ["own_ca", UNTRUSTED])
def test_our_own_ca_is_blocked_whatever_the_rows_say(row: str) -> None:
    settings = ErrorSettings({row: Action.ALLOW})
    assert settings.action_of(Defect.OWN_CA) is Action.BLOCK
    assert settings.action_for([Defect.OWN_CA, Defect.SELF_SIGNED]) is Action.BLOCK


@pytest.mark.parametrize(
    ("actions", "expected"),
    [
        ((Action.ALLOW, Action.ALLOW), Action.ALLOW),
        ((Action.ALLOW, Action.BYPASS), Action.BYPASS),
        ((Action.BYPASS, Action.WARN), Action.WARN),
        ((Action.WARN, Action.BLOCK), Action.BLOCK),
        ((Action.ALLOW, Action.BLOCK), Action.BLOCK),
    ],
)
def test_among_several_the_strictest_action_counts(actions: tuple[Action, Action], expected: Action) -> None:
    settings = ErrorSettings({"expired": actions[0], "hostname_mismatch": actions[1]})
    assert settings.action_for([Defect.EXPIRED, Defect.HOSTNAME_MISMATCH]) is expected
    assert settings.action_for([Defect.HOSTNAME_MISMATCH, Defect.EXPIRED]) is expected


def test_a_defect_that_is_allowed_does_not_let_another_pass() -> None:
    settings = ErrorSettings({UNTRUSTED: Action.ALLOW})
    assert settings.action_for([Defect.SELF_SIGNED, Defect.EXPIRED]) is Action.BLOCK
