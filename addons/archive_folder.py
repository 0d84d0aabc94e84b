"""The folder of sealed archives: files of bounded size, in a bounded total, written by several processes at once.

A lock on the folder is held while it is counted and written to, so that the total holds over all processes. A file that
is being written ends in ``.part`` and is locked by its writer; one whose writer died is not, and can be deleted.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import stat
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path

from addons.archive_format import CHUNK_OVERHEAD, ArchiveError, Sealer
from addons.archive_keys import Recipient

PART = ".part"
_NAME = re.compile(r"flows-[0-9]{8}T[0-9]{6}\.[0-9]{6}Z-[0-9]+-[0-9]+\.sealed(\.part)?")


def check_folder(path: Path) -> None:
    """Make the folder (0700) where it is missing. Raises OSError, or ArchiveError where others could get at it."""
    with contextlib.suppress(FileExistsError):
        path.mkdir(mode=0o700)
    _check(path.stat())


def _check(found: os.stat_result) -> None:
    if not stat.S_ISDIR(found.st_mode):
        raise ArchiveError("is no folder; name one of its own for the archive")
    if found.st_uid != os.geteuid():
        raise ArchiveError(f"belongs to user {found.st_uid}; give it to the user that the proxy runs as")
    if found.st_mode & 0o077:
        raise ArchiveError(f"has mode {stat.S_IMODE(found.st_mode):04o}, so others can get at it; chmod 0700 it")


class _Open:
    """The file that is being written: 0600, new, locked."""

    def __init__(self, folder: Path, name: str, recipient: Recipient) -> None:
        self.path = folder / (name + PART)
        self._sealer = Sealer(recipient)
        self.size = 0
        self._chunks = 0
        self.fd = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self.fd, fcntl.LOCK_EX)
            self._write(self._sealer.header)
        except OSError:
            self.drop()
            raise

    @property
    def holds_records(self) -> bool:
        return self._chunks > 0

    def append(self, records: bytes) -> None:
        """Seal and write the records. After an error nothing but :meth:`finish` or :meth:`drop` may follow."""
        self._write(self._sealer.seal(records))
        self._chunks += 1

    def _write(self, data: bytes) -> None:
        """Write all of it, or nothing: what a full disk left of it is taken off again. Raises OSError."""
        done = 0
        try:
            while done < len(data):
                done += os.pwrite(self.fd, memoryview(data)[done:], self.size + done)
        except OSError:
            with contextlib.suppress(OSError):
                os.ftruncate(self.fd, self.size)
            raise
        self.size += len(data)

    def there(self) -> bool:
        """Whether it is still in the folder under its name."""
        try:
            found = self.path.stat(follow_symlinks=False)
        except OSError:
            return False
        own = os.fstat(self.fd)
        return (found.st_dev, found.st_ino) == (own.st_dev, own.st_ino)

    def finish(self) -> None:
        """Write the end, make sure that it is on the disk, give the file its final name."""
        try:
            self._write(self._sealer.end(self._chunks))
            os.fsync(self.fd)
            self.path.rename(self.path.with_name(self.path.name.removesuffix(PART)))
        finally:
            os.close(self.fd)

    def drop(self) -> None:
        """Close it, and delete it where it holds nothing."""
        if not self.holds_records:
            self.path.unlink(missing_ok=True)
        os.close(self.fd)


class ArchiveFolder:
    """Appends records to the newest file and keeps the bounds. Used by one thread.

    ``file_size`` and ``total_size``: bytes. ``now``: the time in UTC, for names.
    """

    def __init__(
        self, path: Path, recipient: Recipient, file_size: int, total_size: int, now: Callable[[], datetime]
    ) -> None:
        self._path = path
        self._recipient = recipient
        self._file_size = file_size
        self._total_size = total_size
        self._now = now
        self._open: _Open | None = None
        self._made = 0
        self._empty_file = len(Sealer(recipient).header) + CHUNK_OVERHEAD

    def append(self, records: bytes) -> None:
        """Seal and write the records as one chunk. Raises OSError or ArchiveError; then nothing of them was written.

        After an error the next call begins a new file: no part of a key's numbers is ever used twice.
        """
        need = CHUNK_OVERHEAD + len(records)
        with self._locked() as folder:
            try:
                self._rotate(need, folder)
                self._make_room(need, folder)
                (self._open or self._begin(folder)).append(records)
            except (OSError, ArchiveError):
                self._leave()
                raise

    def finish(self) -> None:
        """End the file that is open, if there is one. Raises OSError."""
        if self._open is not None:
            with self._locked() as folder:
                self._finish(folder)

    def _begin(self, folder: int) -> _Open:
        self._made += 1
        name = f"flows-{self._now():%Y%m%dT%H%M%S.%fZ}-{os.getpid()}-{self._made}.sealed"
        self._open = _Open(self._path, name, self._recipient)
        os.fsync(folder)
        return self._open

    def _rotate(self, need: int, folder: int) -> None:
        current = self._open
        if current is None:
            return
        if not current.there():
            raise ArchiveError(f"{current.path} was removed while it was written; what was in it is lost")
        if current.holds_records and current.size + need + CHUNK_OVERHEAD > self._file_size:
            self._finish(folder)

    def _finish(self, folder: int) -> None:
        current, self._open = self._open, None
        if current is not None:
            current.finish()
            os.fsync(folder)

    def _leave(self) -> None:
        """Give the open file up after an error, ended where that is still possible."""
        current, self._open = self._open, None
        if current is None:
            return
        if current.holds_records and current.there():
            with contextlib.suppress(OSError):
                current.finish()
        else:
            with contextlib.suppress(OSError):
                current.drop()

    def _make_room(self, need: int, folder: int) -> None:
        """Delete the oldest files until the total holds with ``need`` more. Raises ArchiveError where it cannot."""
        need += self._empty_file if self._open is None else 0
        files = self._files()
        total = sum(files.values())
        for name in sorted(files):
            if total + need <= self._total_size:
                return
            if _deleted(self._path / name):
                total -= files[name]
        if total + need <= self._total_size:
            return
        if self._open is not None and self._open.holds_records:
            # Only files that are being written are left. Ended, ours can make room for what is new.
            self._finish(folder)
            self._make_room(need, folder)
            return
        raise ArchiveError(f"archive_total_size ({self._total_size} bytes) has no room for {need} bytes more")

    def _files(self) -> dict[str, int]:
        """The archives' names and sizes, those of other processes included; other files are left alone."""
        found: dict[str, int] = {}
        with os.scandir(self._path) as entries:
            for entry in entries:
                if _NAME.fullmatch(entry.name):
                    with contextlib.suppress(FileNotFoundError):
                        end_to_come = CHUNK_OVERHEAD if entry.name.endswith(PART) else 0
                        found[entry.name] = entry.stat(follow_symlinks=False).st_size + end_to_come
        return found

    @contextlib.contextmanager
    def _locked(self) -> Iterator[int]:
        folder = os.open(self._path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            _check(os.fstat(folder))
            fcntl.flock(folder, fcntl.LOCK_EX)
            yield folder
        finally:
            os.close(folder)


def _deleted(path: Path) -> bool:
    """Delete a file that nobody is writing; False where somebody is."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return True
    try:
        if path.name.endswith(PART):
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        path.unlink(missing_ok=True)
    except BlockingIOError:
        return False
    finally:
        os.close(fd)
    return True
