"""cryptography's verifier, asked about paths that end in the common store.

It knows the profile of the public web's CAs and refuses much that OpenSSL lets through. It must not judge a tenant's
own CAs, since it refuses private ones that are usual and harmless (a CA without keyUsage), nor does it judge alone: it
accepts RSA leaves of 512 to 1024 bits.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from itertools import islice

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.verification import PolicyBuilder, ServerVerifier, Store, VerificationError

from certs.names import Host, host_in_names
from certs.paths import LONGEST_PATH, Path
from certs.verdict import Check, Defect, Finding

_MOST_NAMES = 8
_CANNOT = ("nameConstraints extension contains an unsupported directoryName",)
"""What the verifier says it cannot judge; OpenSSL and :mod:`certs.constraints` both can."""
_SCRATCH_KEY = ec.generate_private_key(ec.SECP256R1())
_CLAUSE = "RFC 5280 6.1; CA/B Baseline Requirements 7.1"
SECOND = Check(
    "second_verifier_agrees",
    "a second verifier, which knows what public CAs have to keep to, agrees",
    _CLAUSE,
    (Defect.MALFORMED, Defect.CONSTRAINT_VIOLATION),
)
_CONSTRAINT_WORDS = ("constraint", "pathlen", "path length", "depth", "keycertsign", "basicconstraints")


JUDGED_ELSEWHERE = frozenset({Defect.HOSTNAME_MISMATCH, Defect.EXPIRED, Defect.NOT_YET_VALID})
"""With these alone found, the verifier can still be asked about the rest: under another name, at another time."""


def second_opinion(path: Path, host: Host, now: datetime, found: Iterable[Finding]) -> tuple[list[Finding], str]:
    """A finding where cryptography's verifier refuses the path; and why it was not asked, where it was not.

    It is asked where the path ends in the common store and all that is ``found`` is :data:`JUDGED_ELSEWHERE`.

    Name and time are not what it is asked about, as :mod:`certs.checks` sees to them: where the host or ``now`` do not
    fit, a name that the certificate has, or a time at which the whole path was valid, is taken in their place.
    """
    if path.anchor is None:
        return [], "no trusted CA is reached"
    if not path.anchor.common:
        return [], "it is asked about public CAs only, and the chain ends in one of your own"
    if not JUDGED_ELSEWHERE.issuperset(finding.defect for finding in found):
        return [], "other checks have failed already"
    answer = _asked(path, host, now)
    if (problem := answer.refusal) is None:
        return [], answer.unasked
    constrained = any(word in problem.lower() for word in _CONSTRAINT_WORDS)
    defect = Defect.CONSTRAINT_VIOLATION if constrained else Defect.MALFORMED
    return [SECOND.finding(defect, f"a second verifier refuses the chain: {problem}", _CLAUSE)], ""


def follows(path: Path, host: Host, now: datetime) -> bool:
    """Whether cryptography's verifier accepts the path, and by exactly these certificates.

    Each signature in it was then verified, with the key of the certificate behind it, by an algorithm that is good.
    """
    return _asked(path, host, now).chain == path.certificates


@dataclass(frozen=True, slots=True)
class _Answer:
    refusal: str | None = None
    chain: tuple[x509.Certificate, ...] | None = None
    """The path by which it accepts; None where it does not, or was not asked."""
    unasked: str = ""
    """Why it could not be asked."""


def _asked(path: Path, host: Host, now: datetime) -> _Answer:
    leaf, *issuers = path.certificates
    anchor = issuers[-1] if issuers else leaf
    first, last = max(facts.not_before for facts in path.line), min(facts.not_after for facts in path.line)
    when = min(max(now, first), last)
    policy = _policy(anchor, when)
    alternatives = path.leaf.extension(x509.SubjectAlternativeName)
    verifier = _verifier(policy, alternatives, host)
    if verifier is None and host_in_names(host, alternatives):
        return _Answer("it has no syntax for any name of the certificate")
    if first > last:
        return _Answer(unasked="the certificates of the chain are at no time valid together")
    if verifier is None:
        return _Answer(unasked="the server's certificate has no name that it could be asked about")
    try:
        return _Answer(None, tuple(verifier.verify(leaf, issuers[:-1])))
    except (VerificationError, ValueError) as error:
        refusal = " ".join(str(error).split())[:300]
    if any(words in refusal for words in _CANNOT):
        return _Answer(unasked="it cannot judge name constraints on directory names")
    # How an anchor itself is written is nobody's concern (RFC 5280 6.1: it is a name and a key): one of the common
    # store has dates in a form that the verifier refuses. What counts is said once more, in good form, and asked again.
    with suppress(VerificationError, UnsupportedAlgorithm, ValueError):
        verifier = _verifier(_policy(_rewritten(anchor), when), alternatives, host)
        if verifier is not None and verifier.verify(leaf, issuers[:-1]):
            return _Answer()
    return _Answer(refusal)


def _policy(anchor: x509.Certificate, when: datetime) -> PolicyBuilder:
    # The depth counts what lies between; a longer path was not built.
    return PolicyBuilder().store(Store([anchor])).time(when).max_chain_depth(LONGEST_PATH)


@lru_cache(256)
def _rewritten(anchor: x509.Certificate) -> x509.Certificate:
    """The anchor's names, key, dates and extensions in a certificate of our own; nobody looks at its signature."""
    builder = (
        x509.CertificateBuilder()
        .subject_name(anchor.subject)
        .issuer_name(anchor.issuer)
        .public_key(anchor.public_key())
        .serial_number(1)
        .not_valid_before(anchor.not_valid_before_utc)
        .not_valid_after(anchor.not_valid_after_utc)
    )
    for extension in anchor.extensions:
        builder = builder.add_extension(extension.value, extension.critical)
    return builder.sign(_SCRATCH_KEY, hashes.SHA256())


def _verifier(
    policy: PolicyBuilder, alternatives: x509.SubjectAlternativeName | None, host: Host
) -> ServerVerifier | None:
    """A verifier for the host, or, where it has no syntax for that (``a_b``, ``-a``), for another name of the leaf's.

    None where there is none.
    """
    for name in islice(_names(alternatives, host), _MOST_NAMES):
        with suppress(ValueError):
            return policy.build_server_verifier(name)
    return None


def _names(alternatives: x509.SubjectAlternativeName | None, host: Host) -> Iterator[x509.DNSName | x509.IPAddress]:
    """The host, if it is named, and what else is."""
    if alternatives is None:
        return
    if host_in_names(host, alternatives):
        yield x509.IPAddress(ipaddress.ip_address(host.text)) if host.is_ip else x509.DNSName(host.text)
    for pattern in alternatives.get_values_for_type(x509.DNSName):
        yield x509.DNSName(pattern.replace("*", "x", 1))
    for address in alternatives.get_values_for_type(x509.IPAddress):
        yield x509.IPAddress(address)
