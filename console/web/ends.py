"""Ends that forms ask for, or leave open."""

from __future__ import annotations

from datetime import datetime, timedelta

from control import ends


def end_of(text: str) -> datetime | None:
    """The moment; None where there is to be none. Raises Refused for what is neither."""
    return ends.end_of(text) if text.strip() else None


def tomorrow(now: datetime) -> str:
    """The first day that a form offers."""
    return f"{now + timedelta(days=1):%Y-%m-%d}"
