"""The queue before the archive: bounded, and honest about what was not written."""

from __future__ import annotations

import threading
from datetime import UTC, datetime
from pathlib import Path

import pytest

from addons.archive_folder import ArchiveFolder, check_folder
from addons.archive_format import ArchiveError
from addons.archive_writer import CHUNK, ArchiveWriter
from tests.addons.sealed import RECIPIENT, content
from tests.harness.processes import wait_for


class Stuck(ArchiveFolder):
    """A folder on a disk that does not answer until it is told to, or that fails."""

    def __init__(self, path: Path) -> None:
        check_folder(path)
        super().__init__(path, RECIPIENT, 1 << 20, 1 << 30, lambda: datetime(2026, 1, 1, tzinfo=UTC))
        self.go = threading.Event()
        self.go.set()
        self.entered = threading.Event()
        self.error: Exception | None = None
        self.sizes: list[int] = []

    def append(self, records: bytes) -> None:
        self.entered.set()
        assert self.go.wait(30)
        if self.error is not None:
            raise self.error
        self.sizes.append(len(records))
        super().append(records)


@pytest.fixture
def folder(tmp_path: Path) -> Stuck:
    return Stuck(tmp_path / "archive")


def test_what_is_put_is_written_in_order_by_the_time_it_is_closed(folder: Stuck, tmp_path: Path) -> None:
    writer = ArchiveWriter(folder, 1 << 20)
    records = [b"%06d" % number for number in range(5000)]
    for record in records:
        writer.put(record)
    assert writer.close(30) == 0
    assert content(tmp_path / "archive") == b"".join(records)


def test_what_waits_is_written_together_and_records_are_not_divided(folder: Stuck) -> None:
    folder.go.clear()
    writer = ArchiveWriter(folder, 10 * CHUNK)
    writer.put(b"first")
    assert folder.entered.wait(30)
    for size in (100, 200, CHUNK, 2 * CHUNK, 300):
        writer.put(b"x" * size)
    folder.go.set()
    assert writer.close(30) == 0
    assert folder.sizes == [5, 300, CHUNK, 2 * CHUNK, 300]


def test_what_does_not_fit_the_queue_is_an_error_and_the_rest_is_kept(folder: Stuck, tmp_path: Path) -> None:
    folder.go.clear()
    writer = ArchiveWriter(folder, 1000)
    writer.put(b"a" * 600)
    writer.put(b"b" * 400)
    with pytest.raises(ArchiveError, match=r"1000 bytes wait \(archive_queue_size\), and 1 more do not fit"):
        writer.put(b"c")
    folder.go.set()
    assert writer.flush(30) == 0
    writer.put(b"d")
    assert writer.close(30) == 0
    assert content(tmp_path / "archive") == b"a" * 600 + b"b" * 400 + b"d"


def test_a_record_larger_than_the_queue_is_taken_when_nothing_waits(folder: Stuck, tmp_path: Path) -> None:
    writer = ArchiveWriter(folder, 10)
    writer.put(b"x" * 5000)
    assert writer.close(30) == 0
    assert content(tmp_path / "archive") == b"x" * 5000


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), ArchiveError("no room")])
def test_after_a_failure_nothing_is_taken_until_what_waits_was_written(
    folder: Stuck, tmp_path: Path, error: Exception
) -> None:
    folder.error = error
    writer = ArchiveWriter(folder, 1000, retry=0.01)
    writer.put(b"one")
    assert writer.flush(30) == 1
    for attempt in (writer.check, lambda: writer.put(b"two")):
        with pytest.raises(ArchiveError, match=r"the archive cannot be written: .*no (space|room)|No space"):
            attempt()
    folder.error = None
    wait_for("the next try", lambda: writer.failure is None)
    writer.check()
    writer.put(b"three")
    assert writer.close(30) == 0
    assert content(tmp_path / "archive") == b"onethree"


def test_closing_says_how_many_were_not_written_and_why(folder: Stuck) -> None:
    folder.error = OSError(28, "No space left on device")
    writer = ArchiveWriter(folder, 1000, retry=60)
    writer.put(b"one")
    assert writer.close(30) == 1
    assert "No space left" in (writer.failure or "")


def test_a_disk_that_does_not_answer_does_not_hold_up_the_end(folder: Stuck) -> None:
    folder.go.clear()
    writer = ArchiveWriter(folder, 1000)
    writer.put(b"one")
    assert writer.close(0.05) == 1
    folder.go.set()


def test_a_closed_writer_takes_nothing(folder: Stuck) -> None:
    writer = ArchiveWriter(folder, 1000)
    assert writer.close(1) == 0
    with pytest.raises(ArchiveError, match="the archive is closed"):
        writer.put(b"one")
