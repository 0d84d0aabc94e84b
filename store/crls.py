"""CRLs that were fetched, one file each beside the database, for all workers of a node.

They are files and no rows of a table since they are large, come from strangers and are had again at any time. A worker,
which parses what strangers send, only reads the database; a row of many MiB would hold up the issuer, which commits for
every leaf; and every backup would carry them. What is here can be deleted at any time, while the daemon runs, too.

A file is a line of JSON that says what it is, and the list as it was fetched. It is written whole or not at all, and
read by whoever wants it. Which of the workers fetches one is settled by a lock on one octet of a file, which goes with
the process that holds it. That something could not be had is written down as well, so that not every worker tries.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import secrets
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

FOLDER = "crls"
"""The name of the folder in the state directory."""
MOST_BYTES = 512 << 20
"""Of all files: before one is written, those that were fetched longest ago go. (Each worker may be at one.)"""
OUTDATED_SECONDS = 86_400.0
"""How long one is kept after it has been of no use, in case a clock is wrong."""
LONGEST_HEAD = 8192
_LIST, _FAILURE, _LOCK = ".crl", ".failed", "lock"
_PLACES = 1 << 30


State = tuple[int, int, int]
"""What a file is told from another of its name by: when it was written (ns since 1970), its size and its inode."""


@dataclass(frozen=True, slots=True)
class KeptCrl:
    """A list that was fetched. Times are seconds since 1970; ``next_update``: until when it can be used."""

    url: str
    fetched_at: float
    next_update: float
    encoded: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Failure:
    """Why something could not be had, and until when it need not be tried again (seconds since 1970)."""

    why: str
    until: float


class CrlFiles:
    """The folder. Every method but ``close`` works on the disk, and so is for a thread."""

    def __init__(self, folder: Path) -> None:
        """Nothing is touched yet."""
        self.folder = folder
        self._lock: int | None = None

    def open(self) -> None:
        """Make the folder (0700) where it is missing. Raises OSError."""
        self.folder.mkdir(mode=0o700, exist_ok=True)
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        self._lock = os.open(self.folder / _LOCK, flags, 0o600)

    def close(self) -> None:
        """Give up all claims."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def read(self, name: str, most: int) -> KeptCrl | None:
        """What was kept under a name; None where nothing is, or what cannot be read or has more than ``most`` bytes."""
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError), self._opened(name + _LIST) as file:
            head = json.loads(file.readline(LONGEST_HEAD))
            encoded = file.read(most + 1)
            if len(encoded) <= most:
                return KeptCrl(str(head["url"]), float(head["fetched_at"]), float(head["next_update"]), encoded)
        return None

    def state(self, name: str) -> State | None:
        """Of what is kept under a name: where it is another one, something else can be read."""
        with contextlib.suppress(OSError):
            return _state((self.folder / (name + _LIST)).lstat())
        return None

    def write(self, name: str, kept: KeptCrl) -> State:
        """Keep it, in place of what there was. Raises OSError."""
        head = {"url": kept.url, "fetched_at": kept.fetched_at, "next_update": kept.next_update}
        written = self._write(name + _LIST, json.dumps(head).encode() + b"\n" + kept.encoded)
        (self.folder / (name + _FAILURE)).unlink(missing_ok=True)
        return written

    def failure(self, name: str, now: float) -> Failure | None:
        """Why it could not be had, where that was a short while ago."""
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError), self._opened(name + _FAILURE) as file:
            told = json.loads(file.read(LONGEST_HEAD))
            found = Failure(str(told["why"]), float(told["until"]))
            if now < found.until:
                return found
        return None

    def fail(self, name: str, failure: Failure) -> None:
        """Write down that it could not be had. Raises OSError."""
        self._write(name + _FAILURE, json.dumps({"why": failure.why, "until": failure.until}).encode())

    def claim(self, name: str) -> bool:
        """Whether this process is the one that fetches it, until :meth:`release`.

        Where there are no locks to be had, each process is.
        """
        if self._lock is None:
            return True
        try:
            fcntl.lockf(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, _place(name))
        except (BlockingIOError, PermissionError):
            return False
        except OSError:
            return True
        return True

    def release(self, name: str) -> None:
        """Let others fetch it."""
        if self._lock is not None:
            with contextlib.suppress(OSError):
                fcntl.lockf(self._lock, fcntl.LOCK_UN, 1, _place(name))

    def tidy(self, now: float) -> None:
        """Remove what is of no use any more, and what is too much. Raises OSError."""
        for path in self.folder.iterdir():
            with contextlib.suppress(FileNotFoundError):  # another worker may be at it
                written = path.stat().st_mtime
                if path.suffix == _LIST and (end := self._end(path)) is not None and now < end + OUTDATED_SECONDS:
                    continue
                if path.name != _LOCK and (path.suffix == _LIST or written < now - OUTDATED_SECONDS):
                    path.unlink()
        self._make_room(0)

    def _make_room(self, more: int) -> None:
        """Remove what was written longest ago until there is room for so many bytes. Raises OSError where it cannot."""
        total, lasting, kept = more, more, []
        for path in self.folder.iterdir():
            with contextlib.suppress(FileNotFoundError):
                found = path.stat()
                total += found.st_size
                if path.suffix in (_LIST, _FAILURE):
                    kept.append((found.st_mtime, found.st_size, path))
                else:
                    lasting += found.st_size
        if lasting > MOST_BYTES:  # with what workers write at the moment, or have left half-written
            raise OSError(errno.ENOSPC, f"{self.folder} has no room for it in {MOST_BYTES >> 20} MiB")
        for _, size, path in sorted(kept):
            if total <= MOST_BYTES:
                return
            path.unlink(missing_ok=True)
            total -= size

    def _end(self, path: Path) -> float | None:
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError), self._opened(path.name) as file:
            return float(json.loads(file.readline(LONGEST_HEAD))["next_update"])
        return None

    def _opened(self, name: str) -> BinaryIO:
        return os.fdopen(os.open(self.folder / name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC), "rb")

    def _write(self, name: str, content: bytes) -> State:
        self._make_room(len(content))
        temporary = self.folder / f".{secrets.token_hex(8)}"
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            with os.fdopen(os.open(temporary, flags, 0o600), "wb") as file:
                file.write(content)
                file.flush()
                written = _state(os.fstat(file.fileno()))
            temporary.replace(self.folder / name)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        return written


def name_of(url: str, issuer: bytes) -> str:
    """The name under which the list at a URL is kept that an issuer has signed, in words that no other issuer has."""
    return hashlib.sha256(issuer + url.encode()).hexdigest()[:40]


def _state(found: os.stat_result) -> State:
    return found.st_mtime_ns, found.st_size, found.st_ino


def _place(name: str) -> int:
    return int(name[:8], 16) % _PLACES
