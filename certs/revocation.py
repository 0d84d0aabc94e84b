"""Whether certificates were revoked: which of a chain are asked about, where to ask, and what it is in a verdict.

:func:`subjects` are the certificates of a path about which there is something to ask, each with its issuer and with
where it says that one can ask. :mod:`certs.crl` and :mod:`certs.ocsp` read the answers into a :class:`Standing`, and
raise :class:`Unusable` for those that do not count. Nothing here fetches anything.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import islice
from types import MappingProxyType
from urllib.parse import urlsplit

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import AuthorityInformationAccessOID, ObjectIdentifier

from certs.facts import Facts, facts_of, facts_of_issuer
from certs.verdict import Check, Defect, Finding, Verdict

SLACK = timedelta(minutes=5)
"""By how much the clock of whoever signs may differ from ours."""
UNDATED = timedelta(days=1)
"""For how long what says no nextUpdate counts."""
SHORT_LIVED = timedelta(days=7)
"""Of a server's certificate of no longer a life that names nothing to ask, silence is good: it ends before most CRLs
that could list it (CA/B Baseline Requirements 1.6.1, "short-lived subscriber certificate")."""
MOST_URLS = 4
LONGEST_URL = 2048
_TOLD = 120
"""Characters of what cryptography says."""
UNREADABLE = (
    ValueError,
    OverflowError,
    KeyError,
    UnsupportedAlgorithm,
    x509.InvalidVersion,
    x509.DuplicateExtension,
    x509.UnsupportedGeneralNameType,
)
"""What cryptography raises for CRLs and OCSP answers that are none."""
_NO_REV_AVAIL = ObjectIdentifier("2.5.29.56")


NOTHING_REVOKED = Check("nothing_is_revoked", "no certificate was revoked", "RFC 5280 6.3; RFC 6960", (Defect.REVOKED,))
REVOCATION_KNOWN = Check(
    "revocation_is_known",
    "whether they were revoked is known of all certificates",
    "RFC 5280 6.3; RFC 6960 2.2",
    (Defect.REVOCATION_UNKNOWN,),
)


def unmade(why: str, why_not_known: str = "") -> dict[str, str]:
    """For a verdict: neither was found out, and why."""
    return {NOTHING_REVOKED.name: why, REVOCATION_KNOWN.name: why_not_known or why}


OFF: Mapping[str, str] = MappingProxyType(unmade("nobody is asked (verification.revocation is off)"))


class Unusable(ValueError):  # noqa: N818 - it says what the CRL or answer is; that is not always anybody's fault
    """The CRL or OCSP answer does not count for this certificate, or not at all: why, in a few words."""

    @classmethod
    def because(cls, error: Exception) -> Unusable:
        """One of these as it is; one of :data:`UNREADABLE` in words, on one line."""
        return error if isinstance(error, cls) else cls(f"it cannot be read: {' '.join(str(error).split())[:_TOLD]}")


@dataclass(frozen=True, slots=True)
class Revocation:
    """When a certificate was revoked, and why as far as that was said (RFC 5280 5.3.1)."""

    at: datetime
    reason: x509.ReasonFlags | None = None


@dataclass(frozen=True, slots=True)
class Standing:
    """What a CRL or an OCSP answer says of one certificate, since when and until when.

    ``revocation`` is None where it is good.
    """

    this_update: datetime
    until: datetime
    clause: str
    revocation: Revocation | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Subject:
    """A certificate to be asked about. ``place`` counts from the server's own (0); ``points`` name its CRLs.

    Of several addresses one is enough. ``must_staple``: its server promised to send an OCSP answer along (RFC 7633).
    ``silence_is_good``: nothing can be known of it by design (RFC 9608, or :data:`SHORT_LIVED`), so that nobody is
    asked; that it was revoked counts from whomever it is known.
    """

    place: int
    facts: Facts
    issuer: Facts
    points: frozenset[x509.GeneralName] = frozenset()
    crl_urls: tuple[str, ...] = ()
    ocsp_urls: tuple[str, ...] = ()
    must_staple: bool = False
    silence_is_good: bool = False

    @property
    def who(self) -> str:
        """The certificate in words."""
        return f'the issuing certificate "{self.facts.title}"' if self.place else "the server's certificate"


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a tenant's settings make of a verdict.

    ``blocked``: the server is blocked for it, and will be for as long as the verdict may be kept without what others
    know. ``unknown``: they say something of ``revocation_unknown``.
    """

    blocked: Callable[[Verdict], bool]
    unknown: Callable[[Verdict], bool]


