"""What the log tells of a verdict: what was found in which certificate, the chain and where it is from, and the TLS.

It is put together only where the line is written. Names and numbers are a stranger's and can be as long as he likes:
each text has a limit, findings and certificates together have one, and it is said how many were left out, so that the
line stays one that is written whole (:data:`proxy.log.MAX_LINE`).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

from cryptography import x509

from certs import reading
from certs.names import Host
from certs.origin import origins
from certs.reading import UNREADABLE
from certs.verdict import Anchored, Finding, Verdict
from certs.verify import certificates_of
from proxy.snapshot import Snapshot
from proxy.upstream import ServerLeg

ROOM_FOR_FINDINGS = 900
ROOM_FOR_CHAIN = 1500
"""Characters of the line."""
LONGEST_NAME = 96
LONGEST_TEXT = 200
LONGEST_NUMBER = 44
"""Hexadecimal digits of a serial number: 20 octets, and what tells that there are more."""

_quote = json.encoder.encode_basestring_ascii


def told(verdict: Verdict, host: Host, snapshot: Snapshot, server: ServerLeg | None) -> dict[str, Any]:
    """Fields of the log beside defects and action. ``snapshot``: the working set that the verdict is by."""
    findings, more_findings = within(map(_finding, verdict.findings), len(verdict.findings), ROOM_FOR_FINDINGS)
    return {
        "findings": findings or None,
        "findings_left_out": more_findings or None,
        **_chain(verdict, host, snapshot, server),
        **_tls(server),
    }


def _finding(finding: Finding) -> dict[str, Any]:
    about = {} if finding.certificate is None else {"certificate": finding.certificate}
    explanation = shortened(finding.explanation, LONGEST_TEXT)
    return {"defect": finding.defect.value, **about, "explanation": explanation, "clause": finding.clause[:80]}


def _chain(verdict: Verdict, host: Host, snapshot: Snapshot, server: ServerLeg | None) -> dict[str, Any]:
    chain = verdict.chain
    if not chain:
        return {}
    sent: Sequence[x509.Certificate] = ()
    if server is not None and server.leg is not None:
        sent = certificates_of(server.leg.tls).presented
    found = origins(verdict, sent, snapshot.trust.at(host).store)
    entries = (_certificate(one) | {"from": origin.value} for one, origin in zip(chain, found.chain, strict=True))
    shown, more = within(entries, len(chain), ROOM_FOR_CHAIN)
    anchor = verdict.anchored.value
    if verdict.anchored is Anchored.OWN:
        anchor = f"{anchor} {snapshot.trusted_ca_of(chain[-1])}"
    return {
        "chain": shown,
        "chain_left_out": more or None,
        "sent_beside": len(found.beside) or None,
        "anchor": anchor or None,
    }


def _certificate(certificate: x509.Certificate) -> dict[str, Any]:
    return {
        "subject": shortened(reading.subject(certificate), LONGEST_NAME),
        "issuer": shortened(reading.issuer(certificate), LONGEST_NAME),
        "serial": shortened(reading.serial(certificate), LONGEST_NUMBER),
        "not_after": UNREADABLE if (ends := reading.ends(certificate)) is None else f"{ends:%Y-%m-%dT%H:%M:%SZ}",
        "sha256": reading.fingerprint(certificate),
    }


def _tls(server: ServerLeg | None) -> dict[str, Any]:
    leg = server.leg if server is not None else None
    if leg is None or not leg.established:
        return {}
    tls = leg.tls
    return {"tls": tls.get_protocol_version_name(), "cipher": tls.get_cipher_name(), "group": tls.get_group_name()}


def shortened(text: str, most: int) -> str:
    """The text, cut where it would take more than so many characters of a line, escapes included."""
    kept = text[:most]
    while len(_quote(kept)) - 2 > most:
        # Escapes are up to twelve characters for one.
        kept = kept[: max(0, len(kept) * most // (len(_quote(kept)) - 2) - 1)]
    return kept if kept == text else f"{kept}..."


def within(entries: Iterable[dict[str, Any]], count: int, room: int) -> tuple[list[dict[str, Any]], int]:
    """Of ``count`` entries those for which there is room, the first always, and how many were left out."""
    kept: list[dict[str, Any]] = []
    for entry in entries:
        room -= len(json.dumps(entry))
        if room < 0 and kept:
            break
        kept.append(entry)
    return kept, count - len(kept)
