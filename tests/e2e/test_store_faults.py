"""The store out of reach of a running daemon: traffic goes on, /readyz says so, a change is refused whole."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.e2e.conftest import PUBLIC
from tests.harness.curl import curl
from tests.harness.daemon import Daemon
from tests.harness.monitor import readiness, scrape, value
from tests.harness.origins import Nginx
from tests.harness.processes import wait_for

HOSTS = dict.fromkeys(("good.example", "old.example", "plain.example"), "127.0.0.1")

LOCK_ALL = """
import fcntl, sys
# The bytes of the -shm file on which SQLite's locks in WAL mode lie (walIndex: WAL_LOCK_OFFSET 120, eight of them).
file = open(sys.argv[1] + "-shm", "r+b")
fcntl.lockf(file, fcntl.LOCK_EX, 8, 120)
print("locked", flush=True)
sys.stdin.read()
"""


def well(daemon: Daemon) -> bool:
    try:
        return readiness(daemon)[0] == 200
    except OSError:
        return False


def says(daemon: Daemon, beginning: str) -> str:
    """Wait for /readyz to say something, and return the line."""

    def said() -> list[str]:
        status, lines = readiness(daemon)
        return [line for line in lines if status == 503 and line.startswith(beginning)]

    return wait_for(f"/readyz to say: {beginning}", said, timeout=40)[0]


@pytest.fixture
def watched(tmp_path: Path, origin: Nginx) -> Iterator[Daemon]:
    with Daemon(tmp_path / "daemon", hosts=HOSTS, common=PUBLIC, metrics=True) as daemon:
        wait_for("the monitor to be there", lambda: well(daemon), timeout=60)
        yield daemon


@contextmanager
def locked(database: Path) -> Iterator[None]:
    """Another process holds every lock of the database."""
    process = subprocess.Popen(
        [sys.executable, "-c", LOCK_ALL, str(database)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "locked\n"
        yield
    finally:
        process.send_signal(signal.SIGKILL)
        process.communicate()


def test_a_locked_database_keeps_nobody_from_known_hosts_and_a_change_is_refused_whole(
    watched: Daemon, origin: Nginx
) -> None:
    url = origin["good.example"].url()
    assert curl(watched, url).status == 200
    with locked(watched.state_dir / "sallyport.db"):
        said = says(watched, "the store has not")
        assert " s" in said
        assert curl(watched, url).status == 200
        refused = watched.cli("errors", "set", "expired", "allow")
        assert refused.returncode == 1, refused.stderr
        assert refused.stderr.startswith("Error: ")
        assert refused.stderr.count("\n") == 1
    wait_for("it to be ready again", lambda: well(watched), timeout=40)
    rows = watched.told("errors", "show")
    assert "allow" not in rows
    watched.told("errors", "set", "expired", "allow")


def test_a_database_that_was_moved_away_is_noticed_and_so_is_its_return(watched: Daemon, origin: Nginx) -> None:
    url = origin["good.example"].url()
    assert curl(watched, url).status == 200
    database, elsewhere = watched.state_dir / "sallyport.db", watched.state_dir / "elsewhere.db"
    database.rename(elsewhere)
    said = says(watched, "the store has not been readable for")
    assert said.endswith("sallyport.db: No such file or directory; put the file back, or restore a backup")
    assert curl(watched, url).status == 200
    assert value(scrape(watched), "ready") == 0
    elsewhere.rename(database)
    wait_for("it to be ready again", lambda: well(watched), timeout=40)
    watched.wait_log("store can be read again")


def test_a_working_set_that_is_too_old_begins_nothing_new(tmp_path: Path, origin: Nginx) -> None:
    limits = {"limits": {"store_outage": 1}}
    with Daemon(tmp_path / "daemon", hosts=HOSTS, common=PUBLIC, metrics=True, extra=limits) as daemon:
        wait_for("the monitor to be there", lambda: well(daemon), timeout=60)
        url = origin["good.example"].url()
        assert daemon.root.is_file()  # downloaded while it can be
        database, elsewhere = daemon.state_dir / "sallyport.db", daemon.state_dir / "elsewhere.db"
        database.rename(elsewhere)
        says(daemon, "the working set is ")
        for asked in (url, origin["plain.example"].url()):
            result = curl(daemon, asked)
            assert result.status == 503
        assert 'details="store_outage"' in result.proxy_status
        wait_for("it to be counted", lambda: value(scrape(daemon), "refused_total", reason="store_outage") == 2)
        elsewhere.rename(database)
        wait_for("it to be ready again", lambda: well(daemon), timeout=40)
        assert curl(daemon, url).status == 200


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own, of 64 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64m", "none", str(folder)], capture_output=True, check=False
    )
    if done.returncode != 0:
        pytest.skip("a small disk cannot be mounted here (that takes root and CAP_SYS_ADMIN)")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.mark.skipif(os.geteuid() != 0 or shutil.which("mount") is None, reason="only root may mount a small disk")
def test_on_a_full_disk_known_hosts_go_on_a_change_is_refused_whole_and_a_killed_worker_is_back(
    small_disk: Path, origin: Nginx
) -> None:
    with Daemon(small_disk / "daemon", hosts=HOSTS, common=PUBLIC, metrics=True) as daemon:
        wait_for("the monitor to be there", lambda: well(daemon), timeout=60)
        known, new = origin["good.example"].url(), origin["old.example"].url()
        assert curl(daemon, known).status == 200
        filler = small_disk / "filler"
        with filler.open("wb") as file:
            try:
                while True:
                    os.write(file.fileno(), b"\0" * 4096)
            except OSError:
                pass
        assert curl(daemon, known).status == 200
        assert curl(daemon, new).exit_code == 35  # no TLS: a leaf that cannot be recorded is not handed out
        said = says(daemon, "the last leaf that was wanted could not be had: ")
        assert "the disk is full; make room" in said
        refused = daemon.cli("errors", "set", "expired", "allow")
        assert refused.returncode == 1, refused.stderr
        assert "the disk is full; make room" in refused.stderr
        (before,) = daemon.pids().workers
        os.kill(before, signal.SIGKILL)
        wait_for("another worker", lambda: daemon.pids().workers != (before,), timeout=60)
        wait_for("it to serve", lambda: curl(daemon, known).status == 200, timeout=60)
        filler.unlink()
        assert curl(daemon, new).status == 200
        wait_for("it to be ready again", lambda: well(daemon), timeout=60)
        assert "allow" not in daemon.told("errors", "show")
