"""An ICAP server's answer, read piece by piece (RFC 3507). Without I/O."""

from __future__ import annotations

import re
from typing import Final

from addons.icap_heads import (
    MAX_HEAD,
    IcapHead,
    MessageError,
    RequestHead,
    ResponseHead,
    items,
    parse_icap_head,
    parse_request_head,
    parse_response_head,
    shown,
    single,
)
from addons.icap_messages import Method

MAX_CHUNK_LINE: Final = 4 * 1024
MAX_TRAILERS: Final = 16 * 1024

_CHUNK_SIZE = re.compile(rb"([0-9A-Fa-f]{1,15})[\t ]*(?:;[\t -~\x80-\xff]*)?").fullmatch
_PART = re.compile(rb"([A-Za-z-]{1,20})[\t ]*=[\t ]*([0-9]{1,10})").fullmatch

# RFC 3507 section 4.4.1: what a server may encapsulate in a 200. A response without its head is allowed there;
# with nothing to say what such a body is, it is refused here.
_FORMS: Final[dict[Method, tuple[tuple[str, ...], ...]]] = {
    "OPTIONS": (("null-body",), ("opt-body",)),
    "REQMOD": (
        ("req-hdr", "req-body"),
        ("req-hdr", "null-body"),
        ("res-hdr", "res-body"),
        ("res-hdr", "null-body"),
    ),
    "RESPMOD": (("res-hdr", "res-body"), ("res-hdr", "null-body")),
}


class Answer:
    """One answer to an ICAP request, fed as it comes. ``limit`` is how many bytes of a body are taken.

    ``feed`` raises MessageError for what is no answer to ``method``; the object is of no use then.
    """

    def __init__(self, method: Method, limit: int) -> None:
        self.method = method
        self.done = False
        self.request: RequestHead | None = None
        self.response: ResponseHead | None = None
        self.body = bytearray()
        self.tag: bytes | None = None
        """Its ISTag."""
        self._limit = limit
        self._held = bytearray()
        self._head = IcapHead(0, "", ())
        self._parts: list[tuple[str, int]] = []
        self._step = self._read_head
        self._left = 0

    @property
    def head(self) -> IcapHead:
        """The ICAP head; status 0 before it came."""
        return self._head

    def following(self) -> Answer:
        """The answer that comes after this one, which was ``100 Continue``. Raises MessageError."""
        after = Answer(self.method, self._limit)
        after.feed(self.rest)
        return after

    @property
    def rest(self) -> bytes:
        """What came after the end of the answer."""
        return bytes(self._held)

    def feed(self, data: bytes) -> bool:
        """Take what came; whether the answer is whole now. Raises MessageError."""
        self._held += data
        while not self.done and self._step():
            pass
        return self.done

    def _read_head(self) -> bool:
        raw = self._through(b"\r\n\r\n", MAX_HEAD, "its ICAP head")
        if raw is None:
            return False
        self._head = head = parse_icap_head(raw)
        if head.status in (200, 204):
            self.tag = _istag(head)
        encapsulated = items(head.fields, b"encapsulated")
        if head.status != 200:
            self._refuse_body_of(head, encapsulated)
            self.done = True
        elif not encapsulated and self.method == "OPTIONS":
            self.done = True
        else:
            self._parts = _parts(encapsulated, self.method)
            self._step = self._read_encapsulated
        return True

    @staticmethod
    def _refuse_body_of(head: IcapHead, encapsulated: list[bytes]) -> None:
        # A client that goes by the status and one that goes by the field would see two different connections.
        if head.status in (100, 204) and any(not part.lower().startswith(b"null-body") for part in encapsulated):
            raise MessageError(f"it encapsulates a message in an answer with status {head.status}")

    def _read_encapsulated(self) -> bool:
        name, end = self._parts[-1]
        if len(self._held) < end:
            return False
        raw = bytes(self._held[:end])
        del self._held[:end]
        if self._parts[0][0] == "req-hdr":
            self.request = parse_request_head(raw)
        elif self._parts[0][0] == "res-hdr":
            self.response = parse_response_head(raw)
        if name == "null-body":
            self.done = True
        self._step = self._read_size
        return True

    def _read_size(self) -> bool:
        line = self._through(b"\r\n", MAX_CHUNK_LINE, "the line with the size of a chunk")
        if line is None:
            return False
        match = _CHUNK_SIZE(line[:-2])
        if match is None:
            raise MessageError(f"it sent {shown(line[:-2])} where the size of a chunk belongs")
        self._left = int(match[1], 16)
        if len(self.body) + self._left > self._limit:
            raise MessageError(f"its body is larger than {self._limit} bytes; icap_body_limit sets that limit")
        self._step = self._read_data if self._left else self._read_trailer
        if not self._left:
            self._left = MAX_TRAILERS
        return True

    def _read_data(self) -> bool:
        if not self._held:
            return False
        taken = min(self._left, len(self._held))
        self.body += memoryview(self._held)[:taken]
        del self._held[:taken]
        self._left -= taken
        if not self._left:
            self._step = self._read_data_end
        return True

    def _read_data_end(self) -> bool:
        if len(self._held) < 2:
            return False
        if self._held[:2] != b"\r\n":
            raise MessageError("a chunk of its body is longer than the size that it gave")
        del self._held[:2]
        self._step = self._read_size
        return True

    def _read_trailer(self) -> bool:
        # Trailers are read over: nothing in them would be scanned or applied.
        line = self._through(b"\r\n", self._left, "its trailers")
        if line is None:
            return False
        self._left -= len(line)
        self.done = line == b"\r\n"
        return True

    def _through(self, mark: bytes, limit: int, what: str) -> bytes | None:
        """What is held up to the mark and with it; None where it is not there yet. Raises MessageError for too much."""
        place = self._held.find(mark, 0, limit)
        if place < 0:
            if len(self._held) >= limit:
                raise MessageError(f"it sent {limit} bytes without an end of {what}")
            return None
        end = place + len(mark)
        raw = bytes(self._held[:end])
        del self._held[:end]
        return raw


