"""An answer of our own for every request that a client sends over HTTP/1, as on a connection to the server itself."""

from __future__ import annotations

import h11

from proxy.block_page import reason
from proxy.refusals import Refusal
from proxy.reply import Asked, Says, refusing

MAX_REQUESTS = 100
MAX_DROPPED = 1024 * 1024
"""How many bytes of request bodies are read and dropped, so that a client that writes first gets to read its answer."""
MAX_HEAD = 32 * 1024


class Http1Answer:
    """h11 in the server's role. Keep-alive and pipelining work, until :data:`MAX_REQUESTS` or a body too large."""

    def __init__(self, says: Refusal | Says) -> None:
        self._says = refusing(says) if isinstance(says, Refusal) else says
        self.done = False
        self._h11 = h11.Connection(h11.SERVER, max_incomplete_event_size=MAX_HEAD)
        self._requests = 0
        self._dropped = 0
        self._first = b""

    def start(self) -> bytes:
        """Nothing: an HTTP/1 client speaks first."""
        return b""

    def feed(self, data: bytes) -> bytes:
        """Take bytes of the client (empty: it will send no more), return what is to be sent."""
        if self.done:
            return b""
        self._first = self._first or data[:1]
        self._h11.receive_data(data)
        out: list[bytes] = []
        try:
            while not self.done:
                event = self._h11.next_event()
                if event is h11.NEED_DATA:
                    break
                if event is h11.PAUSED or isinstance(event, h11.ConnectionClosed):
                    self.done = True
                elif isinstance(event, h11.Request):
                    out.append(self._answer(event))
                elif isinstance(event, h11.Data):
                    self._dropped += len(event.data)
                    self.done = self._dropped > MAX_DROPPED
                elif isinstance(event, h11.EndOfMessage):
                    self._next()
        except h11.RemoteProtocolError:
            self.done = True
            # A malformed request gets its reason too, where it is one; bytes that are no text get nothing.
            if self._first.isalpha() and self._h11.our_state in (h11.IDLE, h11.SEND_RESPONSE):
                out.append(self._send(None, close=True))
        return b"".join(out)

    def _answer(self, request: h11.Request) -> bytes:
        self._requests += 1
        # After an answer in place of 100 the client may or may not send its body (RFC 9110 10.1.1): do not guess.
        waiting = self._h11.they_are_waiting_for_100_continue
        close = waiting or self._requests >= MAX_REQUESTS
        asked = Asked.of(request.method, request.target, request.headers)
        out = self._send(asked, close, head_only=request.method == b"HEAD")
        self.done = waiting
        return out

    def _send(self, asked: Asked | None, close: bool, head_only: bool = False) -> bytes:
        reply = self._says(asked)
        fields = [*reply.fields, *([("Connection", "close")] if close else [])]
        response = h11.Response(
            status_code=reply.status,
            headers=[(name.encode(), value.encode("latin-1")) for name, value in fields],
            reason=reason(reply.status).encode(),
        )
        content = [] if head_only else [h11.Data(data=reply.body)]
        return b"".join(self._h11.send(event) or b"" for event in (response, *content, h11.EndOfMessage()))

    def _next(self) -> None:
        if self._h11.our_state is h11.DONE and self._h11.their_state is h11.DONE:
            self._h11.start_next_cycle()
        else:
            self.done = True
