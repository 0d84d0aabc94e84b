"""The PROXY protocol's header: read in any pieces, and refused where it lies about lengths or is none."""

from __future__ import annotations

import socket
import struct

import pytest

from proxy.listeners.proxy_header import (
    LONGEST_BLOCK,
    SIGNATURE,
    BadHeader,
    Header,
    encoded,
    read_header,
    resembles_header,
)

V4 = socket.inet_aton("192.0.2.1") + socket.inet_aton("198.51.100.2") + struct.pack("!HH", 40000, 443)
V6 = b"".join(socket.inet_pton(socket.AF_INET6, address) for address in ("2001:db8::1", "2001:db8::2")) + struct.pack(
    "!HH", 1, 65535
)
MAPPED = bytes(10) + b"\xff\xff" + V4[:4] + bytes(10) + b"\xff\xff" + V4[4:]
TLVS = b"\x04\x00\x00" + b"\x02\x00\x0cgood.example" + b"\x03\x00\x04\xde\xad\xbe\xef"
FOUR = (("192.0.2.1", 40000), ("198.51.100.2", 443))
SIX = (("2001:db8::1", 1), ("2001:db8::2", 65535))
NOBODY = (None, None)


def block(kind: int, data: bytes, command: int = 0x21, length: int | None = None) -> bytes:
    return SIGNATURE + struct.pack("!BBH", command, kind, len(data) if length is None else length) + data


@pytest.mark.parametrize(
    ("header", "ends"),
    [
        (b"PROXY TCP4 192.0.2.1 198.51.100.2 40000 443\r\n", FOUR),
        (b"PROXY TCP6 2001:DB8::1 2001:db8:0::2 1 65535\r\n", SIX),
        (b"PROXY TCP6 ::ffff:192.0.2.1 ::ffff:198.51.100.2 40000 443\r\n", FOUR),
        (b"PROXY UNKNOWN\r\n", NOBODY),
        (b"PROXY UNKNOWN ffff:f...f:ffff whatever 65535 65535\r\n", NOBODY),
        (block(0x11, V4), FOUR),
        (block(0x21, V6), SIX),
        (block(0x21, MAPPED), FOUR),
        (block(0x11, V4 + TLVS), FOUR),
        (block(0x11, V4 + b"\xe0" + struct.pack("!H", LONGEST_BLOCK - 15) + bytes(LONGEST_BLOCK - 15)), FOUR),
        (block(0x00, b""), NOBODY),
        (block(0x00, TLVS), NOBODY),
        (block(0x31, b"/run/a.sock".ljust(108, b"\0") * 2), NOBODY),
        (block(0x00, b"", command=0x20), NOBODY),
        (block(0x11, V4 + b"none of these", command=0x20), NOBODY),
    ],
)
def test_a_header_is_whole_with_its_last_byte_and_not_before(header: bytes, ends: tuple[object, object]) -> None:
    for end in range(len(header)):
        assert read_header(header[:end]) is None
    source, destination = ends
    for behind in (b"", b"\x16", b"PROXY TCP4 1.2.3.4 1.2.3.4 1 1\r\n", SIGNATURE):
        assert read_header(header + behind) == Header(source, destination, len(header))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("header", "words"),
    [
        (b"CONNECT good.example:443 HTTP/1.1\r\n", "which this address has to send first"),
        (b"\x16\x03\x01\x02\x00", "which this address has to send first"),
        (b"\r\n\r\nG", "which this address has to send first"),
        (b"PROXY\tTCP4", "which this address has to send first"),
        (b"PROXY TCP4 192.0.2.1 198.51.100.2 40000 443\n".ljust(107, b" "), "has not ended after 107 bytes"),
        (b"PROXY UNKNOWN ".ljust(106, b"x") + b"\r\n", "has not ended after 107 bytes"),
        (b"PROXY \r\n", "malformed PROXY line"),
        (b"PROXY TCP4 192.0.2.1 198.51.100.2 40000\r\n", "malformed PROXY line"),
        (b"PROXY TCP4 192.0.2.1  198.51.100.2 40000 443\r\n", "malformed PROXY line"),
        (b"PROXY TCP4 192.0.2.1 198.51.100.2 40000 443 \r\n", "malformed PROXY line"),
        (b"PROXY UDP4 192.0.2.1 198.51.100.2 40000 443\r\n", "malformed PROXY line"),
        (b"PROXY TCP4 2001:db8::1 2001:db8::2 1 1\r\n", "another family"),
        (b"PROXY TCP6 fe80::1%lo fe80::2 1 1\r\n", "another family"),
        (b"PROXY TCP4 192.0.2.01 198.51.100.2 1 1\r\n", "an address that is none"),
        (b"PROXY TCP4 \xff 198.51.100.2 1 1\r\n", "an address that is none"),
        (b"PROXY TCP4 192.0.2.1 198.51.100.2 65536 1\r\n", "a port that is none"),
        (b"PROXY TCP4 192.0.2.1 198.51.100.2 080 1\r\n", "a port that is none"),
        (b"PROXY TCP4 192.0.2.1 198.51.100.2 -1 1\r\n", "a port that is none"),
        (block(0x11, V4, command=0x11), "version and command 0x11"),
        (block(0x11, V4, command=0x22), "version and command 0x22"),
        (block(0x12, V4), "family and transport 0x12"),
        (block(0x41, V4), "family and transport 0x41"),
        (block(0x11, V4[:-1]), "has 11 bytes of addresses; its family has 12"),
        (block(0x21, V4), "has 12 bytes of addresses; its family has 36"),
        (block(0x11, V4, length=LONGEST_BLOCK + 1), "at most 4096"),
        (block(0x11, V4 + b"\x04\x00"), "ends within a TLV"),
        (block(0x11, V4 + b"\x04\x00\x05abcd"), "longer than the header"),
        (block(0x00, b"\x04\xff\xff"), "longer than the header"),
    ],
)
def test_what_is_no_header_is_refused(header: bytes, words: str) -> None:
    with pytest.raises(BadHeader, match=words):
        read_header(header)


def test_a_lie_about_the_length_is_seen_before_what_it_promises_has_come() -> None:
    with pytest.raises(BadHeader, match="at most 4096"):
        read_header(block(0x11, b"", length=65535))


@pytest.mark.parametrize("ends", [FOUR, SIX])
def test_what_is_written_here_is_read_here(ends: tuple[tuple[str, int], tuple[str, int]]) -> None:
    header = encoded(*ends)
    assert read_header(header) == Header(*ends, len(header))


def test_both_ends_are_of_one_family() -> None:
    with pytest.raises(ValueError, match="one family"):
        encoded(FOUR[0], SIX[1])


def test_who_means_to_send_one_is_told_so() -> None:
    assert resembles_header(b"PROXY TCP4 ")
    assert resembles_header(SIGNATURE + b"\x21")
    assert not resembles_header(b"PROPFIND / HTTP/1.1\r\n")
