"""What templates write of moments and states, in words."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qsl, urlencode

from console.web import certificate
from control.shown.text import clean, day, second, stamp

_UNITS = ((365 * 86400, "year"), (30 * 86400, "month"), (86400, "day"), (3600, "hour"), (60, "minute"))


def relative(at: datetime | str, now: datetime) -> str:
    """How far away a moment is: ``in 3 days``, ``2 hours ago``, ``just now``."""
    away = (moment(at) - now) / timedelta(seconds=1)
    for seconds, unit in _UNITS:
        if (count := int(abs(away) // seconds)) >= 1:
            text = f"{count} {unit}{'s' if count > 1 else ''}"
            return f"in {text}" if away > 0 else f"{text} ago"
    return "in a moment" if away > 5 else "just now"


def moment(at: datetime | str) -> datetime:
    """A moment that may be written as JSON has it."""
    return datetime.fromisoformat(at).astimezone(UTC) if isinstance(at, str) else at


def _but(query: str, name: str) -> list[tuple[str, str]]:
    return [(key, value) for key, value in parse_qsl(query) if key != name]


def filters(clock: Callable[[], datetime]) -> dict[str, Callable[..., Any]]:
    """What templates use."""
    return {
        "relative": lambda at: relative(at, clock()),
        "rfc3339": lambda at: stamp(moment(at)),
        "exact": lambda at: f"{second(moment(at))} UTC",
        "day": lambda at: day(moment(at)),
        "read_certificate": certificate.read,
        "clean": clean,
        "since_1970": lambda seconds: datetime.fromtimestamp(seconds, UTC),
        "without_live": lambda query: urlencode([*_but(query, "live"), ("", "")]).removesuffix("="),
        "words": lambda text: str(text).replace("_", " ").replace("-", " "),
    }
