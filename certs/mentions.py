"""Which of some hosts a text mentions: for what must not be written down.

Host patterns are parsed once; whether a host is covered is kept, so that asking again is one look into a dictionary.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from urllib.parse import unquote

from certs.host_patterns import HostIndex, parse_pattern
from certs.names import InvalidHost, parse_host

MOST_KEPT = 10_000
"""Answers that are kept. Strangers choose what is asked, so the store is emptied when it is full."""

_NAMES = re.compile(r"\w[\w-]*(?:\.[\w-]+)*").findall
_IPV6 = re.compile(r"(?<![0-9A-Fa-f])[0-9A-Fa-f]*:[0-9A-Fa-f:.]+").findall
ENCODED_TIMES = 2
"""How often a text may be percent-encoded: a URL within a URL's query."""


class Mentions:
    """Finds some hosts. Raises InvalidHost, with the pattern, for one that is none."""

    def __init__(self, patterns: Iterable[str]) -> None:
        self._index: HostIndex[list[str]] = HostIndex(list)
        self._single_labels = self._ipv6 = False
        self._kept: dict[str, bool] = {}
        for pattern in patterns:
            try:
                parsed = parse_pattern(pattern)
            except InvalidHost as error:
                raise InvalidHost(f"{pattern}: {error}") from None
            self._index.at(parsed).append(pattern)
            self._ipv6 = self._ipv6 or ":" in parsed.name
            self._single_labels = self._single_labels or not {".", ":"}.intersection(parsed.name)

    def covers(self, host: str) -> bool:
        """Whether the host, in any spelling, is one of these. What is no host is none."""
        known = self._kept.get(host)
        if known is None:
            if len(self._kept) >= MOST_KEPT:
                self._kept.clear()
            known = self._kept[host] = self._look(host)
        return known

    def named_in(self, text: str) -> bool:
        """Whether the text names one of these hosts: as a word, in a URL, percent-encoded there, as U-labels."""
        for _ in range(ENCODED_TIMES + 1):
            if self._named_in(text):
                return True
            if "%" not in text:
                break
            text = unquote(text)
        return False

    def _named_in(self, text: str) -> bool:
        if any(self.covers(name) for name in _NAMES(text) if "." in name or self._single_labels):
            return True
        return self._ipv6 and any(self.covers(address) for address in _IPV6(text))

    def _look(self, host: str) -> bool:
        try:
            return next(self._index.find(parse_host(host)), None) is not None
        except InvalidHost:
            return False
