"""How a path is found: backtracking, helpers, anchors that are no roots, loops, and what it may cost."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from certs import signatures
from certs.facts import facts_of
from certs.names import parse_host
from certs.openssl_errors import verify_again
from certs.paths import MOST_STEPS, Path, Search
from certs.signatures import MOST_SIGNATURES, Signatures
from certs.trust import TrustStore
from certs.verdict import Defect, Verdict
from certs.verify import MOST_PATHS, Handshake, judge
from tests.harness.pki import HOUR, NOW, Authority, Raw, excessive_spki, kept_key, new_key, self_signed
from tests.scenarios import Server, issuing, root
from tests.scenarios.judging import after_handshake

Counter = Callable[[], int]


def judged(server: Server, errors: tuple[tuple[int, int], ...] = ()) -> Verdict:
    presented = tuple(issued.certificate for issued in server.sent)
    return judge(Handshake(presented, errors), parse_host(server.host), server.trust, server.now, server.own_keys)


@pytest.fixture
def verifications(monkeypatch: pytest.MonkeyPatch) -> Counter:
    """How many signatures were verified, remembered answers left aside."""
    asked = 0
    real = signatures._verify

    def counted(child: x509.Certificate, parent: x509.Certificate) -> bool:
        nonlocal asked
        asked += 1
        return real(child, parent)

    monkeypatch.setattr(signatures, "_verify", counted)
    return lambda: asked


# --- which path


def test_an_expired_cross_certificate_does_not_hide_the_root_of_the_same_key() -> None:
    """A root that an older one had cross-signed, after the older one's end (as in 2020 and 2021)."""
    older = Authority.root("Older", not_after=NOW - HOUR)
    newer = Authority.root("Newer")
    crossed = older.cross_sign(newer, not_after=NOW - HOUR)
    between = newer.intermediate()
    server = Server(between.leaf(), chain=[between, crossed], own=[[older], [newer]])
    found = judged(server)
    assert found.ok
    assert found.chain[-1] == newer.certificate
    assert after_handshake(server).ok


def test_a_good_intermediate_is_found_behind_an_expired_one_of_the_same_name_and_key() -> None:
    old = root().intermediate("Renewed", not_after=NOW - HOUR)
    new = root().intermediate("Renewed", key=old.key)
    server = Server(new.leaf(), chain=[old, new], own=[[root()]])
    assert judged(server).chain[1] == new.certificate
    assert judged(server).ok
    assert after_handshake(server).ok


def test_openssls_objection_to_a_path_that_is_not_ours_is_dropped() -> None:
    """OpenSSL takes the first intermediate of the right name and key, and does not turn back."""
    wrong = root().intermediate("Twice", name_constraints=x509.NameConstraints([x509.DNSName("other.example")], None))
    right = root().intermediate("Twice", key=wrong.key)
    server = Server(right.leaf(), chain=[wrong, right], own=[[root()]])
    assert judged(server, errors=((47, 0),)).ok
    assert after_handshake(server).ok


def test_openssls_objection_to_our_very_path_is_kept() -> None:
    """Shown with a check of ours taken out: OpenSSL still refuses what it refuses."""
    limited = root().intermediate("Limited", path_length=0)
    server = Server(limited.intermediate().leaf(), own=[[root()]])
    path = next(iter(Search([facts_of(i.certificate) for i in server.sent], server.trust).paths()))
    assert verify_again(path) == 25


def test_one_of_two_issuers_of_one_name_is_told_by_its_signature() -> None:
    first, second = Authority.root("Same"), Authority.root("Same")
    for own in ([[first], [second]], [[second], [first]]):
        server = Server(second.leaf(aki=False), own=own)
        assert judged(server).ok
        assert judged(server).chain[-1] == second.certificate


def test_a_helper_of_the_bundle_fills_the_gap_that_the_server_left() -> None:
    server = Server(issuing().leaf(), chain=[], own=[[issuing(), root()]])
    assert judged(server).ok
    assert after_handshake(server).ok


