"""What OpenSSL objected to, beside our own checks; and how long a verdict may be kept."""

from __future__ import annotations

import datetime as dt

import pytest
from cryptography import x509

from certs import checks, verify
from certs.authority import spki_sha256
from certs.facts import Facts, facts_of
from certs.names import parse_host
from certs.openssl_errors import DEFECTS, defect_of
from certs.trust import TrustStore
from certs.verdict import Defect, Verdict
from certs.verify import KEPT, Handshake, judge, valid_until
from tests.harness.pki import DAY, HOUR, NOW, Issued, kept_key, self_signed
from tests.scenarios import HOST, Server, issuing, root


def judged(leaf: Issued, *errors: tuple[int, int], server: Server | None = None) -> Verdict:
    server = server or Server(leaf, own=[[root()]])
    presented = tuple(issued.certificate for issued in server.sent)
    return judge(Handshake(presented, errors), parse_host(HOST), server.trust, NOW)


@pytest.mark.parametrize("code", [1, 6, 13, 14, 17, 22, 24, 34, 41, 42, 45, 55, 78, 94, 101, 9999])
def test_what_is_not_known_or_not_readable_is_malformed(code: int) -> None:
    assert defect_of(code) is Defect.MALFORMED
    assert judged(self_signed(), (code, 0)).defects == (Defect.MALFORMED, Defect.SELF_SIGNED)


@pytest.mark.parametrize("code", sorted(DEFECTS))
def test_every_code_comes_to_a_defect_where_no_anchor_is_reached(code: int) -> None:
    settled_by_our_own_path_and_time = {2, 4, 7, 77, 9, 10, 18, 19, 20, 21, 27, 29, 30, 31}
    expected = {Defect.SELF_SIGNED} if code in settled_by_our_own_path_and_time else {Defect.SELF_SIGNED, DEFECTS[code]}
    assert set(judged(self_signed(), (code, 0)).defects) == expected


@pytest.mark.parametrize("code", [9, 10])
def test_times_are_judged_by_the_time_passed_in_alone(code: int) -> None:
    assert judged(issuing().leaf(), (code, 0), (code, 1)).ok


@pytest.mark.parametrize("code", [2, 18, 19, 20, 21, 25, 34, 47, 79, 9999])
def test_an_objection_that_does_not_hold_on_our_path_is_dropped(code: int) -> None:
    assert judged(issuing().leaf(), (code, 0)).ok


@pytest.mark.parametrize(
    ("code", "defect"), [(26, Defect.WRONG_PURPOSE), (66, Defect.WEAK_KEY), (68, Defect.WEAK_SIGNATURE)]
)
def test_what_openssl_sees_in_handshakes_only_counts_for_the_servers_own_certificate(code: int, defect: Defect) -> None:
    assert judged(issuing().leaf(), (code, 0)).defects == (defect,)
    assert judged(issuing().leaf(), (code, 1)).ok


def test_an_objection_that_our_checks_share_is_named_once() -> None:
    found = judged(issuing().leaf(key=kept_key("rsa1024")), (66, 0))
    assert [finding.defect for finding in found.findings] == [Defect.WEAK_KEY]


def test_an_objection_beside_a_finding_of_ours_is_tried_again_too() -> None:
    assert judged(issuing().leaf(not_after=NOW - HOUR), (10, 0), (20, 0)).defects == (Defect.EXPIRED,)


def test_an_objection_that_cannot_be_tried_again_behind_a_finding_is_kept() -> None:
    """OpenSSL stops at our finding's own objection, so nobody knows whether the other holds."""
    forger = root().intermediate(ca=False)
    found = judged(forger.leaf(), (79, 1), (20, 0), (47, 0), (34, 0))
    assert found.defects == (Defect.MALFORMED, Defect.CONSTRAINT_VIOLATION)
    assert len(found.findings) == 2


@pytest.mark.parametrize("error", [(25, 2), (25, 0)])
def test_what_openssl_objects_to_on_our_path_stays_when_no_check_of_ours_shares_it(
    error: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checks, "CHECKS", tuple(c for c in checks.CHECKS if c is not checks.path_lengths_are_kept))
    leaf = root().intermediate("Zero", path_length=0).intermediate("One").leaf()
    assert judged(leaf).ok
    found = judged(leaf, error)
    assert [(f.defect, f.certificate) for f in found.findings] == [
        (Defect.CONSTRAINT_VIOLATION, 0 if error[1] == 0 else None)
    ]


def test_what_openssl_finds_when_it_tries_again_counts_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "CHECKS", tuple(c for c in checks.CHECKS if c is not checks.path_lengths_are_kept))
    leaf = root().intermediate("Zero", path_length=0).intermediate("One").leaf()
    assert judged(leaf, (34, 0), (20, 0)).defects == (Defect.MALFORMED, Defect.CONSTRAINT_VIOLATION)


