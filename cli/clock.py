"""The clock: the one place of the command that reads it. Everything below is handed the time."""

from __future__ import annotations

from datetime import UTC, datetime


def now() -> datetime:
    """The time now, aware, UTC."""
    return datetime.now(UTC)  # noqa: TID251 - the command is where the time enters; below, it is passed in
