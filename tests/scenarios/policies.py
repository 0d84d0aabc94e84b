"""Certificate policies. Nobody here asks for one, and every one is acceptable (RFC 5280 6.1.1 (c)); a CA may ask."""

from __future__ import annotations

from certs.verdict import Defect
from tests.harness.pki import Authority, Raw
from tests.scenarios.base import ACCEPTS, REFUSES, Server, issuing, public, root, scenario

POLICIES, MAPPINGS, CONSTRAINTS, INHIBIT_ANY = "2.5.29.32", "2.5.29.33", "2.5.29.36", "2.5.29.54"
ANY_POLICY = bytes.fromhex("300830060604551d2000")
ONE_POLICY = bytes.fromhex("3007300506032a0304")
OTHER_POLICY = bytes.fromhex("3007300506032a0305")
MAPPED = Raw(MAPPINGS, bytes.fromhex("300c300a06032a030406032a0305"), critical=True)
"""The one to the other."""
REQUIRED = Raw(CONSTRAINTS, bytes.fromhex("3003800100"), critical=True)
NOT_ASKED = "OpenSSL looks at policies only where it is told to."


@scenario()
def critical_policies(host: str) -> Server:
    """Good: RFC 5280 4.2.1.4, 6.1.1 (c)."""
    return Server(issuing().leaf(host, extra=[Raw(POLICIES, ANY_POLICY, critical=True)]))


@scenario()
def a_policy_that_its_issuer_does_not_have(host: str) -> Server:
    """Good: RFC 5280 6.1.1 (c), (d).

    No policy comes out, and none was asked for.
    """
    ca = root().intermediate("Any", extra=[Raw(POLICIES, OTHER_POLICY)])
    return Server(ca.leaf(host, extra=[Raw(POLICIES, ONE_POLICY)]))


@scenario()
def policies_that_are_mapped(host: str) -> Server:
    """Good: RFC 5280 4.2.1.5."""
    ca = root().intermediate("Mapping", extra=[Raw(POLICIES, ONE_POLICY), MAPPED])
    return Server(ca.leaf(host, extra=[Raw(POLICIES, ONE_POLICY)]))


@scenario()
def a_policy_that_is_required_and_there(host: str) -> Server:
    """Good: RFC 5280 4.2.1.11, 6.1.5 (g)."""
    ca = root().intermediate("Requiring", extra=[Raw(POLICIES, ONE_POLICY), REQUIRED])
    return Server(ca.leaf(host, extra=[Raw(POLICIES, ONE_POLICY)]))


@scenario()
def no_policy_where_any_is_inhibited(host: str) -> Server:
    """Good: RFC 5280 4.2.1.14."""
    inhibited = Raw(INHIBIT_ANY, bytes.fromhex("020100"), critical=True)
    return Server(root().intermediate("Inhibiting", extra=[Raw(POLICIES, ANY_POLICY), inhibited]).leaf(host))


@scenario(Defect.CONSTRAINT_VIOLATION, curl_says=ACCEPTS, why=NOT_ASKED)
def a_policy_that_is_required_and_missing(host: str) -> Server:
    """Blocked as constraint_violation: RFC 5280 4.2.1.11, 6.1.5 (g)."""
    return Server(root().intermediate("Requiring", extra=[Raw(POLICIES, ONE_POLICY), REQUIRED]).leaf(host))


@scenario(Defect.CONSTRAINT_VIOLATION, curl_says=ACCEPTS, why=NOT_ASKED)
def another_policy_than_the_one_that_is_required(host: str) -> Server:
    """Blocked as constraint_violation: RFC 5280 6.1.3 (d), 6.1.5 (g)."""
    ca = root().intermediate("Requiring", extra=[Raw(POLICIES, ONE_POLICY), REQUIRED])
    return Server(ca.leaf(host, extra=[Raw(POLICIES, OTHER_POLICY)]))


@scenario(Defect.CONSTRAINT_VIOLATION, curl_says=ACCEPTS, why=NOT_ASKED)
def a_policy_that_is_required_and_lost_between(host: str) -> Server:
    """Blocked as constraint_violation: RFC 5280 6.1.3 (e), 6.1.5 (g)."""
    ca = root().intermediate("Requiring", extra=[Raw(POLICIES, ONE_POLICY), REQUIRED]).intermediate("Without")
    return Server(ca.leaf(host, extra=[Raw(POLICIES, ONE_POLICY)]))


