"""Bypass rules: the hosts whose TLS passes as it is, not decrypted, not judged, not seen.

A rule is a host pattern (:mod:`certs.host_patterns`) or a network in CIDR notation, which covers the IP addresses in it
where a client asks for one; the addresses that a name resolves to are not looked at. A rule for everything is none.

:class:`BypassRules` are a tenant's own, each with an end where it has one. :class:`PatternList` is a file of them, with
up to a million lines, in little more memory than the file takes.
"""

from __future__ import annotations

import io
import ipaddress
import re
from array import array
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from certs.host_patterns import covering, parse_pattern
from certs.names import Host, InvalidHost

MOST_RULES = 1_000_000
"""Rules of one list file."""
MOST_PROBLEMS = 20
"""Bad lines of which the first are told; the others are counted."""
LONGEST_LINE = 1024
"""Bytes, of a rule with its comment."""

_SLASHED = re.compile(r"[0-9A-Fa-f:.]+/[0-9]{1,3}")
_PORT = re.compile(r"(?:[^:]+|\[.*\]):[0-9]*")
_COMMENT = re.compile(r"(?:^|\s)#.*")
# Lines that parse_rule would leave as they are: no IP address, no number at the end, no A-label that could be a wrong
# one. Nearly all are of this kind, and cost a tenth of what the others do.
_AS_THEY_ARE = re.compile(rb"(?:\*?\.)?(?:[a-z0-9_-]{1,63}\.)*[a-z][a-z0-9_-]{0,62}")
_LONGEST_NAME = 253

Lengths = tuple[tuple[int, int], ...]
"""Which networks there are: IP version and prefix length, the longest first."""


@dataclass(frozen=True, slots=True)
class Matched:
    """Why a host is not decrypted: the rule, and the file that it stands in; None: it is one of the tenant's own."""

    rule: str
    file: str | None = None


def parse_rule(text: str) -> str:
    """The rule that a person wrote, as rules are compared. Raises InvalidHost, saying what to write."""
    if text == "*":
        raise InvalidHost("* would leave nothing decrypted, so that the gate were none; name the hosts")
    if "://" in text:
        raise InvalidHost(f"{_shown(text)} has a scheme; write the host alone: example.com")
    if "/" in text:
        return _network(text)
    if ":" in text and _PORT.fullmatch(text):
        raise InvalidHost(f"{_shown(text)} has a port; leave it out, every port is meant")
    return str(parse_pattern(text))


def _network(text: str) -> str:
    if _SLASHED.fullmatch(text) is None:
        raise InvalidHost(f"{_shown(text)} is no network and no host; write 192.0.2.0/24, or a host without a path")
    try:
        network = ipaddress.ip_network(text, strict=False)
    except ValueError as error:
        raise InvalidHost(f"{_shown(text)} is no network: {error}; write 192.0.2.0/24 or 2001:db8::/32") from None
    if not network.prefixlen:
        raise InvalidHost(
            f"{_shown(text)} would leave nothing decrypted that is asked for by its address; name networks"
        )
    address = ipaddress.ip_address(text.partition("/")[0])
    if address != network.network_address:
        raise InvalidHost(f"{_shown(text)} has bits behind its prefix: write {network}, or {address} for the one")
    return str(address) if network.prefixlen == network.max_prefixlen else str(network)


def _rules_for(host: Host, lengths: Lengths) -> Iterator[str]:
    """The rules that would cover the host, the closest first."""
    for text in covering(host):
        if text != "*":
            yield text
    if host.is_ip and lengths:
        address = ipaddress.ip_address(host.text)
        for version, length in lengths:
            if version == address.version:
                yield str(ipaddress.ip_network((address, length), strict=False))


def _lengths(rules: Iterable[str]) -> Lengths:
    found = {(6 if ":" in rule else 4, int(rule.rpartition("/")[2])) for rule in rules if "/" in rule}
    return tuple(sorted(found, key=lambda each: -each[1]))


