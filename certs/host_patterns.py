"""Host patterns and what is found under them.

``example.com`` is that name, ``*.example.com`` any name below it, ``.example.com`` both, ``*`` everything.

Names are compared as :mod:`certs.names` writes them: A-labels in lower case without a trailing dot, IP addresses in
their canonical text. A star never stands for an IP address, but for the lone one, which stands for everything.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from certs.names import Host, InvalidHost, parse_host


@dataclass(frozen=True, slots=True)
class HostPattern:
    """``name`` is a host's text, empty for ``*``; ``below``: any name below it, not itself, unless ``itself`` too."""

    name: str
    below: bool = False
    itself: bool = False

    @property
    def exact(self) -> bool:
        """Whether it is one host and no pattern."""
        return bool(self.name) and not self.below

    def __str__(self) -> str:
        if self.below:
            return f".{self.name}" if self.itself else f"*.{self.name}"
        return self.name or "*"


def parse_pattern(text: str) -> HostPattern:
    """The pattern that a person wrote. Raises InvalidHost, saying what to write."""
    if text == "*":
        return HostPattern("")
    itself = text.startswith(".")
    below = itself or text.startswith("*.")
    name = text.partition(".")[2] if below else text
    if "*" in name:
        raise InvalidHost(f"the star of {text!r} may only stand alone or as the first label: write *.example.com")
    host = parse_host(name)
    if below and host.is_ip:
        raise InvalidHost("there are no names below an IP address; write the address alone")
    return HostPattern(host.text, below, itself)


def covering(host: Host) -> Iterator[str]:
    """Every pattern that covers the host, as its text, the closest first: two for each label, and ``*`` last."""
    yield host.text
    if not host.is_ip:
        rest = host.text
        yield f".{rest}"
        while dot := rest.find(".") + 1:
            rest = rest[dot:]
            yield f"*.{rest}"
            yield f".{rest}"
    yield "*"


class HostIndex[T]:
    """One value per pattern. Finding takes a few dictionary lookups, however many patterns there are."""

    def __init__(self, make: Callable[[], T]) -> None:
        self._make = make
        self._values: dict[str, T] = {}

    def at(self, pattern: HostPattern) -> T:
        """The value of that pattern, made where there is none yet."""
        found = self._values.get(text := str(pattern))
        if found is None:
            found = self._values[text] = self._make()
        return found

    def find(self, host: Host) -> Iterator[T]:
        """The values of all patterns that cover the host, the closest first."""
        values = self._values
        if values:
            for text in covering(host):
                if (found := values.get(text)) is not None:
                    yield found
