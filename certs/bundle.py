"""A bundle of trusted certificates: what an administrator uploads, put in order and judged, certificate by certificate.

The topmost certificate is the anchor; the others only help to build a path to it. Nothing is saved here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType
from typing import Literal

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.utils import CryptographyDeprecationWarning

from certs.authority import is_self_signed, issued_by, key_problem, signature_problem
from certs.der import name_text, tbs_fields
from certs.expiry import Expiry, Validity, first_to_end
from certs.formats import BundleError, read_certificates, to_pem

__all__ = ["Bundle", "BundleError", "BundleFinding", "examine_trusted", "read_certificates", "to_pem"]

# Of certificates with one name, this many are tried as the issuer of another: signatures cost time, and a file
# of a hundred CAs with one name is made to cost it.
MOST_CANDIDATES = 8

_NOTHING: Mapping[str, x509.Certificate] = MappingProxyType({})


@dataclass(frozen=True)
class BundleFinding:
    """One thing to tell the administrator. ``certificate`` is the place in the file, from 1; None: the whole file."""

    level: Literal["error", "warning", "info"]
    code: str
    message: str
    certificate: int | None = None


@dataclass(frozen=True)
class Bundle:
    """What was found. ``chain`` has intermediates first, the topmost last; ``positions`` has their places in the file.

    Where the certificates do not link into one tree, they stand in the file's order.
    """

    chain: tuple[x509.Certificate, ...]
    findings: tuple[BundleFinding, ...]
    positions: tuple[int, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether nothing was found that refuses the bundle."""
        return all(finding.level != "error" for finding in self.findings)

    @property
    def anchor(self) -> x509.Certificate:
        """The topmost certificate. Raises :class:`BundleError` where the bundle holds none."""
        if not self.chain:
            raise BundleError("no_certificate", "the bundle holds no certificate")
        return self.chain[-1]


@dataclass(frozen=True, eq=False)
class Entry:
    """One certificate of the file, each only once. ``file`` counts from 1; None where there is only one."""

    position: int
    certificate: x509.Certificate
    title: str
    subject: bytes
    issuer: bytes
    extensions: x509.Extensions | None
    self_signed: bool
    file: int | None = None

    @property
    def where(self) -> str:
        place = f"certificate {self.position} ({self.title})"
        return place if self.file is None else f"{place} in file {self.file}"

    @property
    def self_issued(self) -> bool:
        return self.subject == self.issuer

    def says_signed_by(self, other: Entry) -> bool:
        """Whether key identifiers allow the other to be its issuer (RFC 5280 4.2.1.1); without them they do."""
        wanted, there = _issuer_key(self), _own_key(other)
        return wanted is None or there is None or wanted == there

    def error(self, code: str, message: str) -> BundleFinding:
        return self.finding("error", code, message)

    def finding(self, level: Literal["error", "warning", "info"], code: str, message: str) -> BundleFinding:
        return BundleFinding(level, code, f"{self.where} {message}", self.position)


def examine_trusted(data: bytes, now: datetime, existing: Mapping[str, x509.Certificate] = _NOTHING) -> Bundle:
    """The bundle in a file, with everything that speaks against trusting it.

    ``existing`` has the anchors that the tenant trusts already, by name. Errors: ``no_certificate``, ``private_key``,
    ``too_large``, ``malformed``, ``not_a_ca``, ``does_not_link``, ``bad_signature``, ``expired``, ``not_yet_valid``,
    ``weak_key``, ``weak_signature``, ``duplicate``. Warnings: ``no_root``, ``near_end`` (of the anchor). Told:
    ``reordered``, ``repeated``.
    """
    try:
        certificates = read_certificates(data)
    except BundleError as error:
        return Bundle((), (BundleFinding("error", error.code, str(error), error.certificate),))
    entries, findings = without_repeated(certificates)
    for entry in entries:
        findings += judge(entry, now)
    ordered, link_findings = _link(entries)
    findings += link_findings
    if not any(finding.level == "error" for finding in link_findings):
        anchor = ordered[-1]
        findings += [
            anchor.error("duplicate", f"is trusted already, as {name!r}")
            for name, certificate in existing.items()
            if certificate == anchor.certificate
        ]
        findings += near_end([anchor], now)
    findings.sort(key=lambda finding: finding.certificate or 0)
    return Bundle(
        tuple(entry.certificate for entry in ordered), tuple(findings), tuple(entry.position for entry in ordered)
    )


