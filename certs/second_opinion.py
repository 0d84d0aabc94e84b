"""cryptography's verifier, asked about paths that end in the common store.

It knows the profile of the public web's CAs and refuses much that OpenSSL lets through. It must not judge a tenant's
own CAs, since it refuses private ones that are usual and harmless (a CA without keyUsage), nor does it judge alone: it
accepts RSA leaves of 512 to 1024 bits.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime

from cryptography import x509
from cryptography.x509.verification import PolicyBuilder, ServerVerifier, Store, VerificationError

from certs.names import Host
from certs.paths import LONGEST_PATH, Path
from certs.verdict import Defect, Finding

_MOST_NAMES = 8
_CLAUSE = "RFC 5280 6.1; CA/B Baseline Requirements 7.1"
_CONSTRAINT_WORDS = ("constraint", "pathlen", "path length", "depth", "keycertsign", "basicconstraints")


def disagreement(path: Path, host: Host, now: datetime) -> Iterator[Finding]:
    """A finding where cryptography's verifier refuses the path, which has to end in an anchor."""
    leaf, *issuers = path.certificates
    problem = _refusal(leaf, issuers, host, now)
    if problem is not None:
        constrained = any(word in problem.lower() for word in _CONSTRAINT_WORDS)
        defect = Defect.CONSTRAINT_VIOLATION if constrained else Defect.MALFORMED
        yield Finding(defect, f"a second verifier refuses the chain: {problem}", _CLAUSE, None)


def _refusal(leaf: x509.Certificate, issuers: list[x509.Certificate], host: Host, now: datetime) -> str | None:
    anchor = issuers[-1] if issuers else leaf
    # The depth counts what lies between; a longer path was not built.
    policy = PolicyBuilder().store(Store([anchor])).time(now).max_chain_depth(LONGEST_PATH)
    try:
        _verifier(policy, leaf, host).verify(leaf, issuers[:-1])
    except (VerificationError, ValueError) as error:
        return " ".join(str(error).split())[:300]
    return None


def _verifier(policy: PolicyBuilder, leaf: x509.Certificate, host: Host) -> ServerVerifier:
    """A verifier for the host, or, where it has no syntax for that (``a_b``, ``-a``), one of the leaf's.

    Whether the leaf is for the host was checked before (:func:`certs.checks.host_is_named`). Raises ValueError.
    """
    if host.is_ip:
        return policy.build_server_verifier(x509.IPAddress(ipaddress.ip_address(host.text)))
    try:
        return policy.build_server_verifier(x509.DNSName(host.text))
    except ValueError:
        names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        for name in names.get_values_for_type(x509.DNSName)[:_MOST_NAMES]:
            with suppress(ValueError):
                return policy.build_server_verifier(x509.DNSName(name.replace("*", "x", 1)))
        raise
