"""HTTP/2 to the proxy: each stream is a session of its own, as if its request had come over HTTP/1.1.

A stream's CONNECT (RFC 9113, section 8.5) or request is told to the session in HTTP/1.1, its answer told back in
HTTP/2: admission, credentials and refusals are those of the explicit proxy, and there is no second way of doing them.
h2 and h11 understand and write the two; windows hold each stream back by itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from typing import TYPE_CHECKING, Any, Final

import h2.config
import h2.errors
import h2.events
import h2.exceptions
import h2.stream
import h11
import hpack.exceptions
from hyperframe.frame import GoAwayFrame

from proxy import refusals
from proxy.block import answer_bytes
from proxy.lanes.abuse import Bounds
from proxy.lanes.exchange import OverLimit
from proxy.lanes.http2_rates import RESETS
from proxy.lanes.inspection.http2_connection import Connection, GoAway
from proxy.log import WARNING
from proxy.tcp import WRITE_HIGH, WRITE_LOW
from proxy.upstream import CLOSE_SECONDS

if TYPE_CHECKING:
    from proxy.listeners.outer_tls import OuterTls
    from proxy.session import Session

_AUTHORITY: Final = re.compile(rb"[\x21-\x7e]+").fullmatch
_NAME: Final = re.compile(rb"[!#$%&'*+\-.^_`|~0-9a-z]+").fullmatch
"""A field name, which has no capital letters in HTTP/2 (RFC 9113, section 8.2.1)."""
_OF_ONE_CONNECTION: Final = frozenset({
    b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade",
})  # fmt: skip
"""Fields that make a message of HTTP/2 malformed (RFC 9113, section 8.2.2)."""
_SCHEME: Final = re.compile(rb"[A-Za-z][A-Za-z0-9+.-]*").fullmatch
PIECE: Final = 8 * 1024
"""Bytes that are worked on at a time: up to 900 frames, and h2 takes 20 microseconds for the smallest."""
TURN_SECONDS: Final = 0.02
"""After which others have the loop, before the next piece."""
_HIGHEST_STREAM: Final = 2**31 - 1
Fields = list[tuple[bytes, bytes]]


class MalformedError(ValueError):
    """A request that HTTP/2 does not allow. Its stream is reset (RFC 9113, section 8.1.1), and nothing else."""


class _Connection(Connection):
    """A request whose body is longer or shorter than it says ends its stream (RFC 9113, section 8.1.1): h11 counts."""

    def _begin_new_stream(self, stream_id: int, allowed_ids: Any) -> h2.stream.H2Stream:
        stream = super()._begin_new_stream(stream_id, allowed_ids)
        stream._initialize_content_length = lambda headers: None  # type: ignore[method-assign]
        return stream


class OuterHttp2:
    """One client's connection."""

    def __init__(self, outer: OuterTls) -> None:
        self.outer = outer
        self.worker = outer.worker
        limits = self.worker.limits
        # What h2 finds wrong with a head ends the connection; here that of one stream ends the stream.
        config = h2.config.H2Configuration(client_side=False, header_encoding=None, validate_inbound_headers=False)
        self.http = _Connection(config, Bounds(limits, self._over))
        self.streams: dict[int, StreamTransport] = {}
        self.full = False
        """The client does not take what is sent on the connection."""
        self.draining = False
        self.reading = False
        self.rested = 0.0
        """Since when there is no stream, by the loop's clock; to be looked at where there is none."""
        self._idle: asyncio.TimerHandle | None = None
        self._unread = bytearray()
        """What came and has not had its turn; while there is any, no more is read."""
        self._turning = False

    def begin(self) -> None:
        """Our SETTINGS."""
        self.http.initiate_connection()
        self.flush()
        self._rest()

    # --- what comes ---

    def receive(self, data: bytes) -> None:
        """Plain text of the client."""
        self._unread += data
        if not self._turning:
            self._read()

    def _read(self) -> None:
        """Work on what came, in another turn of the loop where it takes long: others wait, and frames can be tiny."""
        self._turning = False
        unread, loop = self._unread, self.outer.loop
        self.reading, began = True, loop.time()
        try:
            while unread and not self.outer.closed:
                piece = bytes(unread[:PIECE])
                del unread[:PIECE]
                for event in self.http.receive_data(piece):
                    self._event(event)
                if loop.time() - began >= TURN_SECONDS:
                    break
            # Windows may have opened, for which the connection has no event.
            for stream in tuple(self.streams.values()):
                stream.moved()
        except OverLimit as error:
            self._over(error)
            return self._stop(h2.errors.ErrorCodes.ENHANCE_YOUR_CALM)
        except (h2.exceptions.H2Error, hpack.exceptions.HPACKError) as error:
            code = getattr(error, "error_code", h2.errors.ErrorCodes.PROTOCOL_ERROR)
            self.outer.warn("HTTP/2 to the proxy", reason=str(error)[:200])
            return self._stop(code)
        finally:
            self.reading = False
        self._wait_or_go_on()
        return self.flush()

    def _wait_or_go_on(self) -> None:
        wire = self.outer.transport
        if wire is None or wire.is_closing():
            self._unread.clear()
        elif self._unread:
            self._turning = True
            wire.pause_reading()
            self.outer.loop.call_soon(self._next)
        else:
            wire.resume_reading()

    def _next(self) -> None:
        try:
            self._read()
        except Exception as error:  # noqa: BLE001 - a fault of ours ends this connection and no other
            self.outer.broken(error)

    def _event(self, event: h2.events.Event) -> None:
        match event:
            case h2.events.RequestReceived(stream_id=int(number), headers=list(fields)):
                ends = event.stream_ended is not None
                self._request(number, [(bytes(name), bytes(value)) for name, value in fields], ends)
            case h2.events.DataReceived(stream_id=int(number), flow_controlled_length=int(size)):
                if (stream := self.streams.get(number)) is not None:
                    stream.came(bytes(event.data or b""), size)
                elif size:
                    self.http.acknowledge_received_data(size, number)
            case h2.events.StreamEnded(stream_id=int(number)):
                if (stream := self.streams.get(number)) is not None:
                    stream.ended()
            case h2.events.StreamReset(stream_id=int(number)):
                if not event.remote_reset:
                    self._has_us_reset()
                if (stream := self.streams.get(number)) is not None:
                    stream.gone(ConnectionResetError("the client has reset the stream"))
            case GoAway():
                self.drain()
            case _:
                pass

    def _request(self, number: int, fields: Fields, ends: bool) -> None:
        """A stream begins."""
        beyond = len(fields) > self.worker.limits.header_fields
        try:
            request = in_http1(fields, ends)
        except MalformedError as error:
            self.outer.log(WARNING, "malformed request to the proxy", reason=str(error))
            return self._reset(number, h2.errors.ErrorCodes.PROTOCOL_ERROR)
        if self.draining:
            return self._reset(number, h2.errors.ErrorCodes.REFUSED_STREAM)
        if self._idle is not None:
            self._idle.cancel()
            self._idle = None
        entrance, listener, tenant = self.worker.entrance, self.outer.listener, self.outer.tenant
        stream = self.streams[number] = StreamTransport(self, number, request)
        limit = "header_fields" if beyond else entrance.shedding
        if not limit and entrance.seats.full:
            limit = "connections"  # no descriptors for more: a socket would wait to be accepted, a stream cannot
        seat = limit or entrance.seats.take(listener, tenant, self.outer.peer)
        if beyond:
            most = self.worker.limits.header_fields
            return stream.answer(answer_bytes(refusals.request_head_too_large("header_fields", most, "", ""), None))
        if isinstance(seat, str):
            return stream.answer(entrance.refusal(listener, self.outer.peer, seat))
        session = entrance.session(listener, tenant, seat, self.outer.certified)
        return stream.begin(session)

    def _reset(self, number: int, code: h2.errors.ErrorCodes) -> None:
        """Take no stream here."""
        self._has_us_reset()
        with contextlib.suppress(h2.exceptions.StreamClosedError):  # the client has cancelled it at once
            self.http.reset_stream(number, int(code))

    def _has_us_reset(self) -> None:
        """Whoever has us reset streams makes as much work as one who resets them (CVE-2025-8671). Raises OverLimit."""
        self.http.rates.count("client", RESETS)

    # --- what goes ---

    def flush(self) -> None:
        """Send what is ready; not while what came is still being read, which most often has more to send."""
        if not self.reading and (data := self.http.data_to_send()):
            self.outer.send(data)

    def writable(self, writable: bool) -> None:
        """Whether the client takes more on the connection."""
        self.full = not writable
        for stream in tuple(self.streams.values()):
            stream.moved()

    # --- the end ---

    def over(self, number: int) -> None:
        """A stream has come to its end."""
        self.streams.pop(number, None)
        if not self.streams:
            if self.draining:
                self.flush()
                self.outer.close()
            else:
                self._rest()

    def drain(self) -> None:
        """Take no more streams; end with the last one (RFC 9113, section 6.8)."""
        if self.draining:
            return
        self.draining = True
        # By hand: h2 itself would send nothing after it.
        self.outer.send(self.http.data_to_send() + GoAwayFrame(0, last_stream_id=self._last()).serialize())
        if not self.streams:
            self.outer.close()

    def _last(self) -> int:
        return max(0, min(self.http.highest_inbound_stream_id, _HIGHEST_STREAM))

    def lost(self, error: Exception | None) -> None:
        """The connection is gone, and all streams with it."""
        if self._idle is not None:
            self._idle.cancel()
        for stream in tuple(self.streams.values()):
            stream.gone(error)

    def _rest(self) -> None:
        """Without a stream, the connection has the idle time."""
        self.rested = self.outer.loop.time()
        if self._idle is None and not self.outer.closed:
            self._idle = self.outer.loop.call_later(self.worker.limits.idle_timeout, self._idle_too_long)

    def _idle_too_long(self) -> None:
        self._idle = None
        if not self.streams:
            self.drain()

    def _stop(self, code: h2.errors.ErrorCodes | int) -> None:
        self._unread.clear()
        self.http.close_connection(int(code))
        self.outer.send(self.http.data_to_send())
        self.outer.close()

    def _over(self, error: OverLimit) -> None:
        self.outer.warn("over a limit", kind=error.kind, side="client", reason=str(error))
        self.worker.abused(error.kind)


