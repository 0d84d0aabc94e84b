"""Certificate policies, where a CA requires that there be one: whether any is valid along the whole path.

Nobody here asks for a policy: every one is acceptable (RFC 5280 6.1.1 (c)), none has to be there (6.1.1 (e)), and
mappings and anyPolicy are allowed (6.1.1 (d), (f)). But a CA may require of what is below it that it have one
(requireExplicitPolicy, 4.2.1.11), and then a path without a valid policy is no path (6.1.5 (g)). OpenSSL's own check
is of no use for it: with a set of acceptable policies that is empty, which is all that can be set through pyOpenSSL, it
refuses every path of which a policy is required.

The valid policies are kept as RFC 9618 puts them, and not as the tree of RFC 5280, which a stranger can make grow with
every certificate: of a level there is but the set of policies that count on the next (the union of all
expected_policy_set), which is never larger than what the certificates themselves hold.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cryptography import x509
from cryptography.x509.oid import ExtensionOID

from certs.der import OBJECT_IDENTIFIER, DerError, Element, read
from certs.facts import Facts

ANY_POLICY = bytes.fromhex("551d2000")
"""2.5.29.32.0, as the content of an OBJECT IDENTIFIER; so are all policies here."""


@dataclass(frozen=True, slots=True)
class Missing:
    """Of a path a policy is required, and none is valid: by whom (its place in the line), and why none is."""

    required_by: int
    why: str


def missing(line: Sequence[Facts]) -> Missing | None:
    """Whether a path lacks a policy that is required of it; None where none is, or one is valid.

    ``line`` are the certificates below the anchor, the server's first. What an anchor itself says of policies is left
    aside (RFC 5280 6.1: of an anchor name and key count).
    """
    # Nearly no path requires any, and this is asked of each.
    requiring = [place for place, facts in enumerate(line) if _requires(facts) is not None]
    if not requiring:
        return None
    try:
        valid, explicit = _processed(line)
    except DerError as error:
        return Missing(requiring[-1], f"policies of the path cannot be read: {error}")
    if explicit > 0 or valid:
        return None
    return Missing(requiring[-1], "no policy is valid along the whole path")


def _processed(line: Sequence[Facts]) -> tuple[frozenset[bytes], int]:
    """The policies that are valid at the end, and explicit_policy. Raises DerError."""
    valid = frozenset({ANY_POLICY})
    explicit = mapping = inhibit_any = len(line) + 1
    for place, facts in reversed(list(enumerate(line))):
        last = place == 0
        any_counts = inhibit_any > 0 or (not last and facts.self_issued)
        valid = _valid(valid, _policies(facts), any_counts)
        if not last:
            valid = _mapped(valid, _mappings(facts), mapping > 0)
        # RFC 5280 6.1.4 (h); 6.1.5 (a): the last one's counts whether it is self-issued or not.
        if last or not facts.self_issued:
            explicit, mapping, inhibit_any = (max(0, each - 1) for each in (explicit, mapping, inhibit_any))
        required = _requires(facts)
        if required is not None and not (last and required):  # 6.1.5 (b)
            explicit = min(explicit, required)
        limits = facts.extension(x509.PolicyConstraints)
        if limits is not None and limits.inhibit_policy_mapping is not None:
            mapping = min(mapping, limits.inhibit_policy_mapping)
        if (limit := facts.extension(x509.InhibitAnyPolicy)) is not None:
            inhibit_any = min(inhibit_any, limit.skip_certs)
    return valid, explicit


def _valid(expected: frozenset[bytes], named: frozenset[bytes], any_counts: bool) -> frozenset[bytes]:
    """The policies of a certificate that are valid (RFC 5280 6.1.3 (d), (e); RFC 9618 5.2)."""
    found = named - {ANY_POLICY}
    if ANY_POLICY not in expected:
        found &= expected
    return found | expected if ANY_POLICY in named and any_counts else found


def _mapped(valid: frozenset[bytes], mappings: dict[bytes, set[bytes]], allowed: bool) -> frozenset[bytes]:
    """What is expected on the next level instead of what is valid on this one (RFC 5280 6.1.4 (b))."""
    if not mappings:
        return valid
    kept = valid - mappings.keys()
    if not allowed:
        return kept
    from_any = ANY_POLICY in valid
    return kept.union(*(theirs for ours, theirs in mappings.items() if from_any or ours in valid))


def _requires(facts: Facts) -> int | None:
    limits = facts.extension(x509.PolicyConstraints)
    return None if limits is None else limits.require_explicit_policy


def _policies(facts: Facts) -> frozenset[bytes]:
    """Those that a certificate names. Raises DerError."""
    policies = facts.extension(x509.CertificatePolicies)
    if policies is None:
        return frozenset()
    return frozenset(_oid(next(one.children(), one)) for one in read(policies.public_bytes()).children())


def _mappings(facts: Facts) -> dict[bytes, set[bytes]]:
    """A CA's policies, and for each what others call it (RFC 5280 4.2.1.5). Raises DerError.

    anyPolicy can be mapped neither from nor to (6.1.4 (a)).
    """
    found: dict[bytes, set[bytes]] = {}
    for extension in facts.extensions:
        if extension.oid == ExtensionOID.POLICY_MAPPINGS:
            for pair in read(extension.value.public_bytes()).children():
                ours, theirs = _pair(pair)
                found.setdefault(ours, set()).add(theirs)
    return found


def _pair(pair: Element) -> tuple[bytes, bytes]:
    parts = list(pair.children())
    if len(parts) != 2:
        raise DerError("a policy mapping that is not of two")
    ours, theirs = _oid(parts[0]), _oid(parts[1])
    if ANY_POLICY in (ours, theirs):
        raise DerError("anyPolicy is mapped")
    return ours, theirs


def _oid(element: Element) -> bytes:
    if element.tag != OBJECT_IDENTIFIER:
        raise DerError("a policy that is no object identifier")
    return element.content
