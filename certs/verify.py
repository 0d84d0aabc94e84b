"""The verdict on a server: what it presented, under the name that was asked for, at a time, for whom the tenant trusts.

:func:`judge` is the one way in. It looks for paths (:mod:`certs.paths`), puts every check of :mod:`certs.checks` to
each, takes the first path without findings, and then lets OpenSSL (:mod:`certs.openssl_errors`) and, in the common
store, cryptography's verifier (:mod:`certs.second_opinion`) object. What could not be looked at counts as not vouched
for, so that no action set for one defect lets another pass unseen.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from itertools import islice
from types import MappingProxyType

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.utils import CryptographyDeprecationWarning
from OpenSSL import SSL, crypto

from certs import revocation
from certs.checks import CHECKS, OF_TRUST, Case, findings, keys_of_our_own, no_key_of_our_own
from certs.facts import Facts, facts_of, facts_of_issuer
from certs.failures import defect_of_failure
from certs.names import Host
from certs.openssl_errors import defect_of, objections, refused
from certs.paths import Path, Search
from certs.second_opinion import SECOND, follows, second_opinion
from certs.signatures import Signatures
from certs.trust import Collector, TrustStore
from certs.verdict import ORDER, Anchored, Check, Defect, Finding, Verdict

__all__ = ["Handshake", "defect_of_failure", "handshake_of", "judge", "valid_until"]

MOST_CERTIFICATES = 16
MOST_BYTES = 100 * 1024
MOST_PATHS = 32
"""Paths that are judged; the best of them counts."""
KEPT = timedelta(hours=1)
"""For how long a verdict may be kept at most."""

SENT = Check(
    "a_certificate_was_sent", "the server sent a certificate of its own", "RFC 8446 4.4.2.4", (Defect.MALFORMED,)
)
READABLE = Check(
    "certificates_can_be_read", "every certificate that it sent can be read", "RFC 5280 4.1", (Defect.MALFORMED,)
)
BOUNDED = Check(
    "certificates_are_few_and_small",
    f"it sent no more than {MOST_CERTIFICATES} certificates and {MOST_BYTES // 1024} KiB",
    "RFC 8446 4.4.2",
    (Defect.MALFORMED,),
)
FOUND = Check(
    "path_is_found", "the search for a trusted CA comes to its end", "RFC 4158 2.4.1",
    (Defect.MALFORMED,),
)  # fmt: skip
LOOKED_AT = Check(
    "own_certificate_can_be_looked_at",
    "there is a certificate of the server's own to look at",
    "what cannot be looked at is not vouched for",
    (Defect.INCOMPLETE_CHAIN, Defect.HOSTNAME_MISMATCH),
)
CHECKS_HERE = (SENT, READABLE, BOUNDED, FOUND, LOOKED_AT)
_NOTHING_TO_LOOK_AT = "the server's own certificate cannot be looked at"
_UNLOOKED: Mapping[str, str] = MappingProxyType(
    {each.check.name: _NOTHING_TO_LOOK_AT for each in CHECKS if each is not no_key_of_our_own}
    | {FOUND.name: _NOTHING_TO_LOOK_AT, SECOND.name: _NOTHING_TO_LOOK_AT}
    | revocation.unmade(_NOTHING_TO_LOOK_AT)
)


@dataclass(frozen=True, slots=True)
class Handshake:
    """What a server showed: its certificates, its own first, and what OpenSSL objected to, as (code, depth)."""

    presented: tuple[x509.Certificate, ...]
    errors: tuple[tuple[int, int], ...] = ()
    unread: tuple[str, ...] = ()
    """Why each certificate that could not be parsed could not; those are not in ``presented``."""
    leaf_unread: bool = False
    """The server's own is one of them."""
    stapled: bytes = field(default=b"", repr=False)
    """The OCSP answer that was sent along, as it came."""
    encoded: tuple[bytes, ...] = field(default=(), repr=False, compare=False)
    """``presented`` as DER. Made of it where it is left out: who has the octets already spares that."""

    def __post_init__(self) -> None:
        if len(self.encoded) != len(self.presented):
            octets = tuple(certificate.public_bytes(Encoding.DER) for certificate in self.presented)
            object.__setattr__(self, "encoded", octets)  # frozen, and not yet seen by anybody


