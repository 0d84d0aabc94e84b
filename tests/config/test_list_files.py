from __future__ import annotations

import os
from pathlib import Path

import pytest

from config import list_files
from config.list_files import ListFileError, look, read


def test_a_file_is_read_with_its_state(tmp_path: Path) -> None:
    path = tmp_path / "list.txt"
    path.write_bytes(b"a.example\n")
    data, state = read(str(path))
    assert data == b"a.example\n"
    assert look(str(path)) == state


def test_another_file_or_another_content_is_another_state(tmp_path: Path) -> None:
    path, other = tmp_path / "list.txt", tmp_path / "other.txt"
    path.write_bytes(b"a.example\n")
    before = look(str(path))
    other.write_bytes(b"b.example\n")
    os.utime(other, ns=(before.modified, before.modified))
    other.rename(path)
    assert look(str(path)) != before
    replaced = look(str(path))
    with path.open("ab") as file:
        file.write(b"c.example\n")
    assert look(str(path)) != replaced


@pytest.mark.timeout(20)
def test_what_cannot_be_read_is_said_with_its_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pipe, large = tmp_path / "pipe", tmp_path / "large"
    os.mkfifo(pipe)
    large.write_bytes(b"x" * 11)
    monkeypatch.setattr(list_files, "LARGEST_LIST", 10)
    for path, said in (
        (tmp_path / "none", "No such file or directory; expected a text file"),
        (tmp_path, "directory"),
        (pipe, "is no file"),
        (large, "is larger than 10 bytes; split it"),
        (Path("nul\0"), "null byte"),
    ):
        with pytest.raises(ListFileError) as caught:
            read(str(path))
        assert said in str(caught.value)
        assert "\n" not in str(caught.value)
    with pytest.raises(ListFileError, match="No such file"):
        look(str(tmp_path / "none"))
