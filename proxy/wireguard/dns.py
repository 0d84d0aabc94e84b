"""Names that peers ask for: ``resolver.hosts`` and the system's resolver, for addresses alone.

mitmproxy reads and writes the messages: it is there anyway, and bounds what it follows. Questions for anything but
addresses are answered with NOTIMP; but that a host offers HTTPS in other ways (RFC 9460) is answered with "nothing of
that", since these lead to QUIC and to an encrypted ClientHello, of which we could not tell for whom it is.
"""

from __future__ import annotations

import ipaddress
import socket
import struct

from mitmproxy.dns import DNSMessage, ResourceRecord
from mitmproxy.net.dns import classes, op_codes, response_codes, types

from certs.names import InvalidHost, parse_host
from proxy.admission import ResolveError, Resolver

LONGEST_ANSWER = 512
"""Bytes (RFC 1035, section 4.2.1): no more than that fits into every resolver's buffer."""
LONGEST_QUESTION = 4096
TTL_SECONDS = 60
_VERSIONS = {types.A: 4, types.AAAA: 6}
_NOTHING = frozenset({types.SVCB, types.HTTPS})


async def answer(question: bytes, resolver: Resolver, client: str) -> bytes | None:
    """The answer to a question of a client's; None where it is no question, and so gets none."""
    if len(question) > LONGEST_QUESTION:
        return None
    try:
        asked = DNSMessage.unpack(question)
    except (struct.error, ValueError):
        return None
    if not asked.query:
        return None
    try:
        return _packed(await _answer(asked, resolver, client))
    except (struct.error, ValueError):  # a name that can be read and not be written
        return None


async def _answer(asked: DNSMessage, resolver: Resolver, client: str) -> DNSMessage:
    if asked.op_code != op_codes.QUERY:
        return asked.fail(response_codes.NOTIMP)
    if len(asked.questions) != 1:
        return asked.fail(response_codes.FORMERR)
    question = asked.questions[0]
    if question.class_ == classes.IN and question.type in _NOTHING:
        return asked.succeed([])
    version = _VERSIONS.get(question.type)
    if question.class_ != classes.IN or version is None:
        return asked.fail(response_codes.NOTIMP)
    try:
        host = parse_host(question.name)
    except InvalidHost:
        return asked.fail(response_codes.NXDOMAIN)
    configured = resolver.at_once(host) is not None
    try:
        found = map(ipaddress.ip_address, await resolver.resolve(host, client))
    except ResolveError as error:
        passing = error.timed_out or error.temporary
        return asked.fail(response_codes.SERVFAIL if passing else response_codes.NXDOMAIN)
    records = []
    for address in found:
        if isinstance(address, ipaddress.IPv4Address) and version == 4:
            records.append(ResourceRecord.A(question.name, address, ttl=TTL_SECONDS))
        if isinstance(address, ipaddress.IPv6Address) and version == 6 and (configured or reachable(str(address))):
            records.append(ResourceRecord.AAAA(question.name, address, ttl=TTL_SECONDS))
    return asked.succeed(records)


def _packed(message: DNSMessage) -> bytes:
    while len(packed := message.packed) > LONGEST_ANSWER and message.answers:
        message.answers.pop()
    return packed


def reachable(address: str) -> bool:
    """Whether this machine has a way to an IPv6 address. A peer that is told of one without would wait in vain: in the
    tunnel every connection seems to come to stand."""
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as probe:
            probe.connect((address, 9))  # which sends nothing
    except OSError:
        return False
    return True
