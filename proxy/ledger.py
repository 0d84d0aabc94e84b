"""How many connections are open on the node, counted over all workers: a table in shared memory.

The supervisor makes it and hands it on as it hands on the sockets. Each worker writes one row and reads all: the sum of
a column is the count. There is no lock, and no worker can wait for another. Exact columns: all connections, how busy
the worker is, each listener's connections, each tenant's. Client addresses are too many for columns, so they share
:data:`CELLS` times two: an address counts in one cell of each half, and the smaller of the two is taken (a count-min
sketch: never less than the truth, and more only where others fall into both cells). Which cells those are depends on a
key that nobody outside knows, so that no one can aim at a neighbour's.

When a worker is gone, the supervisor clears its row before another takes it. Workers that replace others count in the
same table where they can; :mod:`proxy.ledgers` says when.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import mmap
import os
import socket
from collections.abc import Sequence

CELLS = 16 * 1024
"""Of each half of the sketch. A row takes 128 KiB where client addresses are counted, and a page where not."""
KEY_BYTES = 16
BUSY = 1
"""The column of processor time: thousandths of a second that a worker took in the last one, at least one; 0 where it
takes no connections, or is not there."""
_BEFORE = 2
"""Columns before those with names."""
HEADER = 4096
"""Bytes before the first row: the key, then what the table is. A page, so that no row shares one with it."""
FORM = 2
"""To be counted up when the cells come to mean something else: a program that another one has replaced may still write
to the table that its successor reads."""
_CELL_BYTES = 4
_SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL
"""Its size stays: a process that shortened it would end the others with SIGBUS."""


class LedgerFullError(OSError):
    """Every row is taken: workers that drain hold the others."""

    def __init__(self) -> None:
        super().__init__(errno.EAGAIN, "too many workers are still draining")


class Ledger:
    """The table. ``columns`` names the exact ones behind all connections and :data:`BUSY`: both sides must agree."""

    def __init__(self, fd: int, columns: Sequence[tuple[str, str]]) -> None:
        """Map the table behind ``fd``, which this object owns from now on.

        Raises OSError, and ValueError where it is no ledger, or one with other columns; then ``fd`` is as it was.
        """
        what = _what(columns)
        if os.pread(fd, len(what), KEY_BYTES) != what:
            raise ValueError("the table of connections is of another form, or for other listeners and tenants")
        self.fd = fd
        self.columns = tuple(columns)
        self.width = width(len(columns))
        self.rows = (os.fstat(fd).st_size - HEADER) // (self.width * _CELL_BYTES)
        self._memory = mmap.mmap(fd, 0)
        self.key = bytes(self._memory[:KEY_BYTES])
        self.cells = memoryview(self._memory)[HEADER:].cast("I")
        """Row behind row. Only the owner of a row writes it."""
        self.column = {("all", ""): 0} | {name: number for number, name in enumerate(columns, _BEFORE)}
        self._sketch = len(columns) + _BEFORE
        self._taken: set[int] = set()
        self._finished = False

    @classmethod
    def create(cls, rows: int, columns: Sequence[tuple[str, str]]) -> Ledger:
        """A new table, all zero, in memory that has no name. Raises OSError."""
        fd = os.memfd_create("sallyport-ledger", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        os.ftruncate(fd, HEADER + rows * width(len(columns)) * _CELL_BYTES)
        os.pwrite(fd, os.urandom(KEY_BYTES) + _what(columns), 0)
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, _SEALS)
        return cls(fd, columns)

    def close(self) -> None:
        """Let go of the memory and the descriptor."""
        self.cells.release()
        self._memory.close()
        os.close(self.fd)

    # --- the supervisor's side ---

    def take(self) -> int:
        """A row for a worker that is about to start. Raises LedgerFullError."""
        row = next((row for row in range(self.rows) if row not in self._taken), None)
        if row is None:
            raise LedgerFullError
        self._taken.add(row)
        self.clear(row)
        return row

    def free(self, row: int) -> None:
        """Its worker is gone, and its connections with it."""
        self.clear(row)
        self._taken.discard(row)
        self._close_if_done()

    @property
    def taken(self) -> int:
        """How many rows have a worker."""
        return len(self._taken)

    def reserve(self, row: int) -> bool:
        """A row that a worker has already, with what it counts; False where there is no such row."""
        if not 0 <= row < self.rows or row in self._taken:
            return False
        self._taken.add(row)
        return True

    def finish(self) -> None:
        """No further worker is going to count here: the table goes with the last one that does."""
        self._finished = True
        self._close_if_done()

    def _close_if_done(self) -> None:
        if self._finished and not self._taken:
            self._finished = False
            self.close()

    def clear(self, row: int) -> None:
        """Nothing is open in this row."""
        start = HEADER + row * self.width * _CELL_BYTES
        # Only what is not zero already: writing makes a page of each hole in the table.
        page = bytes(mmap.PAGESIZE)
        end = start + self.width * _CELL_BYTES
        for at in range(start, end, mmap.PAGESIZE):
            size = min(mmap.PAGESIZE, end - at)
            if self._memory[at : at + size] != page[:size]:
                self._memory[at : at + size] = page[:size]

    # --- everybody's ---

    def total(self, column: int) -> int:
        """The count over all workers."""
        return sum(self.cells[column :: self.width])

    def cells_of(self, client: bytes) -> tuple[int, int]:
        """The two columns in which a client counts; ``client`` is what :func:`client_key` gives."""
        digest = hashlib.blake2b(client, digest_size=8, key=self.key).digest()
        first = int.from_bytes(digest[:4]) % CELLS
        second = int.from_bytes(digest[4:]) % CELLS
        return self._sketch + first, self._sketch + CELLS + second


def _what(columns: Sequence[tuple[str, str]]) -> bytes:
    """What the table is: its form and its columns, as 16 bytes."""
    said = repr((FORM, CELLS, mmap.PAGESIZE, tuple(columns))).encode()
    return hashlib.blake2b(said, digest_size=16, person=b"sallyport-ledger").digest()


def width(columns: int) -> int:
    """Cells of a row: the exact columns, and the sketch; filled up to whole pages, so that no two rows share one."""
    page = mmap.PAGESIZE // _CELL_BYTES
    return -(-(_BEFORE + columns + 2 * CELLS) // page) * page


def client_key(address: str) -> bytes:
    """Whom an address stands for, packed: an IPv4 address, or the /64 of an IPv6 one.

    Whoever has one IPv6 address most often has its /64 (RFC 6177, section 2), and could count as as many clients.
    """
    if ":" not in address:
        return socket.inet_pton(socket.AF_INET, address)
    packed = socket.inet_pton(socket.AF_INET6, address.partition("%")[0])
    if packed[:12] == b"\0" * 10 + b"\xff\xff":
        return packed[12:]  # an IPv4 client (RFC 4291, section 2.5.5.2)
    return packed[:8]
