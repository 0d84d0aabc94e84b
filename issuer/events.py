"""The issuer's own log: one JSON object a line on stderr, with the same first fields as the workers' log."""

from __future__ import annotations

import contextlib
import json
import sys
import time
from typing import Literal

from certs.mentions import Mentions
from config.settings import Log as Settings

Level = Literal["debug", "info", "warning", "error"]
ORDER: dict[str, int] = {"debug": 10, "info": 20, "warning": 30, "error": 40}


class _Rules:
    """What is not written: below a level, and what names a host of ``log.never_log``."""

    level = ORDER["info"]
    never: Mentions | None = None


_rules = _Rules()


def configure(settings: Settings) -> None:
    """Write from this level on, and nothing of these hosts. Raises certs.names.InvalidHost for one that is none."""
    _rules.never = Mentions(settings.never_log) if settings.never_log else None
    set_level(settings.level)


def set_level(level: Level) -> None:
    """Write from this level on, from now on."""
    _rules.level = ORDER[level]


def log_event(event: str, level: Level = "info", **fields: str | int | float | None) -> None:
    """Write one line; fields that are None or empty are left out.

    The caller sees to it that no field holds a key, a passphrase or a stranger's raw bytes.
    """
    if ORDER[level] < _rules.level:
        return
    never = _rules.never
    if never is not None and any(isinstance(value, str) and never.named_in(value) for value in fields.values()):
        return
    said = {name: value for name, value in fields.items() if value is not None and value != ""}
    line = json.dumps({"time": round(time.time(), 3), "level": level, "event": event, "from": "issuer", **said})
    # Where nobody reads any more, the log has no place to say so.
    with contextlib.suppress(OSError, ValueError):
        sys.stderr.write(line + "\n")
        sys.stderr.flush()
