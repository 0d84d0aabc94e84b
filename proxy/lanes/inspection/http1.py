"""HTTP/1.0 and HTTP/1.1 towards the client, in the inspection lane; towards the server: ``http1_server_end.py``.

mitmproxy's own layers have no trailers, take a 1xx for the answer, read ambiguous heads generously and lose half-closed
connections. These frame by the same strict rules as the tap of the fast lane, and carry whatever HTTP/1 has through.
One request is under way at a time; what is pipelined behind it waits.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from mitmproxy import http
from mitmproxy.connection import ConnectionState
from mitmproxy.net.http import status_codes
from mitmproxy.proxy import commands, events
from mitmproxy.proxy.context import Context
from mitmproxy.proxy.layers.http import (
    ErrorCode,
    HttpEvent,
    ReceiveHttp,
    RequestData,
    RequestEndOfMessage,
    RequestHeaders,
    RequestProtocolError,
    RequestTrailers,
    ResponseData,
    ResponseEndOfMessage,
    ResponseHeaders,
    ResponseProtocolError,
    ResponseTrailers,
)

from proxy.lanes.abuse import Bounds
from proxy.lanes.exchange import OverLimit, TooLarge, Unparsed
from proxy.lanes.http1_framing import Place, closes
from proxy.lanes.inspection.http1_side import NO_BODY, Framing, Side, low
from proxy.lanes.inspection.messages import (
    BadHead,
    Cut,
    Out,
    Oversize,
    Spoiled,
    head_bytes,
    refused,
    request_of,
    trailers_of,
)
from proxy.refusals import Refusal

MOST_WAITING: Final = 64 * 1024
"""Bytes of pipelined requests that wait; beyond them the client is not read."""
_HOST: Final = b"\r\nhost:"

Refuse = Callable[[ErrorCode, str], Refusal]
"""What a client is told for one of mitmproxy's errors."""


