"""The header with which a load balancer says whose connection it passes on: HAProxy's PROXY protocol, versions 1 and 2.

https://www.haproxy.org/download/3.0/doc/proxy-protocol.txt; the sections named here are its. The reader gets the bytes
that have come and gives the header with its size, or None while more are needed. What version 2 has in TLVs is not
used, nor is its checksum verified: it would protect from what TCP protects from.
"""

from __future__ import annotations

import ipaddress
import re
import struct
from dataclasses import dataclass

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
"""What version 2 begins with (section 2.2)."""
LONGEST_LINE = 107
"""Bytes of a header of version 1, with its CR LF (section 2.1)."""
LONGEST_BLOCK = 4096
"""Bytes of addresses and TLVs in version 2. There is room for 64 KiB; balancers send a few hundred."""

Endpoint = tuple[str, int]
"""An address in its canonical text, and a port."""

_FIRST = b"PROXY "
_PORT = re.compile(rb"0|[1-9][0-9]{0,4}")
_FIXED = struct.Struct("!12sBBH")
_LOCAL, _PROXY = 0x20, 0x21
_UNSPEC, _TCP4, _TCP6, _UNIX = 0x00, 0x11, 0x21, 0x31
_BLOCKS = {_UNSPEC: 0, _TCP4: 12, _TCP6: 36, _UNIX: 216}
"""Bytes of the addresses, by family and transport."""


class BadHeader(ValueError):  # noqa: N818 - named after what is bad, as BadHead and BadClientHello are
    """The connection does not begin with a header, or with one that cannot be so."""


@dataclass(frozen=True, slots=True)
class Header:
    """Both ends of the connection that is passed on. None: it is the sender's own, or has no IP addresses."""

    source: Endpoint | None
    destination: Endpoint | None
    size: int
    """Bytes of the header."""


def read_header(buffer: bytes | bytearray) -> Header | None:
    """The header at the start of the buffer. Raises :class:`BadHeader`."""
    if _may_be(buffer, _FIRST):
        return _line(buffer)
    if _may_be(buffer, SIGNATURE):
        return _block(buffer)
    raise BadHeader("expected a PROXY protocol header, which this address has to send first")


def resembles_header(buffer: bytes | bytearray) -> bool:
    """Whether somebody means to send one."""
    return buffer.startswith((_FIRST, SIGNATURE))


def encoded(source: Endpoint, destination: Endpoint) -> bytes:
    """A header of version 2, for who passes connections on to a worker. Raises ValueError for addresses that do not go
    together."""
    addresses = [ipaddress.ip_address(address) for address, _ in (source, destination)]
    if addresses[0].version != addresses[1].version:
        raise ValueError("expected two addresses of one family")
    block = b"".join(address.packed for address in addresses) + struct.pack("!HH", source[1], destination[1])
    return _FIXED.pack(SIGNATURE, _PROXY, _TCP4 if addresses[0].version == 4 else _TCP6, len(block)) + block


def _may_be(buffer: bytes | bytearray, whole: bytes) -> bool:
    return buffer[: len(whole)] == whole[: len(buffer)]


# --- version 1 ---


def _line(buffer: bytes | bytearray) -> Header | None:
    end = buffer.find(b"\r\n", 0, LONGEST_LINE)
    if end < 0:
        if len(buffer) >= LONGEST_LINE:
            raise BadHeader(f"the PROXY line has not ended after {LONGEST_LINE} bytes")
        return None
    _, family, *rest = bytes(buffer[:end]).split(b" ")
    if family == b"UNKNOWN":
        return Header(None, None, end + 2)  # whatever follows is to be ignored
    version = {b"TCP4": 4, b"TCP6": 6}.get(family)
    if version is None or len(rest) != 4:
        raise BadHeader("malformed PROXY line; expected TCP4 or TCP6, two addresses and two ports, or UNKNOWN")
    source, destination, source_port, destination_port = rest
    return Header(
        (_address(source, version), _port(source_port)),
        (_address(destination, version), _port(destination_port)),
        end + 2,
    )


def _address(text: bytes, version: int) -> str:
    try:
        address = ipaddress.ip_address(text.decode("ascii"))
    except ValueError:
        raise BadHeader("the PROXY line has an address that is none") from None
    if address.version != version or b"%" in text:
        raise BadHeader("the PROXY line has an address of another family than it says")
    return _canonical(address)


def _port(text: bytes) -> int:
    if _PORT.fullmatch(text) is None or int(text) > 65535:
        raise BadHeader("the PROXY line has a port that is none")
    return int(text)


# --- version 2 ---


def _block(buffer: bytes | bytearray) -> Header | None:
    if len(buffer) < _FIXED.size:
        return None
    _, command, kind, length = _FIXED.unpack_from(buffer)
    if command not in (_LOCAL, _PROXY):
        raise BadHeader(f"the PROXY header has version and command {command:#04x}; expected 0x20 or 0x21")
    if length > LONGEST_BLOCK:
        raise BadHeader(f"the PROXY header has {length} bytes of addresses and TLVs; at most {LONGEST_BLOCK} are taken")
    addresses = 0 if command == _LOCAL else _BLOCKS.get(kind)
    if addresses is None:
        raise BadHeader(f"the PROXY header has family and transport {kind:#04x}; expected TCP")
    if length < addresses:
        raise BadHeader(f"the PROXY header has {length} bytes of addresses; its family has {addresses}")
    size = _FIXED.size + length
    if len(buffer) < size:
        return None
    if command == _LOCAL:
        return Header(None, None, size)  # all of it is to be ignored
    _check_tlvs(bytes(buffer[_FIXED.size + addresses : size]))
    if kind not in (_TCP4, _TCP6):
        return Header(None, None, size)
    each = 4 if kind == _TCP4 else 16
    packed = bytes(buffer[_FIXED.size : _FIXED.size + addresses])
    source_port, destination_port = struct.unpack_from("!HH", packed, 2 * each)
    return Header(
        (_canonical(ipaddress.ip_address(packed[:each])), source_port),
        (_canonical(ipaddress.ip_address(packed[each : 2 * each])), destination_port),
        size,
    )


def _check_tlvs(data: bytes) -> None:
    """Each has to end where the next begins: what lies about lengths may lie about addresses."""
    at = 0
    while at < len(data):
        if len(data) < at + 3:
            raise BadHeader("the PROXY header ends within a TLV")
        at += 3 + int.from_bytes(data[at + 1 : at + 3])
    if at != len(data):
        raise BadHeader("the PROXY header has a TLV that is longer than the header")


def _canonical(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> str:
    """One client has one address: IPv4 within IPv6 is IPv4."""
    mapped = address.ipv4_mapped if address.version == 6 else None
    return str(mapped or address)
