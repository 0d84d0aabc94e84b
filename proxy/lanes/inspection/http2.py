"""HTTP/2 on both sides: mitmproxy's layers, with windows that hold a peer back and answers of our own.

mitmproxy opens every window as far as it goes and keeps what the other side does not take. Here a stream's window is
given back when the other side has taken what came (:meth:`_Flow.settle`), so that each stream is held back by itself.
GOAWAY lets open streams end, RST_STREAM keeps its code, 1xx pass.
"""

from __future__ import annotations

import collections
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import h2.connection
import h2.errors
import h2.events
import h2.exceptions
import h2.stream
from hpack import NeverIndexedHeaderTuple
from mitmproxy import http
from mitmproxy.proxy import commands, events
from mitmproxy.proxy.context import Context
from mitmproxy.proxy.layers.http import (
    ErrorCode,
    HttpEvent,
    ReceiveHttp,
    RequestHeaders,
    RequestProtocolError,
    RequestTrailers,
    ResponseHeaders,
    ResponseProtocolError,
    ResponseTrailers,
)
from mitmproxy.proxy.layers.http import Http2Client as MitmproxyClient
from mitmproxy.proxy.layers.http import Http2Server as MitmproxyServer
from mitmproxy.proxy.layers.http._http2 import StreamState, parse_h2_response_headers
from mitmproxy.proxy.layers.http._http_h2 import BufferedH2Connection, SendH2Data

from proxy.lanes.inspection.messages import BadHead, Informational, Out, Spoiled, fields_bytes, refused
from proxy.refusals import Refusal

STREAM_WINDOW: Final = 1 << 20
CONNECTION_WINDOW: Final = 16 << 20
LARGEST_FRAME: Final = 64 * 1024
_NONE: Final[frozenset[bytes]] = frozenset()
BACKLOG: Final = 256 * 1024
"""Bytes that wait for one stream's window on the other side, at which no more is taken for it."""
MOST_HELD: Final = 4 << 20
"""Bytes that wait for windows of one connection, at which no more is taken for any of its streams."""
MOST_TABLE: Final = 4096
"""Bytes of the table that heads are compressed with (RFC 7541 section 4.2): the protocol's default."""
_WRITABLE: Final = frozenset({h2.stream.StreamState.OPEN, h2.stream.StreamState.HALF_CLOSED_REMOTE})
_STATUS: Final = re.compile(rb"[1-9][0-9]{2}").fullmatch
_METHOD: Final = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+").fullmatch
_VISIBLE: Final = re.compile(rb"[!-~\x80-\xff]+").fullmatch

Refuse = Callable[[ErrorCode, str], Refusal]


@dataclass
class _GoAway(h2.events.Event):
    """The peer takes no more streams (RFC 9113 section 6.8). hyper-h2's own event would end those that go on."""

    last_stream_id: int


