from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from kms.envelope import SealError
from kms.provider import KeyProvider
from kms.providers.local import KeyFileError, LocalProvider

ROOT = Path(__file__).parents[2]
KEY = bytes(range(32))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    tmp_path.chmod(0o700)
    return tmp_path / "master.key"


def refused(path: Path, *parts: str, create: bool = True) -> None:
    """It is refused in one line that has these parts, and the folder is as it was."""
    before = {file.name: file.lstat().st_mtime_ns for file in path.parent.iterdir()}
    with pytest.raises(KeyFileError) as caught:
        LocalProvider.open(path, create)
    text = str(caught.value)
    assert "\n" not in text
    for part in (str(path.parent), *parts):
        assert part in text
    assert {file.name: file.lstat().st_mtime_ns for file in path.parent.iterdir()} == before


def test_what_is_wrapped_unwraps_after_a_restart(path: Path) -> None:
    provider: KeyProvider = LocalProvider.open(path, create=True)
    wrapped = provider.wrap(KEY, "acme")
    assert KEY not in wrapped
    assert LocalProvider.open(path, create=False).unwrap(wrapped, "acme") == KEY


def test_it_unwraps_for_no_other_tenant_and_nothing_of_another_master_key(path: Path) -> None:
    provider = LocalProvider.open(path, create=True)
    wrapped = provider.wrap(KEY, "acme")
    with pytest.raises(SealError):
        provider.unwrap(wrapped, "other")
    path.unlink()
    with pytest.raises(SealError):
        LocalProvider.open(path, create=True).unwrap(wrapped, "acme")


def test_the_file_is_its_owners_alone_and_nothing_else_is_left(path: Path) -> None:
    before = os.umask(0)
    try:
        LocalProvider.open(path, create=True)
    finally:
        os.umask(before)
    assert [file.name for file in path.parent.iterdir()] == ["master.key"]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    header, body, end = path.read_bytes().split(b"\n")
    assert (header, end) == (b"sallyport master key 1", b"")
    assert len(body) == 56  # base64 of 32 + 10 bytes


def test_the_master_key_shows_in_no_repr(path: Path) -> None:
    assert repr(LocalProvider.open(path, create=True)) == "LocalProvider()"


def test_a_missing_file_is_not_made_unless_asked(path: Path) -> None:
    refused(path, "missing", "restore it from a backup", create=False)


def test_any_change_of_the_file_is_refused(path: Path) -> None:
    LocalProvider.open(path, create=True)
    content = path.read_bytes()
    for place in range(len(content)):
        changed = bytearray(content)
        changed[place] = ord("A") if changed[place] != ord("A") else ord("B")
        path.write_bytes(bytes(changed))
        refused(path, "damaged", "backup")


@pytest.mark.parametrize(
    "change", [lambda c: b"", lambda c: c[:-1], lambda c: c[:-4] + b"\n", lambda c: c + b"\n", lambda c: c * 40]
)
def test_a_file_of_another_length_is_refused(path: Path, change) -> None:  # type: ignore[no-untyped-def]  # noqa: ANN001 - a lambda
    LocalProvider.open(path, create=True)
    path.write_bytes(change(path.read_bytes()))
    refused(path, "damaged")


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o610, 0o666])
def test_a_file_that_others_can_touch_is_refused(path: Path, mode: int) -> None:
    LocalProvider.open(path, create=True)
    path.chmod(mode)
    refused(path, f"chmod 600 {path}")


@pytest.mark.parametrize("mode", [0o750, 0o701, 0o770])
def test_a_folder_that_others_can_look_into_is_refused(path: Path, mode: int) -> None:
    path.parent.chmod(mode)
    refused(path, f"chmod 700 {path.parent}")


def test_a_link_is_not_followed(path: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    LocalProvider.open(elsewhere, create=True)
    path.symlink_to(elsewhere)
    refused(path, "cannot be read")


def test_what_is_no_regular_file_is_refused_at_once(path: Path) -> None:
    os.mkfifo(path, 0o600)
    refused(path, "no regular file")
    path.unlink()
    path.mkdir(0o700)
    refused(path)


def test_another_users_file_or_folder_is_refused(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    LocalProvider.open(path, create=True)
    monkeypatch.setattr(os, "geteuid", lambda: 4321)
    refused(path, "another user")
    if os.getuid() == 0:
        monkeypatch.undo()
        os.chown(path, 4321, -1)
        refused(path, "belongs to another user")


def test_processes_that_make_it_at_once_get_one_and_the_same_key(path: Path) -> None:
    code = """
import sys, pathlib
from kms.providers.local import LocalProvider
sys.stdin.readline()
sys.stdout.write(LocalProvider.open(pathlib.Path(sys.argv[1]), create=True).wrap(b"k" * 32, "acme").hex())
"""
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(path)], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for _ in range(4)
    ]
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    wrapped = [bytes.fromhex(process.communicate(timeout=30)[0]) for process in processes]
    provider = LocalProvider.open(path, create=False)
    assert [provider.unwrap(each, "acme") for each in wrapped] == [b"k" * 32] * 4
    assert [file.name for file in path.parent.iterdir()] == ["master.key"]


@pytest.mark.parametrize("call", ["fsync", "link"])
def test_a_crash_while_it_is_made_leaves_no_half_key(path: Path, call: str) -> None:
    code = f"""
import os, signal, sys, pathlib
from kms.providers.local import LocalProvider
os.{call} = lambda *arguments: os.kill(os.getpid(), signal.SIGKILL)
LocalProvider.open(pathlib.Path(sys.argv[1]), create=True)
"""
    assert subprocess.run([sys.executable, "-c", code, str(path)], cwd=ROOT, check=False).returncode == -9
    assert not path.exists()
    provider = LocalProvider.open(path, create=True)
    assert provider.unwrap(provider.wrap(KEY, "acme"), "acme") == KEY
