"""One request with its response: mitmproxy's HttpStream with a gate's manners.

mitmproxy's states run as they are between the hooks. What differs: who may ask for what is decided first (400, 421);
bodies are streamed unless an inspector needs them, and then no more is kept than is allowed; where an inspector fails,
or a body is too large, the client is told in our words and the server is let go; 1xx responses and trailers pass.
Whatever a hook has decided (it failed, it killed the flow, it answered) is acted on behind each of them, in
:meth:`Stream.check_killed` and :meth:`Stream._decided`, whether bodies are streamed or kept.
"""

from __future__ import annotations

from typing import Any, Final

from mitmproxy import flow as flows
from mitmproxy import http
from mitmproxy.net.http import http1
from mitmproxy.proxy import events
from mitmproxy.proxy.context import Context
from mitmproxy.proxy.layers.http import (
    DropStream,
    ErrorCode,
    HttpErrorHook,
    HttpRequestHeadersHook,
    HttpRequestHook,
    HttpResponseHeadersHook,
    HttpResponseHook,
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
    SendHttp,
)
from mitmproxy.proxy.layers.websocket import WebsocketStartHook
from mitmproxy.websocket import WebSocketData

from proxy.lanes.exchange import MAX_HOST, MAX_METHOD, Exchange, readable
from proxy.lanes.inspection.asking import Lane
from proxy.lanes.inspection.hooks import InspectorFailed
from proxy.lanes.inspection.inspectors import NOTHING, Plan
from proxy.lanes.inspection.messages import Informational, Out, Reason
from proxy.lanes.inspection.sockets import Sockets
from proxy.lanes.inspection.soundness import invalid, malformed, wrong_length
from proxy.lanes.inspection.upgraded import Upgradable
from proxy.lanes.inspection.upgrades import WEBSOCKET, deflates, protocol_of
from proxy.refusals import Refusal

MOST_REDIRECTS: Final = 3
"""Times that inspectors may send one request on to another host whose inspectors have not seen it."""


