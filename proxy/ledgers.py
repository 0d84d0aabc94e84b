"""Which ledger the workers of a configuration count in.

As long as listeners and tenants are the same, workers that replace others count in the ledger of those, together with
them. Where the columns differ a new ledger begins at zero, and each worker stays with the one that it began with.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable

from config.settings import Settings
from proxy.ledger import Ledger
from proxy.seats import columns, worker_count
from proxy.start_error import StartError

ROWS_PER_WORKER = 4
"""A worker that drains keeps its row while its successor has another."""


def fitting(ledger: Ledger | None, settings: Settings) -> Ledger:
    """The ledger for workers that are about to start: ``ledger`` where it fits and has room for all, or a new one.

    Raises StartError.
    """
    names, count = columns(settings.listeners), worker_count(settings.workers)
    if ledger is not None and ledger.columns == names and ledger.rows - ledger.taken >= count:
        return ledger
    try:
        return Ledger.create(count * ROWS_PER_WORKER, names)
    except OSError as error:
        raise StartError(
            f"the table in which the workers count connections cannot be made: {error.strerror}; "
            "is there memory, and are there descriptors, for the supervisor?"
        ) from None


def handed_on(fd: int | None, settings: Settings, rows: Iterable[int]) -> Ledger | None:
    """The ledger of the program before this one, in which ``rows`` are taken; None where it is not of our making."""
    if fd is None:
        return None
    try:
        os.set_inheritable(fd, False)
        ledger = Ledger(fd, columns(settings.listeners))
    except (OSError, ValueError):
        with contextlib.suppress(OSError):
            os.close(fd)
        return None
    if all(ledger.reserve(row) for row in rows):
        return ledger
    ledger.close()
    return None
