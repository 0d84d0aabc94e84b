"""Whether a leaf keeps to its profile: each rule by itself, with its clause, on the encoded certificate.

Written against what :mod:`certs.profile` promises, not with its code: a mistake there shows here, before a CA key
has signed it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import sha1
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, ExtensionOID, NameOID

from certs.authority import encoded_key, issuer_key, issuer_key_identifier, key_problem, signature_problem
from certs.der import DerError, TbsFields, tbs_fields
from certs.kept import kept
from certs.profile import LeafRequest

SECOND = timedelta(seconds=1)
DAY = timedelta(days=1)

ALLOWED_EXTENSIONS = frozenset(
    {
        ExtensionOID.BASIC_CONSTRAINTS,
        ExtensionOID.KEY_USAGE,
        ExtensionOID.EXTENDED_KEY_USAGE,
        ExtensionOID.SUBJECT_ALTERNATIVE_NAME,
        ExtensionOID.AUTHORITY_KEY_IDENTIFIER,
        ExtensionOID.SUBJECT_KEY_IDENTIFIER,
    }
)


class LintError(Exception):
    """A leaf breaks a rule of its profile: a fault of this program, not of the server or the client."""

    def __init__(self, rule: str, clause: str, problem: str) -> None:
        super().__init__(f"the leaf breaks the rule {rule} ({clause}): {problem}")
        self.rule = rule
        self.clause = clause
        self.problem = problem


@dataclass(frozen=True, slots=True)
class Subject:
    """What the rules look at: the certificate, decoded once, and what it should be."""

    certificate: x509.Certificate
    fields: TbsFields
    name: Sequence[x509.NameAttribute[str | bytes]]
    """The attributes of its subject."""
    extensions: Mapping[x509.ObjectIdentifier, x509.Extension[x509.ExtensionType]]
    request: LeafRequest
    now: datetime

    def extension[T: x509.ExtensionType](self, kind: type[T], critical: bool) -> T:
        """The extension's value; raises :class:`Broken` where it is missing or marked otherwise."""
        found = self.extensions.get(kind.oid)
        if found is None or not isinstance(found.value, kind):
            raise Broken("the extension is missing")
        if found.critical is not critical:
            raise Broken(f"the extension is {'' if found.critical else 'not '}critical")
        return found.value


class Broken(Exception):  # noqa: N818 - what a rule says of the leaf; it never leaves this module
    """A rule is broken; the message says how."""


class Rule(NamedTuple):
    name: str
    clause: str
    check: Callable[[Subject], None]


def lint(certificate: x509.Certificate, request: LeafRequest, now: datetime) -> None:
    """Raises :class:`LintError`, naming the rule and its clause, where the leaf is not what the request asks for.

    Who signed it is not looked at, so that a twin signed with another key can be linted in its place.
    """
    try:
        subject = Subject(
            certificate,
            tbs_fields(certificate.tbs_certificate_bytes),
            list(certificate.subject),
            {found.oid: found for found in certificate.extensions},
            request,
            now,
        )
    except (DerError, ValueError, KeyError, x509.DuplicateExtension, x509.UnsupportedGeneralNameType) as error:
        raise LintError("parses", "RFC 5280 4.1", str(error)) from error
    for rule in RULES:
        try:
            rule.check(subject)
        except Broken as broken:
            raise LintError(rule.name, rule.clause, str(broken)) from None


@kept(64)
def _subject_octets(certificate: x509.Certificate) -> bytes:
    return tbs_fields(certificate.tbs_certificate_bytes).subject.whole


def _version(leaf: Subject) -> None:
    if leaf.certificate.version is not x509.Version.v3:
        raise Broken(f"its version is {leaf.certificate.version.name}")


def _serial(leaf: Subject) -> None:
    octets = leaf.fields.serial.content
    if not octets or octets[0] & 0x80 or not any(octets):
        raise Broken("it is not positive")
    if len(octets) > 20:
        raise Broken(f"it is {len(octets)} octets long; 20 are the most")
    # 64 random bits at least; of our 159, fewer than 96 are left by chance once in 2^63 leaves.
    if int.from_bytes(octets, "big").bit_length() < 96:
        raise Broken("it is too small to be random")


def _issuer(leaf: Subject) -> None:
    if leaf.fields.issuer.whole != _subject_octets(leaf.request.issuer):
        raise Broken("it is not, octet by octet, the subject of the signing certificate")


def _subject(leaf: Subject) -> None:
    name, host = leaf.name, leaf.request.host.text
    if len(host) > 64:
        if name:
            raise Broken("it is not empty, though the host does not fit into a common name")
    elif [(attribute.oid, attribute.value) for attribute in name] != [(NameOID.COMMON_NAME, host)]:
        raise Broken("it is not the common name of the host alone")


def _alternative_name(leaf: Subject) -> None:
    names = list(leaf.extension(x509.SubjectAlternativeName, critical=not leaf.name))
    if names != [leaf.request.host.san()]:
        raise Broken("it is not the host alone")


def _begins(leaf: Subject) -> None:
    first = leaf.certificate.not_valid_before_utc
    if first > leaf.now:
        raise Broken("it begins in the future")
    if first < leaf.now - DAY - SECOND:
        raise Broken("it begins more than a day ago")
    if first < leaf.request.issuer.not_valid_before_utc:
        raise Broken("it begins before the signing certificate")


