"""Host patterns and what is found under them: ``example.com``, ``*.example.com`` (any name below it), ``*``.

Names are compared as :mod:`certs.names` writes them: A-labels in lower case without a trailing dot, IP addresses in
their canonical text. A star never stands for an IP address, but for the lone one, which stands for everything.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from certs.names import Host, InvalidHost, parse_host


@dataclass(frozen=True, slots=True)
class HostPattern:
    """``name`` is a host's text, empty for ``*``; ``below``: any name below it, not itself."""

    name: str
    below: bool = False

    @property
    def exact(self) -> bool:
        """Whether it is one host and no pattern."""
        return bool(self.name) and not self.below

    def __str__(self) -> str:
        return f"*.{self.name}" if self.below else self.name or "*"


def parse_pattern(text: str) -> HostPattern:
    """The pattern that a person wrote. Raises InvalidHost, saying what to write."""
    if text == "*":
        return HostPattern("")
    below = text.startswith("*.")
    name = text[2:] if below else text
    if "*" in name:
        raise InvalidHost(f"the star of {text!r} may only stand alone or as the first label: write *.example.com")
    host = parse_host(name)
    if below and host.is_ip:
        raise InvalidHost("there are no names below an IP address; write the address alone")
    return HostPattern(host.text, below)


class HostIndex[T]:
    """One value per pattern. Finding takes a few dictionary lookups, however many patterns there are."""

    def __init__(self, make: Callable[[], T]) -> None:
        self._make = make
        self._exact: dict[str, T] = {}
        self._below: dict[str, T] = {}
        self._everywhere: T | None = None

    def at(self, pattern: HostPattern) -> T:
        """The value of that pattern, made where there is none yet."""
        if not pattern.name:
            if self._everywhere is None:
                self._everywhere = self._make()
            return self._everywhere
        table = self._below if pattern.below else self._exact
        found = table.get(pattern.name)
        if found is None:
            found = table[pattern.name] = self._make()
        return found

    def find(self, host: Host) -> Iterator[T]:
        """The values of all patterns that cover the host, the closest first."""
        if (exact := self._exact.get(host.text)) is not None:
            yield exact
        if self._below and not host.is_ip:
            rest = host.text
            while dot := rest.find(".") + 1:
                rest = rest[dot:]
                if (found := self._below.get(rest)) is not None:
                    yield found
        if self._everywhere is not None:
            yield self._everywhere