class StreamTransport(asyncio.Transport):
    """A stream, as a session's transport: HTTP/1.1 for the session, HTTP/2 for the client."""

    def __init__(self, http2: OuterHttp2, number: int, request: h11.Request) -> None:
        super().__init__()
        self.http2 = http2
        self.number = number
        self.session: Session | None = None
        self._h11 = h11.Connection(h11.CLIENT, max_incomplete_event_size=1 << 20)
        self._request = request
        self._tunnel = False
        """The CONNECT was answered: bytes pass as they are."""
        self._answered = False
        self._paused = False
        self._held = bytearray()
        """What came while the session does not read: in one piece, however small the frames were."""
        self._held_size = 0
        """What it takes of the windows."""
        self._fin = False
        """The client has ended the stream, behind what is held."""
        self._fin_told = False
        """The session knows: it may pause and read again as often as it likes after that."""
        self._fin_sent = False
        self._closing = False
        self._gone = False
        self._high, self._low = WRITE_HIGH, WRITE_LOW
        self._told_full = False
        self._taken = 0

    # --- towards the session ---

    def begin(self, session: Session) -> None:
        """The session gets its transport, and its request."""
        self.session = session
        head = self._h11.send(self._request)
        session.connection_made(self)
        if not self._gone and not self._closing:
            session.data_received(head)

    def came(self, data: bytes, size: int) -> None:
        """DATA of the client, ``size`` bytes of its windows."""
        if self.session is None or self._closing:
            self._give_back(size)
        elif self._paused:
            self._held += data
            self._held_size += size
        else:
            self._hand_on(data, size)

    def _hand_on(self, data: bytes, size: int) -> None:
        session = self.session
        self._give_back(size)
        if session is None or not data:
            return
        if data := data if self._connects else self._framed(data):
            session.data_received(data)

    def _give_back(self, size: int) -> None:
        if size and not self.http2.outer.closed:
            self._try(self.http2.http.acknowledge_received_data, size, self.number)

    @property
    def _connects(self) -> bool:
        return self._request.method == b"CONNECT"

    def _framed(self, data: bytes) -> bytes:
        try:
            return self._h11.send(h11.Data(data=data)) or b""
        except h11.LocalProtocolError:
            self.abort()  # more, or less, than its Content-Length says
            return b""

    def ended(self) -> None:
        """The client has ended the stream."""
        self._fin = True
        if not self._paused:
            self._hand_on_end()

    def _hand_on_end(self) -> None:
        session = self.session
        if session is None or self._closing or self._fin_told:
            return
        self._fin_told = True
        if self._connects:
            if not session.eof_received():
                session.close("client closed")
            return
        try:
            last = self._h11.send(h11.EndOfMessage())
        except h11.LocalProtocolError:
            return self.abort()
        if last:
            session.data_received(last)
        return None

    def gone(self, error: Exception | None) -> None:
        """The stream, or the connection, is no more."""
        if self._gone:
            return
        self._gone = self._closing = True
        self._give_back(self._held_size)
        self._held.clear()
        self._held_size = 0
        self.http2.flush()
        self.http2.over(self.number)
        session, self.session = self.session, None
        if session is not None:
            session.connection_lost(error)

    # --- towards the client ---

    def answer(self, http1: bytes) -> None:
        """A whole answer of ours, in HTTP/1.1, and the end; there is no session that would see to its time."""
        self._h11.send(self._request)
        self._out(http1)
        self.close()
        self.http2.outer.loop.call_later(CLOSE_SECONDS, self.abort)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if self._gone or self._fin_sent:
            return
        self._out(bytes(data))
        self.moved()
        self.http2.flush()

    def _out(self, data: bytes) -> None:
        if self._tunnel:
            return self._data(data)
        self._h11.receive_data(data)
        try:
            while True:
                event = self._h11.next_event()
                if isinstance(event, h11.InformationalResponse):
                    if event.status_code != 100 or not self._connects:
                        self._head(event, ends=False)
                elif isinstance(event, h11.Response):
                    self._answered = True
                    self._head(event, ends=False)
                    if self._connects and 200 <= event.status_code < 300:
                        self._tunnel = True
                        rest, _ = self._h11.trailing_data
                        return self._data(rest) if rest else None
                elif isinstance(event, h11.Data):
                    self._data(bytes(event.data))
                elif isinstance(event, h11.EndOfMessage):
                    self._finish([(name, value) for name, value in event.headers])
                    self._closing = True
                    return self.moved()
                else:
                    return None  # NEED_DATA, PAUSED, ConnectionClosed
        except h11.RemoteProtocolError:
            return self.abort()

    def _head(self, event: h11.Response | h11.InformationalResponse, ends: bool) -> None:
        fields: Fields = [(b":status", b"%d" % event.status_code)]
        fields += [(name, value) for name, value in event.headers if name not in _OF_ONE_CONNECTION]
        self._try(self.http2.http.send_headers, self.number, fields, end_stream=ends)

    def _data(self, data: bytes) -> None:
        if data:
            self._taken += len(data)
            self._try(self.http2.http.send_data, self.number, data)

    def _finish(self, trailers: Fields) -> None:
        if self._fin_sent:
            return
        self._fin_sent = True
        if trailers:
            self._try(self.http2.http.send_trailers, self.number, trailers)
        else:
            self._try(self.http2.http.send_data, self.number, b"", True)

    def _try(self, send: Any, *arguments: Any, **more: Any) -> None:
        """Send; where the client has reset the stream in what is being read, there is nobody to send to."""
        try:
            send(*arguments, **more)
        except (h2.exceptions.StreamClosedError, h2.exceptions.ProtocolError):
            self._fin_sent = True

    def moved(self) -> None:
        """Windows have opened or the connection has, or something was added: tell the session where that matters."""
        size, session = self.get_write_buffer_size(), self.session
        if not self._told_full and size > self._high:
            self._told_full = True
            if session is not None:
                session.pause_writing()
        elif self._told_full and size <= self._low:
            self._told_full = False
            if session is not None:
                session.resume_writing()
        if self._closing and not self._gone and not self.http2.http.backlog(self.number):
            self._over()

    def _over(self) -> None:
        """All is sent; a client that is still sending is asked to stop (RFC 9113, section 8.1)."""
        http = self.http2.http
        stream = http.streams.get(self.number)
        if stream is not None and not stream.closed and not self._fin:
            self._try(http.reset_stream, self.number, int(h2.errors.ErrorCodes.NO_ERROR))
        self.http2.outer.loop.call_soon(self.gone, None)

    # --- asyncio's transport ---

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        if name == "socket":
            return default  # the connection is not the stream's: it must not be reset for it
        if name == "taken":
            return self._taken - self.http2.http.backlog(self.number)
        if name == "waiting":
            return self.http2.http.backlog(self.number)
        wire = self.http2.outer.transport
        return default if wire is None else wire.get_extra_info(name, default)

    def get_write_buffer_size(self) -> int:
        wire = self.http2.outer.transport
        shared = wire.get_write_buffer_size() if self.http2.full and wire is not None else 0
        return self.http2.http.backlog(self.number) + shared

    def get_write_buffer_limits(self) -> tuple[int, int]:
        return self._low, self._high

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self._high = WRITE_HIGH if high is None else high
        self._low = self._high // 4 if low is None else low

    def is_reading(self) -> bool:
        return not self._paused

    def pause_reading(self) -> None:
        self._paused = True

    def resume_reading(self) -> None:
        if not self._paused:
            return
        self._paused = False
        if self._held_size:
            data, size = bytes(self._held), self._held_size
            self._held.clear()
            self._held_size = 0
            self._hand_on(data, size)
        if self._fin and not self._paused:
            self._hand_on_end()
        self.http2.flush()

    def is_closing(self) -> bool:
        return self._closing

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        if self._tunnel:
            self._finish([])
            self.http2.flush()

    def close(self) -> None:
        if self._closing:
            return
        self._closing = True
        if not self._tunnel and not self._fin_sent:
            if self._answered:
                self._out(b"")  # of an answer that ends with its connection, this is the end
            else:
                self._try(self.http2.http.reset_stream, self.number, int(h2.errors.ErrorCodes.CONNECT_ERROR))
        self._finish([])
        self.moved()
        self.http2.flush()

    def abort(self) -> None:
        if self._gone:
            return
        self._closing = self._fin_sent = True
        code = h2.errors.ErrorCodes.CONNECT_ERROR if self._connects else h2.errors.ErrorCodes.INTERNAL_ERROR
        self._try(self.http2.http.reset_stream, self.number, int(code))
        self.http2.flush()
        self.http2.outer.loop.call_soon(self.gone, None)


