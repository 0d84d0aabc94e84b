"""A chain that lacks an issuer, and how to go on: which certificate lacks it, where it says that one is, what fits.

Nothing is fetched here. A server is judged anew with what was found added to what it has sent, and the verdict counts
where an anchor of the trust store is reached: a root that was fetched is a certificate like any other, and ends
nothing. In the handshake OpenSSL saw the chain incomplete; that it says so no longer counts for a path that is whole
(:func:`certs.openssl_errors.objections`), everything else does, and it is asked again about exactly that path. There it
knows neither purpose nor security level, which cannot be set outside of a handshake: of the certificates that it has
not seen in one, :mod:`certs.checks` looks at both.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import islice

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import AuthorityInformationAccessOID

from certs.facts import Facts, facts_of, facts_of_issuer
from certs.names import Host
from certs.signatures import Signatures
from certs.trust import TrustStore
from certs.verdict import COVERED_BY_UNTRUSTED, Defect, Finding, Verdict
from certs.verify import MOST_BYTES, MOST_CERTIFICATES, Handshake, judge

MOST_URLS = 2
"""URLs of one certificate that are asked. Nearly all have one."""
MOST_TRIED = 8
"""Certificates of the right name, for one that lacks its issuer, of which the signature is looked at."""
MOST_ROUNDS = 6
"""How often a chain is made longer by what is known, at a time."""
_HTTP_URL = re.compile(r"http://[!-~]+\Z", re.IGNORECASE)
_FORGED = frozenset({Defect.BAD_SIGNATURE, Defect.OWN_CA})
"""With these found nobody is asked for more."""

Known = Callable[[Facts], Iterable[x509.Certificate]]
"""From a certificate to those that may be its issuer."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """A server judged by what it has sent (``first``), and again with certificates added."""

    handshake: Handshake
    host: Host
    trust: TrustStore
    own_keys: frozenset[bytes]
    first: Verdict
    last: Verdict

    @classmethod
    def of(
        cls,
        handshake: Handshake,
        host: Host,
        trust: TrustStore,
        own_keys: frozenset[bytes],
        moment: datetime,
        signatures: Signatures | None = None,
    ) -> Attempt:
        """By what it has sent alone. ``moment`` is aware; ``signatures`` as of :func:`certs.verify.judge`."""
        verdict = judge(handshake, host, trust, moment, own_keys, signatures)
        return cls(handshake, host, trust, own_keys, verdict, verdict)

    @property
    def lacking(self) -> Facts | None:
        """The certificate whose issuer is missing; None where none is, or where finding it would change nothing."""
        last = self.last
        defects = {finding.defect for finding in last.findings}
        # Where there is no path, as the server's own certificate cannot be read, the finding is about no certificate.
        missing = any(f.defect is Defect.INCOMPLETE_CHAIN and f.certificate is not None for f in last.findings)
        if not missing or not defects.isdisjoint(_FORGED) or not last.chain:
            return None
        try:
            return facts_of(last.chain[-1])
        except ValueError:
            return None

    def completed(self, known: Known, moment: datetime, signatures: Signatures | None = None) -> Attempt:
        """The same with issuers from ``known`` added, for as long as one is missing and known."""
        attempt = self
        for _ in range(MOST_ROUNDS):
            child = attempt.lacking
            if child is None or not (found := fitting(child, known(child))):
                break
            longer = attempt.with_(found, moment, signatures)
            if longer is None:
                break
            attempt = longer
        return attempt

    def with_(
        self, certificates: Iterable[x509.Certificate], moment: datetime, signatures: Signatures | None = None
    ) -> Attempt | None:
        """Judged with these certificates added; None where they are there already, or too many with them."""
        before = self.handshake
        new = tuple(c for c in dict.fromkeys(certificates) if c not in before.presented)
        encoded = tuple(certificate.public_bytes(Encoding.DER) for certificate in new)
        presented, octets = (*before.presented, *new), (*before.encoded, *encoded)
        if not new or len(presented) > MOST_CERTIFICATES or sum(map(len, octets)) > MOST_BYTES:
            return None
        handshake = replace(before, presented=presented, encoded=octets)
        verdict = judge(handshake, self.host, self.trust, moment, self.own_keys, signatures)
        return replace(self, handshake=handshake, last=verdict)

    @property
    def whole(self) -> bool:
        """Whether an anchor was reached."""
        return COVERED_BY_UNTRUSTED.isdisjoint(self.last.defects)

    def verdict(self, sources: str = "", remark: str = "") -> Verdict:
        """What counts: the last verdict where an anchor was reached, else the first, with a remark.

        Of the others' findings one counts without an anchor, too: that a chain leads to a key of our own. ``sources``
        are where the certificates that were added are from, ``remark`` is what came of looking for one, both in words.
        """
        if self.first is self.last:
            return _with_remark(self.first, remark)
        if self.whole:
            return replace(self.last, completed=sources)
        own = [finding for finding in self.last.findings if finding.defect is Defect.OWN_CA]
        # It counts in a longer chain than the one that is shown.
        findings = [*self.first.findings, *(replace(finding, certificate=None) for finding in own)]
        return _with_remark(replace(self.first, findings=Verdict.of(findings).findings), remark)


def issuer_urls(child: Facts) -> tuple[str, ...]:
    """Where a certificate says that its issuer's is, over http: caIssuers (RFC 5280 4.2.2.1), at most two."""
    access = child.extension(x509.AuthorityInformationAccess)
    return tuple(islice(dict.fromkeys(_urls(access)), MOST_URLS)) if access is not None else ()


def _urls(access: x509.AuthorityInformationAccess) -> Iterator[str]:
    for description in access:
        location = description.access_location
        if description.access_method != AuthorityInformationAccessOID.CA_ISSUERS:
            continue
        if isinstance(location, x509.UniformResourceIdentifier) and _HTTP_URL.match(location.value):
            yield location.value


def fitting(child: Facts, candidates: Iterable[x509.Certificate]) -> list[x509.Certificate]:
    """Those that are the issuer: by name, key identifier and signature (RFC 5280 6.1.3 (a), 4.2.1.1)."""
    signatures = Signatures(MOST_TRIED)
    return [candidate for candidate in candidates if _fits(child, candidate, signatures)]


def _fits(child: Facts, candidate: x509.Certificate, signatures: Signatures) -> bool:
    try:
        issuer = facts_of_issuer(candidate, len(candidate.public_bytes(Encoding.DER)))
    except ValueError:
        return False
    named = issuer.subject == child.issuer and child.names_as_issuer(issuer)
    return named and signatures.verified(child, issuer)


def _with_remark(verdict: Verdict, remark: str) -> Verdict:
    """The verdict; what it says of the missing issuer says what came of looking for it, too."""
    if not remark:
        return verdict
    return replace(verdict, findings=tuple(_remarked(finding, remark) for finding in verdict.findings))


def _remarked(finding: Finding, remark: str) -> Finding:
    if finding.defect is not Defect.INCOMPLETE_CHAIN:
        return finding
    return replace(finding, explanation=f"{finding.explanation}; {remark}")
