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

from certs.names import Host, host_in_certificate
from certs.paths import LONGEST_PATH, Path
from certs.verdict import Defect, Finding

_MOST_NAMES = 8
_CLAUSE = "RFC 5280 6.1; CA/B Baseline Requirements 7.1"
_CONSTRAINT_WORDS = ("constraint", "pathlen", "path length", "depth", "keycertsign", "basicconstraints")


JUDGED_ELSEWHERE = frozenset({Defect.HOSTNAME_MISMATCH, Defect.EXPIRED, Defect.NOT_YET_VALID})
"""With these alone found, the verifier can still be asked about the rest: under another name, at another time."""


def disagreement(path: Path, host: Host, now: datetime) -> Iterator[Finding]:
    """A finding where cryptography's verifier refuses the path, which has to end in an anchor.

    Name and time are not what it is asked about, as :mod:`certs.checks` sees to them: where the host or ``now`` do not
    fit, a name that the certificate has, or a time at which the whole path was valid, is taken in their place.
    """
    problem = _refusal(path, host, now)
    if problem is not None:
        constrained = any(word in problem.lower() for word in _CONSTRAINT_WORDS)
        defect = Defect.CONSTRAINT_VIOLATION if constrained else Defect.MALFORMED
        yield Finding(defect, f"a second verifier refuses the chain: {problem}", _CLAUSE, None)


def _refusal(path: Path, host: Host, now: datetime) -> str | None:
    leaf, *issuers = path.certificates
    anchor = issuers[-1] if issuers else leaf
    first, last = max(facts.not_before for facts in path.line), min(facts.not_after for facts in path.line)
    when = min(max(now, first), last)
    # The depth counts what lies between; a longer path was not built.
    policy = PolicyBuilder().store(Store([anchor])).time(when).max_chain_depth(LONGEST_PATH)
    verifier = _verifier(policy, leaf, host)
    if verifier is None and host_in_certificate(host, leaf):
        return "it has no syntax for any name of the certificate"
    if first > last or verifier is None:
        return None  # it can be asked nothing but what was found already
    try:
        verifier.verify(leaf, issuers[:-1])
    except (VerificationError, ValueError) as error:
        return " ".join(str(error).split())[:300]
    return None


def _verifier(policy: PolicyBuilder, leaf: x509.Certificate, host: Host) -> ServerVerifier | None:
    """A verifier for the host, or, where it has no syntax for that (``a_b``, ``-a``), for another name of the leaf's.

    None where there is none.
    """
    names: list[x509.DNSName | x509.IPAddress] = []
    if host_in_certificate(host, leaf):
        names.append(x509.IPAddress(ipaddress.ip_address(host.text)) if host.is_ip else x509.DNSName(host.text))
    with suppress(x509.ExtensionNotFound):
        alternatives = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        names += [x509.DNSName(n.replace("*", "x", 1)) for n in alternatives.get_values_for_type(x509.DNSName)]
        names += [x509.IPAddress(address) for address in alternatives.get_values_for_type(x509.IPAddress)]
    for name in names[:_MOST_NAMES]:
        with suppress(ValueError):
            return policy.build_server_verifier(name)
    return None
