"""One request with its response: mitmproxy's HttpStream with a gate's manners.

mitmproxy's states run as they are between the hooks. What differs: who may ask for what is decided first (400, 421);
bodies are streamed unless an inspector needs them, and then no more is kept than is allowed; where an inspector fails,
or a body is too large, the client is told in our words and the server is let go; 1xx responses and trailers pass.
"""

from __future__ import annotations

import re
from typing import Any, Final, Protocol

from mitmproxy import flow as flows
from mitmproxy import http
from mitmproxy.net.http import http1
from mitmproxy.net.http.validate import validate_headers
from mitmproxy.proxy import events
from mitmproxy.proxy.context import Context
from mitmproxy.proxy.layers.http import (
    DropStream,
    ErrorCode,
    HttpErrorHook,
    HttpRequestHeadersHook,
    HttpRequestHook,
    HttpResponseHeadersHook,
    HttpStream,
    RequestData,
    RequestEndOfMessage,
    RequestHeaders,
    RequestProtocolError,
    ResponseData,
    ResponseEndOfMessage,
    ResponseHeaders,
    ResponseProtocolError,
    SendHttp,
)

from proxy.lanes.exchange import MAX_HOST, MAX_METHOD, Exchange, path_of, readable
from proxy.lanes.inspection.hooks import InspectorFailed
from proxy.lanes.inspection.inspectors import NOTHING, Plan
from proxy.lanes.inspection.messages import Informational, Out, Reason
from proxy.refusals import Refusal

_METHOD: Final = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+").fullmatch
_PATH: Final = re.compile(rb"/[!-~\x80-\xff]*|\*").fullmatch
MOST_REDIRECTS: Final = 3
"""Times that inspectors may send one request on to another host whose inspectors have not seen it."""
SOCKET_PIECE: Final = 4096
"""Bytes of a WebSocket that are looked at together: compressed, they can stand for a thousand times as many."""


class Lane(Protocol):
    """What a stream asks of the lane that it is in."""

    def admit(self, flow: http.HTTPFlow) -> Refusal | None:
        """Say where the request goes, and whether it may."""

    def answered(self, response: http.Response) -> None:
        """A server's response has come."""

    def plan(self, host: str) -> Plan:
        """Which inspectors see the host."""

    def joined(self, plan: Plan, host: str) -> tuple[Plan, Plan]:
        """Those for the host that are not in the plan; and all together."""

    def uninspected(self, host: str) -> Refusal:
        """What is said of a request that was sent on to a host whose inspectors cannot see it."""

    def malformed(self, why: str) -> Refusal:
        """What is said of a request that breaks the rules of HTTP."""

    def unreadable(self, why: str) -> Refusal:
        """What is said of a response that breaks the rules of HTTP."""

    def too_large(self, request: bool) -> Refusal | None:
        """What is said of a body beyond the limit; None: it is streamed."""

    def reserve(self, more: int) -> bool:
        """Take so many bytes (or give back, where negative) of what all buffered bodies may use."""

    def limit(self) -> int:
        """Bytes of one body that may be buffered."""

    def watch_stream(self, plan: Plan, message: http.Message) -> None:
        """See that a stream function that a script has set is called as a hook is."""

    def inspector_failed(self, error: InspectorFailed) -> Refusal:
        """What is said where an inspector has failed."""

    def now(self) -> float:
        """Seconds since 1970."""

    def exchange(self, exchange: Exchange) -> None:
        """A request and its response are through."""


