"""What the command prints: tables for people, JSON for programs, errors as one line each, and files written whole.

Much of what is printed was written by strangers (names in certificates above all), so everything for people goes
through :func:`clean`: no control character and no change of writing direction reaches a terminal.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
import textwrap
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, NoReturn

import click

from control.shown.text import clean, day, minute, second, stamp

__all__ = ["clean", "day", "minute", "second", "stamp"]

DONE, REFUSED, USAGE = 0, 1, 2
"""The exit statuses: done; refused or judged bad; wrong usage or configuration."""

LARGEST_INPUT = 4 << 20
"""Bytes read of a file that is to be added. The use cases refuse far smaller ones; this bounds the reading."""


class Stop(click.ClickException):
    """Ends the command with a status, each of the lines on stderr."""

    def __init__(self, lines: str | Iterable[str], status: int = REFUSED) -> None:
        self.lines = (lines,) if isinstance(lines, str) else tuple(lines)
        super().__init__("; ".join(self.lines))
        self.exit_code = status  # type: ignore[misc] # click declares one for the class; each has its own here

    def show(self, file: Any = None) -> None:
        for line in self.lines:
            click.echo(f"Error: {clean(line)}", file=file or sys.stderr)


def refuse(lines: str | Iterable[str]) -> NoReturn:
    """End with status 1: the command was understood and refused."""
    raise Stop(lines, REFUSED)


def misuse(lines: str | Iterable[str]) -> NoReturn:
    """End with status 2: the usage or the configuration is wrong."""
    raise Stop(lines, USAGE)


def coloured() -> bool:
    """Whether standard output is a terminal that may be written to in colour (https://no-color.org)."""
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def paint(text: str, colour: str | None = None, *, bold: bool = False, dim: bool = False) -> str:
    """The text in that colour, where :func:`coloured`. To be called after :func:`clean`, which takes colours out."""
    plain = not text or (colour is None and not bold and not dim)
    return text if plain or not coloured() else click.style(text, fg=colour, bold=bold or None, dim=dim or None)


def columns() -> int | None:
    """How wide the terminal is, from 60 to 120; None where standard output is none, and no line is to be broken."""
    return min(max(shutil.get_terminal_size().columns, 60), 120) if sys.stdout.isatty() else None


def paragraph(text: str, indent: str = "", first: str | None = None) -> str:
    """The text, cleaned, each line behind ``indent`` (the first behind ``first``), broken at the terminal's edge."""
    first = indent if first is None else first
    if (most := columns()) is None:
        return f"{first}{clean(text)}"
    return textwrap.fill(
        clean(text),
        most,
        initial_indent=first,
        subsequent_indent=indent,
        break_on_hyphens=False,
        break_long_words=False,
    )


def width(text: str) -> int:
    """The number of terminal columns that ``text`` takes (Unicode Standard Annex 11; combining marks take none)."""
    return sum(
        0 if unicodedata.combining(character) else 2 if unicodedata.east_asian_width(character) in "WF" else 1
        for character in text
    )


def table(headings: Sequence[str], rows: Iterable[Sequence[object]], empty: str) -> None:
    """Print rows under headings, in columns as wide as they need; ``empty`` where there is no row."""
    cells = [[clean(cell) for cell in row] for row in rows]
    if not cells:
        click.echo(empty)
        return
    lines = [[heading.upper() for heading in headings], *cells]
    widths = [max(width(line[column]) for line in lines) for column in range(len(headings))]
    for line in lines:
        padded = [cell + " " * (widths[column] - width(cell)) for column, cell in enumerate(line)]
        click.echo("  ".join(padded).rstrip())


def fields(pairs: Iterable[tuple[str, object]], indent: str = "") -> None:
    """Print names and values, one pair a line, the values in one column."""
    shown = [(name, clean(value)) for name, value in pairs]
    longest = max((len(name) for name, _ in shown), default=0)
    for name, value in shown:
        click.echo(f"{indent}{name + ':':<{longest + 1}}  {value}".rstrip())


def remains(places: Sequence[str]) -> None:
    """Say on stderr where sealed copies of destroyed keys may still be."""
    for place in places:
        click.echo(clean(f"A sealed copy of the key may still be in {place}"), err=True)


def as_json(value: object) -> None:
    """Print one JSON document."""
    click.echo(json.dumps(value, indent=2, ensure_ascii=False, default=_plain))


def _plain(value: object) -> object:
    if isinstance(value, datetime):
        return stamp(value)
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, (set, frozenset, tuple)):
        return sorted(value) if isinstance(value, (set, frozenset)) else list(value)
    return str(value)


def read_input(name: str) -> bytes:
    """The bytes of a file that the user named; ``-`` is standard input. What cannot be read is a usage error."""
    try:
        if name == "-":
            data = sys.stdin.buffer.read(LARGEST_INPUT + 1)
        else:
            with Path(name).open("rb") as file:
                data = file.read(LARGEST_INPUT + 1)
    except OSError as error:
        misuse(f"{name}: {error.strerror or error}")
    if len(data) > LARGEST_INPUT:
        refuse(f"{name}: larger than {LARGEST_INPUT >> 20} MiB; expected a file of certificates")
    return data


def read_first_line(name: str) -> bytes:
    """The first line of a file that the user named: a passphrase, a password."""
    return read_input(name).partition(b"\n")[0].removesuffix(b"\r")


def write_output(name: str | None, data: bytes) -> None:
    """Write to the file that the user named, whole or not at all; without a name (or ``-``) to standard output."""
    if name is None or name == "-":
        click.echo(data, nl=False)
        return
    try:
        write_whole(Path(name), data)
    except OSError as error:
        misuse(f"{name}: {error.strerror or error}")


def write_whole(path: Path, data: bytes, mode: int = 0o644) -> None:
    """Replace ``path`` by ``data`` in one step, so that no reader ever sees half of it. Raises OSError.

    What is no regular file (``/dev/stdout``, a pipe) is written to as it is: replacing it would take it away.
    """
    if path.exists() and not path.is_file():
        path.write_bytes(data)
        return
    target = path.resolve()
    descriptor, scratch = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fchmod(file.fileno(), mode)
            os.fsync(file.fileno())
        Path(scratch).replace(target)
    except BaseException:
        Path(scratch).unlink(missing_ok=True)
        raise