class _Connection(BufferedH2Connection):
    """hyper-h2's connection with bounded windows, and a GOAWAY that ends nothing by itself."""

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.local_settings.initial_window_size = STREAM_WINDOW
        self.local_settings.max_frame_size = LARGEST_FRAME
        self.max_inbound_frame_size = LARGEST_FRAME
        self.local_settings.acknowledge()
        self.resets: set[int] = set()
        """Streams to be reset, without an error, once all that waits was sent."""
        self.marked = _NONE
        """Names of fields in the next head that may never be indexed."""
        self.waiting: dict[int, int] = {}
        """Bytes that wait for a window, by stream."""
        self.held = 0
        """The same, of all streams."""

    def send_headers(self, stream_id: int, headers: Any, *arguments: Any, **more: Any) -> None:
        if self.marked:
            names, self.marked = self.marked, _NONE
            headers = [NeverIndexedHeaderTuple(*field) if field[0] in names else field for field in headers]
        super().send_headers(stream_id, headers, *arguments, **more)

    def initiate_connection(self) -> None:
        h2.connection.H2Connection.initiate_connection(self)
        self.increment_flow_control_window(CONNECTION_WINDOW - self.inbound_flow_control_window)

    def _receive_goaway_frame(self, frame: Any) -> Any:
        # RFC 9113 section 6.8: streams up to the last one named go on. hyper-h2 would take no more frames.
        return [], [_GoAway(frame.last_stream_id)]

    def _begin_new_stream(self, stream_id: int, allowed_ids: Any) -> h2.stream.H2Stream:
        stream = super()._begin_new_stream(stream_id, allowed_ids)
        initialize = stream._initialize_content_length

        def unless_there_is_none(headers: Any) -> None:
            # A 304 says how long the body would be (RFC 9110 section 8.6); hyper-h2 knows this of HEAD alone.
            if (b":status", b"304") not in headers:
                initialize(headers)

        stream._initialize_content_length = unless_there_is_none  # type: ignore[method-assign]
        return stream

    def _acknowledge_settings(self) -> Any:
        frames = super()._acknowledge_settings()
        # What the peer allows is the most (RFC 7541 section 4.2): a table of 4 GiB need not be filled for it.
        if self.encoder.header_table_size > MOST_TABLE:
            self.encoder.table_size_changes.pop()
            self.encoder.header_table_size = MOST_TABLE
        return frames

    # --- what waits for a window: counted, since a peer that opens none must not cost more and more ---

    def backlog(self, stream_id: int) -> int:
        """Bytes that wait for the stream's window."""
        return self.waiting.get(stream_id, 0)

    @property
    def unsent(self) -> bool:
        """Whether something waits for a window, if only the end of a stream."""
        return bool(self.stream_buffers)

    def send_data(self, stream_id: int, data: Any, end_stream: bool = False, pad_length: Any = None) -> None:
        """Send what the windows allow; the rest waits."""
        queue, frame, size = self.stream_buffers[stream_id], self.max_outbound_frame_size, len(data)
        for at in range(0, size or 1, frame):
            queue.append(SendH2Data(data[at : at + frame], end_stream and at + frame >= size))
        self.waiting[stream_id] = self.waiting.get(stream_id, 0) + size
        self.held += size
        self.stream_window_updated(stream_id)

    def stream_window_updated(self, stream_id: int) -> bool:
        """Send what the windows allow now; whether that was anything."""
        stream = self.streams.get(stream_id)
        if stream is None or stream.state_machine.state not in _WRITABLE:
            self._drop(stream_id)
            return False
        queue = self.stream_buffers.get(stream_id)
        window, sent = self.local_flow_control_window(stream_id), False
        # An end without bytes needs no window.
        while queue and (window > 0 or not queue[0].data):
            chunk = queue.popleft()
            size = min(len(chunk.data), window, self.max_outbound_frame_size) if chunk.data else 0
            if size < len(chunk.data):
                queue.appendleft(SendH2Data(chunk.data[size:], chunk.end_stream))
                chunk = SendH2Data(chunk.data[:size], False)
            h2.connection.H2Connection.send_data(self, stream_id, chunk.data, chunk.end_stream)
            window -= size
            self.waiting[stream_id] -= size
            self.held -= size
            sent = True
        if queue is not None and not queue:
            trailers, reset = self.stream_trailers.pop(stream_id, None), stream_id in self.resets
            self._drop(stream_id)
            if trailers is not None:
                self.send_headers(stream_id, trailers, end_stream=True)
            if reset and not stream.closed:
                self.reset_stream(stream_id, 0)
        return sent

    def reset_stream(self, stream_id: int, error_code: int = 0) -> None:
        """Reset the stream; what waits for it is not sent any more."""
        self._drop(stream_id)
        h2.connection.H2Connection.reset_stream(self, stream_id, error_code)

    def receive_data(self, data: Any) -> Any:
        """See hyper-h2; what waited for streams that the peer has reset is dropped."""
        found: list[Any] = super().receive_data(data)
        for event in found:
            if isinstance(event, h2.events.StreamReset):
                self._drop(event.stream_id or 0)
        return found

    def _drop(self, stream_id: int) -> None:
        self.stream_buffers.pop(stream_id, None)
        self.stream_trailers.pop(stream_id, None)
        self.held -= self.waiting.pop(stream_id, 0)
        self.resets.discard(stream_id)


def _marked(fields: Any) -> frozenset[bytes]:
    """The names of fields that may never be indexed (RFC 7541 section 7.1.3)."""
    return frozenset(field[0] for field in fields or () if isinstance(field, NeverIndexedHeaderTuple))


def _with_marks(wanted: Out[bool], names: frozenset[bytes]) -> Out[bool]:
    """The same commands; the message that comes with one of them remembers the names."""
    try:
        while True:
            command = next(wanted)
            told = command.event if isinstance(command, ReceiveHttp) else None
            message: Any = None
            if isinstance(told, RequestHeaders):
                message = told.request
            elif isinstance(told, ResponseHeaders):
                message = told.response
            if message is not None:
                message.never_indexed = names
            yield command
    except StopIteration as end:
        return bool(end.value)


