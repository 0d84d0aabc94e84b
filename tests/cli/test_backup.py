from __future__ import annotations

import os
from pathlib import Path

import pytest

from config.settings import Settings
from proxy.state_lock import holder, lock
from tests.cli.conftest import Run


def test_an_installation_is_saved_and_restored(run: Run, tmp_path: Path) -> None:
    state, saved = tmp_path / "state", tmp_path / "saved.db"
    assert run("tenant", "create", "acme").exit_code == 0
    told = run("backup", str(saved)).stdout
    assert told.startswith(f"The database of {state} is saved in {saved}\n")
    assert str(state / "master.key") in told
    run("tenant", "delete", "acme")
    told = run("restore", str(saved)).stdout
    assert told.startswith(f"Restored into {state}; tenants: acme, default\n")
    assert "What was there before is kept as" in told
    assert (state / "certs" / "acme-root.pem").exists()


def test_a_backup_of_nothing_makes_nothing(run: Run, tmp_path: Path) -> None:
    done = run("backup", str(tmp_path / "saved.db"))
    assert done.exit_code == 1
    assert "there is no database" in done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["sallyport.yaml"]


def test_where_a_daemon_runs_nothing_is_restored(run: Run, tmp_path: Path) -> None:
    run("tenant", "list")
    run("backup", str(tmp_path / "saved.db"))
    held = lock(Settings(state_dir=tmp_path / "state"))
    try:
        done = run("restore", str(tmp_path / "saved.db"))
    finally:
        os.close(held)
    assert done.exit_code == 1
    assert "another Sallyport" in done.stderr


def test_nobody_takes_a_restore_for_a_daemon(tmp_path: Path) -> None:
    held = lock(Settings(state_dir=tmp_path), daemon=False)
    try:
        assert holder(tmp_path) is None
    finally:
        os.close(held)


def test_root_does_not_restore_what_is_another_users(
    run: Run, config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run("tenant", "list")
    run("backup", str(tmp_path / "saved.db"))
    config.write_text(config.read_text() + "user: nobody\n")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    done = run("restore", str(tmp_path / "saved.db"))
    assert done.exit_code == 1
    assert "sudo -u nobody" in done.stderr
