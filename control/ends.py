"""When what has an end ends, as people say it: a day, whose end in UTC is meant, or a moment."""

from __future__ import annotations

from datetime import UTC, date, datetime, time

from config.problems import shown
from control.errors import Refused

LAST = time(23, 59, 59)
"""When a day ends. What is shown of it names the day that was meant, as midnight would not."""


def end_of(text: str) -> datetime:
    """The moment, in UTC, which is meant where none is named. Raises Refused for what is neither."""
    text = text.strip()
    try:
        if len(text) == len("2027-01-31"):
            return datetime.combine(date.fromisoformat(text), LAST, UTC)
        found = datetime.fromisoformat(text)
        return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)
    except (ValueError, OverflowError):
        raise Refused(
            f"{shown(text)} is no date; expected one like 2027-01-31, whose end in UTC is meant, or a moment like "
            "2027-01-31T18:30"
        ) from None