def subjects(chain: Sequence[x509.Certificate]) -> tuple[Subject, ...]:
    """Those of a path that can be revoked: all but its anchor, the last, which nobody can revoke but its owner."""
    if len(chain) < 2:
        return ()
    line = [facts_of_issuer(one, len(one.public_bytes(Encoding.DER))) if place else facts_of(one)
            for place, one in enumerate(chain)]  # fmt: skip
    return tuple(_subject(place, facts, line[place + 1]) for place, facts in enumerate(line[:-1]))


def _subject(place: int, facts: Facts, issuer: Facts) -> Subject:
    points = list(_points(facts))
    uris = (name.value for name in points if isinstance(name, x509.UniformResourceIdentifier))
    responders = tuple(islice(filter(_fetchable, _responders(facts)), MOST_URLS))
    features = facts.extension(x509.TLSFeature)
    return Subject(
        place,
        facts,
        issuer,
        frozenset(points),
        tuple(islice(filter(_fetchable, uris), MOST_URLS)),
        responders,
        features is not None and x509.TLSFeatureType.status_request in features,
        _silence_is_good(facts, names_somebody=bool(points or responders)),
    )


def _points(facts: Facts) -> Iterator[x509.GeneralName]:
    """The names of CRLs for every reason, signed by the certificate's issuer (RFC 5280 4.2.1.13).

    One that is for some reasons only does not tell whether a certificate is good, one of another issuer needs a path of
    its own, and a name relative to the issuer's leads into a directory; none of them is used.
    """
    for point in facts.extension(x509.CRLDistributionPoints) or ():
        if point.reasons is None and point.crl_issuer is None:
            yield from point.full_name or ()


def _responders(facts: Facts) -> Iterator[str]:
    for access in facts.extension(x509.AuthorityInformationAccess) or ():
        place = access.access_location
        if access.access_method == AuthorityInformationAccessOID.OCSP and isinstance(
            place, x509.UniformResourceIdentifier
        ):
            yield place.value


def _fetchable(url: str) -> bool:
    """Whether it is an address that is asked: plain HTTP, since with HTTPS one would have to know the answer before."""
    if len(url) > LONGEST_URL or not url.isascii() or not url.isprintable() or " " in url:
        return False
    try:
        parts = urlsplit(url)
        return parts.scheme == "http" and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


def _silence_is_good(facts: Facts, *, names_somebody: bool) -> bool:
    if facts.ca:
        return False
    if any(extension.oid == _NO_REV_AVAIL for extension in facts.extensions):
        return True  # RFC 9608 4: nobody is asked
    return not names_somebody and facts.not_after - facts.not_before <= SHORT_LIVED


def revoked(subject: Subject, standing: Standing, revocation: Revocation, source: str) -> Finding:
    """The finding for what is revoked; ``source`` says where that is known from."""
    why = _REASONS.get(revocation.reason) if revocation.reason is not None else None
    what = f"was revoked on {revocation.at:%Y-%m-%d %H:%M:%S} UTC" + (f": {why}" if why else "")
    remedy = "do not go on; the server's operator has to get a new certificate"
    return NOTHING_REVOKED.finding(
        Defect.REVOKED, f"{subject.who} {what} ({source})", standing.clause, subject.place, remedy
    )


def unknown(subject: Subject, reasons: Sequence[str]) -> Finding:
    """The finding for what nobody could be heard about; ``reasons``: why not, for each that was asked."""
    promised = ["its server is to send an OCSP answer along, and sent none that counts"] if subject.must_staple else []
    why = "; ".join([*reasons, *promised]) or "it names no CRL and no OCSP responder that could be asked"
    remedy = (
        "see that the proxy reaches what is named here, put the CA's CRL into verification.crl_directory, or set "
        "revocation_unknown to allow"
    )
    what = f"whether {subject.who} was revoked is not known: {why}"
    return REVOCATION_KNOWN.finding(Defect.REVOCATION_UNKNOWN, what, REVOCATION_KNOWN.clause, subject.place, remedy)


_REASONS = {
    x509.ReasonFlags.key_compromise: "its key was compromised",
    x509.ReasonFlags.ca_compromise: "the key of its CA was compromised",
    x509.ReasonFlags.affiliation_changed: "its owner's name or affiliation has changed",
    x509.ReasonFlags.superseded: "another one has taken its place",
    x509.ReasonFlags.cessation_of_operation: "it is not needed any more",
    x509.ReasonFlags.certificate_hold: "it is on hold",
    x509.ReasonFlags.privilege_withdrawn: "what it vouches for was withdrawn",
    x509.ReasonFlags.aa_compromise: "the attribute authority was compromised",
}
