"""One daemon for each state directory, and who it is."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from config.settings import Settings
from proxy.start_error import StartError
from proxy.state_lock import holder, lock


def test_a_state_directory_has_one_daemon(tmp_path: Path) -> None:
    settings = Settings(state_dir=tmp_path)
    held = lock(settings)
    with pytest.raises(StartError, match=rf"another Sallyport \(process {os.getpid()}\) uses {tmp_path}"):
        lock(settings)
    os.close(held)
    os.close(lock(settings))


def test_the_holder_is_the_process_that_really_has_the_lock(tmp_path: Path) -> None:
    assert holder(tmp_path) is None
    held = lock(Settings(state_dir=tmp_path))
    assert holder(tmp_path) == os.getpid()
    os.close(held)
    # The number stands in the file still, and is that of a process that runs.
    assert (tmp_path / "lock").read_text() == f"{os.getpid()}\n"
    assert holder(tmp_path) is None


@pytest.mark.parametrize("text", ["", "1\n", "-1\n", "nobody\n", "9" * 40])
def test_what_somebody_wrote_into_the_file_is_not_believed(tmp_path: Path, text: str) -> None:
    held = lock(Settings(state_dir=tmp_path))
    (tmp_path / "lock").write_text(text)
    assert holder(tmp_path) is None
    os.close(held)


def test_a_link_in_the_locks_place_leads_nowhere(tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.write_text("as it was")
    (tmp_path / "lock").symlink_to(precious)
    with pytest.raises(StartError, match="cannot be opened"):
        lock(Settings(state_dir=tmp_path))
    assert precious.read_text() == "as it was"
