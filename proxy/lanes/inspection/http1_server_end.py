"""HTTP/1 towards the server, in the inspection lane. See :mod:`proxy.lanes.inspection.http1`."""

from __future__ import annotations

from mitmproxy import http
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
from proxy.lanes.http1_framing import ENDLESS, Place, closes
from proxy.lanes.inspection.http1_side import NO_BODY, Framing, Side, low
from proxy.lanes.inspection.messages import (
    BadHead,
    Cut,
    Ended,
    Fields,
    Informational,
    Out,
    Oversize,
    ParentRefuses,
    Spoiled,
    head_bytes,
    response_of,
    trailers_of,
)
from proxy.lanes.plain_heads import PORT, absolute
from proxy.parent import Parent
from proxy.parent_answer import CREDENTIALS, refused


class Http1Client(Side):
    """The server's side."""

    def __init__(self, context: Context, bounds: Bounds, parent: Parent | None = None) -> None:
        super().__init__(context, "server", bounds)
        self.parent = parent
        """Another proxy that is asked in the server's place."""
        self.stream_id: int | None = None
        self.request: http.Request | None = None
        self.request_framing: Framing | None = None
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
            except TooLarge as head:
                yield from self._failed(Oversize.of(head))
            except Unparsed as error:
                if isinstance(error, OverLimit):
                    self.bounds.told(error)
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
        if isinstance(event, (RequestData, RequestTrailers)):
            yield from self._content(event, self.request_framing)
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
        if self.parent is not None:
            target = self._absolute(request)
            if self.parent.authorization:
                # Here and not in the flow: it is no inspector's affair, and in no archive.
                fields = (*fields, (b"Proxy-Authorization", self.parent.authorization))
        framing = Framing(fields, bodiless=False)
        if framing.coded and not framing.chunked:
            raise BadHead("a Transfer-Encoding that does not end with chunked (RFC 9112 section 6.3)")
        if framing.endless and event.end_stream:
            framing.left = 0
        elif framing.endless and version == b"HTTP/1.0":
            raise BadHead("a body whose length is not said, in HTTP/1.0")
        elif framing.endless:
            fields = (*fields, (b"Transfer-Encoding", b"chunked"))
            framing = Framing(fields, bodiless=False)
        self.request_framing = framing
        self.closing = closes(low(fields), version[-1:])
        first = b"%s %s %s" % (request.data.method, target, version)
        if first.count(b" ") != 2:
            raise BadHead("a blank in a request's method or target")
        yield commands.SendData(self.conn, head_bytes(first, fields))

    def _absolute(self, request: http.Request) -> bytes:
        """The target as a proxy is asked for it: by where the connection would go without it."""
        host, port = (self.context.server.address or (request.host, request.port))[:2]
        where = f"[{host}]" if ":" in host else host
        authority = where if port == PORT else f"{where}:{port}"
        return absolute(request.data.path.decode("latin-1"), authority).encode("latin-1")

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
        response, head_low = response_of(head), head.lower()
        stream_id = self.stream_id or 0
        status = response.status_code
        if 100 <= status < 200 and status != 101:
            yield ReceiveHttp(Informational(stream_id, response))
            return
        if self.parent is not None and status == CREDENTIALS:
            # Nothing that the client could answer: it is us that the parent does not know.
            yield from self._failed(ParentRefuses.of(refused(self.parent, status)))
            return
        minor = response.data.http_version[-1:]
        direction = self.direction
        if request.data.method == b"HEAD" or status in NO_BODY or status == 101:
            direction.expect(Place.HEAD)
        else:
            direction.expect_body(head_low, minor, default=ENDLESS)
        bodiless = direction.place is Place.HEAD
        self.response = response
        self.closing |= closes(head_low, minor) or direction.left > ENDLESS // 2
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
