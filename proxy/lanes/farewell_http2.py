"""The end of an HTTP/2 connection on which a request was turned away.

The server has not seen the request's header block, so it could not decode another of the client's (RFC 9113 section
4.3): none passes any more. Streams that were opened before go on to their end; the request gets its refusal, with a
GOAWAY behind it, and every later stream is refused in a way that lets the client ask again elsewhere (section 8.7).
"""

from __future__ import annotations

from typing import Final

from proxy.block_page import headers, render
from proxy.lanes.exchange import Detour, OverLimit, Tap, TooLarge, TurnedAway, Unparsed
from proxy.lanes.http2_frames import CONTINUATION, DATA, GOAWAY, HEADERS, RST_STREAM
from proxy.lanes.http2_rates import CONTROL, EMPTY, RESETS
from proxy.lanes.http2_sieve import (
    CANCEL,
    INTERNAL_ERROR,
    NO_ERROR,
    REFUSED_STREAM,
    Sieve,
    answer,
    goaway,
    rst_stream,
    window_update,
)
from proxy.lanes.tap_http2 import Http2Tap
from proxy.refusals import Refusal

MAX_REFUSED: Final = 1000
"""How many streams a client may open that has been told to open none."""
MAX_DROPPED: Final = 1024 * 1024
"""For so many bytes of bodies that are dropped, the client gets its window back."""

OF_CONTENT: Final = frozenset({"content-type", "content-length", "content-language", "content-security-policy"})


def within_limits(detour: Detour | None) -> Detour | None:
    """What a tap says of the server's bytes. Raises OverLimit where the tap would answer in the server's place."""
    if detour is not None and isinstance(detour.refused, TooLarge):
        raise OverLimit("server", detour.refused.detail, "a head beyond the limits, behind what was turned away")
    return detour


