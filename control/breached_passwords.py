"""Passwords that were stolen somewhere: whether one is in a list of the operator's (``console.breached_passwords``).

The list is a file of SHA-1 hashes in upper-case hex, in ascending order, one a line, each with or without ``:`` and how
often it was seen: what Have I Been Pwned's downloader writes, tens of gigabytes of it. It is bisected, so that a
question costs a few dozen reads of some bytes each. It is opened for each question and closed after it: a file that
takes its place counts from the next one on.

SHA-1 is the name by which the list calls a password, and protects nothing here: nothing of it is kept.
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

LINE = re.compile(rb"([0-9A-F]{40})(?::[0-9]{1,20})?\r?")
LONGEST_LINE = 40 + 1 + 20 + len("\r\n")
"""Bytes, the end of the line included."""
SAMPLES = 32
"""Lines that are looked at where the file is checked, its first and last among them."""
SETTING = "console.breached_passwords"
EXPECTED = (
    "expected SHA-1 hashes in upper-case hex, sorted, one a line (HASH:COUNT or HASH), in a file that the user whom "
    "Sallyport runs as can read"
)


class UnusableListError(Exception):
    """The list tells nothing about any password. One line: which file, what is wrong with it, what was expected."""


def holds(path: str, passwords: Collection[str]) -> bool:
    """Whether one of the passwords is in the list. Raises UnusableListError.

    The file is checked as by :func:`problem_of` first: it may be another than the one that was there at the start. None
    of the passwords may have a surrogate in it: what was prepared without being refused has none.
    """
    with _opened(path) as lines:
        _check(lines)
        return any(_bisect(lines, _name(each)) for each in passwords)


def problem_of(path: str) -> str | None:
    """What is wrong with the file, on one line, as far as some dozens of its lines show it; None where nothing is.

    What they leave out is found by the question that comes upon it, which then has no answer.
    """
    try:
        with _opened(path) as lines:
            _check(lines)
    except UnusableListError as error:
        return f"{SETTING}: {error}"
    return None


@dataclass(frozen=True, slots=True)
class _Line:
    start: int
    end: int
    """Where the next one starts."""
    hash: bytes


class _Lines:
    """The lines of an open file, by where they are. Every read is of a few dozen bytes."""

    def __init__(self, path: str, fd: int, size: int) -> None:
        self._path = path
        self._fd = fd
        self.size = size

    def around(self, place: int) -> _Line:
        """The line that has the byte at this place, from 0 up to the size. Raises UnusableListError."""
        first = max(place - LONGEST_LINE, 0)
        try:
            block = os.pread(self._fd, 2 * LONGEST_LINE, first)
        except OSError as error:
            raise self.unusable(error.strerror or str(error)) from None
        before = block.rfind(b"\n", 0, place - first)
        after = block.find(b"\n", place - first)
        # The last line may have no end. One whose beginning or end is out of reach has too many bytes to be a hash.
        end = len(block) if after < 0 else after
        found = LINE.fullmatch(block, before + 1, end)
        if found is None or (before < 0 and first > 0) or (after < 0 and first + end < self.size):
            raise self.unusable(f"what is at byte {first + before + 1} is no such hash")
        return _Line(first + before + 1, first + end + (after >= 0), found[1])

    def unusable(self, why: str) -> UnusableListError:
        """The error that says so of this file."""
        return UnusableListError(f"{self._path}: {why}; {EXPECTED}")

    def unsorted(self, line: _Line) -> UnusableListError:
        """The same where a line is not in its place."""
        return self.unusable(f"the hash at byte {line.start} is not in ascending order")


@contextmanager
def _opened(path: str) -> Iterator[_Lines]:
    try:
        # What is no file (a pipe, a device) must not be waited for.
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (OSError, ValueError) as error:
        raise UnusableListError(f"{path}: {getattr(error, 'strerror', None) or error}; {EXPECTED}") from None
    try:
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode):
            raise UnusableListError(f"{path} is no file; {EXPECTED}")
        yield _Lines(path, fd, found.st_size)
    finally:
        os.close(fd)


def _name(password: str) -> bytes:
    return hashlib.sha1(password.encode(), usedforsecurity=False).hexdigest().upper().encode()


def _bisect(lines: _Lines, wanted: bytes) -> bool:
    """Whether the hash is in the file; a line that is not in its place is an error, and no answer."""
    low, high = 0, lines.size
    least, most = b"", b"G"  # below and above every hash
    while low < high:
        line = lines.around((low + high) // 2)
        if not least <= line.hash <= most:
            raise lines.unsorted(line)
        if line.hash == wanted:
            return True
        if line.hash < wanted:
            low, least = line.end, line.hash
        else:
            high, most = line.start, line.hash
    return False


def _check(lines: _Lines) -> None:
    before: _Line | None = None
    for nth in range(SAMPLES if lines.size else 0):
        line = lines.around((lines.size - 1) * nth // (SAMPLES - 1))
        if before is not None and line.start != before.start and line.hash < before.hash:
            raise lines.unsorted(line)
        before = line
