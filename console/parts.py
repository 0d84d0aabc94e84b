"""What requests are answered from, and how a request gets at it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime

from fastapi import Request

from console.daemon import Daemon
from console.flashes import Flashes
from console.idempotency import Answers
from control.installation import Installation
from control.passwords import STANDARD, Hashing


@dataclass(frozen=True, slots=True)
class Parts:
    """What requests are answered from. ``clock`` tells the time, aware."""

    inst: Installation
    clock: Callable[[], datetime]
    daemon: Daemon
    hashing: Hashing = STANDARD
    answers: Answers = field(default_factory=Answers)
    flashes: Flashes = field(default_factory=Flashes)
    made: dict[str, object] = field(default_factory=dict)
    """What is made once, by who makes it."""


def parts_of(request: Request) -> Parts:
    """What the request is answered from."""
    parts: Parts = request.state.parts
    return parts
