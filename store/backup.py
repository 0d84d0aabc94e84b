"""Copies of a database: taken while it is used, and put into a database's place.

SQLite's own way of copying (the Online Backup API): a copy of the file alone could lack what is still in the
write-ahead log, or have half of a transaction.
"""

from __future__ import annotations

import os
import secrets
import sqlite3
from contextlib import closing
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
    creation.is_newest(database)
    made = target.with_name(f".{target.name}.{secrets.token_hex(8)}")
    try:
        os.close(os.open(made, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600))
        _fill(made, database, "WAL" if to_be_used else "DELETE")
        os.link(made, target)  # unlike a rename, never in the place of what is there
        _sync(target.parent)
    except FileExistsError:
        raise StoreError(f"{target}: there is such a file already; name another") from None
    except OSError as error:
        raise StoreError(f"{target}: cannot be made: {error.strerror}") from None
    finally:
        for end in ("", *SIDE_FILES):
            made.with_name(made.name + end).unlink(missing_ok=True)


def replace(database: Path, by: Path, aside: Path) -> None:
    """Rename ``by``, a database that nobody has open, to ``database``; what was there is kept as ``aside``.

    At no moment is there none. Raises StoreError; then the one that was there is still in place.
    """
    try:
        if database.exists():
            os.link(database, aside)
            try:
                _settle(database, aside)
            except BaseException:
                aside.unlink()
                raise
        by.rename(database)
        _sync(database.parent)
    except OSError as error:
        raise StoreError(f"{database}: cannot be replaced: {error.strerror}") from None


def _fill(made: Path, database: Path, journal: str) -> None:
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
        raise translate(database, error) from None
    if found != "ok":
        raise StoreError(f"{database}: it is damaged ({' '.join(found.split())}); restore a backup")
    _sync(made)


def _settle(database: Path, aside: Path) -> None:
    """Bring what is in the write-ahead log into the file: beside another database it would be taken for its own.

    Raises StoreError where somebody is using it, and OSError. A log that SQLite makes nothing of is kept aside.
    """
    log, index = (database.with_name(database.name + end) for end in SIDE_FILES)
    kept = aside.with_name(aside.name + SIDE_FILES[0])
    if log.exists():
        kept.hardlink_to(log)
    problem, in_use = "", False
    try:
        with closing(sqlite3.connect(database, timeout=BUSY_SECONDS)) as connection:
            in_use = bool(connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0])
    except sqlite3.Error as error:
        problem = str(error.sqlite_errorname)
    if in_use or problem.startswith("SQLITE_BUSY"):
        kept.unlink(missing_ok=True)
        raise StoreError(f"{database}: another process is using it; let that end")
    if not problem:
        kept.unlink(missing_ok=True)
    log.unlink(missing_ok=True)
    index.unlink(missing_ok=True)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