class Stream(Upgradable):
    """See the module."""

    def __init__(self, context: Context, stream_id: int, lane: Lane) -> None:
        super().__init__(context, stream_id)
        self.lane = lane
        self.called: Plan = NOTHING
        self.planned_for = ""
        self.failed: Refusal | None = None
        """An inspector has failed, or something else of ours: what the client is told."""
        self.came: http.Response | None = None
        """The server's response; another one in the flow is an inspector's."""
        self.switching = ""
        """The protocol that follows the server's 101."""
        self.asked = False
        """The hook ``request`` was called."""
        self.sent = False
        """The request has gone out to its end."""
        self.begun = False
        """The head of the response has gone out to the client."""
        self.method = b""
        """As the client said it, whatever an inspector makes of it."""
        self.reserved = [0, 0]
        self.request_bytes = 0
        self.response_bytes = 0
        self.seen: Exchange | None = None
        """What is logged of it; None once it is."""
        self.forwarded = False

    def _handle_event(self, event: events.Event) -> Out[None]:
        if self.client_state is _nothing:
            return  # what came while a hook was waited for, behind which it was over
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
        self.method = request.data.method
        version = "HTTP/2" if request.is_http2 else "HTTP/1.1"
        told, path = lane.disclosure, request.data.path
        self.seen = Exchange(version, request.method[:MAX_METHOD], "", told.path(path), started=request.timestamp_start)
        if told.more_of_request:
            told.tell_request(self.seen, path, request.headers.fields)
        named = request.data.authority or request.headers.get("host", "").encode("latin-1", "replace")
        problem = invalid(request, event.end_stream)
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
            # Nobody waits for the request's body, and what comes of it is dropped.
            yield from self._answer()
            return
        if flow.response is not None:
            request.stream = False
        elif not event.end_stream and not request.stream and self._declared() > lane.limit():
            if (refusal := lane.too_large(True)) is not None:
                yield from self._refuse(refusal)
                return
            request.stream = True
        self.server_state = self.state_wait_for_response_headers
        if request.stream and not event.end_stream:
            yield from self._stream_request()
            return
        expects = request.headers.get("expect", "").lower() == "100-continue"
        if expects and not event.end_stream and request.data.http_version != b"HTTP/1.0":
            # Its body is wanted here, before the server is asked anything.
            del request.headers["expect"]
            go_on = http.Response(b"HTTP/1.1", 100, b"Continue", http.Headers(), None, None, 0, 0)
            yield SendHttp(ResponseHeaders(self.stream_id, go_on), context.client)
        self.client_state = self.state_consume_request_body

    def _stream_request(self) -> Out[None]:
        """The body is not kept. So that ``request`` can still decide, it is called before anything goes out.

        But for a script that has the body pass through a function of its own: there it is called behind the body, as in
        mitmproxy, and decides whether the request ever becomes whole.
        """
        request = self.flow.request
        if request.stream is True:
            self.asked = True
            yield HttpRequestHook(self.flow)
            if (yield from self._decided()):
                return
        yield from self.start_request_stream()

    def state_consume_request_body(self, event: events.Event) -> Out[None]:
        """A body that is kept."""
        if not isinstance(event, RequestEndOfMessage):
            if isinstance(event, RequestTrailers):
                event = RequestTrailers(self.stream_id, self.lane.trailers(event.trailers))
            yield from super().state_consume_request_body(event)
            return
        flow, request = self.flow, self.flow.request
        request.timestamp_end = self.lane.now()
        request.data.content = bytes(self.request_body_buf)
        self.request_body_buf.clear()
        self.client_state = self.state_done
        self.asked = True
        yield HttpRequestHook(flow)
        if (yield from self._decided()):
            return
        if problem := wrong_length(request, request.raw_content):
            yield from self._refuse(self.lane.spoiled(problem))
            return
        if not (yield from self.make_server_connection()):
            return
        # Once more: the inspectors of a host that it was sent on to have seen it now.
        content, trailers, server = request.raw_content, request.trailers, self.context.server
        if problem := wrong_length(request, content):
            self.forwarded = False
            yield from self._refuse(self.lane.spoiled(problem))
            return
        yield SendHttp(RequestHeaders(self.stream_id, request, not (content or trailers)), server)
        if content:
            yield SendHttp(RequestData(self.stream_id, content), server)
        yield from self._end_request()

    def state_stream_request_body(self, event: events.Event) -> Out[None]:
        """A body that passes."""
        if not isinstance(event, RequestEndOfMessage):
            if isinstance(event, RequestTrailers):
                event = RequestTrailers(self.stream_id, self.lane.trailers(event.trailers))
            yield from super().state_stream_request_body(event)
            return
        flow = self.flow
        if callable(flow.request.stream):
            last = flow.request.stream(b"")
            for chunk in [last] if isinstance(last, bytes) else last:
                if chunk:
                    yield SendHttp(RequestData(self.stream_id, chunk), self.context.server)
            if self.client_state is _nothing:
                return  # it was more than the head has said
        flow.request.timestamp_end = self.lane.now()
        if not self.asked:
            self.asked = True
            yield HttpRequestHook(flow)
            if (yield from self._decided()):
                return
        self.client_state = self.state_done
        yield from self._end_request()
        if self.server_state == self.state_done:
            yield from self.flow_done()

    def _end_request(self) -> Out[None]:
        if trailers := self.flow.request.trailers:
            yield SendHttp(RequestTrailers(self.stream_id, trailers), self.context.server)
        self.sent = True
        yield SendHttp(RequestEndOfMessage(self.stream_id), self.context.server)

    def _decided(self) -> Out[bool]:
        """Called behind ``request``: whether the request goes no further."""
        if (yield from self.check_killed(True)):
            return True
        if self.flow.response is self.came:
            return False
        yield from self._answer()
        return True

    def _answer(self, told: bool = False) -> Out[None]:
        """An inspector has answered in the server's place, which is let go. ``told``: ``responseheaders`` knows it."""
        yield from self._let_server_go()
        self.client_state = self.server_state = self.state_errored  # which take whatever comes
        response = self.flow.response
        if response is None or self.begun:
            yield from self._refuse(self.lane.spoiled("an answer in place of one that is under way"))
            return
        if not told:
            response.timestamp_start = self.lane.now()
            yield HttpResponseHeadersHook(self.flow)
            if (yield from self.check_killed(True)):
                return
        yield from self.send_response()
        if self.client_state is not _nothing:
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
            if not (yield from self.check_killed(True)) and flow.response is None and self.asked:
                yield HttpRequestHook(flow)
            self.called = together
            if self.failed is not None or flow.error is not None:
                yield from self.check_killed(True)
                return False
            if flow.response is not None:
                yield from self._answer()
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
        flow.response = self.came = response
        problem = malformed(response)
        refusal = lane.unreadable(problem) if problem else None
        if refusal is None and response.status_code == 101:
            try:
                self.switching = protocol_of(flow.request, response, self.sent, self.called)
            except ValueError as error:
                refusal = lane.not_switched(str(error))
        lane.answered(response)
        if self.seen is not None:
            self.seen.first_byte = lane.now()
        if refusal is not None:
            yield from self._refuse(refusal)
            return
        response.stream = not self.called.response_body
        yield HttpResponseHeadersHook(flow)
        if (yield from self.check_killed(True)):
            return
        if flow.response is not response:
            yield from self._answer(told=True)
            return
        if not event.end_stream and not response.stream and self._declared() > lane.limit():
            if (refusal := lane.too_large(False)) is not None:
                yield from self._refuse(refusal)
                return
            response.stream = True
        if not response.stream or event.end_stream:
            self.server_state = self.state_consume_response_body
        elif problem := self._no_answer(response):
            yield from self._refuse(lane.spoiled(problem))
        else:
            self.begun = True
            yield from self.start_response_stream()

    def state_consume_response_body(self, event: events.Event) -> Out[None]:
        """A body that is kept."""
        yield from super().state_consume_response_body(self._with_trailers(event))

    def state_stream_response_body(self, event: events.Event) -> Out[None]:
        """A body that passes."""
        yield from super().state_stream_response_body(self._with_trailers(event))

    def _with_trailers(self, event: events.Event) -> events.Event:
        if isinstance(event, ResponseTrailers):
            return ResponseTrailers(self.stream_id, self.lane.trailers(event.trailers))
        return event

    def send_response(self, already_streamed: bool = False) -> Out[None]:
        """The response is whole. Its end does not wait for the request's, as mitmproxy's would."""
        flow, response = self.flow, self.flow.response
        if response is None:
            return
        response.timestamp_end = self.lane.now()
        if self.switching == WEBSOCKET:
            flow.websocket = WebSocketData()  # so that the hook can tell
        yield HttpResponseHook(flow)
        self.server_state = self.state_done
        if (yield from self.check_killed(False)):
            return
        if already_streamed:
            problem = "" if flow.response is response else "an answer in place of one that is under way"
        else:
            problem = yield from self._send_whole()
        if problem:
            yield from self._refuse(self.lane.spoiled(problem))
            return
        if self.client_state is _nothing or flow.response is None:
            return
        if trailers := flow.response.trailers:
            yield SendHttp(ResponseTrailers(self.stream_id, trailers), self.context.client)
        if self.client_state == self.state_done:
            yield from self.flow_done()
        elif self.client_state == self.state_stream_request_body:
            yield SendHttp(ResponseEndOfMessage(self.stream_id), self.context.client)

    def _send_whole(self) -> Out[str]:
        """Send head and body. Returns what is wrong with them, in which case nothing was sent."""
        flow, response = self.flow, self.flow.response
        if response is None:
            return "no response"
        if self.switching and (response is not self.came or response.status_code != 101):
            # The server has changed the protocol, and cannot go on with another answer.
            self.switching, flow.websocket = "", None
            yield from self._let_server_go()
        content = response.raw_content
        if problem := self._no_answer(response) or self._wrong_length(response, content):
            return problem
        if self.switching == WEBSOCKET:
            try:
                deflates(flow.request.headers, response.headers)
            except ValueError as error:
                return str(error)
            yield WebsocketStartHook(flow)
            if (yield from self.check_killed(True)):
                return ""
        self.begun = True
        yield SendHttp(
            ResponseHeaders(self.stream_id, response, not (content or response.trailers)), self.context.client
        )
        if content:
            yield SendHttp(ResponseData(self.stream_id, content), self.context.client)
        return ""

    def _no_answer(self, response: http.Response) -> str:
        """Whether an inspector has made something of a response that ends no request."""
        status = response.status_code
        if 200 <= status <= 999 or (status == 101 and self.switching):
            return ""
        return f"a response with the status {status}, which is no answer"

    def _wrong_length(self, response: http.Response, content: bytes | None) -> str:
        bodiless = self.method == b"HEAD" or response.status_code in (101, 204, 304)
        return "" if bodiless else wrong_length(response, content)

    def _declared(self) -> int:
        """The size of the body that comes, as far as its head says; 0 where it does not."""
        try:
            return http1.expected_http_body_size(self.flow.request, self.flow.response) or 0
        except ValueError:
            return 0

    # --- bodies ---

    def start_request_stream(self) -> Out[None]:
        """The request's body passes as it comes."""
        self.lane.watch_stream(self.called, self.flow.request, self.flow.client_conn)
        yield from super().start_request_stream()

    def start_response_stream(self) -> Out[None]:
        """The response's body passes as it comes."""
        if self.flow.response is not None:
            self.lane.watch_stream(self.called, self.flow.response, self.flow.client_conn)
        yield from super().start_response_stream()

    def check_body_size(self, request: bool) -> Out[bool]:
        """Called with each piece of a body that is buffered. True: there is no more to do."""
        size = len(self.request_body_buf if request else self.response_body_buf)
        large = size > self.lane.limit()
        if not large and self._keep(request, size):
            return False
        # Where there is no memory left nothing is streamed: whoever uses it up would switch inspection off.
        if (refusal := self.lane.too_large(request) if large else self.lane.no_room(request)) is not None:
            yield from self._refuse(refusal)
            return True
        if request:
            self.flow.request.stream = True
            data = bytes(self.request_body_buf)
            self.request_body_buf.clear()
            self._keep(request, 0)
            yield from self._stream_request()
            if self.client_state == self.state_stream_request_body:
                yield from self.state_stream_request_body(RequestData(self.stream_id, data))
        elif self.flow.response is not None:
            if problem := self._no_answer(self.flow.response):
                yield from self._refuse(self.lane.spoiled(problem))
                return True
            self.flow.response.stream = self.begun = True
            data = bytes(self.response_body_buf)
            self.response_body_buf.clear()
            self._keep(request, 0)
            yield from self.start_response_stream()
            yield from self.state_stream_response_body(ResponseData(self.stream_id, data))
        return True

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
            self._done(self._outcome())
        return killed

    def _outcome(self) -> str:
        """What ended it, behind a hook: the hook itself, or the client meanwhile."""
        if self.flow.error is not None and self.flow.error.msg == flows.Error.KILLED_MESSAGE:
            return "killed"
        gone = [event for event in self._paused_event_queue if isinstance(event, RequestProtocolError)]
        return "reset" if any(event.code is ErrorCode.CANCEL for event in gone) else "cut"

    def _refuse(self, refusal: Refusal) -> Out[None]:
        """The client is told this and the server let go; inspectors hear of it."""
        self.failed = refusal
        yield from self._let_server_go()
        self.client_state = self.server_state = self.state_errored
        self.flow.error = flows.Error(refusal.title)
        yield HttpErrorHook(self.flow)
        yield from self._fail()

    def _fail(self) -> Out[None]:
        refusal = self.failed
        if refusal is None:
            return
        self.client_state = self.server_state = self.state_errored
        self.flow.live = False
        reason = Reason.of(refusal, self.flow.request)
        reason.head_only = self.method == b"HEAD"  # an inspector may have changed the request's
        yield SendHttp(
            ResponseProtocolError(self.stream_id, reason, ErrorCode.GENERIC_SERVER_ERROR), self.context.client
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
        flow, response = self.flow, self.flow.response
        if response is None or not self.switching:
            yield from super().flow_done()
            self._done("complete")
            return
        if flow.websocket is None:
            flow.live = False
            self._handle_event = self.pipe  # type: ignore[method-assign]
        else:
            self.child_layer = Sockets(self.context, flow, deflates(flow.request.headers, response.headers))
            self._handle_event = self.passthrough  # type: ignore[method-assign]
            yield from self.child_layer.handle_event(events.Start())
            if self.seen is not None:
                self.seen.protocol = "WebSocket"
        yield SendHttp(ResponseEndOfMessage(self.stream_id), self.context.client)

    def _done(self, outcome: str) -> None:
        if size := sum(self.reserved):
            self.reserved = [0, 0]
            self.lane.hand_over(self.stream_id, size)
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
            if self.lane.disclosure.more_of_response:
                self.lane.disclosure.tell_response(seen, self.flow.response.headers.fields)
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


def _nothing(event: events.Event) -> Out[None]:
    """The state of a stream that is over."""
    yield from ()
