"""A plugin of pytest's (``-p tests.harness.newer_sqlite``): the tests have the SQLite of pysqlite3-binary.

Python has the SQLite of the system that it runs on, and those of distributions differ by years. To be loaded before
anything imports sqlite3.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pysqlite3
import pysqlite3.dbapi2

sys.modules["sqlite3"] = pysqlite3
sys.modules["sqlite3.dbapi2"] = pysqlite3.dbapi2

from store import errors  # noqa: E402 - it imports sqlite3

_translate = errors.translate


def _translated(path: Path, error: BaseException) -> errors.StoreError:
    # Python's own driver asks for the extended names of errors, which this one does not.
    if str(error).startswith("UNIQUE constraint failed"):
        error.sqlite_errorname = "SQLITE_CONSTRAINT_UNIQUE"  # type: ignore[attr-defined]
    return _translate(path, error)


errors.translate = _translated


def pytest_report_header() -> str:
    """Which one it is."""
    return f"SQLite {pysqlite3.sqlite_version}"
