from __future__ import annotations

import io
import json
import os
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest

from cli import output


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Zürich 東京", "Zürich 東京"),
        ("a\nError: b", "a\\nError: b"),
        ("\x1b[31mred\x1b[0m\x07", "\\x1b[31mred\\x1b[0m\\x07"),
        ("user\u202egpj.exe", "user\\u202egpj.exe"),
        ("a\u2028b\x9bc", "a\\u2028b\\x9bc"),
        ("\ud800", "\\ud800"),
    ],
)
def test_no_text_of_a_stranger_steers_the_terminal(text: str, shown: str) -> None:
    assert output.clean(text) == shown


def test_columns_are_as_wide_as_what_is_in_them(capsys: pytest.CaptureFixture[str]) -> None:
    output.table(("name", "what"), [("東京", "wide"), ("e\u0301", "combined"), ("plain", "x\ty")], "none")
    assert capsys.readouterr().out.splitlines() == [
        "NAME   WHAT",
        "東京   wide",
        "e\u0301      combined",
        "plain  x\\ty",
    ]


def test_a_table_without_rows_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    output.table(("name",), [], "There is no tenant.")
    assert capsys.readouterr().out == "There is no tenant.\n"


def test_json_holds_times_as_rfc_3339_in_utc(capsys: pytest.CaptureFixture[str]) -> None:
    moment = datetime(2026, 11, 23, 12, 30, 15, 999, tzinfo=timezone(timedelta(hours=2)))
    output.as_json({"at": moment, "names": ("b", "a"), "path": Path("/x")})
    told = json.loads(capsys.readouterr().out)
    assert told == {"at": "2026-11-23T10:30:15Z", "names": ["b", "a"], "path": "/x"}
    assert output.minute(moment.astimezone(UTC)) == output.minute(moment) == "2026-11-23 10:30"


def test_a_stop_says_each_line_and_its_status(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(output.Stop) as stopped:
        output.misuse(["one", "two\nthree"])
    stopped.value.show()
    assert stopped.value.exit_code == 2
    assert capsys.readouterr().err == "Error: one\nError: two\\nthree\n"


def test_a_file_is_replaced_whole_and_keeps_its_link(tmp_path: Path) -> None:
    real, link = tmp_path / "real", tmp_path / "link"
    real.write_text("old")
    link.symlink_to(real)
    output.write_whole(link, b"new")
    assert link.is_symlink()
    assert real.read_bytes() == b"new"
    assert real.stat().st_mode & 0o777 == 0o644
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link", "real"]


def test_a_write_that_fails_leaves_the_old_file_and_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "real"
    path.write_text("old")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(output.Stop) as stopped:
        output.write_output(str(path), b"new")
    assert stopped.value.lines == (f"{path}: No space left on device",)
    assert stopped.value.exit_code == 2
    assert [entry.name for entry in tmp_path.iterdir()] == ["real"]
    assert path.read_text() == "old"


def test_a_pipe_is_written_to_and_not_replaced(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        output.write_whole(pipe, b"through")
        assert os.read(reader, 100) == b"through"
    finally:
        os.close(reader)
    assert pipe.is_fifo()


def test_input_that_is_too_large_or_missing_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(output.Stop) as stopped:
        output.read_input(str(tmp_path / "none"))
    assert stopped.value.exit_code == 2
    large = tmp_path / "large"
    with large.open("wb") as file:
        file.truncate(output.LARGEST_INPUT + 1)
    with pytest.raises(output.Stop) as stopped:
        output.read_input(str(large))
    assert stopped.value.exit_code == 1
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"piped")))
    assert output.read_input("-") == b"piped"
