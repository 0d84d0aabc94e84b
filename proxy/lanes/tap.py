"""The tap of the fast lane: reads along and says what was asked and answered."""

from __future__ import annotations

from collections.abc import Callable

from config.settings import Limits
from proxy.disclosure import DEFAULT, Disclosure
from proxy.lanes.exchange import Detour, Exchange, Misdirected, OverLimit, Tap, TooLarge, TurnedAway, Unparsed
from proxy.lanes.misdirected import Addressee
from proxy.lanes.tap_bytes import BytesTap
from proxy.lanes.tap_http1 import Http1Tap
from proxy.lanes.tap_http2 import Http2Tap

__all__ = [
    "BytesTap",
    "Detour",
    "Exchange",
    "Http1Tap",
    "Http2Tap",
    "Misdirected",
    "OverLimit",
    "Tap",
    "TooLarge",
    "TurnedAway",
    "Unparsed",
    "make_tap",
]


def make_tap(
    alpn: bytes,
    host: str,
    done: Callable[[Exchange], None],
    clock: Callable[[], float],
    limits: Limits,
    addressee: Addressee | None = None,
    disclosure: Disclosure = DEFAULT,
) -> Tap:
    """The tap for a connection whose legs agreed on ``alpn`` (b"": on nothing, which is HTTP/1).

    ``host`` is named where a request names none; ``done`` gets each exchange when it has ended. What is beyond the
    ``limits`` the tap turns away; with an ``addressee``, requests that are not for it too. ``disclosure`` says what an
    exchange tells.
    """
    if alpn == b"h2":
        return Http2Tap(host, done, clock, limits, addressee, disclosure)
    if alpn in (b"http/1.1", b"http/1.0", b""):
        return Http1Tap(host, done, clock, limits, addressee, disclosure)
    return BytesTap(host, done, clock)
