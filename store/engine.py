"""Opening the database, and the two ways to use it: :meth:`Store.reading` and :meth:`Store.transaction`.

SQLite in WAL mode: readers never wait for the writer, and the writer never for them. Each transaction that writes
begins with BEGIN IMMEDIATE, so that it waits for its turn at the beginning (up to :data:`BUSY_SECONDS`) and can never
fail half-way because somebody else wrote meanwhile. Within one process, writers queue for one connection: that is
fairer and faster than SQLite's polling. Who must not wait at all, an event loop, has a connection of its own for
:meth:`Store.transaction_now`.

How durable a commit is: ``synchronous = NORMAL`` in WAL mode loses nothing when a process is killed and never damages
the database, but a power failure can take the last commits with it. That is right for leaves: the leaf that is lost
was minted moments before, and one fsync for each would cost more than the signature. What an administrator changes
is not to be lost: those transactions say ``durable=True`` (``synchronous = FULL``, one fsync a commit), and that one
fsync covers all that was committed before it.

With NORMAL it is the checkpoint that waits for the disk: it moves the write-ahead log into the database, and SQLite
does that within the commit that finds :data:`PAGES_OF_LOG` pages in the log. Commits of :meth:`Store.transaction_now`
leave that to :meth:`Store.move_log`, which their user calls on a thread now and then; where that is not enough, at
:data:`MOST_PAGES_OF_LOG` pages, it happens within the commit all the same. What is left to them is one fsync of the
log's header in the first commit after a checkpoint. The log may be longer for that, so a power failure can take more
leaves with it, but never what the system wrote by itself meanwhile (Linux: what is older than half a minute).
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import sqlalchemy as sa
from sqlalchemy import event, exc
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.engine.interfaces import ExceptionContext
from sqlalchemy.pool import QueuePool

from store import creation
from store.errors import Busy, Conflict, NewerDatabase, OutOfReach, StoreError, translate

__all__ = ["DATABASE_FILE", "Busy", "Conflict", "Connection", "NewerDatabase", "OutOfReach", "Store", "StoreError"]

DATABASE_FILE = "sallyport.db"
"""The name of the database in the state directory."""
BUSY_SECONDS = 5.0
READERS = 8
"""Connections that read at once in one process; a ninth waits."""
PAGES_OF_LOG = 1000
"""Of 4 KiB, in the write-ahead log, at which a commit moves them into the database: SQLite's own number."""
MOST_PAGES_OF_LOG = 10_000
"""The same for commits that are not to wait for the disk: 40 MB."""