def without_repeated(
    certificates: Sequence[x509.Certificate], files: Sequence[int] = ()
) -> tuple[list[Entry], list[BundleFinding]]:
    """Each certificate once, in order. ``files`` has the file of each, from 1; empty where there is only one file."""
    entries: dict[bytes, Entry] = {}
    findings: list[BundleFinding] = []
    for position, certificate in enumerate(certificates, 1):
        encoded = certificate.public_bytes(Encoding.DER)
        if (first := entries.get(encoded)) is not None:
            message = (
                f"certificate {position} ({first.title}) is certificate {first.position} once more; it was dropped"
            )
            findings.append(BundleFinding("info", "repeated", message, position))
            continue
        names = tbs_fields(certificate.tbs_certificate_bytes)
        subject, issuer = names.subject.whole, names.issuer.whole
        entries[encoded] = Entry(
            position=position,
            certificate=certificate,
            title=name_text(names.subject),
            subject=subject,
            issuer=issuer,
            extensions=_extensions(certificate),
            self_signed=subject == issuer and is_self_signed(certificate),
            file=files[position - 1] if files else None,
        )
    return list(entries.values()), findings


def _extensions(certificate: x509.Certificate) -> x509.Extensions | None:
    """The extensions; None where they cannot be parsed."""
    try:
        return certificate.extensions
    except (
        ValueError,
        KeyError,  # of a TLS feature (RFC 7633) that cryptography does not know
        x509.DuplicateExtension,
        x509.UnsupportedGeneralNameType,
        CryptographyDeprecationWarning,  # where warnings are errors: what it warns of is malformed too
    ):
        return None


def judge(entry: Entry, now: datetime) -> list[BundleFinding]:
    """What is wrong with one certificate by itself."""
    certificate = entry.certificate
    findings: list[BundleFinding] = []
    if entry.extensions is None:
        findings.append(entry.error("malformed", "has extensions that cannot be parsed, or one twice (RFC 5280 4.2)"))
    elif problem := _not_a_ca(certificate, entry.extensions):
        findings.append(entry.error("not_a_ca", problem))
    if now > certificate.not_valid_after_utc:
        findings.append(entry.error("expired", f"expired on {day(certificate.not_valid_after_utc)}"))
    if now < certificate.not_valid_before_utc:
        findings.append(entry.error("not_yet_valid", f"is not valid before {day(certificate.not_valid_before_utc)}"))
    try:
        key_is_weak = key_problem(certificate.public_key())
    except (ValueError, UnsupportedAlgorithm):
        key_is_weak = "a kind that is not known, or cannot be read"
    if key_is_weak:
        findings.append(entry.error("weak_key", f"has a key that is not accepted: {key_is_weak}"))
    # Nobody relies on a root's own signature: it is trusted for being here.
    if not entry.self_signed and (signature_is_weak := signature_problem(certificate)):
        findings.append(entry.error("weak_signature", f"is {signature_is_weak}"))
    return findings


def near_end(chain: Sequence[Entry], now: datetime) -> list[BundleFinding]:
    """A warning where a chain is near its end: of the certificate that ends first."""
    certificates = [entry.certificate for entry in chain]
    if Validity.of(certificates).expiry(now) is not Expiry.NEAR_END:
        return []
    first = chain[certificates.index(first_to_end(certificates))]
    message = f"ends on {day(first.certificate.not_valid_after_utc)}: less than a tenth of its life is left"
    return [first.finding("warning", "near_end", message)]


def _not_a_ca(certificate: x509.Certificate, extensions: x509.Extensions) -> str | None:
    """RFC 5280 4.2.1.9 and 4.2.1.3."""
    if certificate.version is not x509.Version.v3:
        return "is no CA certificate: it has version 1, which cannot say that it is one"
    try:
        if not extensions.get_extension_for_class(x509.BasicConstraints).value.ca:
            return "is no CA certificate: its basicConstraints says CA:FALSE"
    except x509.ExtensionNotFound:
        return "is no CA certificate: it has no basicConstraints"
    try:
        if not extensions.get_extension_for_class(x509.KeyUsage).value.key_cert_sign:
            return "is no CA certificate: its keyUsage does not allow signing certificates"
    except x509.ExtensionNotFound:
        pass  # allowed: without the extension every use is
    return None


