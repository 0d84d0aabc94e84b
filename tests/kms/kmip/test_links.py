"""Links, taken out of messages: octets that PyKMIP wrote, and octets that nobody should have."""

from __future__ import annotations

import pytest
from kmip.core.enums import KMIPVersion, LinkType
from kmip.core.utils import BytearrayStream

from kms.kmip.errors import KmipError, Reason
from kms.kmip.links import DEEPEST, LINK, PUBLIC_KEY_LINK, Link, without_links
from tests.harness.kmip_fake import link


def structure(tag: int, content: bytes) -> bytes:
    return tag.to_bytes(3) + b"\x01" + len(content).to_bytes(4) + content


def element(tag: int, type: int, content: bytes) -> bytes:
    return tag.to_bytes(3) + bytes([type]) + len(content).to_bytes(4) + content + bytes(-len(content) % 8)


def written(kind: LinkType, identifier: str) -> bytes:
    stream = BytearrayStream()
    link(kind, identifier, KMIPVersion.KMIP_1_4).write(stream, KMIPVersion.KMIP_1_4)
    return bytes(stream.buffer)


@pytest.mark.parametrize("identifier", ["1", "12345678", "a-rather-long-identifier"])
def test_are_found_and_nothing_else_changes(identifier: str) -> None:
    text, number = element(0x42000A, 7, b"Object Type"), element(0x42000B, 5, bytes(4))
    other = structure(0x420008, text + number)
    both = written(LinkType.PUBLIC_KEY_LINK, identifier) + other + written(LinkType.CERTIFICATE_LINK, "2")
    left, found = without_links(structure(0x42007C, both))
    assert left == structure(0x42007C, other)
    assert found == (Link(PUBLIC_KEY_LINK, identifier), Link(0x101, "2"))
    assert without_links(left) == (left, ())


@pytest.mark.parametrize(
    "octets",
    [
        b"\x42",
        written(LinkType.PUBLIC_KEY_LINK, "1")[:-3],
        structure(LINK, b""),
        structure(LINK, element(0x42004B, 5, bytes(4))),
        structure(LINK, element(0x42004B, 2, bytes(4)) + element(0x42004C, 7, b"1")),
        structure(LINK, element(0x42004B, 5, bytes(4)) + element(0x42004C, 2, bytes(4))),
        structure(LINK, element(0x42004B, 5, bytes(4)) + element(0x42004C, 7, b"\xff")),
        structure(0x420008, element(0x42000A, 7, b"Link")),
    ],
    ids=["cut", "short", "empty", "no-identifier", "no-kind", "a-number", "no-text", "no-value"],
)
def test_that_cannot_be_read_end_it(octets: bytes) -> None:
    with pytest.raises(KmipError) as caught:
        without_links(octets)
    assert caught.value.reason is Reason.MALFORMED


def test_are_not_looked_for_without_end() -> None:
    octets = b""
    for _ in range(DEEPEST + 2):
        octets = structure(0x42007C, octets)
    with pytest.raises(KmipError):
        without_links(octets)
