"""What the two ends of HTTP/1 in the inspection lane share: whose bytes are read, and how what goes out is framed."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from mitmproxy.proxy import commands
from mitmproxy.proxy.context import Context
from mitmproxy.proxy.layers.http import HttpConnection, RequestData, RequestTrailers, ResponseData, ResponseTrailers

from proxy.lanes.abuse import Bounds
from proxy.lanes.http1_framing import Direction, Place
from proxy.lanes.inspection.messages import NEVER_PAUSED, BadHead, Fields, Out, fields_bytes

NO_BODY: Final = frozenset({204, 304})


class Side(HttpConnection):
    """What both sides share: where the peer's bytes are taken from."""

    def __init__(self, context: Context, who: str, bounds: Bounds) -> None:
        super().__init__(context, context.client if who == "client" else context.server)
        self._paused_event_queue = NEVER_PAUSED
        self.bounds = bounds
        self.direction = Direction(who, bounds.limits)
        self.pipe = False
        """Another protocol: bytes both ways."""
        self.gone = False

    def _content(
        self, event: RequestData | ResponseData | RequestTrailers | ResponseTrailers, framing: Framing | None
    ) -> Out[None]:
        """Send a piece of a body in its framing, or keep the trailers for the end."""
        if isinstance(event, (RequestTrailers, ResponseTrailers)):
            if framing is not None:
                framing.trailers = event.trailers.fields
        elif self.pipe:
            yield commands.SendData(self.conn, event.data)
        elif framing is not None and (data := framing.data(event.data)):
            yield commands.SendData(self.conn, data)

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


class Framing:
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


def low(fields: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Fields as :func:`proxy.lanes.http1_framing.closes` wants them."""
    said = [value for name, value in fields if len(name) == 10 and name.lower() == b"connection"]
    return b"".join(b"\r\nconnection: " + value.lower() for value in said) + b"\r\n"
