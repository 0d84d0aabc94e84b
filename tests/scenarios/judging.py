"""A case judged without a running proxy: as it is, and after a handshake in memory with OpenSSL on both sides."""

from __future__ import annotations

import contextlib
import datetime as dt
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

from cryptography import x509
from OpenSSL import SSL

from certs.crl import Crl
from certs.names import parse_host
from certs.ocsp import standing as ocsp_standing
from certs.revocation import Standing, Subject, Unusable, revoked, subjects, unknown
from certs.trust import server_leg_context
from certs.verdict import Verdict
from certs.verify import Handshake, defect_of_failure, handshake_of, judge
from tests.harness.memory_tls import server_context, shake_hands
from tests.scenarios.base import Server, publisher

VERSIONS = {
    "TLSv1": SSL.TLS1_VERSION,
    "TLSv1.1": SSL.TLS1_1_VERSION,
    "TLSv1.2": SSL.TLS1_2_VERSION,
    "TLSv1.3": SSL.TLS1_3_VERSION,
}


def as_it_is(server: Server) -> Verdict:
    """By our own checks alone: no objection of OpenSSL's is passed in."""
    certificates, unread = [], []
    for issued in server.sent:
        try:
            certificates.append(issued.certificate)
        except (ValueError, x509.InvalidVersion) as error:
            unread.append(str(error))
    leaf_unread = not certificates or certificates[0] is not server.leaf.__dict__.get("certificate")
    handshake = Handshake(tuple(certificates), unread=tuple(unread), leaf_unread=leaf_unread)
    return _asked(server, judge(handshake, parse_host(server.host), server.trust, server.now, server.own_keys))


def after_handshake(server: Server, versions: tuple[int, int] | None = None) -> Verdict:
    """The same with what OpenSSL objected to in a handshake, or with why that failed."""
    spoken = [VERSIONS[version] for version in server.versions]
    behind = [issued.raw for issued in server.sent[1:]]
    trust = server.trust
    mine, *_ = server.held or server.sent
    behind[: len(server.held[1:])] = [issued.raw for issued in server.held[1:]]
    far = server_context(mine, behind, ciphers=server.ciphers, versions=versions or (min(spoken), max(spoken)))
    if server.dh:
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder, "dh.pem")
            file.write_text(server.dh)
            far.load_tmp_dh(bytes(file))
    try:
        connection, seen = shake_hands(server_leg_context(trust), far, server.host, altered=server.exchanged)
    except SSL.Error as error:
        return Verdict.of([defect_of_failure(reason for _, _, reason in error.args[0])])
    handshake = handshake_of(connection, seen)
    return _asked(server, judge(handshake, parse_host(server.host), trust, server.now, server.own_keys))


def _asked(server: Server, verdict: Verdict) -> Verdict:
    """The verdict with what everybody says of revocation who can be asked about a path that is good."""
    if not verdict.ok:
        return verdict
    for subject in subjects(verdict.chain):
        said = []
        for standing in _sources(server, subject):
            with contextlib.suppress(Unusable):
                said.append(standing())
        found = [one for one in said if one.revocation is not None]
        if found and found[0].revocation is not None:
            verdict = verdict.also(revoked(subject, found[0], found[0].revocation, "a case"))
        elif not said and server.hard and not subject.silence_is_good:
            verdict = verdict.also(unknown(subject, ()))
    return verdict


def _sources(server: Server, subject: Subject) -> Iterator[Callable[[], Standing]]:
    """What was sent along, and what is published where the certificate says."""
    if server.stapled and not subject.place:
        yield partial(ocsp_standing, server.stapled, subject, server.now)
    published = publisher().answers
    for url in subject.ocsp_urls:
        if isinstance(body := published.get(urlsplit(url).path), bytes):
            yield partial(ocsp_standing, body, subject, server.now)
    for url in subject.crl_urls:
        if isinstance(body := published.get(urlsplit(url).path), bytes):
            yield partial(_by_crl, body, subject, server.now)


def _by_crl(body: bytes, subject: Subject, now: dt.datetime) -> Standing:
    crl = Crl(body)
    crl.check(subject.issuer, now)
    return crl.standing(subject, now)
