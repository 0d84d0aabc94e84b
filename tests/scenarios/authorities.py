"""Who may issue certificates: CA flag, keyUsage, path length."""

from __future__ import annotations

from certs.verdict import Defect
from tests.harness.pki import Authority, Raw
from tests.scenarios.base import ACCEPTS, Server, issuing, public, root, scenario
from tests.scenarios.form import UNREADABLE_CA, WITHOUT_EXTENSIONS

# --- the CA flag


@scenario(Defect.CONSTRAINT_VIOLATION)
def an_issuer_that_is_no_ca(host: str) -> Server:
    """Blocked as constraint_violation: RFC 5280 6.1.4 (k)."""
    return Server(root().intermediate("No CA", ca=False).leaf(host))


@scenario(Defect.CONSTRAINT_VIOLATION)
def a_server_certificate_that_issues_another(host: str) -> Server:
    """Blocked as constraint_violation: RFC 5280 6.1.4 (k), (n).

    The oldest of these attacks: an ordinary certificate that vouches for a bank.
    """
    mine = issuing().leaf("mine.example")
    forger = Authority(mine.raw, mine.key, mine.subject, mine.parent)
    return Server(forger.leaf(host), own=[[root()]])


@scenario(Defect.CONSTRAINT_VIOLATION)
def an_issuer_without_basic_constraints(host: str) -> Server:
    """Blocked as constraint_violation: RFC 5280 6.1.4 (k)."""
    return Server(root().intermediate("Bare", ca=None).leaf(host))


@scenario(Defect.CONSTRAINT_VIOLATION)
def a_version_1_issuer(host: str) -> Server:
    """Blocked as constraint_violation: RFC 5280 6.1.4 (k)."""
    return Server(root().intermediate("First", version=1, bare=True).leaf(host))


@scenario(Defect.CONSTRAINT_VIOLATION)
def an_anchor_that_is_no_ca(host: str) -> Server:
    """Blocked as constraint_violation: RFC 5280 4.2.1.9, RFC 5937 3.2."""
    return Server(Authority.root("No CA Root", ca=False).leaf(host))


@scenario(
    Defect.CONSTRAINT_VIOLATION,
    curl_says=ACCEPTS,
    chromium_says=ACCEPTS,
    why="Both take an anchor of version 1, which cannot say so, for a CA.",
)
def a_version_1_anchor(host: str) -> Server:
    """Blocked as constraint_violation: RFC 5280 4.2.1.9.

    It says nowhere that it is a CA's.
    """
    return Server(Authority.root("First Root", version=1, bare=True).leaf(host))


@scenario()
def basic_constraints_that_are_not_critical(host: str) -> Server:
    """Good: RFC 5280 4.2.1.9.

    A duty of CAs; that it is one is said all the same.
    """
    quiet = Raw("2.5.29.19", bytes.fromhex("30030101ff"))
    return Server(root().intermediate("Quiet", ca=None, extra=[quiet]).leaf(host))


@scenario(Defect.MALFORMED, curl_says=ACCEPTS, chromium_says=ACCEPTS, why="Neither asks for the critical flag.")
def basic_constraints_of_a_common_ca_that_are_not_critical(host: str) -> Server:
    """Blocked as malformed: RFC 5280 4.2.1.9, CA/B BR 7.1.2.10.2."""
    quiet = Raw("2.5.29.19", bytes.fromhex("30030101ff"))
    return Server(public().intermediate("Quiet", ca=None, extra=[quiet]).leaf(host), common=[public()])


# --- keyUsage


@scenario(Defect.CONSTRAINT_VIOLATION)
def an_issuer_without_key_cert_sign(host: str) -> Server:
    """Blocked as constraint_violation: RFC 5280 6.1.4 (n)."""
    return Server(root().intermediate("CRLs", key_usage=["crl_sign"]).leaf(host))


@scenario(Defect.CONSTRAINT_VIOLATION)
def an_anchor_without_key_cert_sign(host: str) -> Server:
    """Blocked as constraint_violation: RFC 5280 4.2.1.3, RFC 5937 3.2."""
    return Server(Authority.root("CRL Root", key_usage=["crl_sign"]).leaf(host))


@scenario()
def an_issuer_without_key_usage(host: str) -> Server:
    """Good: RFC 5280 6.1.4 (n).

    Private CAs are often without.
    """
    return Server(root().intermediate("Unrestricted", key_usage=None).leaf(host))


