"""The folder of archives: who may enter it, how large it gets, and what becomes of disks and writers that fail."""

from __future__ import annotations

import errno
import fcntl
import os
import re
import shutil
import stat
import subprocess
import sys
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from addons.archive_folder import ArchiveFolder, check_folder
from addons.archive_format import CHUNK_OVERHEAD, ArchiveError, CutOffError, Sealer
from tests.addons.sealed import PUBLIC, RECIPIENT, content, names, opened
from tests.harness.processes import wait_for

FILE, TOTAL = 20_000, 100_000


class Clock:
    """A second later each time that it is asked."""

    def __init__(self) -> None:
        self.now = datetime(2026, 11, 23, tzinfo=UTC)

    def __call__(self) -> datetime:
        self.now += timedelta(seconds=1)
        return self.now


def made(path: Path, file_size: int = FILE, total_size: int = TOTAL, clock: Clock | None = None) -> ArchiveFolder:
    check_folder(path)
    return ArchiveFolder(path, RECIPIENT, file_size, total_size, clock or Clock())


def total(path: Path) -> int:
    return sum(each.stat().st_size for each in path.iterdir())


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "archive"


class TestCheck:
    def test_a_missing_folder_is_made_for_its_user_alone(self, path: Path) -> None:
        check_folder(path)
        assert stat.S_IMODE(path.stat().st_mode) == 0o700

    @pytest.mark.parametrize("mode", [0o750, 0o705, 0o710, 0o777])
    def test_one_that_others_can_enter_is_refused(self, path: Path, mode: int) -> None:
        path.mkdir()
        path.chmod(mode)
        with pytest.raises(ArchiveError, match=f"has mode {mode:04o}, so others can get at it; chmod 0700 it"):
            check_folder(path)

    def test_a_file_is_no_folder(self, path: Path) -> None:
        path.touch()
        with pytest.raises(ArchiveError, match="is no folder"):
            check_folder(path)

    def test_nothing_is_made_in_a_folder_that_is_missing(self, path: Path) -> None:
        with pytest.raises(FileNotFoundError):
            check_folder(path / "below")


