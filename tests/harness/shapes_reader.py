"""Reads HTTP/1 messages off one direction of a connection, as lenient as the worst of servers: to look, not to judge.

It frames by chunked before Content-Length, takes any line end, and changes nothing of what it finds.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

Fields = list[tuple[bytes, bytes]]
_HEAD_END = re.compile(rb"\r?\n\r?\n")
_LINE_END = re.compile(rb"\r?\n")


@dataclass
class Message:
    """A request or a response. ``whole``: it came to its end; ``rest``: body bytes that are still to come."""

    line: bytes
    fields: Fields
    body: bytearray = field(default_factory=bytearray)
    trailers: Fields = field(default_factory=list)
    whole: bool = False

    def values(self, name: bytes) -> list[bytes]:
        """The values of the fields of this name (in lower case)."""
        return [value for known, value in self.fields if known.lower() == name]

    @property
    def status(self) -> int:
        """A response's status; 0 where there is none."""
        parts = self.line.split(b" ", 2)
        return int(parts[1]) if len(parts) > 1 and parts[1].isdigit() else 0


class Reader:
    """Feed it bytes as they come. ``methods`` are those of the requests, where it reads the answers to them.

    After a 101, or once :meth:`switch` was called, all that comes is ``raw``.
    """

    def __init__(self, methods: tuple[bytes, ...] | None) -> None:
        self.messages: list[Message] = []
        self.interim: list[Message] = []
        self.raw = bytearray()
        self.switched = False
        self._methods = methods
        self._buffer = bytearray()
        self._now: Message | None = None
        self._left = 0  # bytes of a body or a chunk; -1: up to the end
        self._chunked = False
        self._trailers = False

    @property
    def done(self) -> int:
        """How many messages have come to their end, interim responses not counted."""
        return sum(message.whole for message in self.messages)

    def switch(self) -> None:
        """What comes from here on is another protocol."""
        self.switched = True
        self.raw += self._buffer
        self._buffer.clear()

    def feed(self, data: bytes) -> None:
        """Bytes that have come."""
        if self.switched:
            self.raw += data
            return
        self._buffer += data
        while self._buffer and self._step():
            pass

    def end(self) -> None:
        """Nothing more comes: a body up to the end is whole (as far as HTTP can tell)."""
        if self._now is not None and self._left == -1:
            self._finish()

    def _step(self) -> bool:
        """Whether something was taken from the buffer."""
        if self.switched:
            return False
        if self._now is None:
            return self._head()
        if self._left == -1:
            self._now.body += self._buffer
            self._buffer.clear()
            return True
        if self._left:
            piece = self._buffer[: self._left]
            del self._buffer[: len(piece)]
            self._now.body += piece
            self._left -= len(piece)
            if not self._left and not self._chunked:
                self._finish()
            return True
        return self._trailer() if self._trailers else self._chunk()

    def _head(self) -> bool:
        while self._buffer.startswith((b"\r", b"\n")):
            del self._buffer[:1]
        found = _HEAD_END.search(self._buffer)
        if found is None:
            return False
        lines = _LINE_END.split(bytes(self._buffer[: found.start()]))
        del self._buffer[: found.end()]
        message = Message(lines[0], fields_of(lines[1:]))
        if self._methods is not None and 100 <= message.status < 200:
            self.interim.append(message)
            message.whole = True
            if message.status == 101:
                self.switch()
            return True
        self.messages.append(message)
        self._now = message
        self._frame(message)
        return True

    def _frame(self, message: Message) -> None:
        self._chunked = self._trailers = False
        self._left = 0
        answers = self._methods is not None
        if self._methods is not None:
            place = len(self.messages) - 1
            method = self._methods[place] if place < len(self._methods) else b"GET"
            if method == b"HEAD" or message.status in (204, 304):
                return self._finish()
        codings = b",".join(message.values(b"transfer-encoding")).lower().split(b",")
        lengths = message.values(b"content-length")
        if codings[-1].strip() == b"chunked":
            self._chunked = True
        elif any(codings) and answers:
            self._left = -1
        elif lengths and lengths[0].split(b",")[0].strip().isdigit():
            self._left = int(lengths[0].split(b",")[0])
        elif answers:
            self._left = -1
        if not self._left and not self._chunked:
            self._finish()
        return None

    def _chunk(self) -> bool:
        start = 2 if self._buffer.startswith(b"\r\n") else 0
        end = self._buffer.find(b"\r\n", start)
        if end < 0:
            return False
        size = self._buffer[start:end].partition(b";")[0].strip()
        del self._buffer[: end + 2]
        try:
            self._left = int(size, 16)
        except ValueError:
            self._left = -1  # not to be followed: the rest is shown as body
            return True
        self._trailers = not self._left
        return True

    def _trailer(self) -> bool:
        assert self._now is not None
        if self._buffer.startswith(b"\r\n"):
            del self._buffer[:2]
        else:
            found = self._buffer.find(b"\r\n\r\n")
            if found < 0:
                return False
            self._now.trailers = fields_of(bytes(self._buffer[:found]).split(b"\r\n"))
            del self._buffer[: found + 4]
        self._finish()
        return True

    def _finish(self) -> None:
        assert self._now is not None
        self._now.whole = True
        self._now = None


def fields_of(lines: list[bytes]) -> Fields:
    """Names and values as written, the blanks around a value taken off (RFC 9112 section 5.1)."""
    found: Fields = []
    for line in lines:
        name, colon, value = line.partition(b":")
        found.append((name, value.strip(b" \t")) if colon else (line, b""))
    return found
