"""htpasswd files in a worker: read again when they change, and nobody's where they are gone."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from config.passwords import DECOY
from proxy.htpasswd_files import HtpasswdFiles, problems_of


class Events:
    """Takes the log's events."""

    def __init__(self) -> None:
        self.told: list[tuple[str, dict[str, Any]]] = []

    def event(self, level: int, event: str, **fields: Any) -> None:
        self.told.append((event, fields))


def test_a_file_that_has_changed_counts_when_it_rests(tmp_path: Path) -> None:
    path, log, changes = tmp_path / "users", Events(), []
    path.write_text(f"alice:{DECOY}\n")

    async def story() -> None:
        files = HtpasswdFiles([str(path)], log, lambda: changes.append(1))  # type: ignore[arg-type] # it takes events
        files.load()
        assert set(files.users(str(path))) == {"alice"}
        assert files.users("/another") == {}
        await files.look()
        path.write_text(f"alice:{DECOY}\nbob:{DECOY}\ncarol:$apr1$x$y\n")
        await files.look()
        assert set(files.users(str(path))) == {"alice"}  # it may be in the middle of being written
        await files.look()
        assert set(files.users(str(path))) == {"alice", "bob"}
        assert not await files.reread()
        path.unlink()
        await files.look()
        assert set(files.users(str(path))) == {"alice", "bob"}  # it may be about to be put in place anew
        await files.look()
        assert files.users(str(path)) == {}
        await files.look()

    asyncio.run(story())
    assert len(changes) == 3
    problems = [fields["reason"] for event, fields in log.told if event == "htpasswd file has problems"]
    assert "MD5 (apr1)" in problems[0]
    assert "No such file" in problems[1]
    assert len(problems) == 2
    assert DECOY not in str(log.told)


def test_what_is_wrong_with_files_is_told_with_their_lines(tmp_path: Path) -> None:
    path = tmp_path / "users"
    path.write_text(f"alice:{DECOY}\nbob:plain\n")
    found = problems_of([str(path), str(tmp_path / "none")])
    assert found[0].startswith(f"{path}:2: no hash that is known here")
    assert "none: No such file" in found[1]
