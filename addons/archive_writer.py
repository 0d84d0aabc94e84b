"""Gathers records and writes them in a thread of its own. What cannot be written is told to whoever brings more."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable

from addons.archive_folder import ArchiveFolder
from addons.archive_format import LARGEST_CHUNK, ArchiveError

CHUNK = 1 << 20
"""Bytes of records that are written together, where that many wait; a record is never divided."""
RETRY = 1.0
"""Seconds until a write that failed is tried again."""


class ArchiveWriter:
    """A bounded queue before an :class:`ArchiveFolder`. ``queue_size``: bytes of records that may wait.

    After a failed write nothing more is taken until one succeeds; what waits is kept and tried again.
    """

    def __init__(self, folder: ArchiveFolder, queue_size: int, retry: float = RETRY) -> None:
        self._folder = folder
        self._queue_size = queue_size
        self._retry = retry
        self._changed = threading.Condition()
        self._waiting: deque[bytes] = deque()
        self._bytes = 0
        self._failure: str | None = None
        self._closing = False
        self._thread: threading.Thread | None = None

    def check(self) -> None:
        """Raises ArchiveError where nothing can be taken now."""
        with self._changed:
            self._check()

    def put(self, record: bytes) -> None:
        """Take one record, in memory. Raises ArchiveError where it cannot be written, or does not fit."""
        with self._changed:
            self._check()
            # A single record may be larger than the queue: an empty queue takes it.
            if (self._waiting and self._bytes + len(record) > self._queue_size) or len(record) > LARGEST_CHUNK:
                raise ArchiveError(
                    f"the archive is not written fast enough: {self._bytes} bytes wait (archive_queue_size), and "
                    f"{len(record)} more do not fit"
                )
            self._waiting.append(record)
            self._bytes += len(record)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="archive", daemon=True)
                self._thread.start()
            self._changed.notify_all()

    def flush(self, timeout: float) -> int:
        """Wait until all is written or a write failed, at most ``timeout`` seconds. Returns how many still wait."""
        with self._changed:
            self._changed.wait_for(lambda: not self._waiting or self._failure is not None, timeout)
            return len(self._waiting)

    def end(self) -> None:
        """Take nothing more. What waits is written, the file ended, and the thread stops; nobody is kept waiting."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()

    def close(self, timeout: float) -> int:
        """As :meth:`end`, and wait for it, at most ``timeout`` seconds. Returns how many were not written."""
        self.end()
        if self._thread is not None:
            self._thread.join(timeout)
        return len(self._waiting)

    @property
    def failure(self) -> str | None:
        """Why the last write failed; None where it did not."""
        return self._failure

    def _check(self) -> None:
        if self._failure is not None:
            raise ArchiveError(f"the archive cannot be written: {self._failure}")
        if self._closing or (self._thread is not None and not self._thread.is_alive()):
            raise ArchiveError("the archive is closed")

    def _run(self) -> None:
        while (batch := self._next()) is not None:
            self._attempt(self._folder.append, b"".join(batch))
            with self._changed:
                if self._failure is None:
                    for record in batch:
                        self._waiting.popleft()
                        self._bytes -= len(record)
                elif self._closing:
                    break
                else:
                    self._changed.wait_for(lambda: self._closing, self._retry)
                self._changed.notify_all()
        failure = self._failure
        self._attempt(self._folder.finish)
        self._failure = failure or self._failure

    def _next(self) -> list[bytes] | None:
        """The oldest records that fit a chunk, left in the queue; None: closing, and nothing waits."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._closing)
            if not self._waiting:
                return None
            batch: list[bytes] = []
            size = 0
            for record in self._waiting:
                size += len(record)
                if batch and size > CHUNK:
                    break
                batch.append(record)
            return batch

    def _attempt(self, work: Callable[..., None], *arguments: bytes) -> None:
        failure = None
        try:
            work(*arguments)
        except (OSError, ArchiveError) as error:
            failure = str(error)
        with self._changed:
            self._failure = failure
