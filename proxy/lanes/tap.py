"""The tap of the fast lane: reads along and says what was asked and answered."""

from __future__ import annotations

from collections.abc import Callable

from proxy.lanes.exchange import Exchange, Tap, Unparsed
from proxy.lanes.tap_bytes import BytesTap
from proxy.lanes.tap_http1 import Http1Tap
from proxy.lanes.tap_http2 import Http2Tap

__all__ = ["BytesTap", "Exchange", "Http1Tap", "Http2Tap", "Tap", "Unparsed", "make_tap"]


def make_tap(alpn: bytes, host: str, done: Callable[[Exchange], None], clock: Callable[[], float]) -> Tap:
    """The tap for a connection whose legs agreed on ``alpn`` (b"": on nothing, which is HTTP/1).

    ``host`` is named where a request names none; ``done`` gets each exchange when it has ended.
    """
    if alpn == b"h2":
        return Http2Tap(host, done, clock)
    if alpn in (b"http/1.1", b"http/1.0", b""):
        return Http1Tap(host, done, clock)
    return BytesTap(host, done, clock)
