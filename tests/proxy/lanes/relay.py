"""A tap with its farewell between two recorders, as the fast lane has them between two legs; nothing is sent."""

from __future__ import annotations

from config.settings import Limits
from proxy import refusals
from proxy.lanes.exchange import Detour, Exchange, Misdirected, Tap, TooLarge, TurnedAway
from proxy.lanes.farewell_http1 import Http1Farewell
from proxy.lanes.farewell_http2 import Http2Farewell
from proxy.lanes.misdirected import Addressee
from proxy.lanes.tap import Http1Tap, Http2Tap, make_tap

HOST = "good.example"


class Relay:
    """``to_server`` and ``to_client`` have all that was passed on or said."""

    def __init__(self, alpn: bytes, host: str = HOST, limits: Limits | None = None) -> None:
        self.told: list[Exchange] = []
        self.tap: Tap = make_tap(alpn, host, self.told.append, lambda: 1.0, limits or Limits(), Addressee(host))
        self.to_server = bytearray()
        self.to_client = bytearray()
        self.refused: list[TurnedAway] = []
        self.done = False

    def client(self, data: bytes, size: int = 0) -> None:
        """The client sends, in pieces of ``size`` bytes where it is given."""
        for piece in pieces(data, size):
            detour = self.tap.from_client(piece)
            if detour is None:
                self.to_server += piece
            else:
                self._do(detour)

    def server(self, data: bytes, size: int = 0) -> None:
        """The server sends."""
        for piece in pieces(data, size):
            detour = self.tap.from_server(piece)
            if detour is None:
                self.to_client += piece
            else:
                self._do(detour)

    def _do(self, detour: Detour) -> None:
        self.to_server += detour.to_server
        self.to_client += detour.to_client
        self.done = self.done or detour.done
        if detour.refused is not None:
            self.refused.append(detour.refused)
            refused = detour.refused
            if isinstance(refused, TooLarge):
                refusal = refusals.request_head_too_large(refused.detail, refused.limit, HOST, "0123")
            else:
                assert isinstance(refused, Misdirected)
                refusal = refusals.misdirected(HOST, refused.host, "0123")
            if isinstance(self.tap, Http2Tap):
                farewell: Http1Farewell | Http2Farewell = Http2Farewell(self.tap, detour.refused, refusal)
            else:
                assert isinstance(self.tap, Http1Tap)
                farewell = Http1Farewell(self.tap, detour.refused, refusal)
            self.tap = farewell
            self._do(farewell.begin())


def pieces(data: bytes, size: int) -> list[bytes]:
    return [data[at : at + size] for at in range(0, len(data), size)] if size else [data]