def handshake_of(connection: SSL.Connection, seen: Collector) -> Handshake:
    """What the server of a connection showed, after the handshake; ``seen``: what was written down during it.

    Raises nothing for certificates that cannot be read: they are told apart in the result.
    """
    return replace(certificates_of(connection), errors=tuple(seen.errors), stapled=seen.stapled)


def certificates_of(connection: SSL.Connection) -> Handshake:
    """The same without what was written down: the certificates alone."""
    presented: list[x509.Certificate] = []
    encoded: list[bytes] = []
    unread: list[str] = []
    leaf_unread = False
    for place, certificate in enumerate(connection.get_peer_cert_chain() or ()):
        octets = crypto.dump_certificate(crypto.FILETYPE_ASN1, certificate)
        try:
            presented.append(_load(certificate, octets))
            encoded.append(octets)
        except (ValueError, x509.InvalidVersion) as error:
            unread.append(str(error))
            leaf_unread |= place == 0
    return Handshake(tuple(presented), (), tuple(unread), leaf_unread, encoded=tuple(encoded))


def judge(
    handshake: Handshake,
    host: Host,
    trust: TrustStore,
    now: datetime,
    own_keys: frozenset[bytes] = frozenset(),
    signatures: Signatures | None = None,
) -> Verdict:
    """All that is wrong with the server, and the path in which it was found.

    ``host`` is the name that the client asked for. ``own_keys`` are SHA-256 digests of the keys with which signing CAs
    of this installation issue. ``now`` is aware. Nothing is raised for anything that a stranger presents.
    ``signatures`` are to be verified by that; where it is exhausted afterwards, the verdict is for want of more.

    Of several paths to an anchor the first without findings counts; else the one whose worst finding comes last in the
    order of :class:`Defect`, then the one with the fewest findings, then the first.
    """
    presented, problems = _read(handshake)
    if handshake.leaf_unread or not presented or presented[0].certificate is not handshake.presented[0]:
        return _not_judged(handshake, presented, problems, own_keys)
    search = Search(presented, trust, signatures)
    if (short := _shortest_way(search, presented, host, now, own_keys)) is not None:
        found = [*problems, *objections(handshake.errors, short, problems)]
        return Verdict.of(found, short.certificates, anchored=Anchored.COMMON, unmade=revocation.OFF)
    path, found = _best(search, presented, host, now, own_keys)
    if search.exhausted and path.anchor is None:
        what = "looking for a path to a trusted CA takes more steps than are taken here"
        problems.append(_malformed(FOUND, what))
    found = [*problems, *found]
    found += objections(handshake.errors, path, found)
    more, unasked = second_opinion(path, host, now, found)
    unmade = {**revocation.OFF, SECOND.name: unasked} if unasked else revocation.OFF
    if path.anchor is None:
        unmade = {**unmade, **_UNANCHORED}
    return Verdict.of([*found, *more], path.certificates, anchored=_anchored(path), unmade=unmade)


_UNANCHORED = {each.check.name: "no trusted CA is reached: why, another check says" for each in OF_TRUST}
"""One of them has failed, and that counts."""


def _anchored(path: Path) -> Anchored:
    if path.anchor is None:
        return Anchored.NOWHERE
    return Anchored.COMMON if path.anchor.common else Anchored.OWN


def valid_until(verdict: Verdict, now: datetime) -> datetime:
    """Until when the verdict may be kept: one hour, or until the next notBefore or notAfter in its chain."""
    times = [time for c in verdict.chain for time in (c.not_valid_before_utc, c.not_valid_after_utc)]
    return min([now + KEPT, *(time for time in times if time >= now)])