def test_what_openssl_finds_on_our_path_counts_though_our_checks_pass_it() -> None:
    """Its own reading of key identifiers: an issuer whose identifier differs is none (RFC 5280 4.2.1.1)."""
    issuer = root().intermediate("Other id", ski=False)
    other = root().intermediate("Other id", key=issuer.key)
    rolled = root().intermediate("Other id")
    leaf = rolled.leaf(sign_with=issuer.key)
    server = Server(leaf, chain=[other], own=[[root()]])
    assert judged(leaf, server=server).ok
    assert judged(leaf, (20, 0), server=server).defects == (Defect.INCOMPLETE_CHAIN,)


def test_a_server_that_sent_nothing_is_vouched_for_by_nobody() -> None:
    found = judge(Handshake(()), parse_host(HOST), TrustStore([], []), NOW)
    assert found.defects == (Defect.MALFORMED, Defect.INCOMPLETE_CHAIN, Defect.HOSTNAME_MISMATCH)
    assert found.chain == ()


def test_what_openssl_says_of_a_certificate_that_cannot_be_read_is_named() -> None:
    handshake = Handshake((), errors=((66, 0),), unread=("bad",), leaf_unread=True)
    found = judge(handshake, parse_host(HOST), TrustStore([], []), NOW)
    assert found.defects == (
        Defect.MALFORMED,
        Defect.WEAK_KEY,
        Defect.INCOMPLETE_CHAIN,
        Defect.HOSTNAME_MISMATCH,
    )
    assert len(found.findings) == 4


def test_our_own_key_is_found_beside_a_server_certificate_that_cannot_be_read() -> None:
    ours = frozenset({spki_sha256(issuing().certificate)})
    handshake = Handshake((issuing().certificate,), unread=("bad",), leaf_unread=True)
    found = judge(handshake, parse_host(HOST), TrustStore([root().certificate], []), NOW, ours)
    assert found.defects == (
        Defect.MALFORMED,
        Defect.OWN_CA,
        Defect.INCOMPLETE_CHAIN,
        Defect.HOSTNAME_MISMATCH,
    )


def test_a_server_certificate_without_an_outline_is_vouched_for_by_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    leaf = issuing().leaf()

    def outline(certificate: x509.Certificate) -> Facts:
        if certificate == leaf.certificate:
            raise ValueError("no outline")
        return facts_of(certificate)

    monkeypatch.setattr(verify, "facts_of", outline)
    assert judged(leaf).defects == (Defect.MALFORMED, Defect.INCOMPLETE_CHAIN, Defect.HOSTNAME_MISMATCH)


def test_a_second_certificate_does_not_stand_in_for_one_that_cannot_be_read() -> None:
    leaf = issuing().leaf()
    handshake = Handshake((leaf.certificate, issuing().certificate), unread=("bad",), leaf_unread=True)
    found = judge(handshake, parse_host(HOST), TrustStore([root().certificate], []), NOW)
    assert not found.ok
    assert found.leaf is None


def test_every_finding_says_which_certificate_why_and_by_which_clause() -> None:
    found = judged(issuing().leaf("other.example", not_after=NOW - HOUR, key=kept_key("rsa1024")))
    assert len(found.findings) == 3
    for finding in found.findings:
        assert finding.certificate == 0
        assert finding.explanation.startswith("the server's certificate ")
        assert finding.clause
        assert finding.remedy
        assert "\n" not in finding.explanation


# --- how long a verdict may be kept


def test_a_verdict_is_kept_for_an_hour_at_most() -> None:
    assert valid_until(judged(issuing().leaf()), NOW) == NOW + KEPT == NOW + HOUR


def test_a_verdict_is_kept_until_the_next_certificate_ends() -> None:
    end = NOW + dt.timedelta(minutes=10)
    assert valid_until(judged(issuing().leaf(not_after=end)), NOW) == end


def test_a_verdict_is_kept_until_the_next_certificate_begins() -> None:
    begin = NOW + dt.timedelta(minutes=20)
    found = judged(issuing().leaf(not_before=begin))
    assert found.defects == (Defect.NOT_YET_VALID,)
    assert valid_until(found, NOW) == begin


def test_what_has_ended_does_not_end_a_verdict_again() -> None:
    assert valid_until(judged(issuing().leaf(not_after=NOW - DAY, not_before=NOW - 2 * DAY)), NOW) == NOW + KEPT


def test_a_verdict_without_a_chain_is_kept_for_an_hour() -> None:
    assert valid_until(Verdict(), NOW) == NOW + KEPT
