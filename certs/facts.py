"""What one certificate says, read once: names, key, extensions, and what of it cannot be read.

Nothing here judges. A field that cannot be read is None, and ``unreadable`` says why; the checks of
:mod:`certs.checks` make findings of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import TypeVar, cast

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, ObjectIdentifier

from certs.authority import key_sha256
from certs.der import DerError, Element, fields_and_algorithm, name_text, read, tbs_fields

NameKey = tuple[frozenset[tuple[bytes, str | bytes]], ...]
"""A name as it is compared: a set of attributes for each relative name, texts without case, width and type."""

_TEXTS = {0x0C: "utf-8", 0x13: "ascii", 0x14: "latin-1", 0x16: "ascii", 0x1C: "utf-32-be", 0x1E: "utf-16-be"}
_KEPT_NAMES = 2048
_KEPT_SIZE = 512  # bytes
_KEPT_STRANGERS = 256
_LARGEST_KEPT = 2048
"""Bytes of a certificate that is kept for a stranger: intermediates of a usual size, and no more than 10 MiB in all."""

Kind = TypeVar("Kind", bound=x509.ExtensionType)


@dataclass(frozen=True, slots=True, eq=False)
class Facts:
    """One certificate, taken apart. Two of these are the same only where they are one object."""

    certificate: x509.Certificate
    subject: NameKey
    issuer: NameKey
    key: object | None
    """The public key; None where it cannot be read."""
    key_error: str
    key_unknown: bool
    """The key cannot be read because its kind is not known, and not because its bytes are bad."""
    spki: bytes | None
    """SHA-256 of the key; None where it cannot be read."""
    extensions: tuple[x509.Extension[x509.ExtensionType], ...]
    """Empty where they cannot be read."""
    values: Mapping[type[x509.ExtensionType], x509.ExtensionType]
    """Their values by kind."""
    extensions_error: str
    algorithms_agree: bool
    """Whether the algorithm inside the signed part is the one outside of it, byte for byte."""
    serial: int
    not_before: datetime
    not_after: datetime

    def extension(self, kind: type[Kind]) -> Kind | None:
        """The value of the extension of that kind, or None."""
        return cast("Kind | None", self.values.get(kind))

    @property
    def title(self) -> str:
        """The subject for a person, on one line."""
        return name_text(tbs_fields(self.certificate.tbs_certificate_bytes).subject)

    @property
    def ca(self) -> bool:
        constraints = self.extension(x509.BasicConstraints)
        return constraints is not None and constraints.ca

    @property
    def key_usage(self) -> x509.KeyUsage | None:
        return self.extension(x509.KeyUsage)

    @property
    def purposes(self) -> frozenset[ObjectIdentifier] | None:
        """The extended key usages; None where any purpose is left open."""
        eku = self.extension(x509.ExtendedKeyUsage)
        return None if eku is None else frozenset(eku)

    @property
    def subject_key_id(self) -> bytes | None:
        identifier = self.extension(x509.SubjectKeyIdentifier)
        return None if identifier is None else identifier.digest

    @property
    def authority_key_id(self) -> bytes | None:
        identifier = self.extension(x509.AuthorityKeyIdentifier)
        return None if identifier is None else identifier.key_identifier

    @property
    def self_issued(self) -> bool:
        """Subject and issuer are the same name (RFC 5280 6.1)."""
        return self.subject == self.issuer

    @property
    def own_issuer(self) -> bool:
        """Self-issued, and no key identifier says that the key that signed it is another's."""
        return self.self_issued and self.names_as_issuer(self)

    def names_as_issuer(self, issuer: Facts) -> bool:
        """Whether the key identifiers let that certificate be the issuer: equal, or missing (RFC 5280 4.2.1.1)."""
        wanted, there = self.authority_key_id, issuer.subject_key_id
        return wanted is None or there is None or wanted == there

    def allows(self, *purposes: ObjectIdentifier) -> bool:
        """Whether its extended key usage, if it has one, names one of these."""
        named = self.purposes
        return named is None or not named.isdisjoint(purposes)