def _shortest_way(
    search: Search, presented: Sequence[Facts], host: Host, now: datetime, own_keys: frozenset[bytes]
) -> Path | None:
    """The path of nearly every good server, without verifying a signature twice; None: look for one step by step.

    It is the one that the search would come to first, ends in the common store, and no check finds anything in it.
    cryptography's verifier, which has to be asked about it anyway, accepts it by exactly these certificates, and so
    vouches for the signatures as well: the one thing of the path that was not looked at before.
    """
    path = search.likeliest()
    if path is None or path.anchor is None or not path.anchor.common:
        return None
    if findings(Case(path, host, now, presented, own_keys)) or not follows(path, host, now):
        return None
    return path


def _best(
    search: Search, presented: Sequence[Facts], host: Host, now: datetime, own_keys: frozenset[bytes]
) -> tuple[Path, list[Finding]]:
    best: tuple[tuple[int, int], Path, list[Finding]] | None = None
    for tried, path in enumerate(search.paths(), start=1):
        found = findings(Case(path, host, now, presented, own_keys))
        rank = (-min((ORDER[finding.defect] for finding in found), default=len(ORDER)), len(found))
        if best is None or rank < best[0]:
            best = rank, path, found
        if not found or tried == MOST_PATHS:
            break
    if best is None:
        raise AssertionError("a search yields at least the server's own certificate")
    return best[1], best[2]


def _read(handshake: Handshake) -> tuple[list[Facts], list[Finding]]:
    """The certificates that are looked at, and what is wrong with the message as a whole."""
    problems = [_malformed(READABLE, f"a certificate cannot be read: {error}") for error in handshake.unread]
    presented: list[Facts] = []
    if len(handshake.presented) > MOST_CERTIFICATES:
        what = f"the server sent {len(handshake.presented)} certificates; at most {MOST_CERTIFICATES} are looked at"
        problems.append(_malformed(BOUNDED, what))
    size = 0
    for certificate, octets in islice(zip(handshake.presented, handshake.encoded, strict=True), MOST_CERTIFICATES):
        size += len(octets)
        if size > MOST_BYTES:
            what = f"the server's certificates are larger than {MOST_BYTES // 1024} KiB"
            problems.append(_malformed(BOUNDED, what))
            break
        try:
            facts = facts_of_issuer(certificate, len(octets)) if presented else facts_of(certificate)
            # One that is sent twice is two, as it would be without what is kept.
            presented.append(facts if facts not in presented else facts_of(certificate))
        except ValueError as error:
            problems.append(_malformed(READABLE, f"a certificate cannot be read: {error}"))
    return presented, problems


def _not_judged(
    handshake: Handshake, presented: Sequence[Facts], problems: list[Finding], own_keys: frozenset[bytes]
) -> Verdict:
    """There is no certificate of the server to look at: nothing vouches for it, under any name."""
    if not problems:
        problems.append(_malformed(SENT, "the server sent no certificate"))
    what = "the server's certificate cannot be looked at"
    found = [
        *problems,
        *(refused(defect_of(code), code) for code, _ in handshake.errors),
        *keys_of_our_own(presented, (), own_keys),
        *(LOOKED_AT.finding(defect, what, LOOKED_AT.clause) for defect in LOOKED_AT.defects),
    ]
    return Verdict.of(dict.fromkeys(found), handshake.presented, handshake.leaf_unread, unmade=_UNLOOKED)


def _malformed(check: Check, what: str) -> Finding:
    remedy = "ask the server's operator for a certificate that is in order"
    return check.finding(Defect.MALFORMED, what, check.clause, None, remedy)


def _load(certificate: crypto.X509, octets: bytes) -> x509.Certificate:
    if certificate.get_serial_number() > 0:
        return x509.load_der_x509_certificate(octets)
    with warnings.catch_warnings():
        # cryptography warns of serial numbers below one, which roots of the common store have; a check looks at them.
        warnings.simplefilter("ignore", CryptographyDeprecationWarning)
        return x509.load_der_x509_certificate(octets)