class Http1Server(Side):
    """The client's side. ``refuse`` words errors, ``secure``: the client came through TLS."""

    def __init__(self, context: Context, refuse: Refuse, bounds: Bounds, secure: bool) -> None:
        super().__init__(context, "client", bounds)
        self.refuse = refuse
        self.secure = secure
        self.stream_id = 1
        self.request: http.Request | None = None
        self.request_ended = False
        self.framing: Framing | None = None
        """How the final response under way is framed; None before it."""
        self.closing = False
        """The connection ends with the response under way."""
        self.expecting = False
        """The client waits for 100 before it sends a body."""
        self.unread = False
        """The connection was closed before all of the request was read."""
        self.waiting = b""
        self.reading = False
        self.ended = False
        """The client sends no more; it still wants its answers."""
        self.said_goodbye = False
        """A WebSocket has ended in good order, and so does the connection, whatever way the client ends its own."""
        self.method = b""
        """Of the request under way, as the client said it."""

    def _handle_event(self, event: events.Event) -> Out[None]:
        if isinstance(event, HttpEvent):
            yield from self._send(event)
        elif self.gone:
            return
        elif isinstance(event, events.DataReceived):
            yield from self._read(event.data)
        elif isinstance(event, events.ConnectionClosed):
            yield from self._client_ended(event)

    @property
    def reading_head(self) -> bool:
        """A request's head has begun and is not whole."""
        return self.request is None and self.direction.held is not None

    # --- requests ---

    def _read(self, data: bytes) -> Out[None]:
        if self.waiting:
            data, self.waiting = self.waiting + data, b""
        if self.reading:
            self.waiting = data
            return
        self.reading = True
        try:
            yield from self._requests(self._held(data))
        except TooLarge as head:
            refusal = self.refuse(ErrorCode.GENERIC_CLIENT_ERROR, Oversize.of(head))
            yield from self._answer(refusal, head.accept, head.head_only)
        except Unparsed as error:
            if isinstance(error, OverLimit):
                self.bounds.told(error)
            yield from self._malformed(str(error))
        finally:
            self.reading = False
        if self.ended:
            yield from self._all_read()

    def _requests(self, data: bytes) -> Out[None]:
        direction, at = self.direction, 0
        while at < len(data) and not self.gone:
            if self.pipe:
                yield ReceiveHttp(RequestData(self.stream_id, data[at:]))
                return
            if self.request_ended:
                if not self.closing:  # what comes behind the last request is nobody's
                    self.waiting = data[at:]
                return
            if self.request is None:
                if direction.held is None and (at := direction.blank(data, at)) == len(data):
                    return
                at, head = direction.head(data, at)
                if head:
                    yield from self._begin(head)
            else:
                at, ended, piece = self._body(data, at)
                if piece:
                    yield ReceiveHttp(RequestData(self.stream_id, piece))
                if ended:
                    yield from self._end_request(direction.trailers)
            if self.waiting:
                # A response that came at once has made room for what waits.
                data, at, self.waiting = self.waiting + data[at:], 0, b""

    def _begin(self, head: bytes) -> Out[None]:
        direction = self.direction
        request = request_of(head, self.secure)
        head_low = head.lower()
        minor = request.data.http_version[-1:]
        host = direction.field(head_low, _HOST)
        if host is None and minor == b"1":
            raise direction.wrong("no Host field (RFC 9112 section 3.2)")
        if request.data.authority and host is not None:
            request.headers["Host"] = request.data.authority  # RFC 9112 section 3.2.2: it wins
        direction.expect_body(head_low, minor, default=0)
        bodiless = direction.place is Place.HEAD
        self.request, self.request_ended, self.framing = request, False, None
        self.method = request.data.method
        self.closing = closes(head_low, minor)
        # RFC 9110 section 10.1.1: HTTP/1.0 has no 100.
        self.expecting = not bodiless and minor == b"1" and request.headers.get("expect", "").lower() == "100-continue"
        yield ReceiveHttp(RequestHeaders(self.stream_id, request, bodiless))
        if bodiless and self.request is request:
            yield from self._end_request(b"")

    def _end_request(self, trailers: bytes) -> Out[None]:
        self.request_ended = True
        stream_id = self.stream_id
        self.direction.expect(Place.HEAD)
        if (fields := trailers_of(trailers)) is not None:
            yield ReceiveHttp(RequestTrailers(stream_id, fields))
        yield ReceiveHttp(RequestEndOfMessage(stream_id))
        if self.request_ended and self.stream_id == stream_id and self.framing is not None and self.framing.ended:
            yield from self._next()

    def _malformed(self, why: str) -> Out[None]:
        """The client's bytes cannot be followed any further."""
        if self.request is not None:
            yield ReceiveHttp(RequestProtocolError(self.stream_id, why, ErrorCode.GENERIC_CLIENT_ERROR))
        self.unread = True
        if not self.gone and self.framing is None:
            yield from self._answer(self.refuse(ErrorCode.GENERIC_CLIENT_ERROR, why))
        elif not self.gone:
            self.gone = True
            yield Cut(self.conn)

    def _client_ended(self, event: events.ConnectionClosed) -> Out[None]:
        lost = event.connection.state is ConnectionState.CLOSED
        if self.said_goodbye:
            yield from self._close()
        elif self.pipe and not lost:
            yield ReceiveHttp(RequestEndOfMessage(self.stream_id))
        elif self.request is None:
            self.gone = True
            yield commands.CloseConnection(self.conn)
        elif lost or not self.request_ended or self.pipe:
            self.gone = True
            yield ReceiveHttp(
                RequestProtocolError(self.stream_id, "the client went away", ErrorCode.CLIENT_DISCONNECTED)
            )
            yield Cut(self.conn)
        else:
            self.ended = True
            # What it has sent before is answered first.
            self.closing |= not self.waiting

    def _all_read(self) -> Out[None]:
        """The client has ended, and what it had sent before was looked at."""
        if self.gone or self.pipe:
            return
        if self.request is None:
            yield from self._close()
        elif not self.request_ended:
            self.gone = True
            yield ReceiveHttp(
                RequestProtocolError(self.stream_id, "the client went away", ErrorCode.CLIENT_DISCONNECTED)
            )
            yield Cut(self.conn)
        else:
            self.closing |= not self.waiting

    # --- responses ---

    def _send(self, event: HttpEvent) -> Out[None]:
        if self.gone or event.stream_id != self.stream_id:
            return
        try:
            if isinstance(event, ResponseHeaders):
                yield from self._send_head(event)
            elif isinstance(event, (ResponseData, ResponseTrailers)):
                yield from self._content(event, self.framing)
            elif isinstance(event, ResponseEndOfMessage):
                yield from self._end_response()
            elif isinstance(event, ResponseProtocolError):
                yield from self._failed(event)
        except BadHead as error:
            why = Spoiled(str(error))
            if self.framing is not None:
                self.refuse(ErrorCode.GENERIC_SERVER_ERROR, why)  # too late to be told, but it is in the log
            yield from self._failed(ResponseProtocolError(self.stream_id, why, ErrorCode.GENERIC_SERVER_ERROR))

    def _send_head(self, event: ResponseHeaders) -> Out[None]:
        response, request = event.response, self.request
        if request is None:
            return
        status = response.status_code
        phrase = response.data.reason or status_codes.RESPONSES.get(status, "").encode()
        fields = response.headers.fields
        if 100 <= status < 200 and status != 101:
            self.expecting &= status != 100
            yield commands.SendData(self.conn, head_bytes(b"HTTP/1.1 %d %s" % (status, phrase), fields))
            return
        # A client that was not told to go on may send its body or not (RFC 9110 section 10.1.1): nobody can tell.
        self.closing |= self.expecting and not self.request_ended
        converted = not response.data.http_version.startswith(b"HTTP/1.")
        version = b"HTTP/1.1" if converted else response.data.http_version
        phrase = phrase if converted else response.data.reason
        bodiless = status in NO_BODY or status == 101 or self.method == b"HEAD"
        framing = Framing(fields, bodiless)
        if framing.endless and request.data.http_version == b"HTTP/1.1" and converted:
            fields = (*fields, (b"Transfer-Encoding", b"chunked"))
            framing = Framing(fields, bodiless)
        first = b"%s %d %s" % (version, status, phrase) if phrase else b"%s %d " % (version, status)
        head = head_bytes(first, fields)
        self.framing = framing
        self.pipe = status == 101
        self.closing |= framing.endless or (closes(low(fields), version[-1:]) and status != 101)
        yield commands.SendData(self.conn, head)

    def _end_response(self) -> Out[None]:
        framing = self.framing
        if framing is None:
            if self.pipe:
                yield commands.CloseTcpConnection(self.conn, half_close=True)
            return
        if framing.ended:
            return  # it was told before its request had ended
        framing.ended = True
        if data := framing.end():
            yield commands.SendData(self.conn, data)
        if self.request_ended:
            yield from self._next()
        elif self.closing:
            yield from self._close()

    def _next(self) -> Out[None]:
        """Request and response are through."""
        if self.pipe:
            self.framing = None
            data, self.waiting = self.waiting, b""
            if data:
                yield from self._read(data)
            if self.ended:
                yield ReceiveHttp(RequestEndOfMessage(self.stream_id))
            return
        if self.closing:
            yield from self._close()
            return
        self.request = self.framing = None
        self.request_ended = False
        self.stream_id += 2
        if self.waiting and not self.reading:
            yield from self._read(b"")

    def _close(self) -> Out[None]:
        self.gone = True
        self.unread |= bool(self.waiting) or (self.request is not None and not self.request_ended)
        self.waiting = b""
        yield commands.CloseConnection(self.conn)

    def _failed(self, event: ResponseProtocolError) -> Out[None]:
        if event.code is ErrorCode.PASSTHROUGH_CLOSE:
            # A WebSocket has said its goodbye; what the client still says is read.
            if self.conn.state & ConnectionState.CAN_READ:
                self.said_goodbye = True
                yield commands.CloseTcpConnection(self.conn, half_close=True)
            else:
                yield from self._close()
            return
        refusal = getattr(event.message, "refusal", None)
        told = refusal is not None or event.code.http_status_code() is not None
        if self.framing is None and told and not self.pipe:
            yield from self._answer(refusal or self.refuse(event.code, event.message))
            return
        self.gone = True
        yield Cut(self.conn)

    def _answer(self, refusal: Refusal, accept: str | None = None, head_only: bool = False) -> Out[None]:
        """An answer of our own, and the end. ``accept``, ``head_only``: of a request that is not there as such."""
        if self.request is not None:
            accept, head_only = self.request.headers.get("accept"), self.request.data.method == b"HEAD"
        response = refused(refusal, accept)
        head = head_bytes(
            b"HTTP/1.1 %d %s" % (refusal.status, response.data.reason),
            (*response.headers.fields, (b"Connection", b"close")),
        )
        yield commands.SendData(self.conn, head if head_only else head + (response.raw_content or b""))
        yield from self._close()
