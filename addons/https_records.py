"""DNS messages without HTTPS and SVCB records (RFC 9460). Pure: octets in, octets out.

dnspython reads and writes them. mitmproxy's own DNS module would do without another library, but takes octets of TXT
and SOA records for compressed names, and names that are no IDNA for errors: what it writes is not always what it read.
"""

from __future__ import annotations

import struct
from typing import Final

import dns.exception
import dns.message
from dns.rdatatype import HTTPS, SVCB

LARGEST: Final = 65_535
"""Octets of a DNS message over HTTPS (RFC 8484, section 6)."""
MOST_RECORDS: Final = 500
"""Questions and records of one message: a name that is compressed makes a few octets cost much."""
_COUNTS = struct.Struct("!4x4H")
_STRIPPED: Final = frozenset({HTTPS, SVCB})


def without(wire: bytes) -> bytes | None:
    """The message without the records and the signatures on them (RRSIG); None where there are none.

    Who validates signatures by itself notices: that a record is missing cannot be signed here. Raises ValueError for
    what is no DNS message, or has too many records.
    """
    if len(wire) < _COUNTS.size:
        raise ValueError("it is too short for a DNS message")
    if (records := sum(_COUNTS.unpack_from(wire))) > MOST_RECORDS:
        raise ValueError(f"a DNS message with {records} questions and records; at most {MOST_RECORDS} are looked at")
    try:
        message = dns.message.from_wire(wire)
        found = False
        for section in (message.answer, message.authority, message.additional):
            kept = [records for records in section if _STRIPPED.isdisjoint((records.rdtype, records.covers))]
            found = found or len(kept) < len(section)
            section[:] = kept
        return message.to_wire(max_size=LARGEST) if found else None
    except (dns.exception.DNSException, ValueError) as error:
        raise ValueError(f"a DNS message that cannot be read: {type(error).__name__}") from None
