"""List files that settings name: read whole and bounded, and looked at for whether they are still those that were read.

What stands in them is for others to parse.
"""

from __future__ import annotations

import os
import stat
from typing import NamedTuple

LARGEST_LIST = 64 << 20
"""Bytes; a million host names are about a third of it."""
EXPECTED = "expected a text file that the user whom Sallyport runs as can read"


class ListFileError(Exception):
    """The file can't be had; the text says what was wrong and what was expected, on one line."""


class ListFileBusyError(ListFileError):
    """Somebody was writing to it while it was read."""


class Look(NamedTuple):
    """What tells one state of a file from another. Nobody sets the time of a file's last change of state by hand."""

    device: int
    inode: int
    size: int
    modified: int
    changed: int


def look(path: str) -> Look:
    """The state of the file now. Raises ListFileError."""
    try:
        return _look(os.stat(path))
    except (OSError, ValueError) as error:
        raise _error(path, error) from None


def read(path: str) -> tuple[bytes, Look]:
    """The bytes of the file, and its state at that.

    Raises ListFileError; ListFileBusyError where it changes meanwhile.
    """
    try:
        # What is no file (a pipe, a device) must not be waited for.
        with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as file:
            found = os.fstat(file.fileno())
            if not stat.S_ISREG(found.st_mode):
                raise ListFileError(f"{path} is no file; {EXPECTED}")
            data = file.read(LARGEST_LIST + 1)
            after = _look(os.fstat(file.fileno()))
    except (OSError, ValueError) as error:
        raise _error(path, error) from None
    if len(data) > LARGEST_LIST:
        raise ListFileError(f"{path} is larger than {LARGEST_LIST} bytes; split it")
    if after != _look(found) or len(data) != after.size:
        raise ListFileBusyError(f"{path} was changed while it was read; try again when it is whole")
    return data, after


def _look(found: os.stat_result) -> Look:
    return Look(found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)


def _error(path: str, error: OSError | ValueError) -> ListFileError:
    return ListFileError(f"{path}: {getattr(error, 'strerror', None) or error}; {EXPECTED}")