class _Flow:
    """What both sides do differently."""

    h2_conn: Any
    """A :class:`_Connection`, to which mitmproxy's own declaration cannot be narrowed."""
    streams: dict[int, StreamState]

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.h2_conn = _Connection(self.h2_conf)  # type: ignore[attr-defined]
        self.owed: dict[int, int] = {}
        """Bytes that came and whose window is not given back yet, by stream."""
        self.leaving = False
        """The peer takes no new streams (GOAWAY)."""

    def settle(self, taken: Callable[[int], bool]) -> bytes:
        """Give back the windows of streams for which what came was ``taken``. Returns what to send."""
        for stream_id in [each for each in self.owed if taken(each)]:
            self.h2_conn.acknowledge_received_data(self.owed.pop(stream_id), stream_id)
        sent: bytes = self.h2_conn.data_to_send()
        return sent

    def _data(self, event: h2.events.DataReceived) -> Out[None]:
        stream_id, size = event.stream_id or 0, event.flow_controlled_length or 0
        if self.streams.get(stream_id) is StreamState.HEADERS_RECEIVED:
            if event.data:
                yield ReceiveHttp(self.ReceiveData(stream_id, event.data))  # type: ignore[attr-defined]
            self.owed[stream_id] = self.owed.get(stream_id, 0) + size
        elif size:
            self.h2_conn.acknowledge_received_data(size, stream_id)

    def _reset(self, event: h2.events.StreamReset) -> Out[None]:
        stream_id = event.stream_id or 0
        if self.streams.pop(stream_id, None) is not None:
            yield from self._tell_reset(stream_id, int(event.error_code or 0))

    def _tell_reset(self, stream_id: int, code: int) -> Out[None]:
        kind = self.ReceiveProtocolError  # type: ignore[attr-defined]
        told = kind(stream_id, "the stream was reset", _MEANT.get(code, kind.code))
        told.reset_code = code
        yield ReceiveHttp(told)

    def _goes_away(self, event: _GoAway) -> Out[None]:
        """No new streams; those that the peer has not looked at are over."""
        self.leaving = True
        kind = self.ReceiveProtocolError  # type: ignore[attr-defined]
        for stream_id in [each for each in self.streams if self._is_over(each, event)]:
            del self.streams[stream_id]
            told = kind(stream_id, "the peer took no more requests on this connection", kind.code)
            told.reset_code = int(h2.errors.ErrorCodes.REFUSED_STREAM)
            yield ReceiveHttp(told)

    def _is_over(self, stream_id: int, event: _GoAway) -> bool:
        return False

    def close_connection(self, msg: str) -> Out[None]:
        """The connection is over, for all that is under way and all that would come."""
        self.leaving = True
        yield from super().close_connection(msg)  # type: ignore[misc]

    def _give_up(self, event: RequestProtocolError | ResponseProtocolError) -> Out[None]:
        """Reset the stream, with the code that the other side gave where there is one."""
        stream_id = event.stream_id
        code = getattr(event, "reset_code", None)
        if code == 0 and self.h2_conn.backlog(stream_id):
            self.h2_conn.resets.add(stream_id)  # the whole answer comes first
            return
        if not self.is_closed(stream_id):  # type: ignore[attr-defined]
            default = h2.errors.ErrorCodes.CANCEL if event.code in _CANCELS else h2.errors.ErrorCodes.INTERNAL_ERROR
            self.h2_conn.reset_stream(stream_id, int(default) if code is None else code)
            self.streams.pop(stream_id, None)
        if data := self.h2_conn.data_to_send():
            yield commands.SendData(self.conn, data)  # type: ignore[attr-defined]


_MEANT: Final = {
    int(h2.errors.ErrorCodes.CANCEL): ErrorCode.CANCEL,
    int(h2.errors.ErrorCodes.HTTP_1_1_REQUIRED): ErrorCode.HTTP_1_1_REQUIRED,
}
_CANCELS = frozenset({ErrorCode.CANCEL, ErrorCode.CLIENT_DISCONNECTED, ErrorCode.PASSTHROUGH_CLOSE})


