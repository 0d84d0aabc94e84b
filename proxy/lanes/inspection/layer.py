"""mitmproxy's HTTP layer with our connections, and streams of ours, in it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final

from h2.errors import ErrorCodes
from mitmproxy.connection import Connection, Server
from mitmproxy.proxy import commands, events, layer
from mitmproxy.proxy.context import Context
from mitmproxy.proxy.layers.http import (
    ErrorCode,
    GetHttpConnection,
    GetHttpConnectionCompleted,
    HttpConnection,
    HttpLayer,
    HTTPMode,
    RegisterHttpConnection,
    ResponseProtocolError,
)

from proxy.lanes.abuse import Bounds
from proxy.lanes.inspection.asking import Lane
from proxy.lanes.inspection.http1 import Http1Server
from proxy.lanes.inspection.http1_server_end import Http1Client
from proxy.lanes.inspection.http2 import Http2Client, Http2Server
from proxy.lanes.inspection.messages import NEVER_PAUSED, Out
from proxy.lanes.inspection.stream import Stream
from proxy.parent import Parent
from proxy.refusals import Refusal

H2 = b"h2"
MOST_STREAMS: Final = 256
"""Requests of one client connection that may be under way, those among them that it has reset."""
MOST_SERVERS: Final = 128
"""Connections to servers for one client connection: a request of HTTP/2 may need one of its own."""
KEPT_IDLE: Final = 8
"""Of them, those that nobody uses at the moment."""


class LaneContext(Context):
    """mitmproxy's context, which makes a server connection for nothing each time it is forked."""

    def fork(self) -> LaneContext:
        """One for another layer."""
        made = LaneContext.__new__(LaneContext)
        made.client, made.server, made.options = self.client, self.server, self.options
        made.layers = self.layers.copy()
        return made


class Layer(HttpLayer):
    """Both legs of ``context`` are up (or the client's alone, where it speaks plain HTTP)."""

    def __init__(
        self, context: Context, lane: Lane, refuse: Callable[[ErrorCode, str], Refusal], bounds: Bounds
    ) -> None:
        super().__init__(context, HTTPMode.transparent)
        self._paused_event_queue = NEVER_PAUSED
        self.lane = lane
        self.bounds = bounds
        client = context.client
        self.connections[client] = (
            Http2Server(context.fork(), refuse, bounds)
            if client.alpn == H2
            else Http1Server(context.fork(), refuse, bounds, secure=client.tls)
        )
        self._begun = False

    def begin(self) -> Out[None]:
        """Both sides say what they say first."""
        yield from self.handle_event(events.Start())
        if self.context.server.connected:
            child = self.connections[self.context.server] = server_side(self.context.fork(), self.bounds)
            yield from self.event_to_child(child, events.Start())

    def make_stream(self, stream_id: int) -> Out[None]:
        """A request has come."""
        if len(self.streams) >= MOST_STREAMS:
            # Those that the client has reset still count while their hooks run, or resets would make up for any limit.
            told: Any = ResponseProtocolError(stream_id, "too many requests at once", ErrorCode.GENERIC_SERVER_ERROR)
            told.reset_code = int(ErrorCodes.ENHANCE_YOUR_CALM)
            yield from self.event_to_child(self.connections[self.context.client], told)
            return
        stream = self.streams[stream_id] = Stream(self.context.fork(), stream_id, self.lane)
        yield from self.event_to_child(stream, events.Start())

    def get_connection(self, event: GetHttpConnection, *, reuse: bool = True) -> Out[None]:
        """The connection that a request goes out on: one that is there, else one that the lane opens and judges."""
        for connection, handler in list(self.connections.items()):
            if not isinstance(connection, Server):
                continue
            if connection in self.waiting_for_establishment:
                if reuse and event.connection_spec_matches(connection):
                    self.waiting_for_establishment[connection].append(event)
                    return
            elif not connection.connected:
                if not any(stream.context.server is connection for stream in self.streams.values()):
                    del self.connections[connection]
            elif event.connection_spec_matches(connection) and reuse and _takes_more(handler):
                stream = self.command_sources.pop(event)
                yield from self.event_to_child(stream, GetHttpConnectionCompleted(event, (connection, None)))
                return
        yield from self.let_idle_go(KEPT_IDLE - 1)
        if sum(isinstance(each, Server) for each in self.connections) >= MOST_SERVERS:
            stream = self.command_sources.pop(event)
            why = "too many connections to servers for one client's"
            yield from self.event_to_child(stream, GetHttpConnectionCompleted(event, (None, why)))
            return
        context = self.context.fork()
        context.server = Server(address=event.address, tls=event.tls)
        child = _Opening(context, self.bounds, None if event.tls else self.lane.parent(event.address[0]))
        self.connections[context.server] = child
        self.waiting_for_establishment[context.server].append(event)
        yield from self.event_to_child(child, events.Start())

    def let_idle_go(self, most: int) -> Out[None]:
        """Keep so many connections to servers that nobody uses at the moment, the newest."""
        idle = [each for each, handler in self.connections.items() if isinstance(each, Server) and _rests(handler)]
        for connection in idle[: len(idle) - most] if most else idle:
            if connection is not self.context.server and connection not in self.waiting_for_establishment:
                del self.connections[connection]
                yield commands.CloseConnection(connection)

    def http2(self) -> Iterator[Http2Server | Http2Client]:
        """The HTTP/2 connections that there are."""
        for handler in self.connections.values():
            side = handler.side if isinstance(handler, _Opening) else handler
            if isinstance(side, (Http2Server, Http2Client)):
                yield side

    def side_of(self, connection: Connection) -> layer.Layer | None:
        """Who speaks HTTP on a connection."""
        handler = self.connections.get(connection)
        return handler.side if isinstance(handler, _Opening) else handler


class _Opening(layer.Layer):
    """A server's connection that is not up yet."""

    def __init__(self, context: Context, bounds: Bounds, parent: Parent | None) -> None:
        super().__init__(context)
        self.bounds = bounds
        self.parent = parent
        self.side: HttpConnection | None = None

    def _handle_event(self, event: events.Event) -> Out[None]:
        if self.side is not None:
            yield from self.side.handle_event(event)
            return
        error = yield commands.OpenConnection(self.context.server)
        if error is None:
            self.side = server_side(self.context, self.bounds, self.parent)
            yield from self.side.handle_event(events.Start())
        yield RegisterHttpConnection(self.context.server, error)


def server_side(context: Context, bounds: Bounds, parent: Parent | None = None) -> HttpConnection:
    """HTTP as the server speaks it; ``parent``, where that is another proxy, which is asked for plain HTTP."""
    return Http2Client(context, bounds) if context.server.alpn == H2 else Http1Client(context, bounds, parent)


def _rests(handler: layer.Layer) -> bool:
    """Whether no request is under way on a server's connection."""
    side = handler.side if isinstance(handler, _Opening) else handler
    if isinstance(side, Http2Client):
        return side.resting
    return isinstance(side, Http1Client) and side.request is None


def _takes_more(handler: layer.Layer) -> bool:
    """Whether another request can go out on the connection."""
    side = handler.side if isinstance(handler, _Opening) else handler
    if isinstance(side, Http2Client):
        return not side.leaving
    return isinstance(side, Http1Client) and not side.gone and side.request is None
