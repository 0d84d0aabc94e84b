"""Defects in order, and what a verdict says of the server's own certificate."""

from __future__ import annotations

from certs.verdict import ORDER, Defect, Finding, Verdict
from tests.harness.pki import Authority

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


def test_the_servers_own_certificate_is_the_first_unless_that_one_could_not_be_read() -> None:
    chain = Authority.root("Root").leaf("a.example").chain(with_root=True)
    assert Verdict.of([], chain).leaf is chain[0]
    assert Verdict.of(found(Defect.MALFORMED), chain, leaf_unread=True).leaf is None
    assert Verdict.of(found(Defect.PROTOCOL)).leaf is None