class Http2Server(_Flow, MitmproxyServer):
    """The client's side. ``refuse`` words errors."""

    def __init__(self, context: Context, refuse: Refuse) -> None:
        super().__init__(context)
        self.refuse = refuse

    def _handle_event(self, event: events.Event) -> Out[None]:
        if isinstance(event, ResponseProtocolError):
            yield from self._failed(event)
        elif (fields := _going_out(event)) and (problem := _bad(fields)):
            yield from self._failed(
                ResponseProtocolError(event.stream_id, problem, ErrorCode.GENERIC_SERVER_ERROR)  # type: ignore[attr-defined]
            )
        else:
            if isinstance(event, ResponseHeaders):
                self.h2_conn.marked = getattr(event.response, "never_indexed", _NONE)
            yield from super()._handle_event(event)

    def handle_h2_event(self, event: h2.events.Event) -> Out[bool]:
        """One of hyper-h2's events. True: the connection is over."""
        if isinstance(event, h2.events.DataReceived):
            yield from self._data(event)
        elif isinstance(event, h2.events.StreamReset):
            yield from self._reset(event)
        elif isinstance(event, _GoAway):
            self.leaving = True
        elif isinstance(event, h2.events.RequestReceived) and (names := _marked(event.headers)):
            return (yield from _with_marks(super().handle_h2_event(event), names))
        else:
            return (yield from super().handle_h2_event(event))
        return False

    def _failed(self, event: ResponseProtocolError) -> Out[None]:
        stream_id = event.stream_id
        refusal = getattr(event.message, "refusal", None)
        told = refusal is not None or event.code.http_status_code() is not None
        stream = self.h2_conn.streams.get(stream_id)
        begun = stream is None or not self.is_open_for_us(stream_id) or stream.state_machine.headers_sent
        if begun or not told or hasattr(event, "reset_code"):
            yield from self._give_up(event)
            return
        refusal = refusal or self.refuse(event.code, event.message)
        response = refused(refusal, getattr(event.message, "accept", None))
        body = b"" if getattr(event.message, "head_only", False) else response.raw_content or b""
        fields = [(b":status", b"%d" % refusal.status)]
        fields += [(name.lower(), value) for name, value in response.headers.fields]
        self.h2_conn.send_headers(stream_id, fields)
        self.h2_conn.send_data(stream_id, body, end_stream=True)
        yield commands.SendData(self.conn, self.h2_conn.data_to_send())


