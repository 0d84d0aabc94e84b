"""HTTP/2 on both sides: mitmproxy's layers, with windows that hold a peer back and answers of our own.

mitmproxy opens every window as far as it goes and keeps what the other side does not take. Here a stream's window is
given back when the other side has taken what came (:meth:`_Flow.settle`), so that each stream is held back by itself.
GOAWAY lets open streams end, RST_STREAM keeps its code, 1xx pass.
"""

from __future__ import annotations

import collections
import re
from collections.abc import Callable
from typing import Any, Final

import h2.errors
import h2.events
import h2.exceptions
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

from proxy.lanes.abuse import Bounds
from proxy.lanes.exchange import OverLimit, TooLarge
from proxy.lanes.inspection.http2_connection import UNMARKED, Connection, GoAway
from proxy.lanes.inspection.messages import BadHead, Informational, Out, Oversize, Spoiled, fields_bytes, refused
from proxy.refusals import Refusal

BACKLOG: Final = 256 * 1024
"""Bytes that wait for one stream's window on the other side, at which no more is taken for it."""
MOST_HELD: Final = 4 << 20
"""Bytes that wait for windows of one connection, at which no more is taken for any of its streams."""
_STATUS: Final = re.compile(rb"[1-9][0-9]{2}").fullmatch
_METHOD: Final = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+").fullmatch
_VISIBLE: Final = re.compile(rb"[!-~\x80-\xff]+").fullmatch

Refuse = Callable[[ErrorCode, str], Refusal]


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
    """A :class:`Connection`, to which mitmproxy's own declaration cannot be narrowed."""
    streams: dict[int, StreamState]

    def __init__(self, context: Context, bounds: Bounds) -> None:
        super().__init__(context)  # type: ignore[call-arg]
        self.bounds = bounds
        self.h2_conn = Connection(self.h2_conf, bounds)  # type: ignore[attr-defined]
        self.owed: dict[int, int] = {}
        """Bytes that came and whose window is not given back yet, by stream."""
        self.leaving = False
        """The peer takes no new streams (GOAWAY)."""

    def _within_limits(self, wanted: Out[None]) -> Out[None]:
        """The same commands; a peer that goes beyond a limit is told to calm down, and its connection ends."""
        try:
            yield from wanted
        except OverLimit as error:
            self.bounds.told(error)
            yield from self.protocol_error(str(error), int(h2.errors.ErrorCodes.ENHANCE_YOUR_CALM))  # type: ignore[attr-defined]

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

    def _goes_away(self, event: GoAway) -> Out[None]:
        """No new streams; those that the peer has not looked at are over."""
        self.leaving = True
        kind = self.ReceiveProtocolError  # type: ignore[attr-defined]
        for stream_id in [each for each in self.streams if self._is_over(each, event)]:
            del self.streams[stream_id]
            told = kind(stream_id, "the peer took no more requests on this connection", kind.code)
            told.reset_code = int(h2.errors.ErrorCodes.REFUSED_STREAM)
            yield ReceiveHttp(told)

    def _is_over(self, stream_id: int, event: GoAway) -> bool:
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

    def __init__(self, context: Context, refuse: Refuse, bounds: Bounds) -> None:
        super().__init__(context, bounds)
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
                self.h2_conn.marked = getattr(event.response, "never_indexed", UNMARKED)
            yield from self._within_limits(super()._handle_event(event))

    def handle_h2_event(self, event: h2.events.Event) -> Out[bool]:
        """One of hyper-h2's events. True: the connection is over."""
        if isinstance(event, h2.events.DataReceived):
            yield from self._data(event)
        elif isinstance(event, h2.events.StreamReset):
            yield from self._reset(event)
        elif isinstance(event, GoAway):
            self.leaving = True
        elif isinstance(event, h2.events.RequestReceived) and hasattr(event, "beyond"):
            self._too_large(event.stream_id or 0, event.headers or [], event.beyond)
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
        message = event.message
        self._answer(stream_id, refusal, getattr(message, "accept", None), getattr(message, "head_only", False))
        yield commands.SendData(self.conn, self.h2_conn.data_to_send())

    def _too_large(self, stream_id: int, fields: Any, detail: str) -> None:
        """The head of a request is beyond a limit: it is answered here, and nothing else learns of it."""
        head = TooLarge("client", detail, getattr(self.bounds.limits, detail))
        refusal = self.refuse(ErrorCode.GENERIC_CLIENT_ERROR, Oversize.of(head))
        accept = b", ".join(value for name, value in fields if name == b"accept").decode("latin-1")
        self._answer(stream_id, refusal, accept, (b":method", b"HEAD") in fields)
        # RFC 9113 section 8.1: no more of it is wanted.
        if self.h2_conn.backlog(stream_id):
            self.h2_conn.resets.add(stream_id)
        elif not self.is_closed(stream_id):
            self.h2_conn.reset_stream(stream_id, 0)

    def _answer(self, stream_id: int, refusal: Refusal, accept: str | None, head_only: bool) -> None:
        response = refused(refusal, accept)
        fields = [(b":status", b"%d" % refusal.status)]
        fields += [(name.lower(), value) for name, value in response.headers.fields]
        self.h2_conn.send_headers(stream_id, fields)
        self.h2_conn.send_data(stream_id, b"" if head_only else response.raw_content or b"", end_stream=True)


class Http2Client(_Flow, MitmproxyClient):
    """The server's side."""

    def __init__(self, context: Context, bounds: Bounds) -> None:
        super().__init__(context, bounds)
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
            yield from self._translated(self._within_limits(self._handle_event2(event)))
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
                self.h2_conn.marked = getattr(event.request, "never_indexed", UNMARKED)
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
        elif (detail := getattr(event, "beyond", "")) and (stream_id := getattr(event, "stream_id", 0)):
            yield from self._too_large(stream_id, detail)
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
        elif isinstance(event, GoAway):
            yield from self._goes_away(event)
        else:
            return (yield from super().handle_h2_event(event))
        return False

    def _too_large(self, stream_id: int, detail: str) -> Out[None]:
        """The head of a response is beyond a limit: the client gets an answer of ours, the stream ends."""
        self.some_over = True
        why = Oversize.of(TooLarge("server", detail, getattr(self.bounds.limits, detail)))
        if self.streams.pop(stream_id, None) is not None:
            yield ReceiveHttp(ResponseProtocolError(stream_id, why, ErrorCode.GENERIC_SERVER_ERROR))
        if not self.is_closed(stream_id):
            self.h2_conn.reset_stream(stream_id, int(h2.errors.ErrorCodes.CANCEL))

    def _is_over(self, stream_id: int, event: GoAway) -> bool:
        return stream_id > event.last_stream_id


_ENDS: Final = (h2.events.StreamEnded, h2.events.StreamReset, GoAway)
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