def test_an_intermediate_without_its_root_is_an_anchor() -> None:
    server = Server(issuing().leaf(), own=[[issuing()]])
    found = after_handshake(server)
    assert found.ok
    assert found.chain == (server.leaf.certificate, issuing().certificate)


def test_what_is_below_the_topmost_of_a_bundle_is_no_anchor_when_the_topmost_has_expired() -> None:
    ended = Authority.root("Ended", not_after=NOW - HOUR)
    between = ended.intermediate()
    assert after_handshake(Server(between.leaf(), own=[[between, ended]])).defects == (Defect.EXPIRED,)


def test_an_anchor_of_the_tenants_that_is_in_the_common_store_too_is_the_tenants() -> None:
    """cryptography's verifier, which refuses a server certificate without AKI, is not asked."""
    leaf = root().leaf(aki=False)
    assert judged(Server(leaf, own=[[root()]], common=[root()])).ok
    assert not judged(Server(leaf, common=[root()])).ok


def test_of_two_bad_paths_the_less_bad_one_is_judged() -> None:
    weak = Authority.root("Weak", key=kept_key("rsa1024"))
    ended = Authority.root("Ended", not_after=NOW - HOUR)
    below_weak = weak.intermediate("Shared")
    below_ended = ended.cross_sign(below_weak)
    for chain in ([below_weak, below_ended], [below_ended, below_weak]):
        found = judged(Server(below_weak.leaf(), chain=chain, own=[[weak], [ended]]))
        assert found.defects == (Defect.EXPIRED,)
        assert found.chain[-1] == ended.certificate


def test_the_longest_path_is_judged_where_none_reaches_an_anchor() -> None:
    stranger = Authority.root("Stranger")
    upper = stranger.intermediate("Upper")
    lower = upper.intermediate("Lower")
    found = judged(Server(lower.leaf(), chain=[upper, lower], own=[[root()]]))
    assert found.defects == (Defect.INCOMPLETE_CHAIN,)
    assert found.chain == (found.chain[0], lower.certificate, upper.certificate)
    assert found.findings[0].certificate == 2


def test_a_shorter_path_that_is_tried_later_is_not_the_longest() -> None:
    stranger = Authority.root("Stranger")
    upper = stranger.intermediate("Upper")
    long_way = upper.intermediate("Lower")
    short_way = Authority.root("Missing").cross_sign(long_way)
    found = judged(Server(long_way.leaf(), chain=[long_way, short_way, upper], own=[[root()]]))
    assert found.chain[1:] == (long_way.certificate, upper.certificate)


def test_a_mismatch_of_key_identifiers_is_a_missing_issuer_and_no_bad_signature() -> None:
    impostor = Authority.root("Root")
    assert judged(Server(impostor.leaf(), chain=[], own=[[root()]])).defects == (Defect.INCOMPLETE_CHAIN,)


def test_a_signature_that_no_key_of_that_name_verifies_is_bad_although_another_path_is_not_there() -> None:
    upper = Authority.root("Upper")
    lower = upper.intermediate("Lower", tamper=True)
    found = judged(Server(lower.leaf(), own=[[upper]]))
    assert [(finding.defect, finding.certificate) for finding in found.findings] == [(Defect.BAD_SIGNATURE, 1)]


def test_a_forged_copy_does_not_hide_the_true_intermediate() -> None:
    true = root().intermediate("Copied")
    forged = root().intermediate("Copied", key=true.key, tamper=True)
    assert judged(Server(true.leaf(), chain=[forged, true], own=[[root()]])).ok


# --- the second opinion in the common store


def test_what_cryptography_alone_refuses_is_malformed_in_the_common_store_only() -> None:
    leaf = issuing().leaf(san_critical=True)
    found = judged(Server(leaf, common=[root()]))
    assert found.defects == (Defect.MALFORMED,)
    assert "subjectAltName" in found.findings[0].explanation
    assert judged(Server(leaf, own=[[root()]])).ok


