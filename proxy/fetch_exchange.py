"""One plain HTTP request on a connection of its own, and its answer: what goes out, what may come back, how much of it.

h11 reads the answer, a few KiB in each turn of the event loop, and no answer of many small parts: each part costs as
much as many octets do. Nothing here chooses where to connect, and nothing waits: :class:`Exchange` is a protocol, and
tells its future what came of it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Buffer, Callable
from dataclasses import dataclass
from urllib.parse import urljoin, urlsplit

import h11

from certs.names import Host, InvalidHost, parse_authority
from proxy.fetch_room import LARGE
from proxy.parent import Parent
from proxy.tcp import Reader, reset

LONGEST_URL = 2048
LARGEST_HEAD = 16 * 1024
"""Bytes of an answer in which its head must have ended, give or take one read."""
MOST_INTERIM = 8
"""Interim answers (RFC 9110, section 15.2) that may come before the one that was asked for."""
LARGE_RATE = 8 << 20
"""Bytes of a large body that are read in a second: what is sent as fast as the wire lets it keeps the loop from others.
A CRL of 20 MiB takes two and a half."""
PIECE = 64 * 1024
"""After so much of it there is a rest."""
READ_AT_ONCE = 4 * 1024
"""Bytes that h11 is given in one turn of the event loop."""
MOST_LINES = 200
"""Lines of an answer, give or take one read, beside its body and two for each chunk: fields of its head and trailer."""
SMALL_CHUNK = 512
MOST_SMALL_CHUNKS = 100
"""Chunks (RFC 9112, section 7.1) of fewer octets than that, of which there may be a few: each takes h11 some 20 us."""
_FRAMING = 64 * 1024
"""Bytes that the framing of a body may cost beyond a sixteenth of it: four times what chunks of 512 octets need."""
_TOLD = 120
"""Characters of what h11 says of an answer: it quotes the peer."""
USER_AGENT = "sallyport"
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_SAME_METHOD = frozenset({307, 308})
"""Redirects that keep method and body (RFC 9110, sections 15.4.8 and 15.4.9)."""


class FetchFailed(Exception):  # noqa: N818 - it says what happened; every part of the program says it so
    """Nothing is to be had; the message says why, in one line.

    ``timed_out``: the time was over. ``busy``: too many others are being fetched, so that it was not asked for at all.
    """

    def __init__(self, message: str, *, timed_out: bool = False, busy: bool = False) -> None:
        super().__init__(message)
        self.timed_out = timed_out
        self.busy = busy


@dataclass(frozen=True, slots=True)
class Target:
    """Where a request goes, out of an http URL: host, port, and the target in origin-form (RFC 9112, section 3.2.1)."""

    host: Host
    port: int
    path: str

    @property
    def authority(self) -> str:
        """Host and port as the Host field has them."""
        host = f"[{self.host.text}]" if ":" in self.host.text else self.host.text
        return host if self.port == 80 else f"{host}:{self.port}"

    @property
    def url(self) -> str:
        return f"http://{self.authority}{self.path}"


def parse_url(text: str) -> Target:
    """Where a URL of a certificate leads. Raises FetchFailed for all but plain http without a user (RFC 9110, 4.2.4).

    https would be circular: its server's certificate would have to be judged first (RFC 5280, section 8).
    """
    if len(text) > LONGEST_URL:
        raise FetchFailed(f"its URL has {len(text)} characters; at most {LONGEST_URL} are taken")
    if not all("!" <= character <= "~" for character in text):
        # urlsplit would take some of these out, and what is looked at would not be what is asked for.
        raise FetchFailed("its URL has characters that no URL has")
    try:
        parts = urlsplit(text)
    except ValueError:
        raise FetchFailed("its URL cannot be read") from None
    if parts.scheme != "http":
        raise FetchFailed(f"it is asked over {parts.scheme[:16] or 'nothing'}; only plain http is")
    if "@" in parts.netloc:
        raise FetchFailed("its URL names a user; none is ever sent")
    try:
        host, port = parse_authority(parts.netloc, 80)
    except InvalidHost as error:
        raise FetchFailed(f"its URL names no host: {error}") from None
    return Target(host, port, (parts.path or "/") + (f"?{parts.query}" if parts.query else ""))


@dataclass(frozen=True, slots=True)
class Request:
    """GET, or POST where there is a body."""

    body: bytes | None = None
    content_type: str = ""

    def encoded(self, http: h11.Connection, target: Target, parent: Parent | None) -> bytes:
        """The request as it is sent: no cookie, no credentials but the parent's, no coding of the body.

        A ``parent`` is asked in absolute-form (RFC 9112, section 3.2.2).
        """
        headers = [
            ("Host", target.authority), ("User-Agent", USER_AGENT), ("Accept", "*/*"),
            ("Accept-Encoding", "identity"), ("Connection", "close"),
        ]  # fmt: skip
        if self.body is not None:
            headers += [("Content-Type", self.content_type), ("Content-Length", str(len(self.body)))]
        if parent is not None and parent.authorization:
            headers.append(("Proxy-Authorization", parent.authorization.decode("ascii")))
        method = "GET" if self.body is None else "POST"
        path = target.path if parent is None else target.url
        sent = http.send(h11.Request(method=method, target=path, headers=headers)) or b""
        if self.body:
            sent += http.send(h11.Data(data=self.body)) or b""
        return sent + (http.send(h11.EndOfMessage()) or b"")


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole body; or, with ``moved``, where to ask instead."""

    body: bytes = b""
    moved: str | None = None