class TestFiles:
    def test_a_file_is_for_its_user_alone_and_has_its_name_when_it_is_whole(self, path: Path) -> None:
        folder = made(path)
        folder.append(b"one")
        (part,) = names(path)
        assert part == f"flows-20261123T000001.000000Z-{os.getpid()}-1.sealed.part"
        assert stat.S_IMODE((path / part).stat().st_mode) == 0o600
        with pytest.raises(CutOffError):
            opened((path / part).read_bytes())
        folder.finish()
        assert names(path) == [part.removesuffix(".part")]
        assert content(path) == b"one"

    def test_without_a_record_there_is_no_file(self, path: Path) -> None:
        made(path).finish()
        assert names(path) == []

    def test_files_are_bounded_and_what_was_written_stays_in_order(self, path: Path) -> None:
        folder = made(path)
        records = [bytes([65 + number]) * 6000 for number in range(9)]
        for record in records:
            folder.append(record)
        folder.finish()
        assert len(names(path)) == 3  # three records and a header of 1.2 KiB make a file
        assert all(each.stat().st_size <= FILE for each in path.iterdir())
        assert content(path) == b"".join(records)

    def test_a_record_larger_than_a_file_has_one_of_its_own(self, path: Path) -> None:
        folder = made(path)
        for record in (b"a", b"b" * 2 * FILE, b"c"):
            folder.append(record)
        folder.finish()
        assert len(names(path)) == 3
        assert content(path) == b"a" + b"b" * 2 * FILE + b"c"

    def test_the_oldest_files_are_deleted_and_other_files_are_left_alone(self, path: Path) -> None:
        folder = made(path)
        (path / "notes.txt").write_bytes(b"x" * 3 * TOTAL)
        for number in range(40):
            folder.append(bytes([48 + number]) * 9000)
            assert total(path) - 3 * TOTAL <= TOTAL
        folder.finish()
        kept = content(path)
        assert kept.endswith(bytes([48 + 39]) * 9000)
        assert len(kept) > TOTAL / 2
        assert bytes([48]) not in kept
        assert (path / "notes.txt").exists()

    def test_what_has_no_room_at_all_is_an_error(self, path: Path) -> None:
        with pytest.raises(ArchiveError, match=r"archive_total_size \(100000 bytes\) has no room"):
            made(path).append(b"x" * TOTAL)

    def test_files_that_are_being_written_are_not_deleted_and_one_ends_its_own_to_make_room(self, path: Path) -> None:
        clock = Clock()
        first, second = made(path, FILE, 2 * FILE, clock), made(path, FILE, 2 * FILE, clock)
        for number in range(8):
            first.append(b"f" * 4000 + bytes([48 + number]))
            second.append(b"s" * 4000 + bytes([48 + number]))
            assert total(path) <= 2 * FILE
        first.finish()
        second.finish()
        kept = content(path)
        assert kept.count(b"f7") == kept.count(b"s7") == 1

    def test_where_others_files_take_the_room_one_makes_do_with_the_rest(self, path: Path) -> None:
        clock = Clock()
        first, second, third = (made(path, 30_000, 60_000, clock) for _ in range(3))
        first.append(b"f" * 25_000)
        second.append(b"s" * 25_000)
        for number in range(5):
            third.append(b"t" * 2000 + bytes([48 + number]))
            assert total(path) <= 60_000
        for folder in (first, second, third):
            folder.finish()
        kept = content(path)
        assert kept.count(b"f") == kept.count(b"s") == 25_000
        assert kept.endswith(b"t4")
        assert b"t0" not in kept

    def test_the_total_holds_to_the_byte_with_the_ends_of_all_files(self, path: Path) -> None:
        size = 2 * (len(Sealer(RECIPIENT).header) + 2 * CHUNK_OVERHEAD) + 30_000
        clock = Clock()
        first, second = made(path, 20_000, size, clock), made(path, 20_000, size, clock)
        first.append(b"f" * 15_000)
        with pytest.raises(ArchiveError, match="has no room"):
            second.append(b"s" * 15_001)
        second.append(b"s" * 15_000)
        first.finish()
        second.finish()
        assert total(path) == size

    def test_one_writes_while_the_others_wait(self, path: Path) -> None:
        folder = made(path)
        fd = os.open(path, os.O_RDONLY)
        fcntl.flock(fd, fcntl.LOCK_EX)
        writing = threading.Thread(target=folder.append, args=(b"one",))
        writing.start()
        waiter = re.compile(rf"-> FLOCK .* {os.getpid()} \S+:{path.stat().st_ino} ")
        try:
            wait_for("a writer in line for the lock", lambda: waiter.search(Path("/proc/locks").read_text()))
            assert names(path) == []
        finally:
            os.close(fd)
        writing.join(30)
        assert len(names(path)) == 1

    def test_a_file_whose_writer_died_is_deleted_in_its_turn(self, path: Path) -> None:
        folder = made(path)
        dead = path / "flows-20200101T000000.000000Z-1-1.sealed.part"
        dead.write_bytes(b"x" * (TOTAL - 2000))
        folder.append(b"y" * 5000)
        assert not dead.exists()

    def test_several_processes_keep_the_bound_together(self, path: Path, tmp_path: Path) -> None:
        (tmp_path / "public.pem").write_bytes(PUBLIC)
        check_folder(path)
        program = (
            "import sys, pathlib, datetime as d\n"
            "from addons.archive_folder import ArchiveFolder; from addons.archive_keys import load_recipient\n"
            f"r = load_recipient(pathlib.Path({str(tmp_path / 'public.pem')!r}).read_bytes())\n"
            f"f = ArchiveFolder(pathlib.Path({str(path)!r}), r, {FILE}, {TOTAL}, lambda: d.datetime.now(d.UTC))\n"
            "for n in range(60): f.append(sys.argv[1].encode() * 3000)\n"
            "f.finish()\n"
        )
        writers = [
            subprocess.Popen([sys.executable, "-c", program, letter], cwd=Path(__file__).resolve().parents[2])
            for letter in "abc"
        ]
        seen = 0
        while any(writer.poll() is None for writer in writers):
            sizes: dict[str, int] = {}
            for each in os.scandir(path):
                try:
                    sizes[each.name.removesuffix(".part")] = each.stat().st_size
                except FileNotFoundError:
                    continue
            seen = max(seen, len(sizes))
        assert [writer.returncode for writer in writers] == [0, 0, 0]
        assert total(path) <= TOTAL
        assert total(path) > TOTAL / 2
        assert seen > 2
        assert set(content(path)) <= set(b"abc")
        assert not [name for name in names(path) if name.endswith(".part")]


class TestFaults:
    def test_a_full_disk_is_an_error_and_leaves_whole_records(
        self, path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        folder = made(path)
        folder.append(b"one")
        real = os.pwrite

        def full(fd: int, data: Any, at: int) -> int:
            if len(data) > 2000:
                return real(fd, data[:500], at)
            if len(data) > 1500:
                raise OSError(errno.ENOSPC, "No space left on device")
            return real(fd, data, at)

        with monkeypatch.context() as patch:
            patch.setattr(os, "pwrite", full)
            for _ in range(3):
                with pytest.raises(OSError, match="No space left"):
                    folder.append(b"x" * 5000)
        assert content(path) == b"one"
        assert len(names(path)) == 1, "a try that wrote nothing leaves no file behind"
        folder.append(b"two")
        folder.finish()
        assert content(path) == b"onetwo"

    def test_a_folder_that_is_gone_is_an_error(self, path: Path) -> None:
        folder = made(path)
        folder.append(b"one")
        shutil.rmtree(path)
        with pytest.raises(FileNotFoundError):
            folder.append(b"two")
        path.mkdir(mode=0o700)
        with pytest.raises(ArchiveError, match="was removed while it was written; what was in it is lost"):
            folder.append(b"two")
        folder.append(b"two")
        folder.finish()
        assert content(path) == b"two"

    def test_a_file_that_is_deleted_while_it_is_written_is_an_error(self, path: Path) -> None:
        folder = made(path)
        folder.append(b"one")
        (path / names(path)[0]).unlink()
        with pytest.raises(ArchiveError, match="was removed while it was written"):
            folder.append(b"two")

    def test_a_folder_that_was_opened_to_others_is_an_error(self, path: Path) -> None:
        folder = made(path)
        path.chmod(0o755)
        with pytest.raises(ArchiveError, match="others can get at it"):
            folder.append(b"one")
