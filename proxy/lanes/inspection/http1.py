"""HTTP/1.0 and HTTP/1.1 on both sides of mitmproxy's HTTP layer, in place of its own.

Its own layers have no trailers, take a 1xx for the answer, read ambiguous heads generously and lose half-closed
connections. These frame by the same strict rules as the tap of the fast lane, and carry whatever HTTP/1 has through.
One request is under way at a time; what is pipelined behind it waits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from mitmproxy import http
from mitmproxy.connection import ConnectionState
from mitmproxy.net.http import status_codes
from mitmproxy.proxy import commands, events
from mitmproxy.proxy.context import Context
from mitmproxy.proxy.layers.http import (
    ErrorCode,
    HttpConnection,
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

from proxy.lanes.exchange import Unparsed
from proxy.lanes.http1_framing import ENDLESS, Direction, Place, closes
from proxy.lanes.inspection.messages import (
    NEVER_PAUSED,
    BadHead,
    Cut,
    Ended,
    Fields,
    Informational,
    Out,
    Spoiled,
    fields_bytes,
    head_bytes,
    refused,
    request_of,
    response_of,
    trailers_of,
)
from proxy.refusals import Refusal

MOST_WAITING: Final = 64 * 1024
"""Bytes of pipelined requests that wait; beyond them the client is not read."""
_NO_BODY: Final = frozenset({204, 304})
_HOST: Final = b"\r\nhost:"

Refuse = Callable[[ErrorCode, str], Refusal]
"""What a client is told for one of mitmproxy's errors."""


class _Side(HttpConnection):
    """What both sides share: where the peer's bytes are taken from."""

    def __init__(self, context: Context, who: str) -> None:
        super().__init__(context, context.client if who == "client" else context.server)
        self._paused_event_queue = NEVER_PAUSED
        self.direction = Direction(who)
        self.pipe = False
        """Another protocol: bytes both ways."""
        self.gone = False

    def _body(self, data: bytes, at: int) -> tuple[int, bool, bytes]:
        pieces: list[bytes] = []
        at, ended = self.direction.body(data, at, pieces)
        return at, ended, pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _held(self, data: bytes) -> bytes:
        """The bytes with what was held back of a chunk's line or of trailers before them."""
        direction = self.direction
        if direction.held is not None and direction.place is not Place.HEAD:
            data = bytes(direction.held) + data
            direction.held = None
        return data


class Http1Server(_Side):
    """The client's side. ``refuse`` words errors, ``secure``: the client came through TLS."""

    def __init__(self, context: Context, refuse: Refuse, secure: bool) -> None:
        super().__init__(context, "client")
        self.refuse = refuse
        self.secure = secure
        self.stream_id = 1
        self.request: http.Request | None = None
        self.request_ended = False
        self.framing: _Framing | None = None
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
        except Unparsed as error:
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
        low = head.lower()
        minor = request.data.http_version[-1:]
        host = direction.field(low, _HOST)
        if host is None and minor == b"1":
            raise direction.wrong("no Host field (RFC 9112 section 3.2)")
        if request.data.authority and host is not None:
            request.headers["Host"] = request.data.authority  # RFC 9112 section 3.2.2: it wins
        direction.expect_body(low, minor, default=0)
        bodiless = direction.place is Place.HEAD
        self.request, self.request_ended, self.framing = request, False, None
        self.method = request.data.method
        self.closing = closes(low, minor)
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
        if self.pipe and not lost:
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
            elif isinstance(event, ResponseData):
                if self.pipe:
                    yield commands.SendData(self.conn, event.data)
                elif self.framing is not None and (data := self.framing.data(event.data)):
                    yield commands.SendData(self.conn, data)
            elif isinstance(event, ResponseTrailers):
                if self.framing is not None:
                    self.framing.trailers = event.trailers.fields
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
        bodiless = status in _NO_BODY or status == 101 or self.method == b"HEAD"
        framing = _Framing(fields, bodiless)
        if framing.endless and request.data.http_version == b"HTTP/1.1" and converted:
            fields = (*fields, (b"Transfer-Encoding", b"chunked"))
            framing = _Framing(fields, bodiless)
        first = b"%s %d %s" % (version, status, phrase) if phrase else b"%s %d " % (version, status)
        head = head_bytes(first, fields)
        self.framing = framing
        self.pipe = status == 101
        self.closing |= framing.endless or (closes(_low(fields), version[-1:]) and status != 101)
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
            yield commands.CloseTcpConnection(self.conn, half_close=True)
            return
        refusal = getattr(event.message, "refusal", None)
        told = refusal is not None or event.code.http_status_code() is not None
        if self.framing is None and told and not self.pipe:
            yield from self._answer(refusal or self.refuse(event.code, event.message))
            return
        self.gone = True
        yield Cut(self.conn)

    def _answer(self, refusal: Refusal) -> Out[None]:
        """An answer of our own, and the end."""
        accept = self.request.headers.get("accept") if self.request is not None else None
        response = refused(refusal, accept)
        head = head_bytes(
            b"HTTP/1.1 %d %s" % (refusal.status, response.data.reason),
            (*response.headers.fields, (b"Connection", b"close")),
        )
        body = b"" if self.request is not None and self.method == b"HEAD" else response.raw_content or b""
        yield commands.SendData(self.conn, head + body)
        yield from self._close()


