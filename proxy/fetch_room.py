"""Room for large bodies: who fetches one takes a place, and who finds none reads no further until there is one.

A CRL may have 20 MiB, and a stranger may name sixty at once that have no end. All of them together must not cost more
memory than a few large ones do. What is small, as nearly every CRL is, needs no place and waits for nobody.
"""

from __future__ import annotations

from collections import Counter
from typing import Protocol

LARGE = 256 * 1024
"""Bytes of a body beyond which it needs a place."""
MOST_LARGE = 2
"""In one process; of one domain half of that, so that one alone keeps no other waiting."""


class Reading(Protocol):
    """Who reads a body, and can wait with it."""

    def wait(self) -> None:
        """Read no further."""

    def go_on(self) -> None:
        """Read on."""


class Room:
    """The places of one process."""

    def __init__(self, most: int = MOST_LARGE) -> None:
        self._most = most
        self._each = max(1, most // 2)
        self._holding: dict[Reading, str] = {}
        self._waiting: dict[Reading, str] = {}
        """In the order in which they came."""

    def enter(self, reading: Reading, domain: str) -> None:
        """A body has become large: it takes a place, or waits for one. To be left in the end in either case."""
        if self._free(domain):
            self._holding[reading] = domain
        else:
            self._waiting[reading] = domain
            reading.wait()

    def leave(self, reading: Reading) -> None:
        """Its body is there, or given up; the next may go on. Nothing is done for one that never entered."""
        self._waiting.pop(reading, None)
        if self._holding.pop(reading, None) is None:
            return
        for each, domain in list(self._waiting.items()):
            if self._free(domain):
                del self._waiting[each]
                self._holding[each] = domain
                each.go_on()

    def _free(self, domain: str) -> bool:
        return len(self._holding) < self._most and Counter(self._holding.values())[domain] < self._each