@scenario(Defect.CONSTRAINT_VIOLATION, curl_says=ACCEPTS, why=NOT_ASKED)
def any_policy_where_it_is_inhibited_and_one_required(host: str) -> Server:
    """Blocked as constraint_violation: RFC 5280 4.2.1.14, 6.1.3 (d)(2), 6.1.5 (g)."""
    inhibited = Raw(INHIBIT_ANY, bytes.fromhex("020100"), critical=True)
    ca = root().intermediate("Requiring", extra=[Raw(POLICIES, ONE_POLICY), REQUIRED, inhibited])
    return Server(ca.leaf(host, extra=[Raw(POLICIES, ANY_POLICY)]))


@scenario()
def a_required_policy_that_is_mapped(host: str) -> Server:
    """Good: RFC 5280 4.2.1.5, 6.1.4 (b)(1)."""
    ca = root().intermediate("Requiring", extra=[Raw(POLICIES, ONE_POLICY), MAPPED, REQUIRED])
    return Server(ca.leaf(host, extra=[Raw(POLICIES, OTHER_POLICY)]))


@scenario(Defect.CONSTRAINT_VIOLATION, curl_says=ACCEPTS, why=NOT_ASKED)
def a_required_policy_that_is_mapped_where_none_may_be(host: str) -> Server:
    """Blocked as constraint_violation: RFC 5280 4.2.1.11, 6.1.4 (b)(2), 6.1.5 (g)."""
    neither = Raw(CONSTRAINTS, bytes.fromhex("3006800100810100"), critical=True)
    ca = root().intermediate("Requiring", extra=[Raw(POLICIES, ONE_POLICY), neither])
    ca = ca.intermediate("Mapping", extra=[Raw(POLICIES, ONE_POLICY), MAPPED])
    return Server(ca.leaf(host, extra=[Raw(POLICIES, OTHER_POLICY)]))


@scenario()
def a_policy_that_is_required_only_further_down(host: str) -> Server:
    """Good: RFC 5280 4.2.1.11, 6.1.4 (h).

    Two certificates below it there has to be one, and there is but the server's.
    """
    later = Raw(CONSTRAINTS, bytes.fromhex("3003800102"), critical=True)
    return Server(root().intermediate("Requiring", extra=[Raw(POLICIES, ONE_POLICY), later]).leaf(host))


@scenario(
    chromium_says=REFUSES,
    why="Chromium holds a path to what an anchor that was added by hand says of policies (RFC 5937 3).",
)
def an_anchor_that_requires_a_policy(host: str) -> Server:
    """Good: RFC 5280 6.1, 6.1.1 (d).

    An anchor is a name and a key; what it says of policies (RFC 5937 3) nobody is bound to.
    """
    anchor = Authority.root("Requiring Root", extra=[Raw(POLICIES, ONE_POLICY), REQUIRED])
    return Server(anchor.leaf(host))


@scenario(
    Defect.MALFORMED,
    curl_says=ACCEPTS,
    chromium_says=ACCEPTS,
    why="The verifier that we ask about public CAs too knows no policies, and so not this critical extension.",
)
def a_policy_that_is_required_by_a_common_ca(host: str) -> Server:
    """Blocked as malformed: RFC 5280 4.2; our own rule for public CAs, which have no use for it."""
    ca = public().intermediate("Public Requiring", extra=[Raw(POLICIES, ONE_POLICY), REQUIRED])
    return Server(ca.leaf(host, extra=[Raw(POLICIES, ONE_POLICY)]), common=[public()])


@scenario(Defect.CONSTRAINT_VIOLATION, curl_says=ACCEPTS, why=NOT_ASKED)
def a_policy_that_a_common_ca_requires_not_critically(host: str) -> Server:
    """Blocked as constraint_violation: RFC 5280 4.2.1.11, 6.1.5 (g).

    The second verifier passes over the extension where it is not critical.
    """
    required = Raw(CONSTRAINTS, REQUIRED.value)
    ca = public().intermediate("Public Requiring", extra=[Raw(POLICIES, ONE_POLICY), required])
    return Server(ca.leaf(host), common=[public()])
