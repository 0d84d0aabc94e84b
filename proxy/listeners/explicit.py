"""The explicit proxy: a client that knows it has one says CONNECT, or sends plain HTTP requests in absolute form.

What is known before the tunnel stands is said in the answer to the CONNECT: a malformed request, a name without an
address, an address that is out of bounds.
"""

from __future__ import annotations

from certs.names import InvalidHost, parse_authority
from proxy import refusals
from proxy.head import BadHead, HeadReader
from proxy.lanes.forward import forward
from proxy.lanes.plain_heads import PSEUDONYM, been_here
from proxy.listeners.proxy_header import resembles_header
from proxy.listeners.way_in import WayIn
from proxy.session import Session, State

ESTABLISHED = b"HTTP/1.1 200 Connection established\r\n\r\n"

NOT_BALANCED = "it begins as the PROXY protocol does, which is taken from the addresses in proxy_protocol alone"


class Explicit(WayIn):
    """Reads the first head and decides what the connection becomes."""

    __slots__ = ("reader",)

    def __init__(self, session: Session) -> None:
        super().__init__(session)
        self.reader = HeadReader(session.worker.limits.connect_head_bytes)

    def data(self, data: bytes) -> None:
        """Gather the head; act on it when it is whole."""
        session, buffer = self.session, self.buffer
        buffer += data
        self.busy = True
        if self.waits():
            return None
        try:
            head = self.reader.read(buffer)
        except BadHead as error:
            why = NOT_BALANCED if resembles_header(buffer) else str(error)
            return session.say(refusals.bad_request(error.status, why, session.id))
        if head is None:
            return None
        if head.method != "CONNECT":
            if (refusal := session.outdated("")) is not None:
                return session.say(refusal)
            return forward(session, bytes(buffer))
        try:
            host, port = parse_authority(head.target)
        except InvalidHost as error:
            return session.say(
                refusals.bad_request(400, f"CONNECT {refusals.shown_target(head.target)}: {error}", session.id)
            )
        del buffer[: head.size]
        if been_here(head.headers, PSEUDONYM):
            return session.say(refusals.loop(host.text, session.id))
        return self.goes_to(host, port)

    def established(self) -> None:
        """The answer to the CONNECT."""
        self.session.client.write(ESTABLISHED)

    def timed_out(self) -> None:
        """Too slow. Where there is half a head, say so."""
        session = self.session
        if session.state is State.HEAD and self.buffer:
            return session.say(refusals.bad_request(408, "the request's head did not come in time", session.id))
        return session.close("time limit")
