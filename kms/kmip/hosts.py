"""Which of a key manager's hosts is asked: the primary, unless it failed a moment ago; then the alternate.

A circuit breaker for each: what fails twice in a row, or cannot be connected to, is not asked again until somebody has
found it well. No clock and no socket: the pool says what happened.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import median

from kms.kmip.connection import Endpoint
from kms.kmip.errors import KmipError, Reason

FAILURES = 2
"""Requests that fail in a row until a host counts as broken; one may be an accident."""
FIRST_WAIT, LONGEST_WAIT = 5.0, 60.0
"""Seconds until a host that broke by requests is asked again, doubled each time that it breaks so: that a connection
can be made to it says nothing about whether it signs."""
BROKEN_AT_ONCE = frozenset({Reason.NAME, Reason.ADDRESS, Reason.CONNECT, Reason.TLS, Reason.VERSION})
"""What a new connection fails with: the next would fail with it too."""


SIGNATURES_BACK = 32
"""Whose durations are remembered."""


@dataclass(slots=True)
class HostState:
    """One host. ``since`` is when it broke, ``why`` in words."""

    endpoint: Endpoint
    failures: int = 0
    broken: bool = False
    since: float = 0.0
    why: str = ""
    wait: float = 0.0
    """How long it is left alone from then on; 0: until a connection can be made."""
    asked: int = 0
    """Requests that wait for its answer."""
    signed_at: float | None = None
    took: deque[float] = field(default_factory=lambda: deque(maxlen=SIGNATURES_BACK), repr=False)
    """Seconds of its last signatures."""

    def failed(self, error: KmipError, now: float) -> bool:
        """A request failed, or a connection to it. Whether it broke by that."""
        self.failures += 1
        self.why = str(error)
        if self.broken or (self.failures < FAILURES and error.reason not in BROKEN_AT_ONCE):
            return False
        self.broken = True
        self.since = now
        by_request = error.reason not in BROKEN_AT_ONCE
        self.wait = min(max(FIRST_WAIT, 2 * self.wait), LONGEST_WAIT) if by_request else 0.0
        return True

    def signed(self, seconds: float, now: float) -> None:
        """It has made a signature, and took so long."""
        self.signed_at = now
        self.took.append(seconds)

    @property
    def median(self) -> float | None:
        """Seconds of a signature; None where it has made none yet."""
        return median(self.took) if self.took else None

    def served(self) -> bool:
        """It has answered a request. Whether it was broken before."""
        mended, self.broken, self.failures, self.why, self.wait = self.broken, False, 0, "", 0.0
        return mended

    def reached(self, now: float) -> bool:
        """A connection was made to it. Whether it counts as well by that, and did not before.

        Where it broke by requests, the next that fails breaks it again.
        """
        if not self.broken or not self.may_be_looked_at(now):
            return False
        self.broken, self.failures = False, FAILURES - 1 if self.wait else 0
        return True

    def may_be_looked_at(self, now: float) -> bool:
        """Whether it was left alone for long enough."""
        return now - self.since >= self.wait


class Hosts:
    """The primary first, then the alternate where there is one."""

    def __init__(self, endpoints: Sequence[Endpoint]) -> None:
        self.states = [HostState(endpoint) for endpoint in endpoints]

    @property
    def why_none(self) -> str | None:
        """Why nobody can be asked now; None while somebody can."""
        if not all(state.broken for state in self.states):
            return None
        return "no key manager can be asked: " + "; ".join(f"{state.endpoint}: {state.why}" for state in self.states)

    def choose(self, tried: Sequence[HostState] = ()) -> HostState:
        """Whom to ask now, of those that this request has not failed at yet. Raises KmipError where all are broken."""
        for state in self.states:
            if not state.broken and state not in tried:
                return state
        raise KmipError(Reason.UNAVAILABLE, self.why_none or "no key manager is left")
