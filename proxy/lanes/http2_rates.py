"""How many frames that move nothing an HTTP/2 peer may send: what makes work for whoever reads them, and no progress.

Each kind has its number for each second and, at once, what ten seconds allow: pages are left with dozens of streams
open, and connections begin with a handful of frames. What is cheap to send and costly to answer has been the way to
bring servers down: resets (CVE-2023-44487, CVE-2019-9514), PING (CVE-2019-9512), SETTINGS (CVE-2019-9515), PRIORITY and
WINDOW_UPDATE (CVE-2019-9513), empty frames (CVE-2019-9518).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from config.settings import Limits
from proxy.lanes.exchange import OverLimit

RESETS: Final = "resets"
PINGS: Final = "pings"
PONGS: Final = "ping acknowledgements"
SETTINGS_CHANGES: Final = "settings"
SETTINGS_ACKS: Final = "settings acknowledgements"
CONTROL: Final = "control"
EMPTY: Final = "empty"

BURST_SECONDS: Final = 10.0
CREDIT: Final = 4
"""So many PING and control frames are explained by each frame of a message, either way: receivers answer DATA with
WINDOW_UPDATE, for stream and connection, and some measure their way with a PING each time."""
_EXPLAINED: Final = frozenset({PINGS, PONGS, CONTROL})
_SETTING: Final = {
    RESETS: "http2_resets_per_second",
    PINGS: "http2_pings_per_second",
    PONGS: "http2_pings_per_second",
    SETTINGS_CHANGES: "http2_settings_per_second",
    SETTINGS_ACKS: "http2_settings_per_second",
    CONTROL: "http2_control_per_second",
    EMPTY: "http2_empty_per_second",
}


class Rates:
    """Of both directions of a connection. ``clock`` gives seconds and never goes back.

    ``useful`` counts the frames that belong to messages and are not empty; whoever walks over them raises it.
    """

    __slots__ = ("_clock", "_due", "_explained", "_limits", "useful")

    def __init__(self, limits: Limits, clock: Callable[[], float]) -> None:
        self.useful = 0
        self._limits = limits
        self._clock = clock
        # By side and kind, when all that was sent would be due at the rate that is allowed: a bucket in one number.
        self._due: dict[tuple[str, str], float] = {}
        self._explained: dict[tuple[str, str], int] = {}

    def count(self, who: str, kind: str) -> None:
        """A frame of this kind has come from ``who``. Raises OverLimit where there were too many."""
        key = who, kind
        now = self._clock()
        rate: int = getattr(self._limits, _SETTING[kind])
        due = max(self._due.get(key, now), now) + 1 / rate
        if kind in _EXPLAINED:
            due -= (self.useful - self._explained.get(key, 0)) * CREDIT / rate
            self._explained[key] = self.useful
        self._due[key] = due
        if due - now > BURST_SECONDS + 0.5 / rate:  # half a frame, for what adding fractions up is off by
            what = f"more than {rate} HTTP/2 frames a second ({kind}, limits.{_SETTING[kind]})"
            raise OverLimit(who, kind, what, calm=True)
