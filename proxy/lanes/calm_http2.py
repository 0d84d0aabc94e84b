"""The end of an HTTP/2 connection on which somebody went beyond a limit: who did is told, who did not is told why.

Nothing is put into the middle of a frame: where the server's has begun to pass, it comes to its end first.
"""

from __future__ import annotations

from proxy.block_page import headers, render
from proxy.lanes.exchange import Detour, Tap, TooLarge
from proxy.lanes.farewell_http2 import OF_CONTENT
from proxy.lanes.http2_sieve import ENHANCE_YOUR_CALM, INTERNAL_ERROR, answer, goaway, rst_stream
from proxy.lanes.tap_http2 import Http2Tap
from proxy.refusals import Refusal


class Http2Calm(Tap):
    """In the place of a tap whose client went beyond a limit: GOAWAY with ENHANCE_YOUR_CALM where a frame may begin."""

    __slots__ = ("_tap",)

    def __init__(self, tap: Http2Tap) -> None:
        super().__init__(tap.host, tap._done, tap._clock, tap.protocol)
        self._tap = tap

    @property
    def busy(self) -> bool:
        return False

    def begin(self) -> Detour:
        """What there is to say at once."""
        return self.from_server(b"")

    def from_client(self, data: bytes) -> Detour:
        return Detour()

    def from_server(self, data: bytes) -> Detour:
        walk = self._tap.server
        out = b""
        if walk.in_frame:
            out = data[: walk.rest]
            self._tap.from_server(out)
            if walk.in_frame:
                return Detour(to_client=out)
        return Detour(to_client=out + goaway(self._tap.last_opened, ENHANCE_YOUR_CALM), done=True)

    def closed(self) -> None:
        self._tap.closed()


def instead(tap: Http2Tap, response: TooLarge, refusal: Refusal) -> bytes:
    """Towards the client: the refusal in place of a response, and the end of all else that it waits for."""
    content_type, page = render(refusal, None)
    fields = [(":status", str(refusal.status))]
    fields += [(name.lower(), value) for name, value in headers(refusal, content_type, len(page))]
    # DATA of ours could be more than the windows hold that the server has been filling (RFC 9113 section 6.9).
    fields = [field for field in fields if response.head_only or field[0] not in OF_CONTENT]
    return answer(response.stream, fields, b"", tap.server.table_update) + gone(tap, besides=response.stream)


def gone(tap: Http2Tap, besides: int = 0) -> bytes:
    """Towards the client: the server is out of it, and nothing more comes on any stream."""
    resets = b"".join(rst_stream(stream, INTERNAL_ERROR) for stream in tap.streams if stream != besides)
    return resets + goaway(tap.last_opened)