@dataclass(frozen=True, slots=True)
class BypassRules:
    """A tenant's own rules, as :func:`parse_rule` writes them, and from when on each no longer counts; None: always."""

    ends: Mapping[str, datetime | None] = field(default_factory=dict)
    _lengths: Lengths = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_lengths", _lengths(self.ends))

    def match(self, host: Host, now: datetime) -> str | None:
        """The closest rule that covers the host now."""
        for rule in _rules_for(host, self._lengths):
            if rule in self.ends and ((end := self.ends[rule]) is None or now < end):
                return rule
        return None


class PatternList:
    """The rules of a file: one a line, ``#`` and what follows is a comment. Does not change.

    A list with ``problems`` (line, from 1, and what is wrong with it; the first of ``wrong`` in all) is not to be used:
    half of somebody's rules may be the opposite of what they meant.
    """

    def __init__(self, data: bytes) -> None:
        self.problems: list[tuple[int, str]] = []
        self.wrong = 0
        self.count = 0
        """How many different rules there are."""
        # All rules, a line each, and a table of where each begins, found by its hash (open addressing, at most half
        # full): a dictionary of a million texts takes five times as much. Place 0 is no rule's.
        self._text = bytearray(b"\n")
        most = min(data.count(b"\n") + 1, MOST_RULES)
        self._table = array("I", bytes(4 << (2 * most - 1).bit_length()))
        networks: set[str] = set()
        for number, line in enumerate(io.BytesIO(data.removeprefix(b"\xef\xbb\xbf")), 1):
            rule = line.strip()
            if not rule or rule.startswith(b"#"):
                continue
            if _AS_THEY_ARE.fullmatch(rule) is None or b"xn--" in rule or len(rule) > _LONGEST_NAME:
                try:
                    if (parsed := _of_line(rule)) is None:
                        continue
                except InvalidHost as error:
                    self._bad(number, str(error))
                    continue
                if "/" in parsed:
                    networks.add(parsed)
                rule = parsed.encode("ascii")
            at, place = self._find(rule)
            if at:
                continue
            if self.count == MOST_RULES:
                self._bad(number, f"more than {MOST_RULES} rules; split the file")
                break
            self._table[place] = len(self._text)
            self._text += rule + b"\n"
            self.count += 1
        self._lengths = _lengths(networks)

    def match(self, host: Host) -> str | None:
        """The closest rule that covers the host."""
        if self.count:
            for rule in _rules_for(host, self._lengths):
                if self._find(rule.encode("ascii"))[0]:
                    return rule
        return None

    def complaints(self, file: str) -> list[str]:
        """What is wrong with the file of that path, a line each; empty where it can be used."""
        told = [f"{file}:{number}: {message}" for number, message in self.problems]
        more = self.wrong - len(self.problems)
        return [*told, f"{file}: and {more} more lines like these"] if more else told

    def _bad(self, number: int, message: str) -> None:
        self.wrong += 1
        if len(self.problems) < MOST_PROBLEMS:
            self.problems.append((number, message))

    def _find(self, rule: bytes) -> tuple[int, int]:
        """Where the rule's text begins, 0 where there is none; and its place in the table."""
        text, table = self._text, self._table
        mask = len(table) - 1
        place = hash(rule) & mask
        while at := table[place]:
            if text.startswith(rule, at) and text[at + len(rule)] == 0x0A:
                return at, place
            place = (place + 1) & mask
        return 0, place


def _of_line(line: bytes) -> str | None:
    """The rule of a line; None where there is none. Raises InvalidHost."""
    if len(line) > LONGEST_LINE:
        raise InvalidHost(f"the line has {len(line)} bytes; a pattern takes far fewer")
    try:
        text = _COMMENT.sub("", line.decode("utf-8")).strip()
    except UnicodeDecodeError:
        raise InvalidHost("the line is not UTF-8 text; save the file as UTF-8") from None
    if not text:
        return None
    if len(text.split()) > 1:
        raise InvalidHost(f"{_shown(text)} is more than one pattern; write one a line, and a comment behind #")
    return parse_rule(text)


def _shown(text: str) -> str:
    return ascii(text if len(text) <= 80 else f"{text[:77]}...")