class Http1Client(_Side):
    """The server's side."""

    def __init__(self, context: Context) -> None:
        super().__init__(context, "server")
        self.stream_id: int | None = None
        self.request: http.Request | None = None
        self.request_framing: _Framing | None = None
        self.response: http.Response | None = None
        self.response_ended = False
        self.request_ended = False
        self.closing = False

    def _handle_event(self, event: events.Event) -> Out[None]:
        if isinstance(event, HttpEvent):
            yield from self._send(event)
        elif self.gone:
            return
        elif isinstance(event, events.DataReceived):
            try:
                yield from self._responses(self._held(event.data))
            except Unparsed as error:
                yield from self._failed(f"a malformed response: {error}")
        elif isinstance(event, events.ConnectionClosed):
            yield from self._server_ended(cut=isinstance(event, Ended) and event.cut)

    # --- requests ---

    def _send(self, event: HttpEvent) -> Out[None]:
        if self.gone:
            return
        try:
            if isinstance(event, RequestHeaders):
                yield from self._send_head(event)
            else:
                yield from self._send_rest(event)
        except BadHead as error:
            yield from self._failed(Spoiled(str(error)))

    def _send_rest(self, event: HttpEvent) -> Out[None]:
        if event.stream_id != self.stream_id:
            return
        if isinstance(event, RequestData):
            if self.pipe:
                yield commands.SendData(self.conn, event.data)
            elif self.request_framing is not None and (data := self.request_framing.data(event.data)):
                yield commands.SendData(self.conn, data)
        elif isinstance(event, RequestTrailers):
            if self.request_framing is not None:
                self.request_framing.trailers = event.trailers.fields
        elif isinstance(event, RequestEndOfMessage):
            yield from self._end_request()
        elif isinstance(event, RequestProtocolError) and event.code is ErrorCode.PASSTHROUGH_CLOSE:
            yield commands.CloseTcpConnection(self.conn, half_close=True)
        elif isinstance(event, RequestProtocolError):
            self.gone = True
            yield Cut(self.conn)

    def _send_head(self, event: RequestHeaders) -> Out[None]:
        request = event.request
        self.stream_id, self.request = event.stream_id, request
        self.response, self.response_ended, self.request_ended = None, False, False
        fields = request.headers.fields
        version = request.data.http_version
        if not version.startswith(b"HTTP/1."):
            version = b"HTTP/1.1"
            fields = _from_http2(request, event.end_stream)
        authority = request.data.authority if version == request.data.http_version else b""
        target = request.data.scheme + b"://" + authority + request.data.path if authority else request.data.path
        framing = _Framing(fields, bodiless=False)
        if framing.coded and not framing.chunked:
            raise BadHead("a Transfer-Encoding that does not end with chunked (RFC 9112 section 6.3)")
        if framing.endless and event.end_stream:
            framing.left = 0
        elif framing.endless and version == b"HTTP/1.0":
            raise BadHead("a body whose length is not said, in HTTP/1.0")
        elif framing.endless:
            fields = (*fields, (b"Transfer-Encoding", b"chunked"))
            framing = _Framing(fields, bodiless=False)
        self.request_framing = framing
        self.closing = closes(_low(fields), version[-1:])
        first = b"%s %s %s" % (request.data.method, target, version)
        if first.count(b" ") != 2:
            raise BadHead("a blank in a request's method or target")
        yield commands.SendData(self.conn, head_bytes(first, fields))

    def _end_request(self) -> Out[None]:
        self.request_ended = True
        if self.pipe:
            yield commands.CloseTcpConnection(self.conn, half_close=True)
            return
        if self.request_framing is not None and (data := self.request_framing.end()):
            yield commands.SendData(self.conn, data)
        if self.response_ended:
            yield from self._next()

    # --- responses ---

    def _responses(self, data: bytes) -> Out[None]:
        direction, at = self.direction, 0
        while at < len(data) and not self.gone:
            if self.pipe and self.stream_id is not None:
                yield ReceiveHttp(ResponseData(self.stream_id, data[at:]))
                return
            if self.request is None or self.stream_id is None or self.response_ended:
                if direction.blank(data, at) != len(data):
                    yield from self._failed("a response that no request asked for")
                return
            if self.response is None:
                if direction.held is None and (at := direction.blank(data, at)) == len(data):
                    return
                at, head = direction.head(data, at)
                if head:
                    yield from self._begin(self.request, head)
            else:
                at, ended, piece = self._body(data, at)
                if piece:
                    yield ReceiveHttp(ResponseData(self.stream_id, piece))
                if ended and not self.gone:
                    yield from self._end_response(direction.trailers)

    def _begin(self, request: http.Request, head: bytes) -> Out[None]:
        response, low = response_of(head), head.lower()
        stream_id = self.stream_id or 0
        status = response.status_code
        if 100 <= status < 200 and status != 101:
            yield ReceiveHttp(Informational(stream_id, response))
            return
        minor = response.data.http_version[-1:]
        direction = self.direction
        if request.data.method == b"HEAD" or status in _NO_BODY or status == 101:
            direction.expect(Place.HEAD)
        else:
            direction.expect_body(low, minor, default=ENDLESS)
        bodiless = direction.place is Place.HEAD
        self.response = response
        self.closing |= closes(low, minor) or direction.left > ENDLESS // 2
        if status == 101:
            self.pipe = True
        yield ReceiveHttp(ResponseHeaders(stream_id, response, bodiless))
        if bodiless and self.response is response and not self.gone:
            yield from self._end_response(b"")

    def _end_response(self, trailers: bytes) -> Out[None]:
        stream_id = self.stream_id or 0
        self.response_ended = True
        self.direction.expect(Place.HEAD)
        if (fields := trailers_of(trailers)) is not None:
            yield ReceiveHttp(ResponseTrailers(stream_id, fields))
        yield ReceiveHttp(ResponseEndOfMessage(stream_id))
        if self.request_ended and self.response_ended and self.stream_id == stream_id:
            yield from self._next()

    def _next(self) -> Out[None]:
        if self.pipe:
            return
        if self.closing:
            self.gone = True
            yield commands.CloseConnection(self.conn)
        self.request = self.response = self.request_framing = None
        self.response_ended = self.request_ended = False
        self.stream_id = None

    def _server_ended(self, cut: bool) -> Out[None]:
        stream_id, direction = self.stream_id, self.direction
        if self.pipe and stream_id is not None:
            if cut:
                self.gone = True
                yield ReceiveHttp(
                    ResponseProtocolError(stream_id, "the server went away", ErrorCode.GENERIC_SERVER_ERROR)
                )
            else:
                yield ReceiveHttp(ResponseEndOfMessage(stream_id))
            return
        if stream_id is None or self.response_ended:
            self.gone = True
            yield commands.CloseConnection(self.conn)
            return
        if self.response is not None and direction.place is Place.BODY and direction.left > ENDLESS // 2 and not cut:
            yield from self._end_response(b"")
            self.gone = True
            yield commands.CloseConnection(self.conn)
            return
        yield from self._failed("the server closed the connection before its answer was whole")

    def _failed(self, why: str) -> Out[None]:
        self.gone = True
        yield Cut(self.conn)
        if self.stream_id is not None and not self.response_ended:
            yield ReceiveHttp(ResponseProtocolError(self.stream_id, why, ErrorCode.GENERIC_SERVER_ERROR))


