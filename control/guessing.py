"""Limits on guessing passwords and codes, per account and per source address, counted in the store.

A guess is counted before it is looked at, so that many at once are no more than one after another; what was right is
taken back. For an account, each wrong guess beyond a few makes the next wait longer, up to :data:`ACCOUNT`'s longest,
and at a hundred in a row it is locked (NIST SP 800-63B 5.2.2). Names that nobody has are counted in the same way, so
that nothing tells them apart.
"""

from __future__ import annotations

import hashlib
import ipaddress
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from control.errors import Refused
from store import guesses
from store.engine import Connection
from store.guesses import Kind
from store.records import Account, Guesses

DAY = timedelta(days=1)
UNKNOWN_AGE = timedelta(days=30)
"""So long it is known how often a name was guessed at that nobody has."""
LONGEST_SOURCE = 64
IPV6_PREFIX = 64
"""A single customer has as many addresses as he likes, below one prefix of this length (RFC 6177)."""


class TooManyGuesses(Refused):
    """Nothing was looked at. ``again_at``: when the next guess is; None: when somebody has unlocked the account."""

    def __init__(self, message: str, again_at: datetime | None) -> None:
        super().__init__(message)
        self.again_at = again_at


@dataclass(frozen=True, slots=True)
class Limit:
    """``free`` wrong guesses; then a wait of ``first``, doubled with each, up to ``longest``."""

    free: int
    first: timedelta
    longest: timedelta
    locked_at: int | None = None
    """So many, and there is no next."""
    forgotten: timedelta | None = None
    """After so long without one, nothing is counted any more."""

    def again_at(self, found: Guesses | None, now: datetime) -> datetime | None:
        """From when on the next guess may be; None: never."""
        count = self.counting(found, now)
        if found is None or count < self.free:
            return now
        if self.locked_at is not None and count >= self.locked_at:
            return None
        doublings = min(count - self.free, 32)  # beyond that it is the longest anyway
        return found.last_at + min(self.first * (1 << doublings), self.longest)

    def counting(self, found: Guesses | None, now: datetime) -> int:
        """How many wrong guesses count."""
        if found is None or (self.forgotten is not None and now - found.last_at >= self.forgotten):
            return 0
        return found.count


ACCOUNT = Limit(free=5, first=timedelta(seconds=30), longest=timedelta(minutes=15), locked_at=100)
SOURCE = Limit(free=20, first=timedelta(minutes=1), longest=timedelta(hours=1), forgotten=DAY)


@dataclass(frozen=True, slots=True)
class Guess:
    """One guess that was counted."""

    kind: Kind
    subject: str
    source: str
    reached: Literal["slowed", "locked"] | None
    """What the account has come to, should this one be wrong."""

    def give_back(self, connection: Connection) -> None:
        """It was right, but more has to follow before somebody is in: those that were wrong go on to count."""
        guesses.give_back(connection, self.kind, self.subject)
        guesses.give_back(connection, "source", self.source)

    def succeeded(self, connection: Connection) -> None:
        """Somebody is in: the account's count begins anew. The address's does not, or whoever has one account could
        guess at the others for ever.
        """
        guesses.clear(connection, self.kind, self.subject)
        guesses.give_back(connection, "source", self.source)


def take(connection: Connection, account: Account | None, name: str, address: str, now: datetime) -> Guess:
    """Count a guess at the account of that name, from that address. Raises TooManyGuesses, with nothing counted."""
    kind: Kind = "unknown" if account is None else "account"
    subject = _unknown(name) if account is None else str(account.id)
    source = source_of(address)
    guesses.forget(connection, now - UNKNOWN_AGE)
    from_there = guesses.of(connection, "source", source)
    _refuse_early(SOURCE, from_there, now, "this address")
    found = guesses.of(connection, kind, subject)
    _refuse_early(ACCOUNT, found, now, "this account")
    count = ACCOUNT.counting(found, now) + 1
    guesses.save(connection, kind, subject, count, now)
    guesses.save(connection, "source", source, SOURCE.counting(from_there, now) + 1, now)
    reached: Literal["slowed", "locked"] | None = None
    if account is not None:
        reached = "locked" if count == ACCOUNT.locked_at else "slowed" if count == ACCOUNT.free else None
    return Guess(kind, subject, source, reached)


def unlock(connection: Connection, account: Account) -> bool:
    """Forget what was guessed at the account; whether it had to wait or was locked."""
    found = guesses.of(connection, "account", str(account.id))
    guesses.clear(connection, "account", str(account.id))
    return found is not None and found.count >= ACCOUNT.free


@dataclass(frozen=True, slots=True)
class Standing:
    """How an account stands with guessing. ``again_at``: when the next guess is; None: now, or where it is locked."""

    wrong: int = 0
    """In a row, since somebody was last in."""
    locked: bool = False
    """Until somebody unlocks it."""
    again_at: datetime | None = None


def standing(connection: Connection, account: Account, now: datetime) -> Standing:
    """How the account stands."""
    found = guesses.of(connection, "account", str(account.id))
    again = ACCOUNT.again_at(found, now)
    wrong = 0 if found is None else found.count
    return Standing(wrong, again is None, again if again is not None and again > now else None)


def source_of(address: str) -> str:
    """What is counted of an address: an IPv4 address itself, of IPv6 the network that it is in."""
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address[:LONGEST_SOURCE]
    if isinstance(found, ipaddress.IPv6Address):
        if found.ipv4_mapped is None:
            return str(ipaddress.ip_network((found, IPV6_PREFIX), strict=False))
        found = found.ipv4_mapped
    return str(found)


def _unknown(name: str) -> str:
    # Not the name itself: people type their password there.
    return hashlib.sha256(name.encode("utf-8", "backslashreplace")).hexdigest()[:16]


def _refuse_early(limit: Limit, found: Guesses | None, now: datetime, what: str) -> None:
    again = limit.again_at(found, now)
    if again is None:
        raise TooManyGuesses(
            f"{what} is locked, since {limit.locked_at} guesses in a row were wrong; an owner can unlock it: "
            "sallyport admin enable NAME",
            None,
        )
    if again > now:
        seconds = -(-(again - now) // timedelta(seconds=1))
        raise TooManyGuesses(f"too many wrong guesses at or from {what}; try again in {seconds} s", again)
