"""What follows a 101 on a stream: WebSocket messages, which inspectors see, or bytes as they are."""

from __future__ import annotations

from typing import Any, Final

from mitmproxy.proxy import events
from mitmproxy.proxy.layers.http import (
    ErrorCode,
    HttpStream,
    RequestData,
    RequestEndOfMessage,
    RequestProtocolError,
    ResponseData,
    ResponseEndOfMessage,
    ResponseProtocolError,
    SendHttp,
)

from proxy.lanes.inspection.asking import Lane
from proxy.lanes.inspection.messages import Out
from proxy.lanes.inspection.sockets import Sockets
from proxy.refusals import Refusal

SOCKET_PIECE: Final = 4096
"""Bytes of a WebSocket that are looked at together: compressed, they can stand for a thousand times as many."""


class Upgradable(HttpStream):
    """A stream that can become another protocol's, and the memory that it has reserved."""

    lane: Lane
    failed: Refusal | None
    reserved: list[int]
    """Bytes that are kept: of the response (or of a WebSocket), and of the request."""
    request_bytes: int
    response_bytes: int

    def _let_server_go(self) -> Out[None]:
        """The server need not go on with it."""
        raise NotImplementedError

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

    def end_socket(self) -> bool:
        """The client's connection is gone. Whether nobody knew yet that the WebSocket has ended (RFC 6455 7.1.5)."""
        socket = self.flow.websocket
        if socket is None or socket.timestamp_end is not None:
            return False
        socket.timestamp_end, socket.closed_by_client = self.lane.now(), True
        socket.close_code, socket.close_reason = 1006, ""
        return True

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
        if refusal := self._no_room_for_messages(child):
            self.failed = refusal
            yield SendHttp(
                ResponseProtocolError(self.stream_id, "too large", ErrorCode.RESPONSE_TOO_LARGE), self.context.client
            )
            yield from self._let_server_go()

    def _no_room_for_messages(self, child: Sockets) -> Refusal | None:
        """Whether messages under way, and those that inspectors may look back on, are more than is allowed."""
        messages = self.flow.websocket.messages if self.flow.websocket is not None else []
        held = child.held
        if held > self.lane.limit():
            return self.lane.malformed("a WebSocket message beyond the limit")
        if self._keep(False, held + sum(len(message.content) for message in messages)):
            return None
        del messages[:-1]  # looking back is a convenience
        return None if self._keep(False, held) else self.lane.no_room(request=False)

    def _keep(self, request: bool, size: int) -> bool:
        """Have so many bytes reserved, if there are as many."""
        more = size - self.reserved[request]
        if more and not self.lane.reserve(more):
            return False
        self.reserved[request] = size
        return True
