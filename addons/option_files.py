"""Files that options name: read once, bounded, with every error as mitmproxy's OptionsError."""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from pathlib import Path

from mitmproxy.exceptions import OptionsError

from config.problems import ConfigError, Problem

MOST_PROBLEMS = 50
"""Of more than that, the first are told and the rest is counted."""


def options_error(text: str) -> OptionsError:
    """How ``configure`` refuses: mitmproxy and the inspection lane say it and do not start."""
    return OptionsError(text)


def read(option: str, name: str, largest: int) -> tuple[str, bytes]:
    """The path, with ``~`` expanded, and the bytes of the file that an option names. Raises OptionsError.

    ``largest``: bytes; a larger file is refused.
    """
    if not name:
        raise options_error(f"{option} is not set; expected the path of a file")
    path = Path(os.path.expanduser(name))
    try:
        with path.open("rb") as file:
            data = file.read(largest + 1)
    except OSError as error:
        hint = {
            errno.ENOENT: "write its path in full, or make it",
            errno.EISDIR: "expected a file, not a folder",
            errno.EACCES: "let the user that the proxy runs as read it",
        }.get(error.errno or 0, "check the path")
        raise options_error(f"{option}: {path}: {error.strerror or error}; {hint}") from None
    if len(data) > largest:
        raise options_error(f"{option}: {path}: larger than {largest} bytes; split it or shorten it")
    return str(path), data


def refused(file: str, problems: Sequence[Problem]) -> OptionsError:
    """One error for all that is wrong with a file, a line for each: ``FILE:LINE: what; what to do``."""
    shown = sorted(problems, key=lambda problem: problem.line or 0)[:MOST_PROBLEMS]
    text = str(ConfigError(file, shown))
    more = len(problems) - len(shown)
    return options_error(f"{text}\n{file}: and {more} more like these" if more else text)
