"""Answers that go on: server-sent events as they are written (HTML, section 9.2), and how many are open."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

MEDIA_TYPE = "text/event-stream"


def event(name: str, text: str) -> str:
    """An event of that name; ``text`` may have several lines."""
    lines = "".join(f"data: {line}\n" for line in text.splitlines() or ("",))
    return f"event: {name}\n{lines}\n"


class Open:
    """Counts the answers that go on, by account; used on the event loop and asked from threads.

    ``most`` and ``most_of_one`` are bounds, of everybody and of one account: whoever begins an answer keeps to them.
    """

    def __init__(self, most: int, most_of_one: int) -> None:
        self._most = most
        self._most_of_one = most_of_one
        self._now: Counter[str] = Counter()

    @property
    def full(self) -> bool:
        """Whether there are as many as there may be."""
        return self._now.total() >= self._most

    def full_of(self, account: str) -> bool:
        """Whether one account has as many as it may have."""
        return self._now[account] >= self._most_of_one

    @contextmanager
    def one(self, account: str) -> Iterator[None]:
        """Count one more of that account, for as long as it goes on."""
        self._now[account] += 1
        try:
            yield
        finally:
            self._now[account] -= 1
            self._now += Counter()  # without those that are at zero