def test_a_constraint_that_cryptography_alone_refuses_is_a_constraint_violation() -> None:
    """A leading dot, which RFC 5280 gives no meaning in a dNSName constraint."""
    limits = x509.NameConstraints([x509.DNSName(".good.example")], None)
    leaf = root().intermediate("Dotted", name_constraints=limits).leaf("www.good.example")
    found = judged(Server(leaf, common=[root()], host="www.good.example"))
    assert found.defects == (Defect.CONSTRAINT_VIOLATION,)
    assert judged(Server(leaf, own=[[root()]], host="www.good.example")).ok


def test_a_wrong_name_or_time_does_not_keep_the_second_verifier_from_being_asked() -> None:
    leaf = issuing().leaf("other.example", san_critical=True, not_after=NOW - HOUR)
    assert judged(Server(leaf, common=[root()])).defects == (
        Defect.MALFORMED,
        Defect.EXPIRED,
        Defect.HOSTNAME_MISMATCH,
    )


def test_a_wrong_name_or_time_is_not_found_twice_by_the_second_verifier() -> None:
    for leaf in (
        issuing().leaf("*.other.example", not_after=NOW - HOUR),
        issuing().leaf("192.0.2.1", not_after=NOW - HOUR),
        issuing().leaf(san=None, not_after=NOW - HOUR),
    ):
        found = judged(Server(leaf, common=[root()]))
        assert found.defects == (Defect.EXPIRED, Defect.HOSTNAME_MISMATCH)
        assert len(found.findings) == 2


def test_a_name_that_the_second_verifier_cannot_be_asked_about_is_malformed() -> None:
    found = judged(Server(issuing().leaf("a_b.good.example"), host="a_b.good.example", common=[root()]))
    assert found.defects == (Defect.MALFORMED,)


def test_what_cryptography_would_refuse_as_well_is_named_once() -> None:
    found = judged(Server(issuing().leaf(eku=["client"]), common=[root()]))
    assert found.defects == (Defect.WRONG_PURPOSE,)


def test_a_server_certificate_that_is_of_the_common_store_itself_is_judged() -> None:
    leaf = self_signed(ca=True)
    assert judged(Server(leaf, common=[leaf])).defects == (Defect.WRONG_PURPOSE,)
    assert judged(Server(self_signed(not_after=NOW - HOUR), common=[root()])).defects == (
        Defect.SELF_SIGNED,
        Defect.EXPIRED,
    )
    plain = self_signed()
    assert judged(Server(plain, common=[plain])).ok


def test_a_path_that_was_never_valid_as_a_whole_is_not_asked_about() -> None:
    late = root().intermediate("Late", not_before=NOW + HOUR)
    found = judged(Server(late.leaf(not_after=NOW - HOUR), common=[root()]))
    assert found.defects == (Defect.EXPIRED, Defect.NOT_YET_VALID)


# --- what it may cost


def test_two_cas_that_sign_each_other_end_the_search() -> None:
    one, two = Authority.root("One"), Authority.root("Two")
    chain = [two.cross_sign(one), one.cross_sign(two)]
    found = judged(Server(one.leaf(), chain=chain, own=[[root()]]))
    assert found.defects == (Defect.INCOMPLETE_CHAIN,)
    assert len(found.chain) == 3


def test_four_intermediates_of_one_name_and_key_cost_a_signature_each(verifications: Counter) -> None:
    stranger = Authority.root("Stranger")
    first = stranger.intermediate("Many")
    copies = [first, *(stranger.intermediate("Many", key=first.key) for _ in range(3))]
    found = judged(Server(first.leaf(), chain=copies, own=[[root()]]))
    assert found.defects == (Defect.INCOMPLETE_CHAIN,)
    # One for the leaf, since the key is one; nothing above.
    assert verifications() == 1