class Store:
    """The open database of an installation. Usable from several threads; not across fork."""

    def __init__(self, path: Path) -> None:
        """For :meth:`open`, which makes sure of the revision first."""
        self.path = path
        opened = path.stat()
        self._file = opened.st_dev, opened.st_ino
        self._readers = _engine(path, connections=READERS, writes=False)
        self._writer = _engine(path, connections=1, writes=True)
        self._prompt_writer = _engine(path, connections=1, writes=True, waits=False)
        self._prompt: Connection | None = None
        self._prompt_taken = threading.Lock()

    @classmethod
    def open(cls, path: Path, create: bool) -> Store:
        """Open the database at ``path`` and bring it to this version's revision.

        With ``create`` a missing file is made (0600). Alembic is imported only when there is something to migrate.
        Raises NewerDatabase, the file unchanged, or StoreError.
        """
        creation.bring_up_to_date(path, create=create)
        return cls(path)

    @classmethod
    def look(cls, path: Path) -> Store | None:
        """Open the database at ``path`` to read from it; nothing is made or migrated. None where it would have to be.

        Raises NewerDatabase or StoreError where this version cannot use it.
        """
        return cls(path) if creation.is_newest(path) else None

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A connection that only reads: all its statements see one state of the database. Raises StoreError."""
        with self._connected(self._readers) as connection, connection.begin() as transaction:
            yield connection
            transaction.rollback()

    @contextmanager
    def transaction(self, *, durable: bool = False) -> Iterator[Connection]:
        """A connection in a transaction of its own: committed at the end, rolled back on an exception.

        ``durable`` waits until the disk has it. Not to be nested. Raises StoreError; Conflict from the statement
        that broke a rule of uniqueness.
        """
        with self._connected(self._writer) as connection:
            # Before BEGIN, since within a transaction SQLite does not take it.
            driver: Any = connection.connection.driver_connection
            driver.execute(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
            with connection.begin():
                yield connection

    @contextmanager
    def undone(self) -> Iterator[Connection]:
        """A transaction for what is only tried: whatever is written in it is seen in it alone, and rolled back.

        Others who write wait for its end. Raises StoreError, Conflict.
        """
        with self._connected(self._writer) as connection, connection.begin() as transaction:
            yield connection
            transaction.rollback()

    @contextmanager
    def transaction_now(self) -> Iterator[Connection]:
        """A transaction for who must not wait: like :meth:`transaction`, but for :class:`Busy` instead of waiting.

        It is not durable, and its user calls :meth:`move_log` now and then. One connection is kept open for it, since
        taking one from a pool costs more than the transaction. Raises Busy, StoreError, Conflict.
        """
        if not self._prompt_taken.acquire(blocking=False):
            raise Busy
        try:
            if self._prompt is None:
                self._prompt = self._prompt_writer.connect()
            with self._prompt.begin():
                yield self._prompt
        finally:
            self._prompt_taken.release()

    def check_place(self) -> None:
        """Raises StoreError where the file that is open is no longer the one at its path.

        Whoever has a file open can go on reading it after it was renamed or removed, and would never hear of a change.
        """
        try:
            now = self.path.stat()
        except OSError as error:
            raise StoreError(f"{self.path}: {error.strerror}; put the file back, or restore a backup") from None
        if (now.st_dev, now.st_ino) != self._file:
            raise StoreError(f"{self.path}: another file has taken its place; restart the daemon to use it")

    def move_log(self) -> None:
        """Move what has gathered in the write-ahead log into the database. Waits for the disk; nobody waits for it.

        Raises StoreError.
        """
        with self._connected(self._readers) as connection:
            driver: Any = connection.connection.driver_connection
            try:
                driver.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
            except sqlite3.Error as error:
                raise translate(self.path, error) from None

    def checkpoint(self) -> bool:
        """Move the write-ahead log into the database and empty it, so that deleted keys leave the disk.

        False where others were at work for all of :data:`BUSY_SECONDS`: then a later one takes it. Raises StoreError.
        """
        with self._connected(self._writer) as connection:
            driver: Any = connection.connection.driver_connection
            try:
                ((busy, _, _),) = driver.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
            except sqlite3.Error as error:
                raise translate(self.path, error) from None
            return not busy

    def older_copies(self) -> list[Path]:
        """The copies that were made of this database before it was migrated."""
        return sorted(self.path.parent.glob(f"{self.path.name}.revision-*"))

    def close(self) -> None:
        """Close every connection."""
        if self._prompt is not None:
            self._prompt.close()
            self._prompt = None
        self._prompt_writer.dispose()
        self._readers.dispose()
        self._writer.dispose()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    @contextmanager
    def _connected(self, engine: Engine) -> Iterator[Connection]:
        try:
            connection = engine.connect()
        except exc.TimeoutError:
            raise StoreError(
                f"{self.path}: no connection within {BUSY_SECONDS:g} s; other work keeps it busy; try again"
            ) from None
        with connection:
            yield connection


def directly(c: Connection, statement: str) -> Any:
    """The first column of the one row of a statement that the driver gets as it is.

    For what is asked with every leaf, where SQLAlchemy's share would be larger than the database's. Raises StoreError.
    """
    driver: Any = c.connection.driver_connection
    try:
        return driver.execute(statement).fetchone()[0]
    except sqlite3.Error as error:
        raise translate(Path(str(c.engine.url.database)), error) from None


def many_directly(c: Connection, statement: str, rows: Sequence[tuple[Any, ...]]) -> None:
    """The same for a statement that is executed once with each of the rows. Raises StoreError, Conflict."""
    driver: Any = c.connection.driver_connection
    try:
        driver.executemany(statement, rows)
    except sqlite3.Error as error:
        raise translate(Path(str(c.engine.url.database)), error) from None


def _engine(path: Path, *, connections: int, writes: bool, waits: bool = True) -> Engine:
    """A pool of connections to the file; all its errors come out as StoreError.

    Without ``waits``, a transaction that cannot begin at once raises Busy.
    """
    engine = sa.create_engine(
        sa.URL.create("sqlite", database=str(path)),
        # isolation_level None: the driver begins nothing by itself; the event below says BEGIN.
        connect_args={
            "isolation_level": None,
            "timeout": BUSY_SECONDS if waits else 0.0,
            "check_same_thread": False,
        },
        poolclass=QueuePool,
        pool_size=connections,
        max_overflow=0,
        pool_timeout=BUSY_SECONDS,
        hide_parameters=True,  # parameters are sealed keys and certificates: not for an error's text
    )
    begin = "BEGIN IMMEDIATE" if writes else "BEGIN"

    @event.listens_for(engine, "connect")
    def _connected(driver: Any, record: object) -> None:
        driver.execute("PRAGMA foreign_keys = ON")
        if writes:
            driver.execute("PRAGMA secure_delete = ON")  # a deleted key is overwritten, not only unlinked
            driver.execute(f"PRAGMA wal_autocheckpoint = {PAGES_OF_LOG if waits else MOST_PAGES_OF_LOG}")
            driver.execute("PRAGMA synchronous = NORMAL")
        else:
            driver.execute("PRAGMA query_only = ON")

    @event.listens_for(engine, "begin")
    def _began(connection: Connection) -> None:
        # Straight to the driver: SQLAlchemy's way would be a tenth of what it costs to record a leaf.
        driver: Any = connection.connection.driver_connection
        try:
            driver.execute(begin)
        except sqlite3.Error as error:
            if not waits and error.sqlite_errorname.startswith("SQLITE_BUSY"):
                raise Busy from None
            raise translate(path, error) from None

    @event.listens_for(engine, "handle_error", retval=True)
    def _failed(context: ExceptionContext) -> StoreError | None:
        original = context.original_exception
        return translate(path, original) if context.sqlalchemy_exception is not None else None

    return engine
