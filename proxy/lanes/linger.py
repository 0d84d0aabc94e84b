"""A connection of which all is said: the client reads what it was sent, and what it sends is dropped.

Closing on bytes that were not read would reset the connection, and the last answer with it (RFC 9112 section 9.6).
"""

from __future__ import annotations

from proxy.lanes.answer import LINGER_SECONDS
from proxy.session import Session, State, Unhurried
from proxy.tcp import half_close
from proxy.tls_leg import LegError, TlsLeg

__all__ = ["Linger"]

MOST_DROPPED = 8 << 20
"""Bytes that are still read: what may be on its way, and no more."""
MOST_DECRYPTED = 64 * 1024
"""Bytes in which the client's goodbye is looked for. Of one who says so much more, the FIN is enough."""


class Linger(Unhurried):
    """Phase of a session whose server is out of it, until the client closes, for :data:`LINGER_SECONDS` at most."""

    __slots__ = ("busy", "dropped", "half", "leg", "reason", "session")

    def __init__(self, session: Session, leg: TlsLeg | None, reason: str) -> None:
        self.session = session
        self.leg = leg
        self.reason = reason
        self.busy = True
        self.half = False
        self.dropped = 0

    def begin(self) -> None:
        """Say goodbye."""
        leg, session = self.leg, self.session
        session.to(State.ANSWER, LINGER_SECONDS, self)
        session.resume()
        if leg is None:
            half_close(session.client)
            return
        leg.end()
        leg.half_close()
        if leg.ended:
            session.close(self.reason)

    def data(self, data: bytes) -> None:
        """Nothing that the client says counts any more, but for its own goodbye."""
        self.dropped += len(data)
        if self.dropped > MOST_DROPPED:
            return self.session.abort(f"{self.reason}; the client went on and on")
        if self.leg is None or self.dropped > MOST_DECRYPTED:
            return None
        try:
            self.leg.receive(data)
        except LegError as error:
            return self.session.close(f"TLS: {error}")
        if self.leg.ended:
            self.session.close(self.reason)
        return None

    def ended(self) -> bool:
        """The client has read what it wanted."""
        self.session.close(self.reason)
        return False

    def writable(self, writable: bool) -> None:
        """Nothing more is written."""

    def timed_out(self) -> None:
        """The client had its time."""
        self.session.close(self.reason)

    def closing(self, orderly: bool) -> None:
        """All is said."""