class _Framing:
    """How a message that goes out is framed, by its own fields (RFC 9112 section 6.3). Raises BadHead.

    It counts: what is longer or shorter than it says would be read as another message, or waited for in vain.
    """

    __slots__ = ("bodiless", "chunked", "coded", "ended", "endless", "left", "trailers")

    def __init__(self, fields: Fields, bodiless: bool) -> None:
        coding = length = None
        for name, value in fields:
            size = len(name)
            if size == 17 and name.lower() == b"transfer-encoding":
                coding = value.lower() if coding is None else coding + b"," + value.lower()
            elif size == 14 and name.lower() == b"content-length":
                if length is not None and not bodiless:
                    raise BadHead("two fields of the name Content-Length")
                length = value
        if coding is not None and length is not None and not bodiless:
            raise BadHead("Content-Length beside Transfer-Encoding")
        if length is not None and not bodiless and not (length.isdigit() and len(length) <= 18):
            raise BadHead("a Content-Length that is no number, or too large a one")
        self.bodiless = bodiless
        self.coded = coding is not None
        self.chunked = coding is not None and coding.rpartition(b",")[2].strip(b" \t") == b"chunked"
        self.endless = not bodiless and not self.chunked and length is None
        self.left: int | None = int(length) if length is not None and not bodiless and not self.chunked else None
        """Bytes that are still to come; None where that is not known."""
        self.trailers: Fields = ()
        self.ended = False

    def data(self, data: bytes) -> bytes:
        if self.bodiless or not data:
            return b""
        if self.left is not None:
            self.left -= len(data)
            if self.left < 0:
                raise BadHead("a body that is longer than its Content-Length says")
        return b"%x\r\n%s\r\n" % (len(data), data) if self.chunked else data

    def end(self) -> bytes:
        if self.left:
            raise BadHead("a body that is shorter than its Content-Length says")
        if self.bodiless or not self.chunked:
            return b""
        return b"0\r\n" + fields_bytes(self.trailers) + b"\r\n"


def _from_http2(request: http.Request, bodiless: bool) -> Fields:
    """The fields of an HTTP/2 request for an HTTP/1.1 server (RFC 9113 sections 8.2.3 and 8.3.1)."""
    headers = request.headers
    fields = [(b"Host", headers.get("host", "").encode() or request.data.authority)]
    fields += [field for field in headers.fields if field[0] not in (b"cookie", b"host")]
    if cookies := headers.get_all("cookie"):
        fields.append((b"Cookie", "; ".join(cookies).encode("latin-1", "replace")))
    if not bodiless and "content-length" not in headers:
        fields.append((b"Transfer-Encoding", b"chunked"))
    return tuple(fields)


def _low(fields: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Fields as :func:`proxy.lanes.http1_framing.closes` wants them."""
    said = [value for name, value in fields if len(name) == 10 and name.lower() == b"connection"]
    return b"".join(b"\r\nconnection: " + value.lower() for value in said) + b"\r\n"