def _ends(leaf: Subject) -> None:
    last = leaf.certificate.not_valid_after_utc
    if last < leaf.now - SECOND:
        raise Broken("it ends in the past")
    if last > leaf.now + 7 * DAY:
        raise Broken("it ends more than seven days from now")
    if last > leaf.request.issuer.not_valid_after_utc:
        raise Broken("it ends after the signing certificate")
    if leaf.request.within is not None and last > leaf.request.within.ends:
        raise Broken("it ends after a certificate above the signing certificate")


def _ends_with_the_server(leaf: Subject) -> None:
    last, server = leaf.certificate.not_valid_after_utc, leaf.request.server_not_after
    if server is not None and server > leaf.now:
        if last > server:
            raise Broken("it ends after the server's own certificate")
    elif last > leaf.now + DAY:
        raise Broken("it ends more than a day from now, without a server's certificate that still holds")


def _basic_constraints(leaf: Subject) -> None:
    constraints = leaf.extension(x509.BasicConstraints, critical=True)
    if constraints.ca or constraints.path_length is not None:
        raise Broken("it says that the leaf is a CA, or how long a path may be")


def _key_usage(leaf: Subject) -> None:
    usage = leaf.extension(x509.KeyUsage, critical=True)
    if not usage.digital_signature:
        raise Broken("digitalSignature is missing")
    if (
        usage.content_commitment
        or usage.key_encipherment
        or usage.data_encipherment
        or usage.key_agreement
        or usage.key_cert_sign
        or usage.crl_sign
    ):
        raise Broken("it allows more than digitalSignature")


def _extended_key_usage(leaf: Subject) -> None:
    if list(leaf.extension(x509.ExtendedKeyUsage, critical=False)) != [ExtendedKeyUsageOID.SERVER_AUTH]:
        raise Broken("it is not serverAuth alone")


def _authority_key_identifier(leaf: Subject) -> None:
    found = leaf.extension(x509.AuthorityKeyIdentifier, critical=False)
    if found.authority_cert_issuer is not None or found.authority_cert_serial_number is not None:
        raise Broken("it names the issuer's certificate besides its key")
    if found.key_identifier != issuer_key_identifier(leaf.request.issuer):
        raise Broken("it is not the subject key identifier of the signing certificate")


def _subject_key_identifier(leaf: Subject) -> None:
    found = leaf.extension(x509.SubjectKeyIdentifier, critical=False)
    _, bits = leaf.fields.public_key.children()
    if found.digest != sha1(bits.content[1:], usedforsecurity=False).digest():  # without the count of unused bits
        raise Broken("it is not that of the leaf's key")


def _extensions(leaf: Subject) -> None:
    if others := [oid.dotted_string for oid in leaf.extensions if oid not in ALLOWED_EXTENSIONS]:
        raise Broken(f"it has others: {', '.join(others)}")


def _public_key(leaf: Subject) -> None:
    key = leaf.request.public_key
    if leaf.fields.public_key.whole != encoded_key(key):
        raise Broken("it is not the key that was asked for")
    if not isinstance(key, (ec.EllipticCurvePublicKey, rsa.RSAPublicKey)):
        raise Broken("it is neither ECDSA nor RSA")
    if problem := key_problem(key):
        raise Broken(problem)


def _own_key(leaf: Subject) -> None:
    if leaf.request.public_key == issuer_key(leaf.request.issuer):
        raise Broken("it is the key of the signing certificate")


def _signature(leaf: Subject) -> None:
    if problem := signature_problem(leaf.certificate):
        raise Broken(problem)


RULES: tuple[Rule, ...] = (
    Rule("version_3", "RFC 5280 4.1.2.1", _version),
    Rule("serial_number", "RFC 5280 4.1.2.2", _serial),
    Rule("signature_hash", "RFC 9155 2; CA/Browser Forum BR 7.1.3.2", _signature),
    Rule("issuer_name", "RFC 5280 4.1.2.4, 6.1.3(a)(4)", _issuer),
    Rule("not_before", "RFC 5280 4.1.2.5", _begins),
    Rule("not_after", "RFC 5280 4.1.2.5", _ends),
    Rule("not_after_of_server", "the leaf profile: never longer than the server's own", _ends_with_the_server),
    Rule("subject", "RFC 5280 4.1.2.6, A.1", _subject),
    Rule("public_key", "RFC 5280 4.1.2.7; CA/Browser Forum BR 6.1.5", _public_key),
    Rule("own_key", "the leaf profile: a key separate from the CA's", _own_key),
    Rule("known_extensions", "RFC 5280 4.2", _extensions),
    Rule("authority_key_identifier", "RFC 5280 4.2.1.1", _authority_key_identifier),
    Rule("subject_key_identifier", "RFC 5280 4.2.1.2", _subject_key_identifier),
    Rule("key_usage", "RFC 5280 4.2.1.3; RFC 8446 4.4.2.2", _key_usage),
    Rule("subject_alternative_name", "RFC 5280 4.2.1.6; RFC 9525 6.3", _alternative_name),
    Rule("basic_constraints", "RFC 5280 4.2.1.9", _basic_constraints),
    Rule("extended_key_usage", "RFC 5280 4.2.1.12", _extended_key_usage),
)