class Http2Client(_Flow, MitmproxyClient):
    """The server's side."""

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.h2_conn.local_settings.enable_push = 0
        self.h2_conn.local_settings.acknowledge()
        self.answered: set[int] = set()
        """Streams whose response has ended, though their request has not."""
        self.some_over = False
        """A stream may be over in both directions."""

    # Streams wait for their turn here, whole: mitmproxy's queue is overtaken by what comes for a stream in it.

    def _handle_event(self, event: events.Event) -> Out[None]:
        if isinstance(event, HttpEvent):
            yield from self._asked(event)
        else:
            yield from self._translated(self._handle_event2(event))
            if self.some_over:
                self.some_over = False
                for ours in [each for each in self.their_stream_id if self.is_closed(each)]:
                    self._forget(ours)
        while self.stream_queue and not self.leaving and self._has_room():
            waiting: list[Any] = self.stream_queue.pop(next(iter(self.stream_queue)))
            for each in waiting:
                yield from self._send(each)
        if self.leaving:
            yield from self._turn_away()

    def _has_room(self) -> bool:
        most = self.provisional_max_concurrency
        if most is None:
            most = self.h2_conn.remote_settings.max_concurrent_streams
        return bool(self.h2_conn.open_outbound_streams < most)

    def _asked(self, event: HttpEvent) -> Out[None]:
        """Something of a request."""
        number = event.stream_id
        if number in self.our_stream_id:
            yield from self._send(event)
        elif number in self.stream_queue:
            if isinstance(event, RequestProtocolError):
                del self.stream_queue[number]  # the server has never heard of it
            else:
                self.stream_queue[number].append(event)
        elif not isinstance(event, RequestHeaders):
            return  # of a stream that is over
        elif problem := _bad_request(event.request):
            yield ReceiveHttp(ResponseProtocolError(number, problem, ErrorCode.GENERIC_SERVER_ERROR))
        elif self.leaving or not self._has_room() or self.stream_queue:
            self.stream_queue[number].append(event)
        else:
            yield from self._send(event)

    def _send(self, event: HttpEvent) -> Out[None]:
        number = event.stream_id
        ours = self.our_stream_id.get(number)
        if ours is None:
            if not isinstance(event, RequestHeaders):
                return
            ours = self.our_stream_id[number] = self.h2_conn.get_next_available_stream_id()
            self.their_stream_id[ours] = number
        event.stream_id = ours
        if isinstance(event, RequestProtocolError):
            yield from self._give_up(event)
        elif isinstance(event, RequestTrailers) and (problem := _bad(event.trailers.fields)):
            yield from self._give_up(RequestProtocolError(ours, problem, ErrorCode.GENERIC_CLIENT_ERROR))
            yield ReceiveHttp(ResponseProtocolError(number, problem, ErrorCode.GENERIC_SERVER_ERROR))
        else:
            if isinstance(event, RequestHeaders):
                self.h2_conn.marked = getattr(event.request, "never_indexed", _NONE)
            yield from self._translated(self._handle_event2(event))
        self._forget(ours)

    def _translated(self, wanted: Out[None]) -> Out[None]:
        """The same commands, with the numbers that the client's side knows streams by."""
        for command in wanted:
            if isinstance(command, ReceiveHttp):
                number = self.their_stream_id.get(command.event.stream_id)
                if number is None:
                    continue  # of a stream that is over on both sides
                command.event.stream_id = number
            yield command

    def _forget(self, ours: int) -> None:
        """Keep nothing of a stream that is over in both directions."""
        if self.is_closed(ours) and (number := self.their_stream_id.pop(ours, None)) is not None:
            self.our_stream_id.pop(number, None)
            self.streams.pop(ours, None)
            self.answered.discard(ours)

    def _turn_away(self) -> Out[None]:
        """The server takes no more: what waits may be asked again elsewhere (RFC 9113 section 8.7)."""
        waiting, self.stream_queue = self.stream_queue, collections.defaultdict(list)
        for number in waiting:
            told: Any = ResponseProtocolError(
                number, "the server took no more requests on this connection", ErrorCode.GENERIC_SERVER_ERROR
            )
            told.reset_code = int(h2.errors.ErrorCodes.REFUSED_STREAM)
            yield ReceiveHttp(told)
        if not self.their_stream_id and self.conn.connected:
            yield from self.close_connection("the server went away")

    @property
    def resting(self) -> bool:
        """Nothing is under way."""
        return not (self.their_stream_id or self.stream_queue)

    def handle_h2_event(self, event: h2.events.Event) -> Out[bool]:
        """One of hyper-h2's events. True: the connection is over."""
        self.some_over |= isinstance(event, _ENDS)
        if isinstance(event, h2.events.DataReceived):
            if self.streams.get(event.stream_id or 0) is StreamState.EXPECTING_HEADERS:
                yield from self.protocol_error("DATA before HEADERS")
                return True
            yield from self._data(event)
        elif isinstance(event, _HEADS) and not _has_status(event.headers):
            yield from self.protocol_error("a response without a valid :status (RFC 9113 section 8.3.2)")
            return True
        elif isinstance(event, h2.events.InformationalResponseReceived):
            status, headers = parse_h2_response_headers(event.headers or ())
            response = http.Response(b"HTTP/2.0", status, b"", headers, None, None, 0, None)
            yield ReceiveHttp(Informational(event.stream_id or 0, response))
        elif isinstance(event, h2.events.ResponseReceived) and (names := _marked(event.headers)):
            return (yield from _with_marks(super().handle_h2_event(event), names))
        elif isinstance(event, h2.events.StreamEnded):
            self.answered.add(event.stream_id or 0)
            return (yield from super().handle_h2_event(event))
        elif isinstance(event, h2.events.StreamReset):
            if event.stream_id in self.answered and not event.error_code:
                # RFC 9113 section 8.1: the answer is whole, and the rest of the request is not wanted.
                self.answered.discard(event.stream_id or 0)
                self.streams.pop(event.stream_id or 0, None)
                yield from self._tell_reset(event.stream_id or 0, 0)
            else:
                yield from self._reset(event)
        elif isinstance(event, _GoAway):
            yield from self._goes_away(event)
        else:
            return (yield from super().handle_h2_event(event))
        return False

    def _is_over(self, stream_id: int, event: _GoAway) -> bool:
        return stream_id > event.last_stream_id


_ENDS: Final = (h2.events.StreamEnded, h2.events.StreamReset, _GoAway)
_HEADS: Final = (h2.events.ResponseReceived, h2.events.InformationalResponseReceived)


def _has_status(fields: Any) -> bool:
    return any(name == b":status" and _STATUS(value) is not None for name, value in fields or ())


def _bad(fields: tuple[tuple[bytes, bytes], ...]) -> str:
    try:
        fields_bytes(fields)
    except BadHead as error:
        return Spoiled(str(error))
    return ""


def _going_out(event: events.Event) -> tuple[tuple[bytes, bytes], ...]:
    """The fields of a response's head or trailers."""
    if isinstance(event, ResponseHeaders):
        return event.response.headers.fields
    return event.trailers.fields if isinstance(event, ResponseTrailers) else ()


def _bad_request(request: http.Request) -> str:
    """What an inspector has put into a head that HTTP/2 has no place for (RFC 9113 section 8.3.1)."""
    data = request.data
    if not _METHOD(data.method) or not _VISIBLE(data.path) or (data.authority and not _VISIBLE(data.authority)):
        return Spoiled("a method, path or authority with characters that it cannot have")
    return _bad(request.headers.fields)
