"""How many requests different servers would read in the same bytes: each way to be lenient, and all of them at once."""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass

_REQUEST = re.compile(rb"[!-~]+[ \t\v\f]+\S+[ \t\v\f]+\S*HTTP/|[A-Z]{3,} +/\S*\s", re.IGNORECASE)


@dataclass(frozen=True)
class Reading:
    """A way to read. ``chunked_first``: Transfer-Encoding before Content-Length; ``loose``: anything that contains
    "chunked", under anything that resembles the name, counts; ``last``: of two lengths the last counts; ``lines``: what
    ends a line."""

    chunked_first: bool
    loose: bool
    last: bool
    lines: bytes

    def count(self, raw: bytes) -> int:
        """How many requests begin in ``raw``."""
        found = 0
        line_end = re.compile(self.lines)
        while raw := raw.lstrip(b"\r\n"):
            head = re.search(b"(?>%b){2}" % self.lines, raw)
            block = raw[: head.start()] if head else raw
            if _REQUEST.match(block.lstrip()):
                found += 1
            if head is None:
                return found
            lines = line_end.split(block)
            raw = self._behind(raw[head.end() :], lines[1:])
        return found

    def _behind(self, rest: bytes, lines: list[bytes]) -> bytes:
        lengths: list[int] = []
        chunked = False
        for line in lines:
            name, _, value = line.partition(b":")
            name, value = name.lower(), value.lower()
            if self.loose:
                name, value = name.strip(b" \t\v\f\r\0").replace(b"_", b"-"), value.strip()
            else:
                value = value.strip(b" \t")
            if name == b"transfer-encoding":
                chunked = chunked or (b"chunked" in value if self.loose else value == b"chunked")
            elif name == b"content-length":
                lengths += [int(digits) for digits in re.findall(rb"\d+", value)[:2]]
        length = (lengths[-1] if self.last else lengths[0]) if lengths else 0
        if chunked and (self.chunked_first or not lengths):
            return self._behind_chunks(rest)
        return rest[length:]

    def _behind_chunks(self, rest: bytes) -> bytes:
        while True:
            line = re.match(rb"[ \t+]*(?:0x)?([0-9a-f]+)[^\n]*\n", rest, re.IGNORECASE)
            if line is None:
                return rest
            size = int(line[1], 16)
            rest = rest[line.end() :]
            if not size:
                end = re.search(rb"(?:^|\n)\r?\n", rest)
                return rest[end.end() :] if end else b""
            rest = rest[size:].removeprefix(b"\r").removeprefix(b"\n")


READINGS = tuple(
    Reading(*ways) for ways in itertools.product((True, False), (True, False), (True, False),
                                                 (rb"\r\n", rb"\r?\n", rb"\r\n|\r|\n"))
)  # fmt: skip


def most_requests(raw: bytes) -> int:
    """The largest number that any of them reads."""
    return max(reading.count(raw) for reading in READINGS)