def closes(head: IcapHead) -> bool:
    """Whether the server says that the connection ends with this answer."""
    return b"close" in (option.lower() for option in items(head.fields, b"connection"))


def _istag(head: IcapHead) -> bytes | None:
    """The state of the service that answered (RFC 3507 section 4.7), without quotes. Raises MessageError.

    Not every server quotes it, and some leave it out; a limit of 32 characters is kept by few.
    """
    value = single(head.fields, b"istag")
    if value is None:
        return None
    tag = value[1:-1] if len(value) > 1 and value[:1] == value[-1:] == b'"' else value
    if not tag or len(tag) > 128 or b'"' in tag:
        raise MessageError(f"its ISTag is {shown(value)}, which is none")
    return tag


def _parts(encapsulated: list[bytes], method: Method) -> list[tuple[str, int]]:
    if not encapsulated:
        raise MessageError("its answer has status 200 and no Encapsulated field")
    said = shown(b", ".join(encapsulated))
    found: list[tuple[str, int]] = []
    for part in encapsulated:
        match = _PART(part)
        if match is None:
            raise MessageError(f"its Encapsulated field is {said}, which is none")
        found.append((match[1].decode().lower(), int(match[2])))
    if tuple(name for name, _ in found) not in _FORMS[method]:
        raise MessageError(f"its Encapsulated field is {said}, which no answer to {method} can have")
    offsets = [offset for _, offset in found]
    if offsets[0] != 0 or offsets != sorted(set(offsets)):
        raise MessageError(f"the offsets in its Encapsulated field are wrong: {said}")
    if offsets[-1] > MAX_HEAD:
        raise MessageError(f"the HTTP head that it encapsulates is larger than {MAX_HEAD} bytes")
    return found
