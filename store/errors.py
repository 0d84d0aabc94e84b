"""What can go wrong with the database, in one line each, and how the driver's errors become that."""

from __future__ import annotations

from pathlib import Path


class StoreError(Exception):
    """The database cannot be used as asked. The text is one line: what is wrong, in which file, what to do."""


class OutOfReach(StoreError):  # noqa: N818 - the name that the parts agreed on
    """The database is locked, or the disk is full: nothing is wrong with it, and later the same may be done."""


class NewerDatabase(StoreError):  # noqa: N818 - the name that the parts agreed on
    """The database was written by a version that this one does not know."""


class Conflict(StoreError):  # noqa: N818 - the name that the parts agreed on
    """A row would break a rule of uniqueness. ``columns`` names them, as in ``tenants.name``."""

    def __init__(self, message: str, columns: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.columns = columns


class Busy(Exception):  # noqa: N818 - nothing is wrong with the store: somebody else is writing
    """The store would have to be waited for, and the caller does not wait. Nothing was changed."""


PASSING = frozenset({"SQLITE_BUSY", "SQLITE_PROTOCOL", "SQLITE_FULL"})
UNIQUENESS = frozenset({"SQLITE_CONSTRAINT_UNIQUE", "SQLITE_CONSTRAINT_PRIMARYKEY"})
REMEDIES = {
    "SQLITE_BUSY": "another process kept it locked; try again",
    "SQLITE_PROTOCOL": "another process kept it locked; try again",
    "SQLITE_FULL": "the disk is full; make room",
    "SQLITE_READONLY": "it cannot be written; give the user that runs this write access to the file and its folder",
    "SQLITE_CANTOPEN": "it cannot be opened; give the user that runs this access to the file and its folder",
    "SQLITE_NOTADB": "it is damaged or no database of Sallyport; restore a backup",
    "SQLITE_CORRUPT": "it is damaged; restore a backup",
    "SQLITE_IOERR": "the disk failed to read or write; see the system's log",
}


def translate(path: Path, error: BaseException) -> StoreError:
    """The driver's error as one of ours. Never holds a statement's parameters."""
    name = str(getattr(error, "sqlite_errorname", ""))
    text = " ".join(str(error).split())
    if name in UNIQUENESS:
        columns = tuple(column.strip() for column in text.partition(": ")[2].split(","))
        return Conflict(f"{path}: the entry is there already ({', '.join(columns)})", columns)
    for prefix, remedy in REMEDIES.items():
        if name.startswith(prefix):
            kind = OutOfReach if prefix in PASSING else StoreError
            return kind(f"{path}: {remedy} ({text})")
    return StoreError(f"{path}: the database refused: {text}")
