"""What is wrong with a configuration file: each problem with its place, and the error that carries all of them."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

_PLAIN_KEY = re.compile(r"[A-Za-z0-9_.*:-]{1,64}")
_LONGEST = 400

Location = tuple[str | int, ...]


def shown(value: object, longest: int = 60) -> str:
    """A value as it is shown in a message: on one line, quoted where it is text, cut where it is long."""
    text = repr(value)
    return text if len(text) <= longest else f"{text[:longest]}…"


def one_line(text: str) -> str:
    """Text with everything escaped that could start a new line or steer a terminal, cut at 400 characters."""
    escaped = "".join(char if char.isprintable() else char.encode("unicode_escape").decode("ascii") for char in text)
    return escaped if len(escaped) <= _LONGEST else f"{escaped[:_LONGEST]}…"


def dotted(location: Location) -> str:
    """``("listeners", 0, "bind")`` as a person writes it: ``listeners[0].bind``."""
    text = ""
    for part in location:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            key = part if _PLAIN_KEY.fullmatch(part) else shown(part)
            text += f".{key}" if text else key
    return text


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong: the setting (empty for the file as a whole), the place (from 1), what was expected."""

    path: str
    message: str
    line: int | None = None
    column: int | None = None

    def render(self, file: str) -> str:
        """One line for a person: ``FILE:LINE: listeners[0].bind: expected …``."""
        place = file if self.line is None else f"{file}:{self.line}"
        return one_line(": ".join(part for part in (place, self.path, self.message) if part))


class ConfigError(Exception):
    """The configuration can't be used; ``problems`` holds everything that is wrong with it, top of the file first.

    The text is one line for each problem.
    """

    def __init__(self, file: Path | str, problems: Iterable[Problem]) -> None:
        self.file = os.fspath(file)
        self.problems = tuple(sorted(problems, key=lambda problem: (problem.line or 0, problem.column or 0)))
        super().__init__("\n".join(problem.render(self.file) for problem in self.problems))
