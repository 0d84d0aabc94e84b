"""The folder of CRLs: written whole, read by others, claimed by one, bounded, tidied up."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from store import crls
from store.crls import OUTDATED_SECONDS, CrlFiles, Failure, KeptCrl, name_of

NOW = 1_800_000_000.0
ONE = name_of("http://crl.example/1.crl", b"key")
KEPT = KeptCrl("http://crl.example/1.crl", NOW, NOW + 100, b"\x30\x00\n{}\n")


@pytest.fixture
def files(tmp_path: Path) -> CrlFiles:
    made = CrlFiles(tmp_path / "crls")
    made.open()
    return made


def test_what_was_written_is_read_by_another(files: CrlFiles) -> None:
    files.write(ONE, KEPT)
    other = CrlFiles(files.folder)
    assert other.read(ONE, 100) == KEPT
    assert files.folder.stat().st_mode & 0o777 == 0o700
    assert all(path.stat().st_mode & 0o777 == 0o600 for path in files.folder.iterdir())


def test_a_list_is_of_a_url_and_a_key() -> None:
    assert len({name_of(url, key) for url in ("http://a/", "http://b/") for key in (b"1", b"2")}) == 4


def test_what_is_not_there_too_large_or_damaged_is_not_read(files: CrlFiles, tmp_path: Path) -> None:
    assert files.read(ONE, 100) is None
    files.write(ONE, KEPT)
    assert files.read(ONE, len(KEPT.encoded) - 1) is None
    path = files.folder / f"{ONE}.crl"
    for damage in (b"", b"{", b"{}\n", b"[]\n", b'{"url":1,"fetched_at":"x","next_update":0}\n', b"\xff" * 20_000):
        path.write_bytes(damage)
        assert files.read(ONE, 100) is None
    path.unlink()
    (tmp_path / "elsewhere").write_bytes(b'{"url":"u","fetched_at":0,"next_update":0}\nx')
    path.symlink_to(tmp_path / "elsewhere")
    assert files.read(ONE, 100) is None


def test_nothing_is_left_of_what_could_not_be_written(files: CrlFiles, monkeypatch: pytest.MonkeyPatch) -> None:
    files.write(ONE, KEPT)
    before = {path: path.read_bytes() for path in files.folder.iterdir()}

    def full(self: Path, target: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(OSError, match="No space left"):
        files.write(ONE, KeptCrl("other", NOW, NOW, b"2"))
    assert {path: path.read_bytes() for path in files.folder.iterdir()} == before


def test_a_failure_is_known_for_its_time_and_until_there_is_a_list(files: CrlFiles) -> None:
    assert files.failure(ONE, NOW) is None
    files.fail(ONE, Failure("no answer", NOW + 60))
    assert CrlFiles(files.folder).failure(ONE, NOW + 59) == Failure("no answer", NOW + 60)
    assert files.failure(ONE, NOW + 60) is None
    files.write(ONE, KEPT)
    assert files.failure(ONE, NOW) is None


CLAIMS = """
import sys
from pathlib import Path
from store.crls import CrlFiles
files = CrlFiles(Path(sys.argv[1]))
files.open()
print(files.claim(sys.argv[2]), flush=True)
sys.stdin.read()
"""


def test_one_process_fetches_and_a_killed_one_holds_up_nobody(files: CrlFiles) -> None:
    other = subprocess.Popen(
        [sys.executable, "-c", CLAIMS, str(files.folder), ONE], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert other.stdout is not None
        assert other.stdout.readline() == "True\n"
        assert not files.claim(ONE)
        assert files.claim(name_of("http://other/", b"key"))
    finally:
        other.kill()
        other.communicate()
    assert files.claim(ONE)
    files.release(ONE)


def test_what_is_of_no_use_any_more_is_removed(files: CrlFiles) -> None:
    names = {end: name_of(f"http://{end}/", b"") for end in (-1.0, 1.0)}
    for end, name in names.items():
        files.write(name, KeptCrl("u", NOW, NOW + end, b"1"))
    files.fail(ONE, Failure("x", NOW + 60))
    (files.folder / ".abandoned").write_bytes(b"half")
    (files.folder / "damaged.crl").write_bytes(b"half")
    for path in files.folder.iterdir():
        os.utime(path, (NOW, NOW))
    files.tidy(NOW)
    left = {path.name for path in files.folder.iterdir()}
    assert left == {"lock", ".abandoned", f"{ONE}.failed", *(f"{name}.crl" for name in names.values())}
    files.tidy(NOW + OUTDATED_SECONDS)
    assert {path.name for path in files.folder.iterdir()} - {".abandoned", f"{ONE}.failed"} == {
        "lock", f"{names[1.0]}.crl",
    }  # fmt: skip
    files.tidy(NOW + OUTDATED_SECONDS + 2)
    assert {path.name for path in files.folder.iterdir()} == {"lock"}


def test_there_is_never_too_much_the_oldest_go_before(files: CrlFiles, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crls, "MOST_BYTES", 3000)
    names = [name_of(f"http://{number}/", b"") for number in range(4)]
    for number, name in enumerate(names):
        if number == 1:
            files.fail(ONE, Failure("x", NOW + 60))
            os.utime(files.folder / f"{ONE}.failed", (NOW + number, NOW + number))
        files.write(name, KeptCrl("u", NOW, NOW + 100, bytes(900)))
        os.utime(files.folder / f"{name}.crl", (NOW + number, NOW + number))
        assert sum(path.stat().st_size for path in files.folder.iterdir()) <= 3000
    assert [files.read(name, 1000) is not None for name in names] == [False, True, True, True]
    with pytest.raises(OSError, match="has no room for it"):
        files.write(names[0], KeptCrl("u", NOW, NOW + 100, bytes(3000)))
    assert files.read(names[3], 1000) is not None


def test_what_others_have_half_written_counts_and_is_let_be(files: CrlFiles, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crls, "MOST_BYTES", 3000)
    (files.folder / ".another").write_bytes(bytes(2000))
    files.write(ONE, KEPT)
    other = name_of("http://other/", b"")
    files.write(other, KeptCrl("u", NOW, NOW + 100, bytes(900)))
    assert (files.read(ONE, 100), files.read(other, 1000) is not None) == (None, True)
    assert (files.folder / ".another").exists()


def test_tidying_up_ends_with_no_more_than_there_may_be(files: CrlFiles, monkeypatch: pytest.MonkeyPatch) -> None:
    files.write(ONE, KeptCrl("u", NOW, NOW + 100, bytes(900)))
    monkeypatch.setattr(crls, "MOST_BYTES", 500)
    files.tidy(NOW)
    assert files.read(ONE, 1000) is None


def test_another_file_of_a_name_has_another_state(files: CrlFiles) -> None:
    assert files.state(ONE) is None
    first = files.write(ONE, KEPT)
    assert files.state(ONE) == first
    second = files.write(ONE, KEPT)
    assert files.state(ONE) == second != first
