"""The links of a key (KMIP 1.4, 3.35): PyKMIP reads every attribute that is asked for here, but this one.

So it is taken out of an answer before that is decoded; of TTLV here is what that needs (KMIP 1.4, 9.1.1).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from kms.kmip.errors import KmipError, Reason

ATTRIBUTE, ATTRIBUTE_NAME, ATTRIBUTE_VALUE = 0x420008, 0x42000A, 0x42000B
LINK, LINK_TYPE, LINKED_OBJECT_IDENTIFIER = 0x42004A, 0x42004B, 0x42004C
STRUCTURE, ENUMERATION, TEXT = 0x01, 0x05, 0x07
PUBLIC_KEY_LINK = 0x102
"""KMIP 1.4, 9.1.3.2.20."""
DEEPEST = 12
"""Structures in structures: an answer with attributes has six."""


@dataclass(frozen=True, slots=True)
class Link:
    """From the key that was asked about to another object. ``kind`` is the number of its Link Type."""

    kind: int
    identifier: str


@dataclass(frozen=True, slots=True)
class _Element:
    tag: int
    type: int
    content: bytes
    whole: bytes


def without_links(octets: bytes) -> tuple[bytes, tuple[Link, ...]]:
    """The message as it is without links, and these. Raises KmipError where it cannot be read."""
    found: list[Link] = []
    return _sifted(octets, found, 0), tuple(found)


def _sifted(octets: bytes, found: list[Link], depth: int) -> bytes:
    if depth > DEEPEST:
        raise _malformed()
    left = b""
    for element in _elements(octets):
        if element.type != STRUCTURE:
            left += element.whole
        elif (link := _link(element)) is not None:
            found.append(link)
        else:
            content = _sifted(element.content, found, depth + 1)
            left += element.whole[:4] + len(content).to_bytes(4) + content
    return left


def _link(element: _Element) -> Link | None:
    """None where the structure is something else. In KMIP 2.0 an attribute is its own tag, before it has a name."""
    if element.tag == LINK:
        return _read(element.content)
    if element.tag != ATTRIBUTE:
        return None
    fields = {child.tag: child for child in _elements(element.content)}
    name, value = fields.get(ATTRIBUTE_NAME), fields.get(ATTRIBUTE_VALUE)
    if name is None or name.content != b"Link":
        return None
    if value is None:
        raise _malformed()
    return _read(value.content)


def _read(octets: bytes) -> Link:
    fields = {child.tag: child for child in _elements(octets)}
    kind, identifier = fields.get(LINK_TYPE), fields.get(LINKED_OBJECT_IDENTIFIER)
    # KMIP 2.0 has identifiers that are numbers, too: in requests, for what was made in the same batch.
    if kind is None or kind.type != ENUMERATION or identifier is None or identifier.type != TEXT:
        raise _malformed()
    try:
        return Link(int.from_bytes(kind.content), identifier.content.decode())
    except UnicodeDecodeError:
        raise _malformed() from None


def _elements(octets: bytes) -> Iterator[_Element]:
    """One after the other: a tag, a type, a length, and a value that is filled up to eight octets."""
    at = 0
    while at < len(octets):
        head = octets[at : at + 8]
        length = int.from_bytes(head[4:])
        end = at + 8 + length + -length % 8
        if len(head) < 8 or end > len(octets):
            raise _malformed()
        yield _Element(int.from_bytes(head[:3]), head[3], octets[at + 8 : at + 8 + length], octets[at:end])
        at = end


def _malformed() -> KmipError:
    return KmipError(Reason.MALFORMED, "the answer cannot be read as KMIP (its links)")