class Http2Farewell(Tap):
    """In the place of a tap, from the request on that is turned away; the tap goes on with what still passes."""

    __slots__ = ("_answered", "_dropped", "_from_client", "_going", "_last", "_owed", "_passed", "_refusal", "_refused",
                 "_request", "_tap", "_to_client", "_uploads")  # fmt: skip

    def __init__(self, tap: Http2Tap, request: TurnedAway, refusal: Refusal) -> None:
        super().__init__(tap.host, tap._done, tap._clock, tap.protocol)
        tap.addressee = None  # it has no header block of a request to see any more
        self._tap = tap
        self._request = request
        self._refusal = refusal
        self._answered = False
        self._last = request.stream
        """The client's last stream that was answered or refused."""
        self._passed = tap.last_opened
        """The client's last stream that the server knows."""
        self._going = request.stream
        self._refused = 0
        self._dropped = 0
        self._owed = 0
        self._uploads = False
        """The request that was turned away has more to come, and nobody has asked the client to stop."""
        self._from_client = Sieve(self._client_frame)
        self._to_client = Sieve(self._server_frame)

    @property
    def busy(self) -> bool:
        return not self._answered or self._tap.busy

    def begin(self) -> Detour:
        """What there is to say at once, and what becomes of the bytes behind the request."""
        self._align(b"", bytearray())
        detour = self.from_client(self._request.rest)
        self._uploads = not self._request.ended
        return detour

    def from_client(self, data: bytes) -> Detour:
        passes = self._from_client.read(data)
        if passes:
            self._tap.from_client(passes)
        if self._owed:
            self._to_client.waiting += window_update(self._owed)
            self._owed = 0
        return self._then(passes, self._to_client.read() if self._answered else b"")

    def from_server(self, data: bytes) -> Detour:
        out = bytearray()
        at = self._align(data, out)
        if self._answered:
            rest = data[at:]
            within_limits(self._tap.from_server(rest))
            if self._tap.goaway < self._going:
                self._going = self._tap.goaway
                self._to_client.waiting += goaway(self._going)
            out += self._to_client.read(rest)
        return self._then(b"", bytes(out))

    def client_ended(self) -> None:
        self._tap.client_ended()

    def server_ended(self) -> None:
        self._tap.server_ended()

    def closed(self) -> None:
        self._tap.closed()

    def _then(self, to_server: bytes, to_client: bytes) -> Detour:
        whole = self._answered and self._to_client.between and not self._to_client.waiting
        return Detour(to_server, to_client, done=whole and not self._tap.busy)

    # --- towards the client ---

    def _align(self, data: bytes, out: bytearray) -> int:
        """Let the server's frame that is under way come to its end, then answer. Returns where in ``data`` that is.

        ``out`` gets what passes.
        """
        at = 0
        while not self._answered:
            missing = self._tap.server.rest
            if not missing:
                self._answered = True
                self._to_client.waiting[:0] = self._answer()
            elif at == len(data):
                break
            else:
                piece = data[at : at + missing]
                detour = within_limits(self._tap.from_server(piece))
                out += piece if detour is None else detour.to_client
                at += len(piece)
        return at

    def _answer(self) -> bytes:
        """The refusal. The GOAWAY comes last: some clients take no frame behind one.

        DATA of ours is in no window of the server's, which would go on to fill the client's to the brim. So the page is
        only sent on a connection on which the server has no request to answer; else the fields have to say it all.
        """
        request, refusal, tap = self._request, self._refusal, self._tap
        self._going = min(self._going, tap.goaway)
        content_type, page = render(refusal, request.accept)
        fields = [(":status", str(refusal.status))]
        fields += [(name.lower(), value) for name, value in headers(refusal, content_type, len(page))]
        # Of a request whose head was never decoded nobody knows whether its answer may have content (HEAD has none).
        known = not isinstance(request, TooLarge) or request.decoded
        fits = known and not tap.last_opened and not tap.last_promised and len(page) <= tap.window
        if not fits and not request.head_only:
            fields = [field for field in fields if field[0] not in OF_CONTENT]
        body = page if fits and not request.head_only else b""
        out = answer(request.stream, fields, body, tap.server.table_update)
        return out + goaway(self._going)

    def _server_frame(self, kind: int, stream: int, length: int) -> bool:
        """The server's GOAWAY would name streams that are no longer its business: ours takes its place."""
        return kind != GOAWAY

    # --- towards the server ---

    def _client_frame(self, kind: int, stream: int, length: int) -> bool:
        if kind == HEADERS:
            self._header_block(stream)
        if kind == CONTINUATION:
            self._tap.rates.count("client", CONTROL)
        if kind in (HEADERS, CONTINUATION):
            return False
        if stream % 2 == 0 or stream <= self._passed:
            return True
        if kind == DATA:
            self._drop(stream, length)
        else:
            self._tap.rates.count("client", RESETS if kind == RST_STREAM else CONTROL)
        return False

    def _header_block(self, stream: int) -> None:
        """A request that comes too late, or the trailers of one."""
        if not stream % 2:
            raise Unparsed(f"client: HEADERS on stream {stream}")
        if stream > self._last:
            self._last = stream
            self._refused += 1
            if self._refused > MAX_REFUSED:
                raise Unparsed(f"client: more than {MAX_REFUSED} streams after a GOAWAY")
            self._to_client.waiting += rst_stream(stream, REFUSED_STREAM)
        elif stream in self._tap.streams:
            # Whether the request would be the same without its trailers, nobody here can tell.
            self._from_client.waiting += rst_stream(stream, CANCEL)
            self._to_client.waiting += rst_stream(stream, INTERNAL_ERROR)

    def _drop(self, stream: int, length: int) -> None:
        """The server does not see this body, so the connection's window has to be given back from here.

        One who goes on behind the whole answer is asked to stop (RFC 9113 section 8.1). Not sooner: curl forgets an
        answer that it gets together with the reset.
        """
        if self._uploads and self._answered and stream == self._request.stream:
            self._uploads = False
            self._to_client.waiting += rst_stream(stream, NO_ERROR)
        self._dropped += length
        if not length:
            self._tap.rates.count("client", EMPTY)
        if self._dropped <= MAX_DROPPED:
            self._owed += length
