"""Certificate policies. Nobody here relies on one: every policy is acceptable (RFC 5280 6.1.1 (c))."""

from __future__ import annotations

from tests.harness.pki import Raw
from tests.scenarios.base import REFUSES, Server, issuing, root, scenario

POLICIES, MAPPINGS, CONSTRAINTS, INHIBIT_ANY = "2.5.29.32", "2.5.29.33", "2.5.29.36", "2.5.29.54"
ANY_POLICY = bytes.fromhex("300830060604551d2000")
ONE_POLICY = bytes.fromhex("3007300506032a0304")


@scenario()
def critical_policies(host: str) -> Server:
    """Good: RFC 5280 4.2.1.4, 6.1.1 (c)."""
    return Server(issuing().leaf(host, extra=[Raw(POLICIES, ANY_POLICY, critical=True)]))


@scenario()
def a_policy_that_its_issuer_does_not_have(host: str) -> Server:
    """Good: RFC 5280 6.1.1 (c), (d).

    No policy comes out, and none was asked for.
    """
    ca = root().intermediate("Any", extra=[Raw(POLICIES, bytes.fromhex("3007300506032a0305"))])
    return Server(ca.leaf(host, extra=[Raw(POLICIES, ONE_POLICY)]))


@scenario()
def policies_that_are_mapped(host: str) -> Server:
    """Good: RFC 5280 4.2.1.5."""
    mapped = Raw(MAPPINGS, bytes.fromhex("300c300a06032a030406032a0305"), critical=True)
    ca = root().intermediate("Mapping", extra=[Raw(POLICIES, ONE_POLICY), mapped])
    return Server(ca.leaf(host, extra=[Raw(POLICIES, ONE_POLICY)]))


@scenario()
def a_policy_that_is_required_and_there(host: str) -> Server:
    """Good: RFC 5280 4.2.1.11, 6.1.5 (g)."""
    required = Raw(CONSTRAINTS, bytes.fromhex("3003800100"), critical=True)
    ca = root().intermediate("Requiring", extra=[Raw(POLICIES, ONE_POLICY), required])
    return Server(ca.leaf(host, extra=[Raw(POLICIES, ONE_POLICY)]))


@scenario()
def no_policy_where_any_is_inhibited(host: str) -> Server:
    """Good: RFC 5280 4.2.1.14."""
    inhibited = Raw(INHIBIT_ANY, bytes.fromhex("020100"), critical=True)
    return Server(root().intermediate("Inhibiting", extra=[Raw(POLICIES, ANY_POLICY), inhibited]).leaf(host))


@scenario(chromium_says=REFUSES, why="Chromium processes policies.")
def a_policy_that_is_required_and_missing(host: str) -> Server:
    """Good: our own rule, milder than RFC 5280 6.1.5 (g).

    Policies are not processed, so what a CA requires of them is not kept; OpenSSL without its policy flag and
    cryptography's verifier do as much. Nothing here depends on a policy, so nobody gains anything by it.
    """
    required = Raw(CONSTRAINTS, bytes.fromhex("3003800100"), critical=True)
    return Server(root().intermediate("Requiring", extra=[Raw(POLICIES, ONE_POLICY), required]).leaf(host))
