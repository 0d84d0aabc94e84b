"""What is done about a server: a row of the table for every step of the precedence in docs/verdicts.md."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import datetime, timedelta
from functools import cache
from itertools import permutations

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from certs.decision import ErrorSettings, Source
from certs.exceptions import HostException, HostExceptions, fingerprints
from certs.host_patterns import parse_pattern
from certs.names import parse_host
from certs.verdict import COVERED_BY_UNTRUSTED, STRICTNESS, UNTRUSTED, Action, Defect, Finding, Verdict
from tests.harness.pki import NOW, Authority

ALLOW, BLOCK, WARN, BYPASS = Action.ALLOW, Action.BLOCK, Action.WARN, Action.BYPASS
HOST = parse_host("a.b.example")
LATER, EARLIER = NOW + timedelta(days=1), NOW - timedelta(seconds=1)


@cache
def chain(name: str = "a.b.example") -> tuple[x509.Certificate, ...]:
    return Authority.root("Root").leaf(name).chain(with_root=True)


def own_certificate() -> bytes:
    return chain()[0].fingerprint(SHA256())


def own_key() -> bytes:
    spki = chain()[0].public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(spki).digest()


def another() -> bytes:
    return chain("other.example")[0].fingerprint(SHA256())


def verdict(*defects: Defect, shown: bool = True) -> Verdict:
    return Verdict.of([Finding(defect, f"it is {defect}", "") for defect in defects], chain() if shown else ())


def exception(
    id: int,
    pattern: str,
    action: Action,
    defect: str = Defect.SELF_SIGNED,
    fingerprint: bytes | None = None,
    until: datetime | None = None,
) -> HostException:
    return HostException(id, parse_pattern(pattern), str(defect), action, fingerprint, until)


def settings(*exceptions: HostException, **rows: Action) -> ErrorSettings:
    return ErrorSettings(rows, HostExceptions(exceptions))


ROWS = {"self_signed": BYPASS, "untrusted": BLOCK}
PRECEDENCE: dict[str, tuple[ErrorSettings, Action, str]] = {
    "1 an exception for the host itself that is pinned to the certificate": (
        settings(
            exception(1, "a.b.example", BLOCK),
            exception(2, "a.b.example", ALLOW, fingerprint=own_certificate()),
            exception(3, "a.b.example", BLOCK, UNTRUSTED, own_certificate()),
            **ROWS,
        ),
        ALLOW,
        "exception 2",
    ),
    "1 the same, pinned to the key": (
        settings(exception(1, "a.b.example", BLOCK), exception(2, "a.b.example", ALLOW, fingerprint=own_key()), **ROWS),
        ALLOW,
        "exception 2",
    ),
    "1 of two pins that fit the strictest": (
        settings(
            exception(1, "a.b.example", ALLOW, fingerprint=own_certificate()),
            exception(2, "a.b.example", WARN, fingerprint=own_key()),
            **ROWS,
        ),
        WARN,
        "exception 2",
    ),
    "2 one that is not pinned": (
        settings(
            exception(1, "a.b.example", ALLOW),
            exception(2, "a.b.example", BLOCK, UNTRUSTED, own_certificate()),
            **ROWS,
        ),
        ALLOW,
        "exception 1",
    ),
    "2 where the pinned one is for another certificate": (
        settings(
            exception(1, "a.b.example", WARN), exception(2, "a.b.example", ALLOW, fingerprint=another()), **ROWS
        ),
        WARN,
        "exception 1",
    ),
    "2 where the pinned one has expired": (
        settings(
            exception(1, "a.b.example", WARN),
            exception(2, "a.b.example", ALLOW, fingerprint=own_certificate(), until=NOW),
            **ROWS,
        ),
        WARN,
        "exception 1",
    ),
    "3 one for untrusted that is pinned": (
        settings(
            exception(1, "a.b.example", BLOCK, UNTRUSTED),
            exception(2, "a.b.example", ALLOW, UNTRUSTED, own_certificate()),
            **ROWS,
        ),
        ALLOW,
        "exception 2",
    ),
    "4 one for untrusted that is not": (
        settings(exception(1, "a.b.example", ALLOW, UNTRUSTED), exception(2, "*.b.example", BLOCK), **ROWS),
        ALLOW,
        "exception 1",
    ),
    "5 the same four of the closest pattern above": (
        settings(
            exception(1, "*.b.example", ALLOW),
            exception(2, "*.example", BLOCK, fingerprint=own_certificate()),
            exception(3, "*", BLOCK),
            **ROWS,
        ),
        ALLOW,
        "exception 1",
    ),
    "5 of the next above": (
        settings(exception(1, "*.example", ALLOW), exception(2, "*", BLOCK), **ROWS), ALLOW, "exception 1",
    ),
    "5 of the star": (settings(exception(1, "*", ALLOW), **ROWS), ALLOW, "exception 1"),
    "5 where the closest is for another certificate": (
        settings(
            exception(1, "a.b.example", BLOCK, fingerprint=another()), exception(2, "*.b.example", ALLOW), **ROWS
        ),
        ALLOW,
        "exception 2",
    ),
    "6 the defect's row, where no exception is for the host": (
        settings(exception(1, "*.a.b.example", ALLOW), exception(2, "b.example", ALLOW), **ROWS),
        BYPASS,
        "row self_signed",
    ),
    "6 where none is for the defect": (
        settings(exception(1, "a.b.example", ALLOW, Defect.EXPIRED), **ROWS), BYPASS, "row self_signed",
    ),
    "6 where all have expired": (
        settings(exception(1, "a.b.example", ALLOW, until=EARLIER), **ROWS), BYPASS, "row self_signed",
    ),
    "7 the master row": (settings(untrusted=ALLOW, expired=BLOCK), ALLOW, "row untrusted"),
    "8 the default": (settings(expired=ALLOW), BLOCK, "default"),
}  # fmt: skip


@pytest.mark.parametrize("case", PRECEDENCE)
def test_what_comes_first_decides(case: str) -> None:
    given_, action, by = PRECEDENCE[case]
    decision = given_.decide(verdict(Defect.SELF_SIGNED), HOST, NOW)
    assert (decision.action, decision.by) == (action, [by])


@pytest.mark.parametrize("case", [case for case in PRECEDENCE if len(PRECEDENCE[case][0].exceptions.every) > 1])
def test_the_order_in_which_exceptions_were_made_is_no_matter(case: str) -> None:
    given_, action, by = PRECEDENCE[case]
    for order in permutations(given_.exceptions.every):
        decision = ErrorSettings(given_.rows, HostExceptions(order)).decide(verdict(Defect.SELF_SIGNED), HOST, NOW)
        assert (decision.action, decision.by) == (action, [by])


# rows


@pytest.mark.parametrize("defect", list(Defect))
def test_what_has_no_row_is_blocked(defect: Defect) -> None:
    decision = ErrorSettings().decide(verdict(defect), HOST, NOW)
    assert (decision.action, decision.by) == (BLOCK, ["default"])


def test_nothing_wrong_is_allowed_whatever_is_set() -> None:
    strict = settings(exception(1, "a.b.example", BLOCK, Defect.EXPIRED), expired=BLOCK)
    for each in (ErrorSettings(), strict):
        decision = each.decide(Verdict((), chain()), HOST, NOW)
        assert (decision.action, decision.reasons) == (ALLOW, ())


@pytest.mark.parametrize("defect", [each for each in Defect if each is not Defect.OWN_CA])
def test_a_row_decides_for_its_defect_and_no_other(defect: Defect) -> None:
    rows = settings(**{defect.value: ALLOW})
    passing = [each for each in Defect if rows.decide(verdict(each), HOST, NOW).action is not BLOCK]
    assert passing == [defect]


def test_the_master_row_covers_just_three() -> None:
    rows = settings(untrusted=ALLOW)
    passing = {each for each in Defect if rows.decide(verdict(each), HOST, NOW).action is ALLOW}
    assert passing == COVERED_BY_UNTRUSTED == {Defect.SELF_SIGNED, Defect.UNTRUSTED_ROOT, Defect.INCOMPLETE_CHAIN}


@pytest.mark.parametrize("defect", sorted(COVERED_BY_UNTRUSTED))
def test_a_row_of_its_own_wins_over_the_master_row_both_ways(defect: Defect) -> None:
    for own, master in ((BLOCK, ALLOW), (ALLOW, BLOCK)):
        decision = settings(**{UNTRUSTED: master, defect.value: own}).decide(verdict(defect), HOST, NOW)
        assert (decision.action, decision.by) == (own, [f"row {defect}"])


# several defects


def test_a_row_of_its_own_says_something_of_a_defect_and_so_does_an_exception_that_counts() -> None:
    unknown, host = Defect.REVOCATION_UNKNOWN, parse_pattern("a.b.example")
    row = ErrorSettings({unknown.value: ALLOW})
    assert row.says_of(unknown, HOST, None, NOW)
    assert not row.says_of(Defect.EXPIRED, HOST, None, NOW)
    assert not ErrorSettings({UNTRUSTED: ALLOW}).says_of(Defect.SELF_SIGNED, HOST, None, NOW)
    for exception, says in (
        (HostException(1, host, unknown.value, ALLOW), True),
        (HostException(1, host, unknown.value, ALLOW, fingerprint=own_certificate()), False),
        (HostException(1, host, unknown.value, ALLOW, expires_at=EARLIER), False),
    ):
        assert ErrorSettings({}, HostExceptions((exception,))).says_of(unknown, HOST, None, NOW) is says


@pytest.mark.parametrize(
    ("actions", "expected"),
    [
        ((ALLOW, ALLOW), ALLOW),
        ((ALLOW, BYPASS), BYPASS),
        ((BYPASS, WARN), WARN),
        ((WARN, BLOCK), BLOCK),
        ((ALLOW, BLOCK), BLOCK),
    ],
)
def test_among_several_the_strictest_action_counts(actions: tuple[Action, Action], expected: Action) -> None:
    for first, second in (actions, actions[::-1]):
        mixed = settings(exception(7, "a.b.example", second, Defect.HOSTNAME_MISMATCH), expired=first)
        decision = mixed.decide(verdict(Defect.EXPIRED, Defect.HOSTNAME_MISMATCH), HOST, NOW)
        assert (decision.action, decision.by) == (expected, ["row expired", "exception 7"])


def test_a_defect_that_is_allowed_does_not_let_another_pass() -> None:
    decision = settings(exception(7, "a.b.example", ALLOW)).decide(
        verdict(Defect.SELF_SIGNED, Defect.EXPIRED), HOST, NOW
    )
    assert (decision.action, decision.by) == (BLOCK, ["exception 7", "default"])


# fingerprints


def test_a_certificate_has_the_fingerprints_that_openssl_would_give() -> None:
    assert fingerprints(chain()[0]) == {own_certificate(), own_key()}
    assert fingerprints(None) == frozenset()


def test_a_changed_certificate_is_blocked_again_and_with_the_key_kept_it_passes_by_the_keys_pin() -> None:
    root = Authority.root("Root")
    before = root.leaf("a.b.example")
    renewed, other = root.leaf("a.b.example", key=before.key), root.leaf("a.b.example")
    certificate, key = before.certificate.fingerprint(SHA256()), fingerprints(before.certificate)
    (key_pin,) = key - {certificate}

    def action(pin: bytes, shown: x509.Certificate) -> Action:
        found = Verdict.of([Finding(Defect.SELF_SIGNED, "", "")], [shown])
        return settings(exception(1, "a.b.example", ALLOW, fingerprint=pin)).decide(found, HOST, NOW).action

    assert [action(certificate, each.certificate) for each in (before, renewed, other)] == [ALLOW, BLOCK, BLOCK]
    assert [action(key_pin, each.certificate) for each in (before, renewed, other)] == [ALLOW, ALLOW, BLOCK]


def test_the_fingerprint_of_an_issuer_is_not_the_servers() -> None:
    pinned = settings(exception(1, "a.b.example", ALLOW, fingerprint=chain()[1].fingerprint(SHA256())))
    assert pinned.decide(verdict(Defect.SELF_SIGNED), HOST, NOW).action is BLOCK


def test_one_that_was_sent_behind_a_certificate_that_cannot_be_read_is_not_the_servers() -> None:
    defects = (Defect.MALFORMED, Defect.INCOMPLETE_CHAIN, Defect.HOSTNAME_MISMATCH)
    pinned = settings(
        *(exception(place, "a.b.example", BYPASS, each, own_certificate()) for place, each in enumerate(defects))
    )
    assert pinned.decide(verdict(*defects), HOST, NOW).action is BYPASS
    unread = Verdict.of(verdict(*defects).findings, chain(), leaf_unread=True)
    decision = pinned.decide(unread, HOST, NOW)
    assert (decision.action, decision.by) == (BLOCK, ["default"] * 3)


# the end of an exception


def test_an_exception_counts_until_its_end_and_no_longer() -> None:
    ending = settings(exception(1, "a.b.example", ALLOW, until=LATER))
    moments = (LATER - timedelta(microseconds=1), LATER, LATER + timedelta(days=365))
    decisions = [ending.decide(verdict(Defect.SELF_SIGNED), HOST, moment).action for moment in moments]
    assert decisions == [ALLOW, BLOCK, BLOCK]


def test_whoever_wonders_is_told_why_an_exception_does_not_count() -> None:
    given_ = HostExceptions(
        (
            exception(1, "a.b.example", ALLOW, until=EARLIER),
            exception(2, "a.b.example", ALLOW, fingerprint=another()),
            exception(3, "*.b.example", ALLOW, UNTRUSTED, own_certificate()),
            exception(4, "*.b.example", ALLOW, Defect.EXPIRED, another()),
            exception(5, "other.example", ALLOW, fingerprint=another()),
        )
    )
    told = {each.id: why for each, why in given_.passed_over(HOST, Defect.SELF_SIGNED, chain()[0], NOW)}
    assert told == {
        1: f"it expired on {EARLIER:%Y-%m-%d at %H:%M:%S} UTC",
        2: "it is pinned to another certificate or key",
    }


# our own CA, and handshakes that failed


@pytest.mark.parametrize("rows", [{"own_ca": ALLOW}, {UNTRUSTED: ALLOW}, {"own_ca": BYPASS, UNTRUSTED: ALLOW}])
def test_our_own_ca_is_blocked_whatever_the_rows_say(rows: dict[str, Action]) -> None:
    decision = settings(**rows).decide(verdict(Defect.OWN_CA, Defect.SELF_SIGNED), HOST, NOW)
    assert (decision.action, decision.by[0]) == (BLOCK, "default")


@pytest.mark.parametrize(
    ("pattern", "action"), [("a.b.example", ALLOW), ("*.b.example", BLOCK), ("*.example", BLOCK), ("*", BLOCK)]
)
def test_our_own_ca_is_let_pass_for_a_host_that_is_named_and_for_no_pattern(pattern: str, action: Action) -> None:
    lifted = settings(exception(1, pattern, ALLOW, Defect.OWN_CA))
    assert lifted.decide(verdict(Defect.OWN_CA), HOST, NOW).action is action


@pytest.mark.parametrize(
    ("action", "expected", "by"),
    [(ALLOW, BLOCK, "nothing shown"), (WARN, BLOCK, "nothing shown"), (BYPASS, BYPASS, "{}"), (BLOCK, BLOCK, "{}")],
)
@pytest.mark.parametrize("defect", [Defect.PROTOCOL, Defect.WEAK_KEY, Defect.MALFORMED])
def test_where_the_server_showed_nothing_there_is_nothing_that_could_be_let_pass(
    defect: Defect, action: Action, expected: Action, by: str
) -> None:
    failed = verdict(defect, shown=False)
    by_exception = settings(exception(7, "a.b.example", action, defect)).decide(failed, HOST, NOW)
    assert (by_exception.action, by_exception.by) == (expected, [by.format("exception 7")])
    by_row = settings(**{defect.value: action}).decide(failed, HOST, NOW)
    assert (by_row.action, by_row.by) == (expected, [by.format(f"row {defect}")])


def test_where_the_server_showed_nothing_no_fingerprint_fits() -> None:
    pinned = settings(exception(7, "a.b.example", BYPASS, Defect.PROTOCOL, own_certificate()))
    decision = pinned.decide(verdict(Defect.PROTOCOL, shown=False), HOST, NOW)
    assert (decision.action, decision.by) == (BLOCK, ["default"])


# whatever is set


@st.composite
def anything(draw: st.DrawFn) -> ErrorSettings:
    rows = draw(st.dictionaries(st.sampled_from([*map(str, Defect), UNTRUSTED]), st.sampled_from(Action), max_size=6))
    pins = st.sampled_from([None, own_certificate(), own_key(), another()])
    made = st.builds(
        exception,
        st.integers(1, 99),
        st.sampled_from(["a.b.example", "*.b.example", "*.example", "*", "b.example", "*.a.b.example"]),
        st.sampled_from(Action),
        st.sampled_from(["self_signed", "expired", "own_ca", UNTRUSTED]),
        pins,
        st.sampled_from([None, EARLIER, NOW, LATER]),
    )
    return ErrorSettings(rows, HostExceptions(tuple(draw(st.lists(made, max_size=8)))))


@given(anything(), st.lists(st.sampled_from(Defect), min_size=1, max_size=4, unique=True))
def test_every_defect_has_a_reason_that_is_true_and_the_strictest_counts(
    given_: ErrorSettings, defects: Sequence[Defect]
) -> None:
    decision = given_.decide(verdict(*defects), HOST, NOW)
    assert [reason.defect for reason in decision.reasons] == list(verdict(*defects).defects)
    assert decision.action is min((reason.action for reason in decision.reasons), key=STRICTNESS.__getitem__)
    for reason in decision.reasons:
        if reason.source is Source.EXCEPTION:
            used = reason.exception
            assert used is not None
            assert used in given_.exceptions.every
            assert used.action is reason.action
            assert used.expires_at is None or used.expires_at > NOW
            assert used.fingerprint in (None, own_certificate(), own_key())
            assert used.defect in (reason.defect, UNTRUSTED)
            assert str(used.pattern) in ("a.b.example", "*.b.example", "*.example", "*")
            assert reason.defect is not Defect.OWN_CA or used.pattern.exact
        elif reason.source is Source.ROW:
            assert given_.rows[reason.defect] is reason.action
        elif reason.source is Source.MASTER:
            assert given_.rows[UNTRUSTED] is reason.action
            assert reason.defect in COVERED_BY_UNTRUSTED
        else:
            assert (reason.source, reason.action) == (Source.DEFAULT, BLOCK)


@given(anything())
def test_two_of_the_same_are_equal_so_that_nobody_takes_them_for_a_change(given_: ErrorSettings) -> None:
    again = ErrorSettings(dict(given_.rows), HostExceptions(tuple(given_.exceptions.every)))
    assert given_ == again
    assert given_ != ErrorSettings(given_.rows, HostExceptions((*given_.exceptions.every, exception(100, "*", BLOCK))))