def test_fifteen_issuers_of_one_name_cost_no_more_signatures_than_the_limit(verifications: Counter) -> None:
    """Each signed by the next, all of one name: 225 pairs to try."""
    line = [Authority.root("Same", aki=False, ski=False)]
    for _ in range(14):
        line.append(line[-1].intermediate("Same", aki=False, ski=False))
    leaf = line[-1].leaf(aki=False)
    found = judged(Server(leaf, chain=line, own=[[root()]]))
    assert found.defects == (Defect.MALFORMED, Defect.BAD_SIGNATURE, Defect.UNTRUSTED_ROOT)
    assert verifications() <= MOST_SIGNATURES + 1


def test_the_limit_on_signatures_counts_remembered_ones_too() -> None:
    checker = Signatures(limit=1)
    parent, child = facts_of(root().certificate), facts_of(issuing().certificate)
    assert checker.verified(child, parent)
    assert checker.verified(child, parent)
    assert not checker.exhausted
    assert not checker.verified(parent, parent)
    assert checker.exhausted


def test_a_search_that_may_check_no_signature_says_that_it_is_not_through() -> None:
    search = Search(
        [facts_of(root().leaf().certificate), facts_of(root().certificate)], TrustStore([], []), Signatures(0)
    )
    assert len(list(search.paths())) == 1
    assert search.exhausted


def test_limits_that_were_met_beside_a_path_to_an_anchor_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Search, "exhausted", True)
    assert judged(Server(issuing().leaf())).ok
    assert judged(Server(issuing().leaf(not_after=NOW - HOUR))).defects == (Defect.EXPIRED,)


def test_seventeen_certificates_are_malformed_and_the_first_sixteen_judged() -> None:
    found = judged(Server(issuing().leaf(), chain=[*[Authority.root("Other")] * 15, issuing()]))
    assert found.defects == (Defect.MALFORMED, Defect.INCOMPLETE_CHAIN)


def test_a_mesh_of_cross_certificates_ends_within_the_steps() -> None:
    cas = [Authority.root(f"Mesh {number}") for number in range(4)]
    mesh = [one.cross_sign(other) for one in cas for other in cas if one is not other]
    leaf = cas[0].leaf()
    search = Search([facts_of(issued.certificate) for issued in (leaf, *mesh)], TrustStore([], []))
    assert len(list(search.paths())) == 1
    assert search._steps < MOST_STEPS
    assert not search.exhausted


def test_no_more_paths_are_judged_than_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    judgements = 0
    real = judge.__globals__["findings"]

    def counted(case: object) -> object:
        nonlocal judgements
        judgements += 1
        return real(case)

    monkeypatch.setitem(judge.__globals__, "findings", counted)
    anchor = Authority.root("Top")
    upper = anchor.intermediate("Upper")
    uppers = [upper, *(anchor.intermediate("Upper", key=upper.key) for _ in range(6))]
    lower = upper.intermediate("Lower")
    lowers = [lower, *(upper.intermediate("Lower", key=lower.key) for _ in range(6))]
    leaf = lower.leaf(not_after=NOW - HOUR)
    assert judged(Server(leaf, chain=[*uppers, *lowers], own=[[anchor]])).defects == (Defect.EXPIRED,)
    assert judgements == MOST_PATHS


def test_certificates_of_more_than_100_kib_in_all_are_malformed_and_not_looked_at() -> None:
    big = root().intermediate("Big", extra=[Raw("1.2.3.4", bytes(60_000))])
    huge = root().leaf(extra=[Raw("1.2.3.4", bytes(110_000))])
    assert judged(Server(big.leaf(), chain=[big])).ok
    assert judged(Server(big.leaf(), chain=[big, big])).defects == (Defect.MALFORMED,)
    assert judged(Server(huge)).defects == (Defect.MALFORMED, Defect.INCOMPLETE_CHAIN, Defect.HOSTNAME_MISMATCH)


