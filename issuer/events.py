"""The issuer's own log: one JSON object a line on stderr, with the same first fields as the workers' log."""

from __future__ import annotations

import contextlib
import json
import sys
import time
from typing import Literal

Level = Literal["info", "warning", "error"]


def log_event(event: str, level: Level = "info", **fields: str | int | float | None) -> None:
    """Write one line. The caller sees to it that no field holds a key, a passphrase or a stranger's raw bytes."""
    line = json.dumps({"time": round(time.time(), 3), "level": level, "event": event, "from": "issuer", **fields})
    # Where nobody reads any more, the log has no place to say so.
    with contextlib.suppress(OSError, ValueError):
        sys.stderr.write(line + "\n")
        sys.stderr.flush()
