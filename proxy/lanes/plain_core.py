"""Plain HTTP requests of one client, one after the other, each to its server: what is to be done, without any I/O.

h11 understands both sides, so that nothing is passed on that was not understood. Events go in by the methods of
:class:`PlainCore`, each returns the commands to carry out, in order.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import h11

from config.settings import Limits
from proxy import refusals
from proxy.basic import presented
from proxy.disclosure import DEFAULT, Disclosure
from proxy.lanes import plain_answer
from proxy.lanes import plain_commands as commands
from proxy.lanes import plain_heads as heads
from proxy.lanes.exchange import MAX_METHOD, Exchange
from proxy.lanes.plain_commands import Abort, Close, Command, Connect, DropServer, EndServer, Phase, ToClient, ToServer
from proxy.parent import Parent
from proxy.parent_answer import CREDENTIALS, refused
from proxy.refusals import Refusal, RefusedError

MOST_EVENTS = 400
"""How much of what came is worked on in one go: h11 takes over 10 microseconds for a chunk of one byte, others wait."""
MAX_HELD = 64 * 1024
"""How many bytes of the client wait here while they cannot be used; above it the client is not read."""
MAX_DROPPED = 1024 * 1024
"""How many bytes of a request body are dropped after the answer has been given, before the connection is closed."""
MAX_REFUSALS = 100
"""How many answers of our own a connection gets, so that a client that never reads them cannot pile them up."""
_IDEMPOTENT = frozenset({b"GET", b"HEAD", b"OPTIONS", b"TRACE", b"PUT", b"DELETE"})


@dataclass(slots=True)
class _Server:
    """The connection to a server, kept for the next request to the same host and port."""

    place: tuple[str, int]
    http: h11.Connection
    parent: Parent | None = None
    """The other proxy that is at its end, and passes on."""
    reused: bool = False
    heard: bool = False
    """It has sent something since the current request."""
    ended: bool = False
    """It will send no more."""
    broken: bool = False
    """The connection broke; what came before counts all the same."""


class PlainCore:
    """One client connection. ``id`` is what refusals carry; ``clock`` gives seconds."""

    def __init__(
        self,
        done: Callable[[Exchange], None],
        refused: Callable[[Refusal], None],
        clock: Callable[[], float],
        id: str,
        pseudonym: str,
        limits: Limits,
        disclosure: Disclosure = DEFAULT,
        origin: bool = False,
        carries: Callable[[bytes | None], bool] = lambda _: True,
        ours: plain_answer.Ours | None = None,
    ) -> None:
        """``carries``: whether a request is the same client's as those before, by its Proxy-Authorization.

        ``ours``: answers requests for the proxy's own name.
        """
        self._origin = origin
        self._ours = ours
        self._own = ours.host if ours is not None else ""
        self._carries = carries
        self.phase = Phase.IDLE
        self.more = False
        """What came is not worked through: :meth:`go_on` is to be called in another turn of the loop."""
        self._limits = limits
        self._budget = MOST_EVENTS
        self.client_full = False
        """The client does not keep up; no further request of it begins before :meth:`go_on`."""
        self._done = done
        self._refused = refused
        self._clock = clock
        self._id = id
        self._pseudonym = pseudonym
        self._disclosure = disclosure
        self._client = h11.Connection(h11.SERVER, max_incomplete_event_size=limits.connect_head_bytes)
        self._server: _Server | None = None
        self._held = bytearray()
        self._ended = False
        """The client has sent all it will."""
        self._request: h11.Request | None = None
        self._target: heads.Target | None = None
        self._exchange: Exchange | None = None
        self._asked = False
        """The current request is complete."""
        self._has_body = False
        self._chunked = False
        """The current response goes to the client chunked, so that it can have trailers."""
        self._waits = False
        """The client waited for 100 when the final response began."""
        self._dropped = 0
        self._answers = 0
        self._out: list[Command] = []

    @property
    def full(self) -> bool:
        """More than enough of the client's bytes wait."""
        return self.more or len(self._held) > MAX_HELD

    @property
    def reading_head(self) -> bool:
        """A request's head has begun and is not whole, and it is the client who is waited for."""
        return self.phase is Phase.IDLE and not self.client_full and bool(self._client.trailing_data[0])

    # --- events ---

    def client_data(self, data: bytes) -> list[Command]:
        """Bytes came from the client."""
        if self.phase is Phase.RAW:
            self._raw_to_server(data)
        elif self.phase is not Phase.CLOSED:
            self._held += data
            self._read_client()
        return self._take()

    def go_on(self) -> list[Command]:
        """The client keeps up again (``client_full`` is no longer set), or there was more: what waits is read."""
        self.more = False
        self._read_server()
        self._read_client()
        return self._take()

    def client_ended(self) -> list[Command]:
        """The client will send no more; it may still read."""
        self._ended = True
        if self.phase is Phase.RAW:
            self._out.append(EndServer())
        elif self.phase is not Phase.CLOSED:
            self._read_client()
        return self._take()

    def client_lost(self) -> list[Command]:
        """The client is gone."""
        if self.phase is not Phase.CLOSED:
            self._close(None)
        return self._take()

    def connected(self, parent: Parent | None = None) -> list[Command]:
        """The connection that :class:`Connect` asked for stands: to the server, or to a parent that passes on."""
        if self.phase is Phase.CONNECTING and self._target is not None:
            http = h11.Connection(h11.CLIENT, max_incomplete_event_size=self._limits.header_bytes)
            self._server = _Server((self._target.host.text, self._target.port), http, parent)
            self._forward()
        return self._take()

    def refused(self, refusal: Refusal) -> list[Command]:
        """There is no connection, for this reason."""
        if self.phase is Phase.CONNECTING:
            self._refuse(refusal)
            self._read_client()
        return self._take()

    def server_data(self, data: bytes) -> list[Command]:
        """Bytes came from the server."""
        if self.phase is Phase.RAW:
            self._raw_to_client(data)
        elif self._server is not None:
            if self.phase is not Phase.FORWARDING:
                # Bytes that no request asked for: the next response could be taken for another (response splitting).
                self._drop_server()
            else:
                self._server.heard = True
                self._server.http.receive_data(data)
                self._read_server()
        return self._take()

    def server_gone(self, orderly: bool) -> list[Command]:
        """The server will send no more. Not ``orderly``: the connection broke, and what came may not be all."""
        server = self._server
        if self.phase is Phase.RAW:
            self._close(Close() if orderly else Abort())
        elif server is not None:
            if self.phase is not Phase.FORWARDING:
                self._drop_server()
            elif not orderly:
                server.broken = True
                if not self.more:
                    self._server_failed(broken=True)
            else:
                server.http.receive_data(b"")
                server.ended = True
                self._read_server()
        return self._take()

    # --- the client's side ---

    def _read_client(self) -> None:
        while self._taking() and self._turn():
            if self._held:
                data, self._held = bytes(self._held), bytearray()
                self._client.receive_data(data)
            try:
                event = self._client.next_event()
                if event is h11.NEED_DATA and self._ended:
                    self._client.receive_data(b"")
                    event = self._client.next_event()
            except h11.RemoteProtocolError as error:
                return self._client_failed(error)
            if event is h11.NEED_DATA or event is h11.PAUSED:
                return None
            self._client_event(event)
        return None

    def _turn(self) -> bool:
        """Whether another event is still to be worked on now."""
        if self._budget <= 0:
            self.more = True
            return False
        self._budget -= 1
        return True

    def _taking(self) -> bool:
        if self.phase is Phase.IDLE:
            return not self.client_full
        return self.phase is Phase.DROPPING or (self.phase is Phase.FORWARDING and not self._asked)

    def _client_event(self, event: h11.Event | type[h11.NEED_DATA] | type[h11.PAUSED]) -> None:
        if isinstance(event, h11.Request):
            self._begin(event)
        elif isinstance(event, h11.Data):
            if self._exchange is not None:
                self._exchange.request_bytes += len(event.data)
            if self.phase is Phase.FORWARDING:
                self._to_server(event)
            else:
                self._dropped += len(event.data)
                if self._dropped > MAX_DROPPED:
                    self._close(Close())
        elif isinstance(event, h11.EndOfMessage):
            self._asked = True
            if heads.beyond(event.headers, self._limits.header_bytes, self._limits.header_fields):
                self._close(Abort())
            elif self.phase is Phase.FORWARDING:
                chunked = self._request is not None and heads.tokens(self._request.headers, b"transfer-encoding")
                self._to_server(h11.EndOfMessage(headers=heads.trailers(event) if chunked else []))
            else:
                self._next_request()
        elif isinstance(event, h11.ConnectionClosed):
            self._close(Close())

    def _begin(self, request: h11.Request) -> None:
        if not self._carries(presented(request.headers)):
            return self._close(Close())
        self._request, self._asked, self._dropped = request, False, 0
        self._has_body = bool(
            heads.tokens(request.headers, b"transfer-encoding")
            or heads.field(request.headers, b"content-length").strip(b"0")
        )
        method = request.method.decode("ascii")
        straight = self._straight(request)
        self._exchange = Exchange("HTTP/1.1", method[:MAX_METHOD], "", "", started=self._clock())
        try:
            self._target = target = heads.read_target(
                method, request.target.decode("ascii"), self._id, self._named(request, straight)
            )
            self._exchange.host = target.authority
            self._exchange.path = self._disclosure.path(target.path.encode())
            if self._disclosure.more_of_request:
                self._disclosure.tell_request(self._exchange, target.path.encode(), request.headers.raw_items())
            if detail := heads.beyond(request.headers, self._limits.connect_head_bytes, self._limits.header_fields):
                return self._request_too_large(detail, target)
            heads.check(request, target, self._id, self._pseudonym)
        except RefusedError as error:
            # Where the request ends is not to be believed after these, so nothing after it is read.
            return self._refuse(error.refusal, close=method == "CONNECT" or heads.framing_problem(request) is not None)
        if (ours := self._ours) is not None:
            if straight or target.host.text == self._own:
                return self._answer(ours.answer(request, target.path, straight), ours.alone)
            if ours.alone:
                return self._close(Close())  # whoever chose this lane has read the request in another way
        if heads.max_forwards(request) == 0:
            return self._answer(plain_answer.at_last_stop(request))
        return self._reach(target)

    def _straight(self, request: h11.Request) -> bool:
        """Whether it was sent to the proxy as to a web server, and the proxy is one."""
        if self._ours is None or self._origin or request.target[:1] != b"/":
            return False
        return self._ours.straight(heads.field(request.headers, b"host"))

    def _named(self, request: h11.Request, straight: bool) -> bytes | None:
        """The field Host, where the client has not chosen a proxy and so names its server there."""
        return heads.field(request.headers, b"host") if self._origin or straight else None

    def _request_too_large(self, detail: str, target: heads.Target | None) -> None:
        """The head of the request is beyond a limit."""
        limits = self._limits
        limit = limits.header_fields if detail == "header_fields" else limits.connect_head_bytes
        host = target.host.text if target is not None else ""
        self._refuse(refusals.request_head_too_large(detail, limit, host, self._id), close=True)

    def _reach(self, target: heads.Target) -> None:
        server = self._server
        if server is not None and server.place == (target.host.text, target.port):
            server.reused, server.heard = True, False
            return self._forward()
        self._drop_server()
        self.phase = Phase.CONNECTING
        self._out.append(Connect(target.host, target.port))
        return None

    def _forward(self) -> None:
        assert self._request is not None  # noqa: S101 - a request began before any server was asked for
        assert self._target is not None  # noqa: S101 - the same
        self.phase = Phase.FORWARDING
        assert self._server is not None  # noqa: S101 - it is asked once it is there
        parent = self._server.parent
        self._to_server(heads.request_to_server(self._request, self._target, self._pseudonym, parent))
        if self._asked:  # the second attempt of a request that is complete and has no body
            self._to_server(h11.EndOfMessage())
        self._read_client()

    def _client_failed(self, error: h11.RemoteProtocolError) -> None:
        began = self._client.our_state not in (h11.IDLE, h11.SEND_RESPONSE)
        if self._ended:
            self._close(Abort() if began and self.phase is Phase.FORWARDING else Close())
        elif began:
            self._close(Close() if self.phase is Phase.DROPPING else Abort())
        else:
            host = self._target.host.text if self._exchange is not None and self._target is not None else ""
            if error.error_status_hint == 431:
                return self._request_too_large("header_bytes", None)
            why = heads.why_malformed(error)
            self._refuse(refusals.bad_request(error.error_status_hint, why, self._id, host), close=True)
        return None

    # --- answers of our own ---

    def _refuse(self, refusal: Refusal, close: bool = False) -> None:
        self._refused(refusal)
        self._answer(plain_answer.of_refusal(refusal, self._request), close)

    def _answer(self, answer: plain_answer.Answer, close: bool = False) -> None:
        if self.phase is Phase.FORWARDING:
            self._drop_server()
        # Whether a client that waits for 100 sends its body after all is not known (RFC 9110 10.1.1).
        self._answers += 1
        close = close or self._client.they_are_waiting_for_100_continue or self._answers >= MAX_REFUSALS
        head_only = self._request is not None and self._request.method == b"HEAD"
        self._to_client(*answer.events(head_only, close))
        if self._exchange is not None:
            self._exchange.status, self._exchange.first_byte = answer.status, self._clock()
            self._exchange.response_bytes = 0 if head_only else len(answer.body)
        self._finish("complete")
        self.phase = Phase.DROPPING
        if close:
            self._close(Close())
        elif self._asked:
            self._next_request()

    def _next_request(self) -> None:
        """The current request and its answer are complete."""
        if self._client.our_state is h11.DONE and self._client.their_state is h11.DONE:
            self._client.start_next_cycle()
            self._request = self._target = None
            self._asked = False
            self.phase = Phase.IDLE
        else:
            self._close(Close())

    # --- the server's side ---

    def _read_server(self) -> None:
        while self.phase is Phase.FORWARDING and self._server is not None and self._turn():
            try:
                event = self._server.http.next_event()
            except h11.RemoteProtocolError as error:
                if not self._server.ended and str(error).startswith("Receive buffer too long"):
                    return self._response_too_large("header_bytes")
                return self._server_failed(broken=self._server.ended)
            if event is h11.NEED_DATA or event is h11.PAUSED:
                return self._server_failed(broken=True) if self._server.broken else None
            if isinstance(event, h11.InformationalResponse):
                self._informational(event)
            elif isinstance(event, h11.Response):
                self._respond(event)
            elif isinstance(event, h11.Data):
                assert self._exchange is not None  # noqa: S101 - there is one from request to answer
                self._exchange.response_bytes += len(event.data)
                self._to_client(event)
            elif isinstance(event, h11.EndOfMessage):
                self._answered(event)
            elif isinstance(event, h11.ConnectionClosed):
                return self._server_failed(broken=True)
        return None

    def _respond(self, response: h11.Response) -> None:
        assert self._exchange is not None  # noqa: S101 - there is one from request to answer
        if detail := heads.beyond(response.headers, self._limits.header_bytes, self._limits.header_fields):
            return self._response_too_large(detail)
        if response.status_code == CREDENTIALS and self._server is not None and self._server.parent is not None:
            return self._parent_refused(self._server.parent)
        self._exchange.status, self._exchange.first_byte = response.status_code, self._clock()
        if self._disclosure.more_of_response:
            self._disclosure.tell_response(self._exchange, response.headers.raw_items())
        # A client that waits for 100 may or may not send its body after this (RFC 9110 10.1.1): do not guess.
        self._waits = close = self._client.they_are_waiting_for_100_continue
        response = heads.response_to_client(response, self._pseudonym, close)
        self._chunked = (
            self._modern and response.status_code not in (204, 304) and self._exchange.method != "HEAD"
            and not heads.field(response.headers, b"content-length")
        )  # fmt: skip
        return self._to_client(response)

    @property
    def _modern(self) -> bool:
        """The client speaks HTTP/1.1: it knows chunks and 1xx."""
        version = self._client.their_http_version
        return version is not None and version >= b"1.1"

    def _informational(self, response: h11.InformationalResponse) -> None:
        if response.status_code == 101:
            # h11 has checked that it was asked for; before the request is complete it makes no sense
            return self._switch(response) if self._asked else self._server_failed(broken=False)
        if self._modern:
            self._to_client(heads.informational_to_client(response))
        return None

    def _answered(self, end: h11.EndOfMessage) -> None:
        """The response is complete; the request need not be."""
        if heads.beyond(end.headers, self._limits.header_bytes, self._limits.header_fields):
            return self._close(Abort())
        assert self._server is not None  # noqa: S101 - it has just answered
        self._to_client(h11.EndOfMessage(headers=heads.trailers(end) if self._chunked else []))
        self._finish("complete")
        http = self._server.http
        if http.our_state is h11.DONE and http.their_state is h11.DONE and not http.trailing_data[0]:
            http.start_next_cycle()
        else:
            self._drop_server()
        if self._asked:
            self._next_request()
        elif self._waits:
            self._close(Close())
        else:
            self.phase = Phase.DROPPING
        return self._read_client()

    def _switch(self, response: h11.InformationalResponse) -> None:
        assert self._server is not None  # noqa: S101 - it has just answered
        assert self._exchange is not None  # noqa: S101 - there is one from request to answer
        self._to_client(heads.informational_to_client(response))
        exchange = self._exchange
        exchange.protocol, exchange.outcome = "WebSocket", "upgraded"
        exchange.status, exchange.first_byte = 101, self._clock()
        self.phase = Phase.RAW
        early = self._client.trailing_data[0] + bytes(self._held)
        self._held.clear()
        if early:
            self._raw_to_server(early)
        if rest := self._server.http.trailing_data[0]:
            self._raw_to_client(rest)
        if self._ended:
            self._out.append(EndServer())

    def _response_too_large(self, detail: str) -> None:
        """The head of the response is beyond a limit."""
        assert self._target is not None  # noqa: S101 - only called while a request is forwarded
        self._drop_server()
        if self._client.our_state is not h11.SEND_RESPONSE:
            return self._close(Abort())
        limit: int = getattr(self._limits, detail)
        self._refuse(refusals.response_head_too_large(detail, limit, self._target.host.text, self._id))
        return self._read_client()

    def _parent_refused(self, parent: Parent) -> None:
        """The parent wants other credentials from us: nothing that the client could answer."""
        assert self._target is not None  # noqa: S101 - only called while a request is forwarded
        host, error = self._target.host.text, refused(parent, CREDENTIALS)
        self._drop_server()
        if self._client.our_state is not h11.SEND_RESPONSE:
            return self._close(Abort())
        self._refuse(
            refusals.through_parent(error.error, host, self._target.port, self._id, parent.address, str(error))
        )
        return self._read_client()

    def _server_failed(self, broken: bool) -> None:
        """The response cannot be had: the connection ended (``broken``), or it is no HTTP."""
        assert self._request is not None  # noqa: S101 - only called while a request is forwarded
        assert self._target is not None  # noqa: S101 - the same
        assert self._server is not None  # noqa: S101 - the same
        server, host = self._server, self._target.host.text
        self._drop_server()
        if self._client.our_state is not h11.SEND_RESPONSE:
            return self._close(Abort())
        if broken and server.reused and not server.heard and not self._has_body and self._request.method in _IDEMPOTENT:
            # RFC 9112 9.3.1: the server closed the idle connection just as it was used again
            return self._reach(self._target)
        if not broken:
            refusal = refusals.response_malformed(host, self._id)
        elif server.heard:
            refusal = refusals.response_incomplete(host, self._id)
        else:
            refusal = refusals.connection_terminated(host, self._target.port, self._id)
        self._refuse(refusal)
        return self._read_client()

    # --- bytes and ends ---

    def _to_client(self, *events: h11.Event) -> None:
        if data := b"".join(self._client.send(event) or b"" for event in events):
            self._out.append(ToClient(data))

    def _to_server(self, event: h11.Event) -> None:
        assert self._server is not None  # noqa: S101 - set before a request is forwarded
        if data := self._server.http.send(event):
            self._out.append(ToServer(data))

    def _raw_to_server(self, data: bytes) -> None:
        if self._exchange is not None:
            self._exchange.request_bytes += len(data)
        self._out.append(ToServer(data))

    def _raw_to_client(self, data: bytes) -> None:
        if self._exchange is not None:
            self._exchange.response_bytes += len(data)
        self._out.append(ToClient(data))

    def _drop_server(self) -> None:
        if self._server is not None:
            self._server = None
            self._out.append(DropServer())

    def _finish(self, outcome: str) -> None:
        if self._exchange is not None:
            exchange, self._exchange = self._exchange, None
            exchange.outcome, exchange.ended = outcome, self._clock()
            self._done(exchange)

    def _close(self, how: Close | Abort | None) -> None:
        if self.phase is Phase.CLOSED:
            return
        self._finish("upgraded" if self.phase is Phase.RAW else "cut")
        self._drop_server()
        if self.phase is Phase.CONNECTING:
            self._out.append(DropServer())
        self.phase = Phase.CLOSED
        self._held.clear()
        if how is not None:
            self._out.append(how)

    def _take(self) -> list[Command]:
        out, self._out = self._out, []
        self._budget = MOST_EVENTS
        return commands.joined(out)