def test_a_path_without_anchor_is_not_verified_again() -> None:
    with pytest.raises(ValueError, match="without anchor"):
        verify_again(Path((facts_of(root().certificate),), None))


# --- signatures


@pytest.mark.parametrize("kind", ["ec192", "ec256", "ec384", "ec521", "rsa1024", "rsa2048", "dsa", "ed25519", "ed448"])
def test_a_signature_verifies_with_the_key_that_made_it_and_with_no_other(kind: str) -> None:
    mine, other = Authority.root(key=new_key(kind)), Authority.root(key=new_key(kind))
    leaf = facts_of(mine.leaf().certificate)
    assert signatures.verified(leaf, facts_of(mine.certificate))
    assert not signatures.verified(leaf, facts_of(other.certificate))


@pytest.mark.parametrize(
    ("kind", "weak"), [("rsa2048", "md5"), ("rsa2048", "sha1"), ("ec256", "sha1"), ("dsa", "sha1")]
)
def test_a_weak_signature_is_told_from_a_forged_one(kind: str, weak: str) -> None:
    mine, other = Authority.root(key=new_key(kind)), Authority.root(key=new_key(kind))
    leaf = facts_of(mine.leaf(hash=weak).certificate)
    assert signatures.verified(leaf, facts_of(mine.certificate))
    assert not signatures.verified(leaf, facts_of(other.certificate))


def test_a_key_of_another_kind_verifies_nothing() -> None:
    rsa, ec = Authority.root(key=kept_key("rsa2048")), Authority.root()
    assert not signatures.verified(facts_of(rsa.leaf().certificate), facts_of(ec.certificate))
    assert not signatures.verified(facts_of(ec.leaf().certificate), facts_of(rsa.certificate))


def test_no_signature_is_verified_with_a_key_that_takes_long_and_the_verdict_says_so() -> None:
    key = kept_key("rsa2048")
    slow = root().intermediate("Slow", key=key, spki=excessive_spki(key))
    leaf = slow.leaf()
    leaf.certificate.verify_directly_issued_by(slow.certificate)  # it would be good
    assert not signatures.verified(facts_of(leaf.certificate), facts_of(slow.certificate))
    found = judged(Server(leaf, chain=[slow]))
    assert found.defects == (Defect.BAD_SIGNATURE, Defect.WEAK_KEY)
    bits = f"RSA with an exponent of {slow.certificate.public_key().public_numbers().e.bit_length()} bits"
    assert [f.explanation for f in found.findings] == [
        f"the server's certificate carries a signature that is not verified, because of its issuer's key: {bits}; "
        "at most 32 are verified with",
        f'the issuing certificate "Slow" has a weak key: {bits}; at most 32 are verified with',
    ]


def test_rsa_pss_signatures_verify() -> None:
    key = kept_key("rsa2048")
    assert isinstance(key, rsa.RSAPrivateKey)
    scheme = padding.PSS(padding.MGF1(hashes.SHA256()), padding.PSS.DIGEST_LENGTH)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "PSS")])
    builder = x509.CertificateBuilder(name, name, key.public_key(), 7, NOW, NOW + HOUR)
    mine = facts_of(builder.sign(key, hashes.SHA256(), rsa_padding=scheme))
    assert signatures.verified(mine, mine)
    assert not signatures.verified(mine, facts_of(Authority.root(key=kept_key("rsa2048", 1)).certificate))
    assert not signatures.verified(mine, facts_of(root().certificate))


def test_a_key_that_cannot_be_read_verifies_nothing() -> None:
    spki = bytes.fromhex("3059301306072a8648ce3d020106082a8648ce3d030107034200" + "04" + "01" * 64)
    unreadable = facts_of(root().intermediate(spki=spki).certificate)
    assert unreadable.key is None
    assert not signatures.verified(facts_of(issuing().certificate), unreadable)
