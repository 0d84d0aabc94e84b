"""How a reload went, for whoever asked for it: one small file that is replaced whole.

A signal says nothing back. So the daemon leaves word of the last reload in its state directory, with the time on the
monotonic clock at which it began: one that began after the signal was sent has seen all that was there to be seen.
"""

from __future__ import annotations

import contextlib
import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

OUTCOME_FILE = ("run", "reload.json")
LARGEST = 1 << 20


@dataclass(frozen=True, slots=True)
class Outcome:
    """``kind`` is reload or upgrade; ``said`` is for people, a line each."""

    kind: str
    began: float
    done: bool
    said: tuple[str, ...]


def write(state_dir: Path, outcome: Outcome) -> None:
    """Leave word. Raises OSError; then what was there before is there still."""
    path = state_dir.joinpath(*OUTCOME_FILE)
    scratch = _scratch(path)
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
    with os.fdopen(os.open(scratch, flags, 0o600), "w") as file:
        json.dump(asdict(outcome), file)
    scratch.replace(path)


def read(state_dir: Path) -> Outcome | None:
    """The last word; None where there is none."""
    try:
        with state_dir.joinpath(*OUTCOME_FILE).open("rb") as file:
            value = json.loads(file.read(LARGEST))
        return Outcome(
            str(value["kind"]), float(value["began"]), value["done"] is True, tuple(str(line) for line in value["said"])
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None


def clear(state_dir: Path) -> None:
    """Take away what an earlier daemon left, also what it was killed in the middle of writing."""
    path = state_dir.joinpath(*OUTCOME_FILE)
    for one in (path, _scratch(path)):
        with contextlib.suppress(FileNotFoundError):
            one.unlink()


def _scratch(path: Path) -> Path:
    return path.with_name(f".{path.name}.new")  # always the same: at most one of them can be left by a kill
