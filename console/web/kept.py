"""Pages as they were last: what is shown while the store is out of reach, and said to be from before.

A page is shown again to the session that it was made for, for a few minutes, and to nobody else: whose session it is
cannot be looked up meanwhile. What changes something is refused.
"""

from __future__ import annotations

import hashlib
import threading
from dataclasses import dataclass
from datetime import datetime

from cachetools import TTLCache
from fastapi import Request

from console.visit import COOKIE

KEPT_BYTES = 16 << 20
KEPT_SECONDS = 300.0


@dataclass(frozen=True, slots=True)
class Page:
    """A page, and when it was made."""

    html: str
    at: datetime


def _size(page: Page) -> int:
    return len(page.html)


class Pages:
    """Of all sessions."""

    def __init__(self) -> None:
        self._kept: TTLCache[tuple[bytes, str], Page] = TTLCache(KEPT_BYTES, KEPT_SECONDS, getsizeof=_size)
        self._lock = threading.Lock()

    def keep(self, request: Request, html: str, at: datetime) -> None:
        """Keep a page for the session that it was made for."""
        if len(html) < KEPT_BYTES // 16:
            with self._lock:
                self._kept[_whose(request), str(request.url)] = Page(html, at)

    def find(self, request: Request) -> Page | None:
        """The page as it was for the same session."""
        with self._lock:
            return self._kept.get((_whose(request), str(request.url)))

    def forget(self, request: Request) -> None:
        """The session has ended."""
        with self._lock:
            for key in [key for key in self._kept if key[0] == _whose(request)]:
                self._kept.pop(key, None)


def _whose(request: Request) -> bytes:
    return hashlib.sha256(request.cookies.get(COOKIE, "").encode("utf-8", "backslashreplace")).digest()