def in_http1(fields: Fields, ends: bool) -> h11.Request:
    """A request as HTTP/1.1 has it. Raises MalformedError for what HTTP/2 does not allow (RFC 9113, section 8)."""
    pseudo: dict[bytes, bytes] = {}
    headers: Fields = []
    for name, value in fields:
        if name.startswith(b":"):
            if headers or name in pseudo or name not in (b":method", b":scheme", b":authority", b":path"):
                raise MalformedError(f"the pseudo-header field {name[:30]!r} is twice there, too late, or unknown")
            pseudo[name] = value
        elif not _NAME(name) or name in _OF_ONE_CONNECTION or (name == b"te" and value.lower() != b"trailers"):
            raise MalformedError(f"the field {name[:30]!r} cannot be in a request of HTTP/2")
        elif name != b"host" or b":authority" not in pseudo:
            headers.append((name, value))
    method, authority = pseudo.get(b":method", b""), pseudo.get(b":authority", b"")
    if authority and not _AUTHORITY(authority):
        raise MalformedError("the field :authority has characters that it cannot have")
    if method == b"CONNECT":
        if b":scheme" in pseudo or b":path" in pseudo or not authority:
            raise MalformedError("a CONNECT has :authority, and neither :scheme nor :path (RFC 9113, section 8.5)")
        return _request(method, authority, [(b"host", authority), *headers])
    scheme, path = pseudo.get(b":scheme", b""), pseudo.get(b":path", b"")
    if not (method and scheme and path):
        raise MalformedError("the request lacks :method, :scheme or :path (RFC 9113, section 8.3.1)")
    # In HTTP/1.1 the three become one, in which neither may reach into what the authority is.
    if not _SCHEME(scheme) or not (path.startswith(b"/") or (path == b"*" and method == b"OPTIONS")):
        raise MalformedError("the field :scheme or :path is malformed (RFC 9113, section 8.3.1)")
    authority = authority or next((value for name, value in headers if name == b"host"), b"")
    headers = [(b"host", authority), *(field for field in headers if field[0] != b"host")]
    cookies = [value for name, value in headers if name == b"cookie"]
    if len(cookies) > 1:  # RFC 9113, section 8.2.3
        headers = [field for field in headers if field[0] != b"cookie"] + [(b"cookie", b"; ".join(cookies))]
    if not ends and not any(name == b"content-length" for name, _ in headers):
        headers.append((b"transfer-encoding", b"chunked"))
    target = b"%s://%s%s" % (scheme, authority, b"" if path == b"*" else path)
    return _request(method, target, headers)


def _request(method: bytes, target: bytes, headers: Fields) -> h11.Request:
    try:
        return h11.Request(method=method, target=target, headers=headers)
    except h11.LocalProtocolError as error:
        raise MalformedError(str(error)[:100]) from None