def _link(entries: list[Entry]) -> tuple[list[Entry], list[BundleFinding]]:
    """The certificates in order, each before its issuer, and what keeps them from being one tree."""
    parents, findings = find_parents(entries)
    if findings:
        return entries, findings
    lines = {entry: line(entry, parents) for entry in entries}
    if errors := _one_tree(entries, parents, lines):
        return entries, errors
    top = next(entry for entry in entries if entry not in parents)
    if not top.self_signed:
        findings.append(
            BundleFinding(
                "warning",
                "no_root",
                f"{top.where} is the topmost, but no root; it will be trusted itself, without its root",
                top.position,
            )
        )
    places = {entry: place for place, entry in enumerate(entries)}
    if all(places[child] < places[parent] for child, parent in parents.items()) and entries[-1] is top:
        return entries, findings
    findings.append(
        BundleFinding("info", "reordered", "the certificates were put in order: intermediates first, the topmost last")
    )
    return sorted(entries, key=lambda entry: -len(lines[entry])), findings


def find_parents(entries: Sequence[Entry]) -> tuple[dict[Entry, Entry], list[BundleFinding]]:
    """The issuer of each that is there, and ``bad_signature`` for each that none of those it names signed.

    Such a one has the first of those, other than itself, for its issuer: what it claims.
    """
    by_subject: dict[bytes, list[Entry]] = {}
    for entry in entries:
        by_subject.setdefault(entry.subject, []).append(entry)
    parents: dict[Entry, Entry] = {}
    findings: list[BundleFinding] = []
    for entry in entries:
        if entry.self_signed:
            continue
        candidates = [other for other in by_subject.get(entry.issuer, ()) if entry.says_signed_by(other)]
        others = [other for other in candidates[:MOST_CANDIDATES] if other is not entry]
        found = next((other for other in others if _signed(entry, other)), None)
        if found is None and candidates:
            names = " or ".join(f"certificate {other.position}" for other in candidates[:3])
            findings.append(
                entry.error("bad_signature", f"names {names} as its issuer, but that key did not sign it as it is")
            )
            found = next(iter(others), None)
        if found is not None:
            parents[entry] = found
    return parents, findings


def _one_tree(
    entries: list[Entry], parents: Mapping[Entry, Entry], lines: Mapping[Entry, list[Entry]]
) -> list[BundleFinding]:
    """An error for each topmost certificate but the one with the most below it, and for those in a circle."""
    members: dict[Entry, int] = {}
    for entry in entries:
        top = lines[entry][-1]
        if top not in parents:
            members[top] = members.get(top, 0) + 1
    circle = [entry for entry in entries if lines[entry][-1] in parents]
    if circle:
        return [entry.error("does_not_link", "is in or below a circle of CAs that sign each other") for entry in circle]
    main = max(members, key=members.__getitem__)
    return [
        top.error(
            "does_not_link",
            f"does not link to {main.where}: "
            + ("it is another root" if top.self_signed else "its issuer is not in the file")
            + "; upload one chain per file",
        )
        for top in members
        if top is not main
    ]


def line(entry: Entry, parents: Mapping[Entry, Entry]) -> list[Entry]:
    """The certificate and its issuers, upwards; ends where one has none, or where a circle closes."""
    line = [entry]
    seen = {entry}
    while (above := parents.get(line[-1])) is not None and above not in seen:
        line.append(above)
        seen.add(above)
    return line


def _signed(child: Entry, parent: Entry) -> bool:
    return issued_by(child.certificate, parent.certificate)


def _own_key(entry: Entry) -> bytes | None:
    if entry.extensions is None:
        return None
    try:
        return entry.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest
    except x509.ExtensionNotFound:
        return None


def _issuer_key(entry: Entry) -> bytes | None:
    if entry.extensions is None:
        return None
    try:
        return entry.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value.key_identifier
    except x509.ExtensionNotFound:
        return None


def day(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M} UTC"
