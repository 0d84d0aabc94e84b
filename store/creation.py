"""Which revision a database has, and the way to the newest, without importing Alembic where there is nothing to do.

Only one process at a time creates or migrates (a lock file beside the database). A migration is one transaction: a
process killed in the middle leaves the database as it was, and the next start does it again.
"""

from __future__ import annotations

import fcntl
import filecmp
import itertools
import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from store.errors import NewerDatabase, StoreError, translate
from store.migrations import REVISIONS

NEWEST = REVISIONS[-1]
LOCK_SECONDS = 60.0
"""How long to wait for another process that creates or migrates."""


def bring_up_to_date(path: Path, *, create: bool) -> None:
    """Make sure that the database at ``path`` is there and has the newest revision.

    One of an older revision is copied to ``NAME.revision-R`` first, which its own version can go on with.
    Raises NewerDatabase or StoreError, with the file unchanged.
    """
    if _revision(path, create=create) == NEWEST:
        return
    with file_lock(path.with_name(path.name + ".lock"), f"{path}: another process is still creating or migrating it"):
        found = _revision(path, create=create)  # again: whoever held the lock may have done it
        if found == NEWEST:
            return
        try:
            # Before SQLite opens it, for the mode; SQLite gives -wal and -shm the same.
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        except OSError as error:
            raise StoreError(f"{path}: cannot be created: {error.strerror}; see to the folder it is in") from None
        if found is not None:
            _keep(path, found)
        from store.migrations import run

        run.upgrade(path)


def _keep(path: Path, revision: str) -> None:
    """Copy a database beside itself before it is migrated; a copy that is there stays, and is enough if it is equal."""
    from store import backup  # which needs this module

    for left in path.parent.glob(f".{path.name}.revision-*"):
        left.unlink()  # of a copy that was not finished; nobody else makes one while this one has the lock
    kept, before = path.with_name(f"{path.name}.revision-{revision}"), None
    for number in itertools.count(2):
        if not kept.exists():
            break
        # Of a migration that failed, or of a database that was here before this one was restored.
        kept, before = path.with_name(f"{path.name}.revision-{revision}.{number}"), kept
    backup.copy(path, kept)
    if before is not None and filecmp.cmp(before, kept, shallow=False):
        kept.unlink()


def is_newest(path: Path) -> bool:
    """Whether the database at ``path`` has this version's revision; False where it can be migrated to it.

    The file stays as it is. Raises NewerDatabase or StoreError where this version cannot use it.
    """
    return _revision(path, create=False) == NEWEST


def _revision(path: Path, *, create: bool) -> str | None:
    """The revision of the database; None where it has no tables yet, or is missing and may be created.

    Opens the file read-only, so that a database that is not ours to use stays as it is.
    """
    try:
        size = path.stat().st_size
    except FileNotFoundError:
        size = 0
    except OSError as error:
        raise StoreError(f"{path}: cannot be read: {error.strerror}") from None
    wal = path.with_name(path.name + "-wal")
    if size == 0 and not wal.exists():
        if create:
            return None
        raise StoreError(f"{path}: there is no database; start the daemon once with this state directory")
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=5.0)) as connection:
            tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
            if not tables and create:
                return None
            if "alembic_version" not in tables:
                raise StoreError(f"{path}: this is no database of Sallyport; move it away or set another state_dir")
            rows = connection.execute("SELECT version_num FROM alembic_version").fetchall()
    except sqlite3.Error as error:
        raise translate(path, error) from None
    if len(rows) != 1:
        raise StoreError(f"{path}: it is damaged (no revision); restore a backup")
    revision = str(rows[0][0])
    if revision not in REVISIONS:
        raise NewerDatabase(
            f"{path} was written by a newer Sallyport (revision {revision}); install that version or restore a backup"
        )
    return revision


@contextmanager
def file_lock(path: Path, busy: str, seconds: float = LOCK_SECONDS) -> Iterator[None]:
    """Hold the lock file (0600) at ``path``; it is left in place, since removing one is a race.

    Raises StoreError with the text ``busy`` where another process holds it for more than ``seconds``.
    """
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise StoreError(f"{path}: the lock file cannot be opened: {error.strerror}") from None
    try:
        deadline = time.monotonic() + seconds
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    raise StoreError(f"{busy}; try again (waited {seconds:g} s)") from None
                time.sleep(0.02)
        yield
    finally:
        os.close(descriptor)
