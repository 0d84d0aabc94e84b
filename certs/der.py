"""Just enough DER (X.690) to look at a certificate's bytes without decoding what they mean, and to put them together.

cryptography decodes certificates. Here is what it does not offer: the names as they are encoded (its decoded names warn
about, or refuse, what strangers and old private CAs put there), the sign of a serial number before it is loaded, and
what kind of thing a file holds.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

INTEGER, BIT_STRING, OCTET_STRING, OBJECT_IDENTIFIER, SEQUENCE, SET = 0x02, 0x03, 0x04, 0x06, 0x30, 0x31
CONTEXT_0 = 0xA0
COMMON_NAME, ORGANIZATIONAL_UNIT, ORGANIZATION = b"\x55\x04\x03", b"\x55\x04\x0b", b"\x55\x04\x0a"

_ENCODING_OF_STRING = {
    0x0C: "utf-8",  # UTF8String
    0x13: "ascii",  # PrintableString
    0x14: "latin-1",  # TeletexString, as everybody reads it
    0x16: "ascii",  # IA5String
    0x1C: "utf-32-be",  # UniversalString
    0x1E: "utf-16-be",  # BMPString
}


class DerError(ValueError):
    """The bytes are no DER of the expected shape."""


class Element(NamedTuple):
    """One tag, length and value: where it starts, where its content starts, where it ends."""

    data: bytes
    tag: int
    start: int
    body: int
    end: int

    @property
    def content(self) -> bytes:
        return self.data[self.body : self.end]

    @property
    def whole(self) -> bytes:
        return self.data[self.start : self.end]

    def children(self) -> Iterator[Element]:
        """The elements inside, one after the other. Raises :class:`DerError` when it comes to one that is none."""
        at = self.body
        while at < self.end:
            child = read(self.data, at, self.end)
            yield child
            at = child.end


def read(data: bytes, start: int = 0, limit: int | None = None) -> Element:
    """The element at ``start``, which ends at ``limit`` (the end of the data) or before. Raises :class:`DerError`.

    One-byte tags and definite lengths only; certificates have no others (X.690 10.1).
    """
    if limit is None:
        limit = len(data)
    body = start + 2
    if body > limit:
        raise DerError("the data ends where an element should begin")
    tag, length = data[start], data[start + 1]
    if tag & 0x1F == 0x1F:
        raise DerError("a tag of several bytes")
    if length & 0x80:
        count = length & 0x7F
        if not 1 <= count <= 4 or body + count > limit:
            raise DerError("a length that is indefinite, too long or cut off")
        length = int.from_bytes(data[body : body + count], "big")
        body += count
    end = body + length
    if end > limit:
        raise DerError("an element is longer than the data")
    # As Element(...) does it, less the call in between: a certificate is read in a dozen of these, for each handshake.
    return _element(Element, (data, tag, start, body, end))


_element = tuple.__new__


def written(tag: int, content: bytes) -> bytes:
    """The element of a one-byte tag with that content."""
    size = len(content)
    if size < 0x80:
        return bytes((tag, size)) + content
    length = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes((tag, 0x80 | len(length))) + length + content


class TbsFields(NamedTuple):
    """The first fields of a TBSCertificate (RFC 5280 4.1)."""

    serial: Element
    signature: Element
    issuer: Element
    validity: Element
    subject: Element
    public_key: Element


def tbs_fields(tbs: bytes) -> TbsFields:
    """The fields of an encoded TBSCertificate. Raises :class:`DerError`."""
    outer = read(tbs)
    return _fields(tbs, outer.body, outer.end)


def certificate_fields(certificate: bytes) -> TbsFields:
    """The same of an encoded certificate. Raises :class:`DerError`."""
    return _fields(certificate, *_signed(certificate))


def fields_and_algorithm(certificate: bytes) -> tuple[TbsFields, Element]:
    """The same, and the algorithm that stands behind the signed part (RFC 5280 4.1.1.2). Raises :class:`DerError`."""
    at, end = _signed(certificate)
    return _fields(certificate, at, end), read(certificate, end)


def _signed(certificate: bytes) -> tuple[int, int]:
    """Where the content of the signed part begins and ends."""
    outer = read(certificate)
    signed = read(certificate, outer.body, outer.end)
    return signed.body, signed.end


def _fields(data: bytes, at: int, end: int) -> TbsFields:
    """The first fields of the TBSCertificate whose content is there."""
    first = read(data, at, end)
    if first.tag == CONTEXT_0:  # the version; a certificate of version 1 has none
        first = read(data, first.end, end)
    signature = read(data, first.end, end)
    issuer = read(data, signature.end, end)
    validity = read(data, issuer.end, end)
    subject = read(data, validity.end, end)
    public_key = read(data, subject.end, end)
    fields = TbsFields(first, signature, issuer, validity, subject, public_key)
    if [field.tag for field in fields] != _TAGS:
        raise DerError("no TBSCertificate")
    return fields


_TAGS = [INTEGER, SEQUENCE, SEQUENCE, SEQUENCE, SEQUENCE, SEQUENCE]


def without_signature_algorithm(tbs: bytes) -> bytes:
    """The content of a TBSCertificate less the algorithm that it is signed with: what two signers must agree on."""
    outer = read(tbs)
    algorithm = tbs_fields(tbs).signature
    return tbs[outer.body : algorithm.start] + tbs[algorithm.end : outer.end]


def name_text(name: Element) -> str:
    """A name for a person: its last common name, else unit, else organisation, on one line of at most 64 characters."""
    found: dict[bytes, str] = {}
    try:
        for relative in name.children():
            for attribute in relative.children():
                kind, value = list(attribute.children())[:2]
                encoding = _ENCODING_OF_STRING.get(value.tag, "ascii")
                found[kind.content] = value.content.decode(encoding, errors="replace")
    except ValueError:
        return "a name that cannot be read"
    for kind_of_name in (COMMON_NAME, ORGANIZATIONAL_UNIT, ORGANIZATION):
        if text := "".join(c if c.isprintable() else "?" for c in found.get(kind_of_name, "")).strip():
            return text if len(text) <= 64 else text[:61] + "..."
    return "no name"
