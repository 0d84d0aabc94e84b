"""Idempotency keys: who does not know whether his request arrived sends it again, and it is done once.

A create with the field ``Idempotency-Key`` is remembered with its answer, for a day, in this process: the answer to
some creates is a secret that is shown once, which must not lie in the store. After a restart of the console the same
request is refused as taken, where it was done.
"""

from __future__ import annotations

import hashlib
import threading
from dataclasses import dataclass
from http import HTTPStatus

from cachetools import TTLCache

from console.problems import FieldError, Problem
from control.authorisation import Principal

HEADER = "Idempotency-Key"
LONGEST = 128
KEPT_BYTES = 16 << 20
"""Of all answers together: those kept longest go. Whoever may create could fill the memory otherwise."""
BESIDE = 1024
"""Bytes that one takes beside its body: its key, its fields."""
KEPT_SECONDS = 86400.0


@dataclass(frozen=True, slots=True)
class Answer:
    """What was answered."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes


@dataclass(frozen=True, slots=True)
class _Kept:
    request: bytes
    answer: Answer | None
    """None: it is being worked on."""


def _size(kept: _Kept) -> int:
    return BESIDE + (len(kept.answer.body) if kept.answer is not None else 0)


class Answers:
    """What was answered to requests with a key, by who asked: who may do something else by now is answered anew."""

    def __init__(self) -> None:
        self._kept: TTLCache[tuple[Principal, str], _Kept] = TTLCache(KEPT_BYTES, KEPT_SECONDS, getsizeof=_size)
        self._lock = threading.Lock()

    def begin(self, who: Principal, key: str, method: str, path: str, body: bytes) -> Answer | None:
        """The answer that there was; None: this is the first, to be ended by :meth:`end`. Raises Problem."""
        if not (1 <= len(key) <= LONGEST and key.isascii() and key.isprintable()):
            detail = f"{HEADER} has 1 to {LONGEST} printable characters of ASCII"
            raise Problem(HTTPStatus.BAD_REQUEST, "invalid", detail, errors=[FieldError(HEADER, detail)])
        request = hashlib.sha256(b"\0".join((method.encode(), path.encode(), body))).digest()
        with self._lock:
            kept = self._kept.get((who, key))
            if kept is None:
                self._kept[who, key] = _Kept(request, None)
                return None
        if kept.request != request:
            raise Problem(HTTPStatus.UNPROCESSABLE_ENTITY, "key-reused", f"This {HEADER} came with another request.")
        if kept.answer is None:
            raise Problem(
                HTTPStatus.CONFLICT, "in-progress", "The same request is still being answered; ask again in a moment.",
                headers={"Retry-After": "1"},
            )  # fmt: skip
        return kept.answer

    def end(self, who: Principal, key: str, answer: Answer | None) -> None:
        """Remember the answer; None: it came to nothing, and the key is free again. So it is where it is huge."""
        with self._lock:
            kept = self._kept.pop((who, key), None)
            if kept is not None and answer is not None and len(answer.body) < KEPT_BYTES // 16:
                self._kept[who, key] = _Kept(kept.request, answer)
