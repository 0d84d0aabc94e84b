"""Trusted CAs that were deleted, kept for a while for who wants one back: they are public, and small.

They are kept here and not in the page, so that what comes back is what was there, and nothing that somebody sends.
"""

from __future__ import annotations

import secrets
import threading
from collections.abc import Sequence
from dataclasses import dataclass

from cachetools import TTLCache

from console.parts import Parts
from control.errors import Missing
from store.records import TrustedCa

KEPT_BYTES = 32 << 20
KEPT_SECONDS = 3600.0


@dataclass(frozen=True, slots=True)
class _Gone:
    tenant: str
    cas: tuple[TrustedCa, ...]


def _size(gone: _Gone) -> int:
    return sum(len(der) for ca in gone.cas for der in ca.chain)


class Deleted:
    """By a random key, which the page has that offers to undo it."""

    def __init__(self) -> None:
        self._kept: TTLCache[str, _Gone] = TTLCache(KEPT_BYTES, KEPT_SECONDS, getsizeof=_size)
        self._lock = threading.Lock()

    def keep(self, tenant: str, cas: Sequence[TrustedCa]) -> str | None:
        """Keep what was deleted, and tell its key; None: it is too much to keep."""
        key, gone = secrets.token_urlsafe(16), _Gone(tenant, tuple(cas))
        if _size(gone) > KEPT_BYTES:
            return None
        with self._lock:
            self._kept[key] = gone
        return key

    def find(self, tenant: str, key: str) -> tuple[TrustedCa, ...]:
        """What was deleted of the tenant's. Raises Missing where it is kept no longer."""
        with self._lock:
            gone = self._kept.get(key)
        if gone is None or gone.tenant != tenant:
            raise Missing("it was deleted too long ago to be brought back, or is back already; add its file again")
        return gone.cas

    def forget(self, key: str) -> None:
        """It is back."""
        with self._lock:
            self._kept.pop(key, None)


def deleted_of(parts: Parts) -> Deleted:
    """The one of an application."""
    made = parts.made.setdefault("deleted trusted CAs", Deleted())
    assert isinstance(made, Deleted)  # noqa: S101 - nobody else puts anything there
    return made
