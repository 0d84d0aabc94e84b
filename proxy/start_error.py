"""Why the daemon, or a part of it, cannot start."""

from __future__ import annotations


class StartError(Exception):
    """It cannot start; one line that says what is wrong and what to do."""
