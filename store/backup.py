"""Copies of a database: taken while it is used, and put into a database's place.

SQLite's own way of copying (the Online Backup API): a copy of the file alone could lack what is still in the
write-ahead log, or have half of a transaction.
"""

from __future__ import annotations

import os
import secrets
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from store import creation
from store.errors import StoreError, translate

BUSY_SECONDS = 5.0
SIDE_FILES = ("-wal", "-shm")


def copy(database: Path, target: Path, *, to_be_used: bool = False) -> None:
    """Copy a database of this version or one before it into the new file ``target`` (0600); others may be using it.

    The copy was read through and is on the disk. It is one file, and asks for no write-ahead log when it is looked
    into, unless it is ``to_be_used``. Raises NewerDatabase or StoreError; then there is no ``target``.
    """
    if not database.is_file() or not database.stat().st_size:
        raise StoreError(f"{database}: there is no database in it")
    creation.is_newest(database)
    made = target.with_name(f".{target.name}.{secrets.token_hex(8)}")
    try:
        os.close(os.open(made, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600))
        _fill(made, database, target, "WAL" if to_be_used else "DELETE")
        place_new(made, target)
        sync(target.parent)
    except FileExistsError:
        raise StoreError(f"{target}: there is such a file already; name another") from None
    except OSError as error:
        raise StoreError(f"{target}: cannot be made: {error.strerror}") from None
    finally:
        for end in ("", *SIDE_FILES):
            made.with_name(made.name + end).unlink(missing_ok=True)


def place_new(made: Path, target: Path) -> None:
    """Give a file its name, which must be a new one. Raises FileExistsError, OSError."""
    try:
        os.link(made, target)  # unlike a rename, never in the place of what is there
    except PermissionError:  # a file system without hard links
        os.close(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600))
        made.rename(target)


@contextmanager
def out_of_use(database: Path, aside: Path) -> Iterator[None]:
    """Nobody else has the database open, or opens it meanwhile; all that was done is in its one file.

    Its write-ahead log is gone then: beside another database it would be taken for that one's. The log of a database
    that SQLite makes nothing of is kept beside ``aside``. Raises StoreError where somebody uses it, and OSError.
    """
    log, index = (database.with_name(database.name + end) for end in SIDE_FILES)
    kept = aside.with_name(aside.name + SIDE_FILES[0])
    if log.exists():
        kept.hardlink_to(log)
    connection = sqlite3.connect(database, timeout=BUSY_SECONDS, isolation_level=None)
    try:
        in_use = False
        try:
            connection.execute("PRAGMA locking_mode = EXCLUSIVE").fetchall()
            # Leaving WAL takes that nobody else has it open, whether or not he is doing anything.
            in_use = connection.execute("PRAGMA journal_mode = DELETE").fetchone()[0] != "delete"
            connection.execute("BEGIN EXCLUSIVE")
            readable = True
        except sqlite3.Error as error:
            readable = False
            in_use = str(error.sqlite_errorname).startswith("SQLITE_BUSY")
        if in_use:
            kept.unlink(missing_ok=True)
            raise StoreError(f"{database}: another process is using it; let that end")
        if readable:
            kept.unlink(missing_ok=True)
        log.unlink(missing_ok=True)
        index.unlink(missing_ok=True)
        yield
    finally:
        connection.close()


def _fill(made: Path, database: Path, target: Path, journal: str) -> None:
    source = f"{database.absolute().as_uri()}?mode=ro"
    try:
        with (
            closing(sqlite3.connect(source, uri=True, timeout=BUSY_SECONDS)) as reading,
            closing(sqlite3.connect(made)) as writing,
        ):
            reading.backup(writing)
            writing.execute(f"PRAGMA journal_mode = {journal}").fetchall()
            found = str(writing.execute("PRAGMA integrity_check(1)").fetchone()[0])
    except sqlite3.Error as error:
        # What is said of a full disk is said of where it was to be.
        full = str(error.sqlite_errorname).startswith(("SQLITE_FULL", "SQLITE_READONLY"))
        raise translate(target if full else database, error) from None
    if found != "ok":
        raise StoreError(f"{database}: it is damaged ({' '.join(found.split())}); restore a backup")
    sync(made)


def sync(path: Path) -> None:
    """Wait until the disk has a file, or the names in a folder. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
