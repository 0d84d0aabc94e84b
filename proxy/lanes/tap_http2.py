"""The tap for HTTP/2 (RFC 9113), WebSocket over it (RFC 8441) included.

Streams are followed as far as their beginnings, ends and sizes go. Flow control is left to the endpoints.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from config.settings import Limits
from proxy.disclosure import DEFAULT, Disclosure
from proxy.lanes.exchange import (
    MAX_HOST,
    MAX_METHOD,
    Detour,
    Exchange,
    Misdirected,
    OverLimit,
    Tap,
    TooLarge,
    Unparsed,
    readable,
)
from proxy.lanes.http2_frames import (
    ACK,
    DEFAULT_FRAME,
    DEFAULT_WINDOW,
    GOAWAY,
    LARGEST_FRAME,
    MAX_TABLE,
    RST_STREAM,
    Fields,
    Walk,
)
from proxy.lanes.http2_rates import EMPTY, Rates
from proxy.lanes.misdirected import Addressee

MAX_STREAMS: Final = 1000
"""Open streams, whatever the server has announced; as many where it has announced nothing."""
MAX_UNACKNOWLEDGED: Final = 50

_HEADER_TABLE_SIZE: Final = 1
_MAX_CONCURRENT_STREAMS: Final = 3
_INITIAL_WINDOW_SIZE: Final = 4
_MAX_FRAME_SIZE: Final = 5
_ENABLE_CONNECT_PROTOCOL: Final = 8

_REQUEST_PSEUDO: Final = frozenset({b":method", b":scheme", b":path", b":authority", b":protocol"})
_STATUS: Final = frozenset({b":status"})
_NONE: Final[frozenset[bytes]] = frozenset()


class _Stream:
    """An open stream."""

    __slots__ = ("exchange", "request_ended", "response_ended", "tunnel")

    def __init__(self, exchange: Exchange, tunnel: str, *, request_ended: bool) -> None:
        self.exchange = exchange
        self.tunnel = tunnel  # what it becomes where the server agrees; "": it stays HTTP
        self.request_ended = request_ended
        self.response_ended = False


class Http2Tap(Tap):
    """Follows the streams of a connection.

    Streams up to the highest number seen that are not open are closed; what still comes for them (the other side's
    reset is on its way) is skipped, its header blocks decoded all the same, since they change the table.
    """

    __slots__ = ("_announced", "_broken", "_disclosure", "_extended_connect", "_limits", "client", "goaway",
                 "last_opened", "last_promised", "most_streams", "rates", "server", "streams", "window")  # fmt: skip

    def __init__(
        self,
        host: str,
        done: Callable[[Exchange], None],
        clock: Callable[[], float],
        limits: Limits,
        addressee: Addressee | None = None,
        disclosure: Disclosure = DEFAULT,
        ticks: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(host, done, clock, "HTTP/2", addressee)
        self._disclosure = disclosure
        self._limits = limits
        self.rates = Rates(limits, ticks)
        self.client = Walk("client", limits, self.rates)
        self.server = Walk("server", limits, self.rates)
        self.most_streams = MAX_STREAMS
        self.streams: dict[int, _Stream] = {}
        self.last_opened = 0
        self.last_promised = 0
        self.goaway = 2**31  # streams of the client above it are not answered
        self.window = DEFAULT_WINDOW  # the least that the client has announced for the beginning of a stream
        self._extended_connect = False
        # Of each side, what its SETTINGS that wait for an ACK said: (header table size, frame size, streams); None: no
        # word of it
        self._announced: dict[str, list[tuple[int | None, int | None, int | None]]] = {"client": [], "server": []}
        self._broken = ""  # why it cannot be followed any more

    @property
    def busy(self) -> bool:
        return bool(self.streams)

    @property
    def head(self) -> object | None:
        return self.client.block

    def from_client(self, data: bytes) -> Detour | None:
        walk = self.client
        try:
            self._read(walk, data)
        except OverLimit as error:
            self.kept += data
            error.passes = self._keep(error.size + len(error.rest))
            self.kept.clear()
            raise
        except TooLarge as request:
            self.kept += data
            if request.stream <= self.last_opened:
                raise self._trailers(walk, self._turned_away(request).to_server) from None
            return self._turned_away(request)
        except Misdirected as request:
            request.size = walk.block_size
            self.kept += data
            return self._turned_away(request)
        if walk.held is None and walk.block is None and not self.kept:
            return None
        self.kept += data
        return Detour(to_server=self._keep(walk.unfinished))

    def from_server(self, data: bytes) -> Detour | None:
        walk = self.server
        try:
            self._read(walk, data)
        except OverLimit as error:
            error.passes = self._keep_back(data, error.size + len(error.rest)).to_client
            self.kept_back = b""
            raise
        except TooLarge as response:
            detour = self._taken_back(data, response)
            found = self.streams.get(response.stream)
            if found is None or found.exchange.status:
                raise self._trailers(walk, detour.to_client) from None
            response.head_only = found.exchange.method == "HEAD"
            return detour
        if walk.held is None and walk.block is None and not self.kept_back:
            return None
        return self._keep_back(data, walk.unfinished)

    def _trailers(self, walk: Walk, passes: bytes) -> OverLimit:
        """The error to raise for a header block beyond the limits that is no head (a promise is none either)."""
        limits = self._limits
        what = f"trailers of more than {limits.header_bytes} bytes or {limits.header_fields} fields"
        error = OverLimit(walk.who, "trailers", what, calm=True)
        error.passes = passes
        return error

    def server_ended(self) -> None:
        self.closed()

    def closed(self) -> None:
        for number in list(self.streams):
            self._finish(number, "cut")

    def _read(self, walk: Walk, data: bytes) -> None:
        if self._broken:
            raise Unparsed(self._broken)
        try:
            walk.read(data, self)
        except Unparsed as error:
            self._broken = str(error)
            raise

    # --- what the walks tell ---

    def data(self, walk: Walk, stream: int, size: int) -> None:
        """See :class:`proxy.lanes.http2_frames.Listener`."""
        found = self.streams.get(stream)
        if found is None:
            self._must_be_closed(walk, stream)
            if not size:
                self.rates.count(walk.who, EMPTY)
        elif walk is self.client:
            if found.request_ended:
                raise walk.wrong(f"DATA after the end of stream {stream}")
            found.exchange.request_bytes += size
        else:
            if found.response_ended or not found.exchange.status:
                raise walk.wrong(f"DATA outside the response of stream {stream}")
            found.exchange.response_bytes += size

    def data_ended(self, walk: Walk, stream: int) -> None:
        """See :class:`proxy.lanes.http2_frames.Listener`."""
        found = self.streams.get(stream)
        if found is not None:
            self._half_ended(walk, stream, found)

    def headers(self, walk: Walk, stream: int, fields: Fields, *, ended: bool) -> None:
        """See :class:`proxy.lanes.http2_frames.Listener`."""
        found = self.streams.get(stream)
        if walk is self.client:
            if found is None and stream > self.last_opened and stream % 2:
                return self._opened(walk, stream, fields, ended=ended)
            if found is not None and (found.request_ended or not ended):
                raise walk.wrong(f"a second header block on stream {stream}")
        elif found is not None and not found.exchange.status:
            return self._answered(walk, stream, found, fields, ended=ended)
        elif found is not None and (found.response_ended or not ended):
            raise walk.wrong(f"a header block after the response's on stream {stream}")
        if found is None:
            return self._must_be_closed(walk, stream)
        _pseudo(walk, fields, _NONE)
        return self._half_ended(walk, stream, found)

    def promised(self, walk: Walk, stream: int, promised: int, fields: Fields) -> None:
        """See :class:`proxy.lanes.http2_frames.Listener`."""
        if walk is self.client:
            raise walk.wrong("PUSH_PROMISE (RFC 9113 section 8.4)")
        if not stream % 2:
            raise walk.wrong(f"PUSH_PROMISE on stream {stream}")
        if stream not in self.streams:
            self._must_be_closed(walk, stream)
        if promised % 2 or promised <= self.last_promised:
            raise walk.wrong(f"a promise of stream {promised}")
        self.last_promised = promised
        self._add(walk, promised, fields, ended=True)

    def frame(self, walk: Walk, kind: int, flags: int, stream: int, payload: bytes) -> None:
        """See :class:`proxy.lanes.http2_frames.Listener`."""
        if kind == RST_STREAM:
            found = self.streams.get(stream)
            if found is None:
                return self._must_be_closed(walk, stream)
            # RFC 9113 section 8.1: with NO_ERROR behind a whole response, the server asks to stop the upload.
            complete = walk is self.server and found.response_ended and not any(payload)
            return self._finish(stream, None if complete else "reset")
        if kind == GOAWAY:
            return self._going(walk, int.from_bytes(payload[:4], "big") & 0x7FFFFFFF)
        if flags & ACK:
            return self._acknowledged(walk, payload)
        return self._settings(walk, payload)

    # --- streams ---

    def _must_be_closed(self, walk: Walk, stream: int) -> None:
        """Frames for a stream that is not open are fine where it was (RFC 9113 section 5.1)."""
        if stream > (self.last_opened if stream % 2 else self.last_promised):
            raise walk.wrong(f"a frame for stream {stream}, which has not been opened")
        if walk is self.client and not stream % 2:
            raise walk.wrong(f"a message on stream {stream} of the server")

    def _opened(self, walk: Walk, stream: int, fields: Fields, *, ended: bool) -> None:
        self._add(walk, stream, fields, ended=ended)
        self.last_opened = stream
        if stream > self.goaway:
            self._finish(stream, "reset")  # it crossed the GOAWAY, and the server will not look at it

    def _add(self, walk: Walk, stream: int, fields: Fields, *, ended: bool) -> None:
        """A request begins, the client's or a promised one (RFC 9113 section 8.3.1, RFC 8441 section 4)."""
        if len(self.streams) >= self.most_streams:
            raise OverLimit(walk.who, "streams", f"more than {self.most_streams} open streams", calm=True)
        pseudo = _pseudo(walk, fields, _REQUEST_PSEUDO)
        method, target, tunnel = pseudo.get(b":method"), pseudo.get(b":path"), pseudo.get(b":protocol")
        if method == b"CONNECT":
            if tunnel is None:
                raise walk.wrong("CONNECT inside the tunnel")
            if not self._extended_connect:
                raise walk.wrong("an extended CONNECT that the server has not offered (RFC 8441 section 3)")
        elif tunnel is not None:
            raise walk.wrong(":protocol without CONNECT")
        if not method or not target or b":scheme" not in pseudo:
            raise walk.wrong(f"a request on stream {stream} without :method, :scheme or :path")
        host = pseudo.get(b":authority") or next((value for name, value in fields if name == b"host"), b"")
        if self.addressee is not None and walk is self.client:
            self._must_be_here(self.addressee, stream, host, fields, ended=ended)
        exchange = Exchange(
            "HTTP/2",
            readable(method, MAX_METHOD),
            readable(host.lower(), MAX_HOST) if host else self.host,
            self._disclosure.path(target),
            started=self._clock(),
        )
        if self._disclosure.more_of_request:
            self._disclosure.tell_request(exchange, target, fields)
        self.streams[stream] = _Stream(
            exchange,
            "" if tunnel is None else "WebSocket" if tunnel == b"websocket" else "bytes",
            request_ended=ended,
        )

    def _must_be_here(self, addressee: Addressee, stream: int, host: bytes, fields: Fields, *, ended: bool) -> None:
        """Raises Misdirected. A Host beside :authority has to fit too: not every server looks (RFC 9113, 8.3.1)."""
        if host and addressee.accepts(host):
            for name, value in fields:
                if len(name) == 4 and name.lower() == b"host" and not addressee.accepts(value):
                    host = value
                    break
            else:
                return
        request = Misdirected(
            host,
            "" if host else "it has neither :authority nor Host",
            (value for name, value in fields if name == b"accept"),
            head_only=(b":method", b"HEAD") in fields,
        )
        request.stream = stream
        request.ended = ended
        raise request

    def _answered(self, walk: Walk, stream: int, found: _Stream, fields: Fields, *, ended: bool) -> None:
        """A response begins (RFC 9113 section 8.3.2)."""
        status = _pseudo(walk, fields, _STATUS).get(b":status", b"")
        if len(status) != 3 or not status.isdigit() or status < b"100" or status == b"101":
            raise walk.wrong(f"a response on stream {stream} without a valid :status")
        if status < b"200":
            if ended:
                raise walk.wrong(f"an interim response that ends stream {stream}")
            return
        exchange = found.exchange
        exchange.status = int(status)
        exchange.first_byte = self._clock()
        if self._disclosure.more_of_response:
            self._disclosure.tell_response(exchange, fields)
        if found.tunnel and status < b"300":
            exchange.protocol = found.tunnel
            exchange.outcome = "upgraded"
        if ended:
            self._half_ended(walk, stream, found)

    def _half_ended(self, walk: Walk, stream: int, found: _Stream) -> None:
        if walk is self.client:
            found.request_ended = True
        else:
            found.response_ended = True
        if found.request_ended and found.response_ended:
            self._finish(stream, None)

    def _finish(self, stream: int, outcome: str | None) -> None:
        """Tell of a stream; with outcome None it ended as it should."""
        exchange = self.streams.pop(stream).exchange
        # A frame's size counts from its beginning on: take off what has not come.
        if self.client.passing == stream:
            exchange.request_bytes -= self.client.missing
        if self.server.passing == stream:
            exchange.response_bytes -= self.server.missing
        if outcome is not None and not (outcome == "cut" and exchange.outcome == "upgraded"):
            exchange.outcome = outcome
        exchange.ended = self._clock()
        self._done(exchange)

    # --- the connection ---

    def _going(self, walk: Walk, last: int) -> None:
        """GOAWAY: what the other side opened above ``last`` gets no answer (RFC 9113 section 6.8)."""
        if walk is self.server:
            self.goaway = min(self.goaway, last)
        parity = 1 if walk is self.server else 0
        for stream in [number for number in self.streams if number > last and number % 2 == parity]:
            self._finish(stream, "reset")

    def _settings(self, walk: Walk, payload: bytes) -> None:
        """SETTINGS of one side count for the other direction: what they widen at once, what they narrow from the ACK.

        In between, the other side may use either (RFC 9113 section 6.5.3).
        """
        table: int | None = None
        frame: int | None = None
        streams: int | None = None
        for at in range(0, len(payload), 6):
            value = int.from_bytes(payload[at + 2 : at + 6], "big")
            setting = int.from_bytes(payload[at : at + 2], "big")
            if setting == _HEADER_TABLE_SIZE:
                table = min(value, MAX_TABLE)
            elif setting == _MAX_FRAME_SIZE:
                if not DEFAULT_FRAME <= value <= LARGEST_FRAME:
                    raise walk.wrong(f"SETTINGS_MAX_FRAME_SIZE of {value}")
                frame = value
            elif setting == _MAX_CONCURRENT_STREAMS and walk is self.server:
                streams = min(max(value, self._limits.http2_streams), MAX_STREAMS)
            elif setting == _INITIAL_WINDOW_SIZE and walk is self.client:
                self.window = min(self.window, value)
            elif setting == _ENABLE_CONNECT_PROTOCOL and walk is self.server:
                self._extended_connect = value == 1
        waiting = self._announced[walk.who]
        if len(waiting) >= MAX_UNACKNOWLEDGED:
            what = f"more than {MAX_UNACKNOWLEDGED} SETTINGS without an acknowledgement"
            raise OverLimit(walk.who, "settings", what, calm=True)
        waiting.append((table, frame, streams))
        other = self.client if walk is self.server else self.server
        if table is not None and table > other.table_limit:
            other.limit_table(table)
        if frame is not None and frame > other.max_frame:
            other.max_frame = frame
        if streams is not None and streams > self.most_streams:
            self.most_streams = streams

    def _acknowledged(self, walk: Walk, payload: bytes) -> None:
        waiting = self._announced["server" if walk is self.client else "client"]
        if payload or not waiting:
            raise walk.wrong("an acknowledgement of no SETTINGS")
        table, frame, streams = waiting.pop(0)
        if table is not None:
            walk.limit_table(table)
        if frame is not None:
            walk.max_frame = frame
        if streams is not None:
            self.most_streams = streams


def _pseudo(walk: Walk, fields: Fields, allowed: frozenset[bytes]) -> dict[bytes, bytes]:
    """The pseudo fields: known ones, each once, before all others (RFC 9113 section 8.3)."""
    found: dict[bytes, bytes] = {}
    regular = False
    for name, value in fields:
        if not name.startswith(b":"):
            regular = True
        elif regular or name not in allowed or name in found:
            raise walk.wrong("a malformed set of pseudo header fields")
        else:
            found[name] = value
    return found
