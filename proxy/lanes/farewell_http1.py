"""The end of an HTTP/1 connection on which a request was turned away.

The server still answers what it was asked before. Then the client gets its refusal, in its turn (RFC 9112 section
9.3.2).
"""

from __future__ import annotations

from typing import Final

from proxy.block_page import answer_bytes
from proxy.lanes.exchange import Detour, Tap, TurnedAway, Unparsed
from proxy.lanes.farewell_http2 import within_limits
from proxy.lanes.tap_http1 import Http1Tap
from proxy.refusals import Refusal

MAX_DROPPED: Final = 1024 * 1024
"""How many bytes the client may send behind the request while earlier answers are still to come."""


class Http1Farewell(Tap):
    """In the place of a tap, from the request on that is turned away: nothing of the client passes any more."""

    __slots__ = ("_answer", "_dropped", "_tap")

    def __init__(self, tap: Http1Tap, request: TurnedAway, refusal: Refusal) -> None:
        super().__init__(tap.host, tap._done, tap._clock, tap.protocol)
        self._tap = tap
        self._answer = answer_bytes(refusal, request.accept, head_only=request.head_only)
        self._dropped = 0

    @property
    def busy(self) -> bool:
        return True

    def begin(self) -> Detour:
        """What there is to say at once."""
        return self._then(b"")

    def from_client(self, data: bytes) -> Detour:
        self._dropped += len(data)
        if self._dropped > MAX_DROPPED:
            raise Unparsed(f"client: more than {MAX_DROPPED} bytes behind a request that was turned away")
        return Detour()

    def from_server(self, data: bytes) -> Detour:
        detour = within_limits(self._tap.from_server(data))
        return self._then(data if detour is None else detour.to_client)

    def _then(self, data: bytes) -> Detour:
        """Pass an answer on; behind the last one comes ours, unless it has told the client that none comes."""
        if self._tap.waiting:
            return Detour(to_client=data)
        return Detour(to_client=data if self._tap.last_answer else data + self._answer, done=True)

    def client_ended(self) -> None:
        """What the client has asked before is still answered."""

    def server_ended(self) -> None:
        self._tap.server_ended()

    def closed(self) -> None:
        self._tap.closed()