@scenario(
    Defect.MALFORMED, curl_says=ACCEPTS, chromium_says=ACCEPTS, why="Neither asks public CAs for more than others."
)
def an_issuer_of_a_common_ca_without_key_usage(host: str) -> Server:
    """Blocked as malformed: RFC 5280 4.2.1.3, CA/B BR 7.1.2.10.7."""
    return Server(public().intermediate("Unrestricted", key_usage=None).leaf(host), common=[public()])


@scenario(Defect.CONSTRAINT_VIOLATION, Defect.INCOMPLETE_CHAIN, as_it_is=[Defect.CONSTRAINT_VIOLATION])
def an_issuer_with_a_key_usage_of_no_bits(host: str) -> Server:
    """Blocked as constraint_violation, incomplete_chain: RFC 5280 4.2.1.3, 6.1.4 (n).

    One bit at least has to be set; OpenSSL takes such a certificate for nobody's.
    """
    return Server(root().intermediate("Nothing", key_usage=[]).leaf(host))


# --- path length


@scenario(Defect.CONSTRAINT_VIOLATION)
def one_ca_more_than_the_path_length_allows(host: str) -> Server:
    """Blocked as constraint_violation: RFC 5280 6.1.4 (l), (m)."""
    return Server(root().intermediate("Zero", path_length=0).intermediate("One").leaf(host))


@scenario(Defect.CONSTRAINT_VIOLATION)
def one_common_ca_more_than_the_path_length_allows(host: str) -> Server:
    """Blocked as constraint_violation: RFC 5280 6.1.4 (l), (m)."""
    below = public().intermediate("Zero", path_length=0).intermediate("One")
    return Server(below.leaf(host), common=[public()])


@scenario(Defect.CONSTRAINT_VIOLATION)
def a_path_length_two_levels_above(host: str) -> Server:
    """Blocked as constraint_violation: RFC 5280 6.1.4 (l), (m)."""
    top = root().intermediate("One", path_length=1)
    return Server(top.intermediate("Two").intermediate("Three").leaf(host))


@scenario(Defect.CONSTRAINT_VIOLATION)
def a_path_length_cannot_be_made_longer_below(host: str) -> Server:
    """Blocked as constraint_violation: RFC 5280 6.1.4 (m)."""
    top = root().intermediate("Short", path_length=0)
    return Server(top.intermediate("Long", path_length=5).leaf(host))


@scenario(Defect.CONSTRAINT_VIOLATION)
def the_anchors_own_path_length(host: str) -> Server:
    """Blocked as constraint_violation: RFC 5280 4.2.1.9, RFC 5937 3.2."""
    return Server(Authority.root("Zero Root", path_length=0).intermediate("One").leaf(host))


@scenario()
def a_path_length_that_is_just_kept(host: str) -> Server:
    """Good: RFC 5280 6.1.4 (l), (m)."""
    return Server(Authority.root("Two", path_length=1).intermediate("One", path_length=0).leaf(host))


@scenario()
def a_self_issued_ca_does_not_count_towards_the_path_length(host: str) -> Server:
    """Good: RFC 5280 6.1.4 (l).

    A key rolled over.
    """
    top = Authority.root("Top", path_length=1)
    old = top.intermediate("Rolled", path_length=0)
    new = old.intermediate("Rolled", path_length=0)
    return Server(new.leaf(host))


@scenario(*UNREADABLE_CA, as_it_is=UNREADABLE_CA[:2])
def a_negative_path_length(host: str) -> Server:
    """Blocked as malformed, constraint_violation, incomplete_chain: RFC 5280 4.2.1.9."""
    negative = Raw("2.5.29.19", bytes.fromhex("30060101ff0201ff"), critical=True)
    return Server(root().intermediate("Negative", ca=None, extra=[negative]).leaf(host))


@scenario(
    *WITHOUT_EXTENSIONS,
    curl_says=ACCEPTS,
    chromium_says=ACCEPTS,
    why="Neither minds a path length that has no meaning.",
)
def a_server_certificate_with_a_path_length(host: str) -> Server:
    """Blocked as malformed, hostname_mismatch: RFC 5280 4.2.1.9.

    Only a CA may have one.
    """
    odd = Raw("2.5.29.19", bytes.fromhex("3003020100"), critical=True)
    return Server(issuing().leaf(host, ca=None, extra=[odd]))


@scenario()
def a_server_certificate_that_may_sign_certificates_and_is_no_ca(host: str) -> Server:
    """Good: RFC 5280 4.2.1.3, 6.1.4 (k).

    Without the CA flag nothing that it signs counts.
    """
    return Server(issuing().leaf(host, key_usage=["digital_signature", "key_cert_sign"]))
