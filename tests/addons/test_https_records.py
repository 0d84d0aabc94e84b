from __future__ import annotations

import struct

import dns.message
import dns.rdatatype
import pytest

from addons.https_records import MOST_RECORDS, without

NAME = b"\x04good\x07example\x00"
POINTER = b"\xc0\x0c"  # to the name of the question, behind the head's twelve octets
A, CNAME, SOA, TXT, OPT, RRSIG, SVCB, HTTPS = 1, 5, 6, 16, 41, 46, 64, 65
H3_AND_ECH = b"\x00\x01\x00" + b"\x00\x01\x00\x03\x02h3" + b"\x00\x05\x00\x0a\x00\x08\xfe\x0d\x00\x04abcd"
"""SvcPriority 1, the owner's name, alpn=h3, and an ech (RFC 9460, section 2.2; RFC 9848)."""


def record(kind: int, data: bytes, name: bytes = POINTER, ttl: int = 300) -> bytes:
    return name + struct.pack("!HHIH", kind, 1, ttl, len(data)) + data


def signature(covers: int) -> bytes:
    return struct.pack("!HBBIIIH", covers, 13, 2, 300, 2_000_000_000, 1_900_000_000, 1) + NAME + b"s" * 64


def message(*sections: list[bytes], asked: int = HTTPS) -> bytes:
    counts = [len(section) for section in (*sections, [], [], [])[:3]]
    head = struct.pack("!6H", 0, 0x8180, 1, *counts)
    return head + NAME + struct.pack("!HH", asked, 1) + b"".join(b"".join(section) for section in sections)


def kinds(wire: bytes) -> list[list[int]]:
    read = dns.message.from_wire(wire)
    return [[int(found.rdtype) for found in section] for section in (read.answer, read.authority, read.additional)]


def test_the_records_and_their_signatures_go_from_every_section_and_the_others_stay() -> None:
    wire = message(
        [record(HTTPS, H3_AND_ECH), record(RRSIG, signature(HTTPS)), record(A, b"\xc0\x00\x02\x01")],
        [record(SVCB, H3_AND_ECH), record(RRSIG, signature(SOA))],
        [record(HTTPS, H3_AND_ECH), record(OPT, b"", name=b"\x00")],
    )
    shorter = without(wire)
    assert shorter is not None
    assert kinds(shorter) == [[A], [RRSIG], []]
    assert b"h3" not in shorter
    assert b"abcd" not in shorter
    read = dns.message.from_wire(shorter)
    assert read.id == 0
    assert read.edns == 0  # the OPT record stays
    assert [str(question.name) for question in read.question] == ["good.example."]
    assert read.question[0].rdtype == dns.rdatatype.HTTPS
    assert str(read.answer[0][0]) == "192.0.2.1"
    assert read.answer[0].ttl == 300


def test_an_alias_stays_and_so_does_what_only_looks_compressed() -> None:
    """0xC0 in a text or a number is no pointer: a text with it comes out as it went in."""
    text = b"\x04\xc0\x0c\xc0\x0c"
    numbers = struct.pack("!5I", 0xC00C_C00C, 2, 3, 4, 5)
    wire = message(
        [record(CNAME, b"\x01a" + POINTER), record(HTTPS, H3_AND_ECH), record(TXT, text)],
        [record(SOA, POINTER + POINTER + numbers)],
    )
    shorter = without(wire)
    assert shorter is not None
    assert kinds(shorter) == [[CNAME, TXT], [SOA], []]
    assert text in shorter
    assert numbers in shorter


def test_what_has_none_is_left_as_it_is() -> None:
    assert without(message([record(A, b"\xc0\x00\x02\x01")], asked=A)) is None
    assert without(message()) is None


def test_what_is_cut_is_no_message() -> None:
    wire = message([record(HTTPS, H3_AND_ECH)])
    for cut in range(len(wire)):
        with pytest.raises(ValueError, match="DNS message"):
            without(wire[:cut])


@pytest.mark.parametrize(
    "wire",
    [
        b"",
        message([record(HTTPS, H3_AND_ECH)]) + b"more",
        message([record(HTTPS, b"\x00\x01\x00\x00\x01\x00\x09\x02h3")]),  # a parameter longer than its record
        message([record(A, b"\x7f\x00\x00\x01\x00")]),
        message([record(HTTPS, H3_AND_ECH, name=b"\xc0\x20")]),  # a name that points to itself
        message([record(HTTPS, H3_AND_ECH, name=b"\x41" + b"a" * 65 + b"\x00")]),
        struct.pack("!6H", 0, 0x8180, 0, 0xFFFF, 0xFFFF, 0xFFFF),
    ],
)
def test_lies_are_refused(wire: bytes) -> None:
    with pytest.raises(ValueError, match="DNS message"):
        without(wire)


def test_a_message_of_many_records_is_not_looked_at() -> None:
    with pytest.raises(ValueError, match="at most"):
        without(message([record(A, b"\xc0\x00\x02\x01")] * MOST_RECORDS))
