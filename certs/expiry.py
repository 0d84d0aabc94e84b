"""How near its end a certificate is, or a chain of them: a state, and words for people.

Both ends belong to the time in which a certificate is valid (RFC 5280 4.1.2.5).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Self

from cryptography import x509

NEAR_END = 10
"""A certificate is near its end when less than one part in so many of its lifetime is left."""


class Expiry(StrEnum):
    """Where in its time a certificate or a chain is."""

    NOT_YET_VALID = "not_yet_valid"
    FINE = "fine"
    NEAR_END = "near_end"
    EXPIRED = "expired"


@dataclass(frozen=True, slots=True)
class Validity:
    """When a certificate is valid; of a chain, when all of it is. ``warns``: from then on it is near its end."""

    begins: datetime
    warns: datetime
    ends: datetime

    @classmethod
    def of(cls, certificates: Iterable[x509.Certificate]) -> Self:
        """From the last beginning to the first end; it is near that when the certificate with that end is.

        Raises ValueError where there is no certificate.
        """
        chain = tuple(certificates)
        first = first_to_end(chain)
        return cls(max(one.not_valid_before_utc for one in chain), _warns(first), first.not_valid_after_utc)

    def expiry(self, now: datetime) -> Expiry:
        """The state at that moment."""
        if now > self.ends:
            return Expiry.EXPIRED
        if now < self.begins:
            return Expiry.NOT_YET_VALID
        return Expiry.NEAR_END if now > self.warns else Expiry.FINE

    def in_words(self, now: datetime) -> str:
        """The time that is left, or since when, or until it begins: ``9 days left``."""
        begun = self.expiry(now) is not Expiry.NOT_YET_VALID
        return time_left(self.ends, now) if begun else begins_in(self.begins, now)


_EPOCH = datetime.fromtimestamp(0, UTC)
NEVER = Validity(_EPOCH, _EPOCH, _EPOCH)
"""What is not valid at all."""


def first_to_end(certificates: Iterable[x509.Certificate]) -> x509.Certificate:
    """The certificate that ends first; of several, the one that is near its end for longest. ValueError for none."""
    return min(certificates, key=lambda one: (one.not_valid_after_utc, _warns(one)))


def time_left(ends: datetime, now: datetime) -> str:
    """``9 days left``, or ``expired 3 days ago``."""
    return f"expired {days(now - ends)} ago" if now > ends else f"{days(ends - now)} left"


def begins_in(begins: datetime, now: datetime) -> str:
    """``begins in 2 days``, of what has not begun."""
    return f"begins in {days(begins - now)}"


def days(span: timedelta) -> str:
    """Whole days, rounded down."""
    return "less than a day" if span.days < 1 else "1 day" if span.days == 1 else f"{span.days} days"


def _warns(certificate: x509.Certificate) -> datetime:
    begins, ends = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    return ends - (ends - begins) / NEAR_END
