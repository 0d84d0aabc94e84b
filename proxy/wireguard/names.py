"""Names that peers ask for: ``resolver.hosts`` and the system's resolver, for addresses alone.

Questions for anything but addresses are answered with NOTIMP; but that a host offers HTTPS in other ways (RFC 9460) is
answered with "nothing of that", since these lead to QUIC and to an encrypted ClientHello, of which we could not tell
for whom it is.
"""

from __future__ import annotations

import ipaddress
import socket
import struct
from typing import Final

import dns.exception
import dns.flags
import dns.message
import dns.opcode
import dns.rcode
import dns.rrset
from dns.message import QueryMessage
from dns.rdataclass import IN
from dns.rdatatype import AAAA, HTTPS, SVCB, A

from certs.names import InvalidHost, parse_host
from proxy.admission import ResolveError, Resolver

LONGEST_QUESTION: Final = 4096
LONGEST_ANSWER: Final = 512
"""Octets (RFC 1035, section 4.2.1): no more than that fits into every resolver's buffer."""
MOST_RECORDS: Final = 16
"""In a question, beside it: EDNS has one. A name that is compressed makes a few octets cost much."""
MOST_ADDRESSES: Final = 16
"""In an answer: so many of IPv6 fit."""
TTL_SECONDS: Final = 60
_COUNTS = struct.Struct("!4x4H")
_NOTHING: Final = frozenset({SVCB, HTTPS})


async def answer(question: bytes, resolver: Resolver, client: str) -> bytes | None:
    """The answer to a question of a client's; None where it is no question, and so gets none."""
    if not _COUNTS.size <= len(question) <= LONGEST_QUESTION or sum(_COUNTS.unpack_from(question)) > MOST_RECORDS:
        return None
    try:
        asked = dns.message.from_wire(question, ignore_trailing=True)
        if asked.flags & dns.flags.QR:
            return None
        said = dns.message.make_response(asked, recursion_available=True, our_payload=LONGEST_ANSWER)
    except (dns.exception.DNSException, ValueError, NotImplementedError):
        return None
    said.set_rcode(await _fill(said, asked, resolver, client))
    return said.to_wire(max_size=LONGEST_ANSWER)


async def _fill(
    said: dns.message.Message, asked: dns.message.Message, resolver: Resolver, client: str
) -> dns.rcode.Rcode:
    """Put the addresses into the answer; how the question fared."""
    if asked.opcode() != dns.opcode.QUERY or not isinstance(asked, QueryMessage):
        return dns.rcode.NOTIMP
    if len(asked.question) != 1:
        return dns.rcode.FORMERR
    question = asked.question[0]
    if question.rdclass == IN and question.rdtype in _NOTHING:
        return dns.rcode.NOERROR
    if question.rdclass != IN or question.rdtype not in (A, AAAA):
        return dns.rcode.NOTIMP
    try:
        host = parse_host(question.name.to_text(omit_final_dot=True))
    except InvalidHost:
        return dns.rcode.NXDOMAIN
    configured = resolver.at_once(host) is not None
    try:
        found = map(ipaddress.ip_address, await resolver.resolve(host, client))
    except ResolveError as error:
        return dns.rcode.SERVFAIL if error.timed_out or error.temporary else dns.rcode.NXDOMAIN
    version = 4 if question.rdtype == A else 6
    told = [
        str(address)
        for address in found
        if address.version == version and (version == 4 or configured or reachable(str(address)))
    ][:MOST_ADDRESSES]
    if told:
        said.answer.append(dns.rrset.from_text_list(question.name, TTL_SECONDS, IN, question.rdtype, told))
    return dns.rcode.NOERROR


def reachable(address: str) -> bool:
    """Whether this machine has a way to an IPv6 address. A peer that is told of one without would wait in vain: in the
    tunnel every connection seems to come to stand."""
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as probe:
            probe.connect((address, 9))  # which sends nothing
    except OSError:
        return False
    return True