class Stream(HttpStream):
    """See the module."""

    def __init__(self, context: Context, stream_id: int, lane: Lane) -> None:
        super().__init__(context, stream_id)
        self.lane = lane
        self.called: Plan = NOTHING
        self.planned_for = ""
        self.failed: Refusal | None = None
        """An inspector has failed, or something else of ours: what the client is told."""
        self.reserved = 0
        self.request_bytes = 0
        self.response_bytes = 0
        self.seen: Exchange | None = None
        """What is logged of it; None once it is."""
        self.forwarded = False

    def _handle_event(self, event: events.Event) -> Out[None]:
        kind = type(event)
        if kind is ResponseData:
            self.response_bytes += len(event.data)  # type: ignore[attr-defined]
        elif kind is RequestData:
            self.request_bytes += len(event.data)  # type: ignore[attr-defined]
        elif kind is Informational:
            yield from self._informational(event)  # type: ignore[arg-type]
            return
        try:
            yield from super()._handle_event(event)
        except InspectorFailed as error:  # a stream function's
            self.failed = self.lane.inspector_failed(error)
            yield from self._fail()

    # --- the request ---

    def state_wait_for_request_headers(self, event: RequestHeaders) -> Out[None]:
        """The head of the request."""
        lane, context, request = self.lane, self.context, event.request
        self.flow = flow = http.HTTPFlow(context.client, context.server)
        flow.request = request
        flow.live = True
        version = "HTTP/2" if request.is_http2 else "HTTP/1.1"
        self.seen = Exchange(
            version, request.method[:MAX_METHOD], "", path_of(request.data.path), started=request.timestamp_start
        )
        named = request.data.authority or request.headers.get("host", "").encode("latin-1", "replace")
        problem = _invalid(request, event.end_stream)
        refusal = lane.malformed(problem) if problem else lane.admit(flow)
        self.seen.host = readable(named or request.data.host.encode(), MAX_HOST)
        if refusal is not None:
            self.failed = refusal
            yield from self._fail()
            return
        self.called, self.planned_for = lane.plan(request.data.host), request.host
        request.stream = not self.called.request_body
        yield HttpRequestHeadersHook(flow)
        if (yield from self.check_killed(True)):
            return
        if flow.response is not None and not event.end_stream:
            yield from self._answer_early()
            return
        if flow.response is not None:
            request.stream = False
        elif not event.end_stream and not request.stream and self._declared() > lane.limit():
            if (refusal := lane.too_large(True)) is not None:
                yield from self._too_large(refusal)
                return
            request.stream = True
        self.server_state = self.state_wait_for_response_headers
        if request.stream and not event.end_stream:
            yield from self.start_request_stream()
            return
        if not event.end_stream and request.headers.get("expect", "").lower() == "100-continue":
            # Its body is wanted here, before the server is asked anything.
            del request.headers["expect"]
            go_on = http.Response(b"HTTP/1.1", 100, b"Continue", http.Headers(), None, None, 0, 0)
            yield SendHttp(ResponseHeaders(self.stream_id, go_on), context.client)
        self.client_state = self.state_consume_request_body

    def _answer_early(self) -> Out[None]:
        """An inspector has answered before the request's body: nobody waits for that, and what comes is dropped."""
        self.client_state = self.state_errored  # which takes whatever comes
        yield HttpResponseHeadersHook(self.flow)
        if not (yield from self.check_killed(True)):
            yield from self.send_response()
            if self.failed is None and self.flow.error is None:
                yield from self.flow_done()

    def make_server_connection(self) -> Out[bool]:
        """Ask for a connection; from now on the server knows of the request."""
        if self.flow.request.host != self.planned_for and not (yield from self._redirected()):
            return False
        connected = yield from super().make_server_connection()
        self.forwarded = bool(connected)
        return connected

    def _redirected(self) -> Out[bool]:
        """An inspector sends the request to another host: whoever is for that one sees it first. False: it ended."""
        flow, request = self.flow, self.flow.request
        for _ in range(MOST_REDIRECTS):
            self.planned_for = request.host
            unseen, self.called = self.lane.joined(self.called, request.host)
            if not unseen.scripts:
                return True
            whole = self.client_state == self.state_done
            if unseen.request_body and not whole:
                self.failed = self.lane.uninspected(request.host)
                yield from self._fail()
                return False
            together, self.called = self.called, unseen
            yield HttpRequestHeadersHook(flow)
            if not (yield from self.check_killed(True)) and flow.response is None and whole:
                yield HttpRequestHook(flow)
            self.called = together
            if self.failed is not None or flow.error is not None:
                yield from self.check_killed(True)
                return False
            if flow.response is not None:
                yield from self._answer_early()
                return False
            if request.host == self.planned_for:
                return True
        self.failed = self.lane.uninspected(request.host)
        yield from self._fail()
        return False

    # --- the response ---

    def _informational(self, event: Informational) -> Out[None]:
        if (
            self.server_state != self.state_wait_for_response_headers
            or self.flow.request.data.http_version == b"HTTP/1.0"
        ):
            return
        if event.response.status_code == 100 and not self.flow.request.stream:
            return  # it was told before, if it asked for it
        self.lane.answered(event.response)
        yield SendHttp(ResponseHeaders(self.stream_id, event.response), self.context.client)

    def state_wait_for_response_headers(self, event: ResponseHeaders) -> Out[None]:
        """The head of the response."""
        flow, lane, response = self.flow, self.lane, event.response
        flow.response = response
        lane.answered(response)
        if self.seen is not None:
            self.seen.first_byte = lane.now()
        if problem := _malformed(response):
            self.failed = lane.unreadable(problem)
            flow.error = flows.Error(problem)
            yield HttpErrorHook(flow)
            yield from self._fail()
            return
        response.stream = not self.called.response_body
        yield HttpResponseHeadersHook(flow)
        if (yield from self.check_killed(True)):
            return
        response = flow.response
        if not event.end_stream and not response.stream and self._declared() > lane.limit():
            if (refusal := lane.too_large(False)) is not None:
                yield from self._too_large(refusal)
                return
            response.stream = True
        if response.stream and not event.end_stream:
            yield from self.start_response_stream()
        else:
            self.server_state = self.state_consume_response_body

    def send_response(self, already_streamed: bool = False) -> Out[None]:
        """The response is whole. Its end does not wait for the request's, as mitmproxy's would."""
        yield from super().send_response(already_streamed)
        if self.client_state == self.state_stream_request_body and self.server_state == self.state_done:
            yield SendHttp(ResponseEndOfMessage(self.stream_id), self.context.client)

    def _declared(self) -> int:
        """The size of the body that comes, as far as its head says; 0 where it does not."""
        try:
            return http1.expected_http_body_size(self.flow.request, self.flow.response) or 0
        except ValueError:
            return 0

    # --- bodies ---

    def start_request_stream(self) -> Out[None]:
        """The request's body passes as it comes."""
        self.lane.watch_stream(self.called, self.flow.request)
        yield from super().start_request_stream()

    def start_response_stream(self) -> Out[None]:
        """The response's body passes as it comes."""
        if self.flow.response is not None:
            self.lane.watch_stream(self.called, self.flow.response)
        yield from super().start_response_stream()

    def check_body_size(self, request: bool) -> Out[bool]:
        """Called with each piece of a body that is buffered. True: there is no more to do."""
        size = len(self.request_body_buf if request else self.response_body_buf)
        more = size - self.reserved
        if size <= self.lane.limit() and (more <= 0 or self.lane.reserve(more)):
            self.reserved = max(self.reserved, size)
            return False
        if (refusal := self.lane.too_large(request)) is not None:
            yield from self._too_large(refusal)
            return True
        if request:
            self.flow.request.stream = True
            data = bytes(self.request_body_buf)
            self.request_body_buf.clear()
            yield from self.start_request_stream()
            if self.client_state == self.state_stream_request_body:
                yield from self.state_stream_request_body(RequestData(self.stream_id, data))
        elif self.flow.response is not None:
            self.flow.response.stream = True
            data = bytes(self.response_body_buf)
            self.response_body_buf.clear()
            yield from self.start_response_stream()
            yield from self.state_stream_response_body(ResponseData(self.stream_id, data))
        return True

    def _too_large(self, refusal: Refusal) -> Out[None]:
        self.failed = refusal
        self.flow.error = flows.Error(refusal.title)
        yield HttpErrorHook(self.flow)
        yield from self._fail()

    def _release(self) -> None:
        if self.reserved:
            self.lane.reserve(-self.reserved)
            self.reserved = 0

    # --- ends ---

    def check_killed(self, emit_error_hook: bool) -> Out[bool]:
        """Called behind each hook: whether that was the end of it."""
        if self.failed is not None:
            yield from self._fail()
            return True
        killed = yield from super().check_killed(emit_error_hook)
        if killed:
            yield from self._let_server_go()
            yield DropStream(self.stream_id)
            self._done("killed")
        return killed

    def _fail(self) -> Out[None]:
        refusal = self.failed
        if refusal is None:
            return
        self.client_state = self.server_state = self.state_errored
        self.flow.live = False
        yield SendHttp(
            ResponseProtocolError(
                self.stream_id, Reason.of(refusal, self.flow.request), ErrorCode.GENERIC_SERVER_ERROR
            ),
            self.context.client,
        )
        yield from self._let_server_go()
        yield DropStream(self.stream_id)
        self._done("refused")

    def _let_server_go(self) -> Out[None]:
        """The server need not go on with it."""
        if self.forwarded:
            self.forwarded = False
            gone = RequestProtocolError(self.stream_id, "not wanted any more", ErrorCode.CANCEL)
            yield SendHttp(gone, self.context.server)

    def handle_protocol_error(self, event: Any) -> Out[None]:
        """One of the two sides has given up."""
        uploading = self.client_state == self.state_stream_request_body and self.server_state == self.state_done
        if uploading and isinstance(event, RequestProtocolError):
            self.client_state = self.state_errored  # the answer was whole; the server learns that no more comes
            yield SendHttp(event, self.context.server)
        whole = self.server_state == self.state_done and getattr(event, "reset_code", None) == 0
        yield from super().handle_protocol_error(event)
        self._done("complete" if whole else "reset" if event.code is ErrorCode.CANCEL else "cut")

    def flow_done(self) -> Out[None]:
        """Request and response are through; after 101 another protocol follows."""
        response = self.flow.response
        if response is not None and response.status_code == 101 and not self.flow.websocket:
            self.flow.live = False
            self._handle_event = self.pipe  # type: ignore[method-assign]
            yield SendHttp(ResponseEndOfMessage(self.stream_id), self.context.client)
            return
        yield from super().flow_done()
        if not self.flow.websocket:
            self._done("complete")
        elif self.seen is not None:
            self.seen.protocol = "WebSocket"

    def _done(self, outcome: str) -> None:
        self._release()
        # What refers to this stream by way of itself would wait for the collector, with all that it holds.
        self.client_state = self.server_state = _nothing
        self.context.layers = []
        self.called = NOTHING  # a script that was replaced is done when nobody has a plan with it any more
        seen, self.seen = self.seen, None
        if seen is None:
            return
        seen.outcome = outcome
        if self.failed is not None:
            seen.status = self.failed.status
        elif self.flow.response is not None:
            seen.status = self.flow.response.status_code
        seen.request_bytes, seen.response_bytes = self.request_bytes, self.response_bytes
        seen.ended = self.lane.now()
        self.lane.exchange(seen)

    def closed(self) -> None:
        """The connection is gone; nothing more comes."""
        self._done("upgraded" if self.is_upgraded() else "cut")

    def is_upgraded(self) -> bool:
        """Whether another protocol has followed."""
        flow = getattr(self, "flow", None)
        return flow is not None and (flow.websocket is not None or self._handle_event == self.pipe)

    # --- other protocols ---

    def pipe(self, event: events.Event) -> Out[None]:
        """Bytes of another protocol, both ways, as they are."""
        if isinstance(event, (RequestData, RequestEndOfMessage, RequestProtocolError)):
            if isinstance(event, RequestData):
                self.request_bytes += len(event.data)
            yield SendHttp(event, self.context.server)
        elif isinstance(event, (ResponseData, ResponseEndOfMessage, ResponseProtocolError)):
            if isinstance(event, ResponseData):
                self.response_bytes += len(event.data)
            yield SendHttp(event, self.context.client)

    def passthrough(self, event: events.Event) -> Out[None]:
        """A WebSocket: in small pieces, so that what is compressed cannot become large unseen."""
        if isinstance(event, (RequestData, ResponseData)) and len(event.data) > SOCKET_PIECE:
            make = type(event)
            for at in range(0, len(event.data), SOCKET_PIECE):
                yield from self._piece(make(self.stream_id, event.data[at : at + SOCKET_PIECE]))
            return
        yield from self._piece(event)

    def _piece(self, event: events.Event) -> Out[None]:
        child: Any = self.child_layer
        if child is None or self.failed is not None:
            return
        if isinstance(event, RequestData):
            self.request_bytes += len(event.data)
        elif isinstance(event, ResponseData):
            self.response_bytes += len(event.data)
        elif isinstance(event, (RequestProtocolError, ResponseProtocolError)):
            # Whoever is still there learns of it; mitmproxy's layer knows this as an end.
            make = RequestEndOfMessage if isinstance(event, RequestProtocolError) else ResponseEndOfMessage
            event = make(self.stream_id)
        for command in super().passthrough(event):
            ends = isinstance(event, (RequestEndOfMessage, ResponseEndOfMessage))
            if ends and isinstance(command, SendHttp) and isinstance(command.event, (RequestData, ResponseData)):
                continue  # a side that ended without saying so said nothing that could be passed on
            yield command
        held = sum(len(frame) for side in (child.client_ws, child.server_ws) for frame in side.frame_buf)
        if held > self.lane.limit():
            self.failed = self.lane.malformed("a WebSocket message beyond the limit")
            yield SendHttp(
                ResponseProtocolError(self.stream_id, "too large", ErrorCode.RESPONSE_TOO_LARGE), self.context.client
            )
            yield from self._let_server_go()


def _nothing(event: events.Event) -> Out[None]:
    """The state of a stream that is over."""
    yield from ()


def _invalid(request: http.Request, bodiless: bool) -> str:
    """What is wrong with a request; nothing where it is sound. HTTP/1's first line was looked at before."""
    data = request.data
    if data.method == b"CONNECT":
        return "CONNECT inside the tunnel"
    if request.is_http2 and not (_METHOD(data.method) and _PATH(data.path)):
        return "a malformed :method or :path (RFC 9113 section 8.3.1)"
    if request.is_http2 and bodiless and request.headers.get("content-length", "0").strip("0"):
        return "a Content-Length without a body (RFC 9113 section 8.1.1)"
    return _malformed(request)


def _malformed(message: http.Request | http.Response) -> str:
    """What mitmproxy's check of fields finds; HTTP/1's were looked at more closely when they were framed."""
    if not message.is_http2:
        return ""
    try:
        validate_headers(message)
    except ValueError as error:
        return str(error)
    return ""
