"""Chains that lack an issuer: what is asked for, what fits, and what a completed chain comes to."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache

import pytest
from cryptography import x509
from cryptography.x509.oid import AuthorityInformationAccessOID, ExtensionOID

from certs.authority import spki_sha256
from certs.completion import Attempt, Known, fitting, issuer_urls
from certs.facts import facts_of
from certs.intermediates import Intermediates
from certs.names import parse_host
from certs.trust import TrustStore, server_leg_context
from certs.verdict import Defect, Finding, Verdict
from certs.verify import MOST_CERTIFICATES, Handshake, handshake_of
from tests.harness.memory_tls import server_context, shake_hands
from tests.harness.pki import DAY, NOW, Authority, Issued, Overrides, Raw, issuer_at, kept_key, self_signed

HOST = "good.example"
URL = "http://ca.example/issuing.cer"
HERE = issuer_at(URL)


@cache
def root() -> Authority:
    return Authority.root("Root")


@cache
def issuing() -> Authority:
    return root().intermediate("Issuing", extra=[issuer_at("http://ca.example/root.cer")])


def leaf(issuer: Authority | None = None, **overrides: object) -> Issued:
    with_url: Overrides = {"extra": [HERE], **overrides}  # type: ignore[typeddict-item] # overrides of the caller's
    return (issuer or issuing()).leaf(HOST, **with_url)


def trust(*own: Issued, common: Iterable[Issued] = ()) -> TrustStore:
    return TrustStore([each.certificate for each in common], [[each.certificate] for each in own])


def shown(server: Issued, sent: Iterable[Issued], believed: TrustStore) -> Handshake:
    """After a real handshake, with what OpenSSL collected in it."""
    served = server_context(server, [each.raw for each in sent])
    connection, seen = shake_hands(server_leg_context(believed), served, HOST)
    return handshake_of(connection, seen)


def attempt(
    server: Issued,
    *sent: Issued,
    believed: TrustStore | None = None,
    own_keys: frozenset[bytes] = frozenset(),
    handshake: Handshake | None = None,
) -> Attempt:
    store = believed or trust(root())
    return Attempt.of(handshake or shown(server, sent, store), parse_host(HOST), store, own_keys, NOW)


def knowing(*issuers: Issued) -> Known:
    return lambda _child: [each.certificate for each in issuers]


# --- what is missing ---


def test_a_chain_that_lacks_an_issuer_says_which_and_where_it_is() -> None:
    lacking = attempt(leaf()).lacking
    assert lacking is not None
    assert lacking.title == "good.example"
    assert issuer_urls(lacking) == (URL,)


def test_of_several_the_topmost_lacks_it() -> None:
    lower = issuing().intermediate("Lower", extra=[issuer_at("http://ca.example/top.cer")])
    lacking = attempt(leaf(lower), lower).lacking
    assert lacking is not None
    assert issuer_urls(lacking) == ("http://ca.example/top.cer",)


@pytest.mark.parametrize(
    "made",
    [
        lambda: attempt(leaf(), issuing()),
        lambda: attempt(self_signed(HOST, extra=[HERE])),
        lambda: attempt(leaf(), issuing(), root(), believed=trust(Authority.root("Other"))),
        lambda: attempt(leaf(sign_with=kept_key("ec256")), issuing()),
        lambda: attempt(leaf(), handshake=Handshake((), unread=("no",), leaf_unread=True)),
    ],
    ids=["whole", "self-signed", "up to a root that is not trusted", "forged", "unreadable"],
)
def test_nothing_is_missing_where_finding_it_would_change_nothing(made: object) -> None:
    assert callable(made)
    assert made().lacking is None


def test_a_chain_with_a_key_of_our_own_is_not_completed() -> None:
    own = frozenset({spki_sha256(issuing().certificate)})
    lower = issuing().intermediate("Lower")
    assert attempt(leaf(lower), lower, own_keys=own).lacking is not None
    other = Authority.root("Other").intermediate("Issued by another")
    assert attempt(leaf(other), other, issuing(), own_keys=own).lacking is None


@pytest.mark.parametrize(
    ("urls", "asked"),
    [
        ((), ()),
        (("https://ca.example/a", "ldap:///CN=CA?cACertificate", "file:///etc/passwd"), ()),
        (("ldap:///x", "http://ca.example/a"), ("http://ca.example/a",)),
        (("http://ca.example/a b", "http://ca.example/a\n", "http://"), ()),
        (("HTTP://ca.example/a", "HTTP://ca.example/a"), ("HTTP://ca.example/a",)),
        (("http://a.example/", "http://b.example/", "http://c.example/"), ("http://a.example/", "http://b.example/")),
    ],
)
def test_only_a_few_http_urls_are_asked(urls: tuple[str, ...], asked: tuple[str, ...]) -> None:
    assert issuer_urls(facts_of(leaf(extra=[issuer_at(*urls)] if urls else []).certificate)) == asked


def test_ocsp_responders_and_other_names_are_no_issuers() -> None:
    access = x509.AuthorityInformationAccess(
        [
            x509.AccessDescription(AuthorityInformationAccessOID.OCSP, x509.UniformResourceIdentifier("http://o.example/")),
            x509.AccessDescription(AuthorityInformationAccessOID.CA_ISSUERS, x509.DNSName("ca.example")),
        ]
    )  # fmt: skip
    raw = Raw(ExtensionOID.AUTHORITY_INFORMATION_ACCESS.dotted_string, access.public_bytes())
    assert issuer_urls(facts_of(leaf(extra=[raw]).certificate)) == ()


def test_an_extension_that_cannot_be_read_names_nothing() -> None:
    broken = Raw(ExtensionOID.AUTHORITY_INFORMATION_ACCESS.dotted_string, b"\x30\x05")
    assert issuer_urls(facts_of(leaf(extra=[broken]).certificate)) == ()


# --- what fits ---


def test_the_issuer_is_told_by_name_key_identifier_and_signature() -> None:
    child = facts_of(leaf().certificate)
    same_name = root().intermediate("Issuing")
    without_identifier = root().intermediate("Issuing", ski=False)
    forged = root().intermediate("Issuing", ski=False, key=issuing().key, subject=Authority.root("X").subject)
    candidates = [each.certificate for each in (root(), same_name, without_identifier, forged, issuing())]
    assert fitting(child, candidates) == [issuing().certificate]


def test_of_many_of_the_right_name_few_are_tried() -> None:
    child = facts_of(leaf(aki=False).certificate)
    others = [root().intermediate("Issuing", ski=False).certificate for _ in range(8)]
    assert fitting(child, [*others, issuing().certificate]) == []
    assert fitting(child, [*others[1:], issuing().certificate]) == [issuing().certificate]


# --- what a completed chain comes to ---


@pytest.mark.parametrize("common", [False, True])
def test_a_completed_chain_is_good_and_openssls_missing_issuer_counts_no_more(common: bool) -> None:
    believed = trust(common=[root()]) if common else trust(root())
    first = attempt(leaf(), believed=believed)
    assert {code for code, _ in first.handshake.errors} == {20}
    assert first.first.defects == (Defect.INCOMPLETE_CHAIN,)
    made = first.completed(knowing(issuing()), NOW)
    assert made.whole
    assert made.lacking is None
    verdict = made.verdict("from somewhere", "nothing else")
    assert verdict.ok
    assert verdict.completed == "from somewhere"
    assert verdict.chain == (first.handshake.presented[0], issuing().certificate, root().certificate)


def test_several_levels_are_added_one_after_the_other() -> None:
    lower = issuing().intermediate("Lower")
    first = attempt(leaf(lower))
    assert not first.completed(knowing(lower), NOW).whole
    assert first.completed(knowing(issuing(), lower), NOW).verdict().ok


def test_what_is_wrong_above_is_found_by_the_explicit_checks() -> None:
    """OpenSSL has not seen these certificates in the handshake: neither purpose nor security level are its to judge."""
    made = {
        Defect.WEAK_KEY: root().intermediate("Weak", key=kept_key("rsa1024")),
        Defect.WEAK_SIGNATURE: root().intermediate("SHA-1", hash="sha1"),
        Defect.WRONG_PURPOSE: root().intermediate("For mail", eku=["email"]),
        Defect.CONSTRAINT_VIOLATION: root().intermediate("No CA", ca=False),
        Defect.EXPIRED: root().intermediate("Old", not_after=NOW - DAY),
        Defect.MALFORMED: root().intermediate("Serial", serial=1 << 170),
    }
    for defect, issuer in made.items():
        completed = attempt(leaf(issuer)).completed(knowing(issuer), NOW)
        assert completed.whole
        assert completed.verdict().defects == (defect,), defect


@pytest.mark.parametrize(
    ("overrides", "defect"),
    [
        ({"eku": ["client"]}, Defect.WRONG_PURPOSE),
        ({"key": "rsa1024"}, Defect.WEAK_KEY),
        ({"not_after": NOW - DAY}, Defect.EXPIRED),
        ({"extra": [HERE, Raw("1.2.3.4.5", b"\x05\x00", critical=True)]}, Defect.MALFORMED),
    ],
)
def test_what_openssl_objected_to_beside_the_missing_issuer_still_counts(
    overrides: dict[str, object], defect: Defect
) -> None:
    if overrides.get("key") == "rsa1024":
        overrides = {"key": kept_key("rsa1024")}
    assert attempt(leaf(**overrides)).completed(knowing(issuing()), NOW).verdict().defects == (defect,)


@pytest.mark.parametrize("code", [26, 66, 68])
def test_purpose_and_security_level_as_openssl_saw_them_count_though_no_check_agrees(code: int) -> None:
    handshake = Handshake((leaf().certificate,), ((20, 0), (21, 0), (code, 0)))
    made = attempt(leaf(), handshake=handshake).completed(knowing(issuing()), NOW)
    assert made.whole
    assert not made.verdict().ok


def test_openssl_is_asked_again_about_the_completed_path(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def again(path: object) -> int:
        asked.append(path)
        return 47  # permitted subtree violation

    monkeypatch.setattr("certs.openssl_errors.verify_again", again)
    made = attempt(leaf()).completed(knowing(issuing()), NOW)
    assert made.verdict().defects == (Defect.CONSTRAINT_VIOLATION,)
    assert len(asked) == 1


def test_a_wrong_name_stays_wrong() -> None:
    other = issuing().leaf("other.example", extra=[HERE])
    completed = attempt(other).completed(knowing(issuing()), NOW)
    assert completed.verdict().defects == (Defect.HOSTNAME_MISMATCH,)


def test_a_root_that_was_found_is_not_trusted() -> None:
    first = attempt(leaf(), believed=trust(Authority.root("Other")))
    made = first.completed(knowing(issuing(), root()), NOW)
    assert made.last.defects == (Defect.UNTRUSTED_ROOT,)
    assert not made.whole
    assert made.verdict().defects == (Defect.INCOMPLETE_CHAIN,)
    assert made.verdict() == first.first


def test_what_does_not_help_changes_nothing_but_what_is_said() -> None:
    first = attempt(leaf())
    nothing = first.completed(knowing(root(), Authority.root("Other"), Authority.root("Issuing")), NOW)
    assert nothing is first
    verdict = nothing.verdict("from somewhere", "looked for it: nowhere")
    (before,), (after,) = first.first.findings, verdict.findings
    assert after.explanation == f"{before.explanation}; looked for it: nowhere"
    assert (after.defect, after.certificate, after.remedy) == (before.defect, before.certificate, before.remedy)
    assert verdict.completed == ""


@pytest.mark.parametrize("trusted", [True, False])
def test_a_key_of_our_own_counts_in_what_was_found_even_without_an_anchor(trusted: bool) -> None:
    own = frozenset({spki_sha256(issuing().certificate)})
    believed = trust(root() if trusted else Authority.root("Other"))
    made = attempt(leaf(), believed=believed, own_keys=own).completed(knowing(issuing()), NOW)
    assert Defect.OWN_CA in made.verdict().defects


def test_no_more_is_added_than_is_looked_at() -> None:
    junk = [self_signed(f"junk{number}.example") for number in range(MOST_CERTIFICATES - 1)]
    full = attempt(leaf(), *junk)
    assert full.completed(knowing(issuing()), NOW) is full
    room = attempt(leaf(), *junk[1:])
    assert room.completed(knowing(issuing()), NOW).verdict().ok


def test_certificates_in_a_circle_end() -> None:
    one = Authority.root("One")
    two = one.intermediate("Two", extra=[HERE])
    back = two.cross_sign(one)
    first = attempt(leaf(two), believed=trust(Authority.root("Other")))
    made = first.completed(knowing(two, back), NOW)
    assert not made.whole
    assert len(made.handshake.presented) <= 3


# --- those seen before ---


def good(server: Issued, *above: Issued) -> Verdict:
    return Verdict((), tuple(each.certificate for each in (server, *above)))


def test_an_intermediate_of_a_good_chain_completes_another() -> None:
    seen = Intermediates()
    seen.learn(attempt(leaf(), issuing()).verdict())
    made = attempt(issuing().leaf(HOST)).completed(seen.issuers_of, NOW)
    assert made.verdict("from other servers").ok


def test_nothing_is_learnt_from_a_chain_with_a_finding_nor_of_servers_and_anchors() -> None:
    seen = Intermediates()
    child = facts_of(leaf().certificate)
    chain = (leaf().certificate, issuing().certificate, root().certificate)
    seen.learn(Verdict((Finding(Defect.EXPIRED, "it is old", ""),), chain))
    assert list(seen.issuers_of(child)) == []
    seen.learn(good(leaf(), issuing(), root()))
    assert list(seen.issuers_of(child)) == [issuing().certificate]
    assert list(seen.issuers_of(facts_of(issuing().certificate))) == []


def test_what_a_server_sends_beside_its_path_is_not_learnt() -> None:
    seen = Intermediates()
    stray = root().intermediate("Stray")
    verdict = attempt(leaf(), issuing(), stray).verdict()
    assert verdict.ok
    seen.learn(verdict)
    assert list(seen.issuers_of(facts_of(stray.leaf().certificate))) == []


def test_of_one_name_those_with_the_right_key_identifier_come_and_few_are_kept() -> None:
    seen = Intermediates()
    rolled = [root().intermediate("Rolled") for _ in range(6)]
    for each in rolled:
        seen.learn(good(leaf(), each, root()))
        seen.learn(good(leaf(), each, root()))
    found = [list(seen.issuers_of(facts_of(each.leaf().certificate))) for each in rolled]
    assert found == [[], [], *([each.certificate] for each in rolled[2:])]


def test_the_number_of_names_is_bounded() -> None:
    seen = Intermediates(most=2)
    three = [root().intermediate(f"Number {number}") for number in range(3)]
    for each in three:
        seen.learn(good(leaf(), each, root()))
    found = [bool(seen.issuers_of(facts_of(each.leaf().certificate))) for each in three]
    assert found == [False, True, True]
