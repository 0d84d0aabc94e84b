"""Ends that forms ask for: a day, whose end in UTC is meant, or a moment that another page had."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta

from control.errors import Refused


def end_of(text: str) -> datetime | None:
    """The moment; None where there is to be none. Raises Refused for what is neither."""
    text = text.strip()
    if not text:
        return None
    try:
        if len(text) == len("2027-01-31"):
            return datetime.combine(date.fromisoformat(text), time(), UTC) + timedelta(days=1)
        found = datetime.fromisoformat(text)
        return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)
    except (ValueError, OverflowError):
        raise Refused(f"{text[:40]!r} is no date; expected one like 2027-01-31, whose end in UTC is meant") from None


def tomorrow(now: datetime) -> str:
    """The first day that a form offers."""
    return f"{now + timedelta(days=1):%Y-%m-%d}"
