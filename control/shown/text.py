"""Texts and moments as people and programs read them."""

from __future__ import annotations

import unicodedata
from datetime import UTC, datetime


def clean(text: object) -> str:
    """One line of text that is safe on a terminal: control, format and separator characters are written as escapes.

    Category C holds the control characters and those that turn the writing direction (Unicode 16, section 23).
    """
    return "".join(
        character.encode("unicode_escape").decode("ascii")
        if unicodedata.category(character) in {"Cc", "Cf", "Cs", "Co", "Zl", "Zp"}
        else character
        for character in str(text)
    )


def stamp(moment: datetime) -> str:
    """RFC 3339, UTC, whole seconds: ``2026-11-23T10:00:00Z``."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def day(moment: datetime) -> str:
    """The date for people, UTC: ``2026-11-23``."""
    return moment.astimezone(UTC).strftime("%Y-%m-%d")


def minute(moment: datetime) -> str:
    """Date and time for people, UTC: ``2026-11-23 10:00``."""
    return moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M")


def second(moment: datetime) -> str:
    """Date and time for people, to the second, UTC: ``2026-11-23 10:00:05``."""
    return moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S")
