"""How a reload went is left where a command finds it, whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from proxy.outcome import OUTCOME_FILE, Outcome, clear, read, write


@pytest.fixture
def state_dir(tmp_path: Path) -> Path:
    (tmp_path / "run").mkdir()
    return tmp_path


def test_the_last_word_is_read_and_is_its_users_alone(state_dir: Path) -> None:
    assert read(state_dir) is None
    write(state_dir, Outcome("reload", 1.5, True, ("first",)))
    write(state_dir, Outcome("upgrade", 2.5, False, ("second", "third")))
    assert read(state_dir) == Outcome("upgrade", 2.5, False, ("second", "third"))
    assert state_dir.joinpath(*OUTCOME_FILE).stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"kind": "reload"}', b"\xff", b'{"kind":1,"began":"x"}'])
def test_what_is_no_outcome_is_none(state_dir: Path, content: bytes) -> None:
    state_dir.joinpath(*OUTCOME_FILE).write_bytes(content)
    assert read(state_dir) is None


def test_the_next_start_takes_away_what_a_kill_left(state_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(state_dir, Outcome("reload", 1.5, True, ()))

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        write(state_dir, Outcome("reload", 2.5, True, ()))
    assert len(os.listdir(state_dir / "run")) == 2
    clear(state_dir)
    assert os.listdir(state_dir / "run") == []
