"""HTTP/2 on both sides: mitmproxy's layers, with windows that hold a peer back and answers of our own.

mitmproxy opens every window as far as it goes and keeps what the other side does not take. Here a stream's window is
given back when the other side has taken what came (:meth:`_Flow.settle`), so that each stream is held back by itself.
GOAWAY lets open streams end, RST_STREAM keeps its code, 1xx pass.
"""

from __future__ import annotations

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
    ReceiveHttp,
    RequestHeaders,
    RequestProtocolError,
    ResponseHeaders,
    ResponseProtocolError,
)
from mitmproxy.proxy.layers.http import Http2Client as MitmproxyClient
from mitmproxy.proxy.layers.http import Http2Server as MitmproxyServer
from mitmproxy.proxy.layers.http._http2 import StreamState, parse_h2_response_headers
from mitmproxy.proxy.layers.http._http_h2 import BufferedH2Connection

from proxy.lanes.inspection.messages import BadHead, Informational, Out, Spoiled, fields_bytes, refused
from proxy.refusals import Refusal

STREAM_WINDOW: Final = 1 << 20
CONNECTION_WINDOW: Final = 16 << 20
LARGEST_FRAME: Final = 64 * 1024
_NONE: Final[frozenset[bytes]] = frozenset()
BACKLOG: Final = 256 * 1024
"""Bytes that wait for one stream's window on the other side, at which no more is taken for it."""

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

    def stream_window_updated(self, stream_id: int) -> bool:
        sent: bool = super().stream_window_updated(stream_id)
        if stream_id in self.resets and stream_id not in self.stream_buffers:
            self.resets.discard(stream_id)
            if not self.streams[stream_id].closed:
                self.reset_stream(stream_id, 0)
        waiting = self.stream_buffers.get(stream_id)
        # An end without bytes needs no window.
        while waiting and not waiting[0].data:
            end = waiting.popleft()
            h2.connection.H2Connection.send_data(self, stream_id, b"", end.end_stream)
            sent = True
            if not waiting:
                del self.stream_buffers[stream_id]
                if stream_id in self.stream_trailers:
                    self.send_headers(stream_id, self.stream_trailers.pop(stream_id), end_stream=True)
        return sent

    def backlog(self, stream_id: int) -> int:
        """Bytes that wait for the stream's window."""
        waiting = self.stream_buffers.get(stream_id)
        return sum(len(each.data) for each in waiting) if waiting else 0


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
        elif isinstance(event, ResponseHeaders) and (problem := _bad(event.response.headers.fields)):
            yield from self._failed(ResponseProtocolError(event.stream_id, problem, ErrorCode.GENERIC_SERVER_ERROR))
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

    def _handle_event(self, event: events.Event) -> Out[None]:
        if isinstance(event, RequestHeaders) and (problem := _bad(event.request.headers.fields)):
            yield ReceiveHttp(ResponseProtocolError(event.stream_id, problem, ErrorCode.GENERIC_SERVER_ERROR))
            return
        if isinstance(event, RequestProtocolError) and (ours := self.our_stream_id.get(event.stream_id)) is not None:
            event.stream_id = ours
            yield from self._give_up(event)
            return
        if isinstance(event, RequestHeaders):
            self.h2_conn.marked = getattr(event.request, "never_indexed", _NONE)
        yield from super()._handle_event(event)
        while self.stream_queue and self.h2_conn.open_outbound_streams < (
            self.provisional_max_concurrency or self.h2_conn.remote_settings.max_concurrent_streams
        ):
            for waiting in self.stream_queue.pop(next(iter(self.stream_queue))):
                yield from super()._handle_event(waiting)

    def handle_h2_event(self, event: h2.events.Event) -> Out[bool]:
        """One of hyper-h2's events. True: the connection is over."""
        if isinstance(event, h2.events.DataReceived):
            if self.streams.get(event.stream_id or 0) is StreamState.EXPECTING_HEADERS:
                yield from self.protocol_error("DATA before HEADERS")
                return True
            yield from self._data(event)
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
            if not self.streams:
                yield from self.close_connection("the server went away")
                return True
        else:
            return (yield from super().handle_h2_event(event))
        return False

    def _is_over(self, stream_id: int, event: _GoAway) -> bool:
        return stream_id > event.last_stream_id


def _bad(fields: tuple[tuple[bytes, bytes], ...]) -> str:
    try:
        fields_bytes(fields)
    except BadHead as error:
        return Spoiled(str(error))
    return ""