SERVER_AUTH = ExtendedKeyUsageOID.SERVER_AUTH
ANY_PURPOSE = ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE


def facts_of(certificate: x509.Certificate) -> Facts:
    """Take a certificate apart. Raises ValueError where not even its outline can be read (names, dates)."""
    fields, algorithm = fields_and_algorithm(certificate.public_bytes(Encoding.DER))
    key, key_error, key_unknown, spki = None, "", False, None
    try:
        key = certificate.public_key()
        spki = key_sha256(key)
    except UnsupportedAlgorithm as error:
        key_error, key_unknown = str(error), True
    except ValueError as error:
        key_error = str(error)
    extensions: tuple[x509.Extension[x509.ExtensionType], ...] = ()
    extensions_error = ""
    try:
        extensions = tuple(certificate.extensions)
    except (ValueError, KeyError, x509.DuplicateExtension, x509.UnsupportedGeneralNameType) as error:
        extensions_error = str(error)
    return Facts(
        certificate=certificate,
        subject=_compared(fields.subject),
        issuer=_compared(fields.issuer),
        key=key,
        key_error=key_error,
        key_unknown=key_unknown,
        spki=spki,
        extensions=extensions,
        values={type(extension.value): extension.value for extension in extensions},
        extensions_error=extensions_error,
        algorithms_agree=algorithm.whole == fields.signature.whole,
        # Not asked of cryptography, which warns of those below one.
        serial=int.from_bytes(fields.serial.content, "big", signed=True),
        not_before=certificate.not_valid_before_utc,
        not_after=certificate.not_valid_after_utc,
    )


@lru_cache(maxsize=_KEPT_NAMES)
def kept_facts(certificate: x509.Certificate) -> Facts:
    """:func:`facts_of`, kept: for the administrator's certificates only, since a stranger's could fill the memory."""
    return facts_of(certificate)


def facts_of_issuer(certificate: x509.Certificate, size: int) -> Facts:
    """:func:`facts_of`, for what a server sends behind its own certificate, kept where its ``size`` (bytes) is usual.

    Few intermediates stand behind most servers. A stranger can but drive others out.
    """
    return _kept_of_strangers(certificate) if size <= _LARGEST_KEPT else facts_of(certificate)


@lru_cache(maxsize=_KEPT_STRANGERS)
def _kept_of_strangers(certificate: x509.Certificate) -> Facts:
    return facts_of(certificate)


@lru_cache(maxsize=_KEPT_NAMES)
def kept_subject(certificate: x509.Certificate) -> NameKey:
    """The subject of an anchor or helper, kept: every tenant's store holds the common ones."""
    return name_key(tbs_fields(certificate.tbs_certificate_bytes).subject)


def _compared(name: Element) -> NameKey:
    """:func:`name_key`, remembered for names of a usual size: most are those of a few CAs."""
    encoded = name.whole
    return _kept_key(encoded) if len(encoded) <= _KEPT_SIZE else name_key(name)


@lru_cache(maxsize=_KEPT_NAMES)
def _kept_key(encoded: bytes) -> NameKey:
    return name_key(read(encoded))


def name_key(name: Element) -> NameKey:
    """A name as it is compared (RFC 5280 7.1): case, repeated spaces and the type of a string do not count.

    What is not text is compared as it is encoded. Raises :class:`certs.der.DerError`.
    """
    relatives: list[frozenset[tuple[bytes, str | bytes]]] = []
    for relative in name.children():
        attributes = set()
        for attribute in relative.children():
            parts = list(attribute.children())
            if len(parts) != 2:
                raise DerError("an attribute of a name that is not type and value")
            attributes.add((parts[0].content, _comparable(parts[1])))
        relatives.append(frozenset(attributes))
    return tuple(relatives)


def _comparable(value: Element) -> str | bytes:
    encoding = _TEXTS.get(value.tag)
    if encoding is None:
        return value.whole
    try:
        return " ".join(value.content.decode(encoding).casefold().split())
    except UnicodeDecodeError:
        return value.whole