class Exchange(Reader):
    """The connection to one server, for one request. ``answer`` is done when all is known, and never raises."""

    def __init__(
        self, target: Target, request: Request, most: int, large: Callable[[Exchange], None] | None = None,
        parent: Parent | None = None,
    ) -> None:  # fmt: skip
        """``most``: bytes of the body at most. ``large`` is called once the body is so. To be made inside of a loop.

        ``parent``: the other proxy that is asked for it.
        """
        self._http = h11.Connection(h11.CLIENT, max_incomplete_event_size=LARGEST_HEAD)
        self._target = target
        self._posted = request.body is not None
        self._sent = request.encoded(self._http, target, parent)
        self._most = most
        self._large = large
        self._received = 0
        self._body = bytearray()
        self._lines = 0
        self._chunk = 0
        self._chunks = 0
        self._small_chunks = 0
        self._interim = 0
        self._piece = 0
        self._waits = False
        self._rests = False
        self._begun = False
        self._transport: asyncio.Transport | None = None
        self.answer: asyncio.Future[Answer | FetchFailed] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - asyncio's own promise for TCP
        self._transport = transport
        if self.answer.done():
            transport.abort()  # given up while TCP was opening
            return
        self.bound(transport)
        transport.write(self._sent)

    def get_buffer(self, sizehint: int) -> Buffer:
        return memoryview(super().get_buffer(sizehint))[:READ_AT_ONCE]

    def data_received(self, data: bytes) -> None:
        # More at once comes out of a parent's TLS alone.
        for at in range(0, len(data), READ_AT_ONCE):
            if self.answer.done():
                return
            piece = data[at : at + READ_AT_ONCE]
            self._received += len(piece)
            self._lines += piece.count(b"\n")
            self._take(piece)

    def eof_received(self) -> bool:
        if not self.answer.done():
            self._take(b"")
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._settle(FetchFailed("the connection was cut before the answer was whole"))

    def wait(self) -> None:
        """Read no further: what comes stays with the kernel, and then with the server."""
        self._waits = True
        self._read_on()

    def go_on(self) -> None:
        """Read on."""
        self._waits = False
        self._read_on()

    def _rest(self) -> None:
        """Read nothing for as long as the last piece of a large body may take."""
        asyncio.get_running_loop().call_later(self._piece / LARGE_RATE, self._rested)
        self._piece = 0
        self._rests = True
        self._read_on()

    def _rested(self) -> None:
        self._rests = False
        self._read_on()

    def _read_on(self) -> None:
        if self._transport is None or self._transport.is_closing():
            return
        if self._waits or self._rests:
            self._transport.pause_reading()
        else:
            self._transport.resume_reading()

    def drop(self) -> None:
        """Let the connection go, at once."""
        self.answer.cancel()
        if self._transport is not None:
            reset(self._transport)

    def _settle(self, outcome: Answer | FetchFailed) -> None:
        if not self.answer.done():
            self.answer.set_result(outcome)
            self._body = bytearray()
        if self._transport is not None:
            self._transport.abort()

    def _take(self, data: bytes) -> None:
        try:
            self._http.receive_data(data)
            while not self.answer.done() and self._event(self._http.next_event()):
                pass
            self._bounded()
        except FetchFailed as failed:
            self._settle(failed)
        except h11.RemoteProtocolError as error:
            self._settle(FetchFailed(self._broken(data, error)))

    def _bounded(self) -> None:
        if not self._begun and self._received > LARGEST_HEAD:
            raise FetchFailed(f"the head of its answer is larger than {LARGEST_HEAD} bytes")
        body = len(self._body)
        many_lines = self._lines > MOST_LINES + 2 * self._chunks
        if many_lines or self._received - body > LARGEST_HEAD + _FRAMING + body // 16:
            raise FetchFailed("its answer has too much beside its body")

    def _broken(self, data: bytes, error: h11.RemoteProtocolError) -> str:
        if not data and not self._received:
            return "it closed the connection without an answer"
        if not data:
            return "it closed the connection before the answer was whole"
        return f"its answer is no HTTP: {' '.join(str(error).split())[:_TOLD]}"

    def _event(self, event: object) -> bool:
        """Take an event; whether there may be more. Raises FetchFailed."""
        match event:
            case h11.Response():
                self._begun = True
                self._head(event)
            case h11.Data(data=data, chunk_end=whole):
                self._body += data
                if len(self._body) > self._most:
                    raise self._too_large()
                self._lines -= data.count(b"\n")
                self._chunk += len(data)
                if whole:
                    self._chunk_ended()
                if len(self._body) > LARGE:
                    if self._large is not None:
                        self._large(self)
                        self._large = None
                    self._piece += len(data)
                    if self._piece >= PIECE:
                        self._rest()
            case h11.EndOfMessage():
                self._settle(Answer(bytes(self._body)))
            case h11.InformationalResponse():
                self._interim += 1
                if self._interim > MOST_INTERIM:
                    raise FetchFailed(f"more than {MOST_INTERIM} interim answers (1xx) come before its own")
            case _:
                return False
        return True

    def _chunk_ended(self) -> None:
        self._chunks += 1
        self._small_chunks += self._chunk < SMALL_CHUNK
        self._chunk = 0
        if self._small_chunks > MOST_SMALL_CHUNKS:
            raise FetchFailed(
                f"its body comes in more than {MOST_SMALL_CHUNKS} chunks of less than {SMALL_CHUNK} bytes"
            )

    def _head(self, head: h11.Response) -> None:
        fields = {name: value for name, value in head.headers if name in (b"location", b"content-length")}
        if head.status_code in _REDIRECTS:
            return self._redirected(head.status_code, fields.get(b"location"))
        if head.status_code != 200:
            raise FetchFailed(f"it answered with status {head.status_code}")
        codings = b",".join(value for name, value in head.headers if name == b"content-encoding").strip().lower()
        if codings not in (b"", b"identity"):
            # A few octets of gzip are as many megabytes as somebody likes.
            raise FetchFailed("its body is coded (Content-Encoding), which was not asked for")
        if int(fields.get(b"content-length", b"0")) > self._most:
            raise self._too_large()
        return None

    def _redirected(self, status: int, location: bytes | None) -> None:
        if location is None:
            raise FetchFailed(f"it answered with status {status} and does not say where else to ask")
        if self._posted and status not in _SAME_METHOD:
            raise FetchFailed(f"it answered a POST with status {status}")
        text = location.decode("latin-1")
        if len(text) > LONGEST_URL:
            raise FetchFailed("it redirects to a URL that is too long")
        try:
            self._settle(Answer(moved=urljoin(self._target.url, text)))
        except ValueError:
            raise FetchFailed("it redirects to a URL that cannot be read") from None

    def _too_large(self) -> FetchFailed:
        return FetchFailed(f"its body has more than {self._most} bytes")
