"""Whether a leaf that is kept may be shown once more, and how long the one who asks may keep it.

Pure functions of instants; a table of tests covers them.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Protocol

SLACK = timedelta(seconds=2)
"""Certificates carry whole seconds (RFC 5280 4.1.2.5): this much before the limit is as good as the limit."""
LAST_MINUTE = timedelta(seconds=60)
"""A leaf with less than this left is not shown where a longer one can be had."""
ASK_AGAIN = timedelta(seconds=600)
"""How long a worker may keep a leaf that is past its time of renewal because no longer one can be had yet."""

IN_USE = timedelta(hours=24)
"""A host that was asked for within this time, or a third of its leaf's life, is in use."""
TOLD_WITHIN = 0.25
"""Of that, after which a worker asks again, so that it is known."""


class Dated(Protocol):
    """Anything that is good from one instant to another: a leaf."""

    @property
    def issued_at(self) -> datetime: ...

    @property
    def not_after(self) -> datetime: ...


def renew_at(leaf: Dated) -> datetime:
    """When a longer one is made where it can be: after two thirds of its life."""
    return leaf.issued_at + (leaf.not_after - leaf.issued_at) * 2 / 3


def renew_ahead_at(leaf: Dated, share: float) -> datetime:
    """When it is made anew where that takes a while, so that it is there at :func:`renew_at`.

    Within the twelfth of its life before that: ``share``, from 0 to 1, says where.
    """
    return renew_at(leaf) - (leaf.not_after - leaf.issued_at) / 12 * (1 - share)


def in_use(leaf: Dated) -> timedelta:
    """For how long after it was asked for a host with that leaf is in use."""
    return min(IN_USE, (leaf.not_after - leaf.issued_at) / 3)


def usable(leaf: Dated, limit: datetime, now: datetime) -> bool:
    """Whether ``leaf`` will do where a new one would end at ``limit``.

    Never past the limit, without any slack: no leaf outlives the server's own certificate. Within the limit it will
    do while it is fresh, and as long as a new one would not last longer either; so a server whose own certificate
    is about to end does not cost a signature for each connection.
    """
    if not now < leaf.not_after <= limit:
        return False
    if leaf.not_after >= limit - SLACK:
        return True
    return now < renew_at(leaf) and leaf.not_after > now + LAST_MINUTE


def best[T: Dated](leaves: Iterable[T], limit: datetime, now: datetime) -> T | None:
    """The one with the longest life among those that will do. A short one thus never drives out a long one."""
    return max((leaf for leaf in leaves if usable(leaf, limit, now)), key=lambda leaf: leaf.not_after, default=None)


def keep_until(leaf: Dated, now: datetime, *, tell: bool = False) -> datetime:
    """Until when the one who asked may use it without asking again. ``tell``: that it is in use is to be known."""
    until = min(max(renew_at(leaf), now + ASK_AGAIN), leaf.not_after)
    return min(until, now + in_use(leaf) * TOLD_WITHIN) if tell else until
