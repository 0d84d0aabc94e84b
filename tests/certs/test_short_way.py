"""The signatures of a path to the common store that cryptography's verifier follows are not verified a second time.

Everywhere else they are, by our own check: where the verifier refuses, is not asked, or takes other certificates.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
from cryptography import x509

from certs import second_opinion, signatures
from certs.facts import facts_of
from certs.names import parse_host
from certs.paths import LONGEST_PATH, Search
from certs.second_opinion import follows
from certs.verdict import Defect, Verdict
from certs.verify import Handshake, judge
from tests.harness.pki import HOUR, NOW, Authority
from tests.scenarios import HOST, Server, issuing, root

Verified = Callable[[], list[x509.Certificate]]


def judged(server: Server) -> Verdict:
    presented = tuple(issued.certificate for issued in server.sent)
    return judge(Handshake(presented), parse_host(server.host), server.trust, server.now, server.own_keys)


def likeliest(server: Server) -> Search:
    return Search([facts_of(issued.certificate) for issued in server.sent], server.trust)


@pytest.fixture
def verified(monkeypatch: pytest.MonkeyPatch) -> Verified:
    """The certificates whose signatures our own check verified, remembered answers left aside."""
    seen: list[x509.Certificate] = []
    real = signatures._verify

    def noted(child: x509.Certificate, parent: x509.Certificate) -> bool:
        seen.append(child)
        return real(child, parent)

    monkeypatch.setattr(signatures, "_verify", noted)
    return lambda: seen


def test_a_good_path_to_the_common_store_costs_no_signature_of_our_own(verified: Verified) -> None:
    fresh = Authority.root("Fresh")
    between = fresh.intermediate()
    assert judged(Server(fresh.leaf(), common=[fresh])).ok
    server = Server(between.leaf(), common=[fresh])
    found = judged(server)
    assert found.ok
    assert found.chain == (server.leaf.certificate, between.certificate, fresh.certificate)
    assert verified() == []


def test_a_good_path_to_an_anchor_of_the_tenants_is_verified_by_our_own(verified: Verified) -> None:
    fresh = Authority.root("Fresh")
    leaf = fresh.leaf()
    assert judged(Server(leaf, own=[[fresh]])).ok
    assert verified() == [leaf.certificate]


FORGED = {
    "a_changed_signature": lambda: Server(issuing().leaf(tamper=True), common=[root()]),
    "another_key": lambda: Server(issuing().leaf(sign_with=Authority.root().key), common=[root()]),
    "another_key_below_the_anchor": lambda: Server(root().leaf(sign_with=Authority.root().key), common=[root()]),
    "an_intermediate_of_another_key": lambda: Server(
        (forged := root().intermediate("Forged", tamper=True)).leaf(), chain=[forged], common=[root()]
    ),
}


@pytest.mark.parametrize("make", FORGED.values(), ids=FORGED.keys())
def test_a_forged_signature_below_the_common_store_is_bad(make: Callable[[], Server]) -> None:
    assert judged(make()).defects == (Defect.BAD_SIGNATURE,)


@pytest.mark.parametrize("make", FORGED.values(), ids=FORGED.keys())
def test_names_alone_lead_to_an_anchor_and_the_verifier_does_not_follow(make: Callable[[], Server]) -> None:
    path = likeliest(make()).likeliest()
    assert path is not None
    assert path.anchor is not None
    assert not follows(path, parse_host(HOST), NOW)


def test_a_verifier_that_takes_other_certificates_does_not_vouch_for_these(monkeypatch: pytest.MonkeyPatch) -> None:
    """It accepts the leaf by way of another certificate: our own check still looks at each signature of the path."""
    server = Server(issuing().leaf(tamper=True), common=[root()])
    other = second_opinion._Answer(None, (server.leaf.certificate, root().certificate))
    monkeypatch.setattr(second_opinion, "_asked", lambda path, host, now: other)
    assert judged(server).defects == (Defect.BAD_SIGNATURE,)


def test_a_verifier_that_was_not_asked_does_not_vouch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(second_opinion, "_asked", lambda path, host, now: second_opinion._Answer())
    assert judged(Server(issuing().leaf(tamper=True), common=[root()])).defects == (Defect.BAD_SIGNATURE,)
    assert judged(Server(issuing().leaf(), common=[root()])).ok


def test_the_verifier_follows_by_exactly_the_certificates_of_the_path() -> None:
    server = Server(issuing().leaf(), common=[root()])
    path = likeliest(server).likeliest()
    assert path is not None
    assert second_opinion._asked(path, parse_host(HOST), NOW).chain == path.certificates
    assert follows(path, parse_host(HOST), NOW)


def test_where_the_first_way_is_bad_another_is_looked_for() -> None:
    """An expired intermediate of the same name and key stands first."""
    old = root().intermediate("Renewed", not_after=NOW - HOUR)
    new = root().intermediate("Renewed", key=old.key)
    found = judged(Server(new.leaf(), chain=[old, new], common=[root()]))
    assert found.ok
    assert found.chain[1] == new.certificate


def test_the_likeliest_path_is_the_one_that_is_found_first() -> None:
    twice = root().intermediate("Twice")
    again = root().intermediate("Twice", key=twice.key)
    for chain in ([twice, again], [again, twice], [again, twice, root()]):
        server = Server(twice.leaf(), chain=chain, common=[root()])
        path = likeliest(server).likeliest()
        assert path is not None
        assert path.certificates == next(iter(likeliest(server).paths())).certificates


def test_no_likeliest_path_leads_in_circles_or_further_than_a_path_may() -> None:
    one, two = Authority.root("One"), Authority.root("Two")
    circle = Server(one.leaf(), chain=[two.cross_sign(one), one.cross_sign(two)], common=[root()])
    assert likeliest(circle).likeliest() is None
    at = root()
    line = [at := at.intermediate(f"Level {number}") for number in range(LONGEST_PATH - 1)]
    longest = Server(line[-2].leaf(), chain=line[:-1], common=[root()])
    path = likeliest(longest).likeliest()
    assert path is not None
    assert len(path.line) == LONGEST_PATH
    assert likeliest(Server(line[-1].leaf(), chain=line, common=[root()])).likeliest() is None


def test_what_an_intermediate_says_is_kept_and_a_second_copy_is_one_of_its_own() -> None:
    """Twice the same certificate is two findings, in a second verdict as well, though what it says was kept."""
    fresh = Authority.root("Fresh")
    between = fresh.intermediate()
    for _ in range(2):
        found = judged(Server(between.leaf(), chain=[between, between], common=[fresh], ours=[between]))
        assert [finding.certificate for finding in found.findings] == [1, None]
