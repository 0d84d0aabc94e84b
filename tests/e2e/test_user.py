"""Started as root with a user in the settings: issuer and workers are that user, and root's rights are left nowhere."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.e2e.conftest import ISSUING, PUBLIC
from tests.harness.curl import curl
from tests.harness.daemon import REPOSITORY, Daemon
from tests.harness.namespaces import Place
from tests.harness.origins import Nginx, Site
from tests.harness.processes import children, runs_module, tree, wait_for
from tests.harness.programs import need

USER = "nobody"
PATIENCE = 170
CAP_SYS_RESOURCE = 24
"""With it the supervisor raises the issuer's limit of locked memory."""

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="changing the user takes root"),
    pytest.mark.timeout(400),
]


OPENED = """set -e
python=$1 closed=$2 aside=$3
shift 3
mount --make-rprivate /
mount --bind "$python" "$aside"
mount -t tmpfs -o mode=755 tmpfs "$closed"
mkdir -p "$python"
mount --bind "$aside" "$python"
exec "$@"
"""


@pytest.fixture(scope="module")
def reachable() -> Iterator[Path]:
    """A folder that the user can get to (pytest's own are closed to others)."""
    folder = Path(tempfile.mkdtemp(prefix="sallyport-user-"))
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


@dataclass(frozen=True)
class Opened:
    """Where the user can execute this Python, though it be in root's home: that is open there, with Python alone in it.

    A mount namespace, so it is so for what runs there and for nobody else.
    """

    python: Path
    closed: Path
    aside: Path

    @property
    def prefix(self) -> tuple[str, ...]:
        return (need("unshare"), "--mount", "sh", "-c", OPENED, "sh", *map(str, (self.python, self.closed, self.aside)))


def _closed(folder: Path) -> Path | None:
    """The first folder on the way there, or itself, that others cannot go through; None where they can."""
    way = (*reversed(folder.parents), folder)
    return next((each for each in way if not each.stat().st_mode & 0o001), None)


@pytest.fixture(scope="module")
def place(reachable: Path) -> Place | None:
    """Where the daemon is to run; None where the user can execute this Python anywhere."""
    if (closed := _closed(REPOSITORY)) is not None:
        pytest.skip(f"{USER} cannot execute what is in {closed}; a checkout elsewhere can be")
    python = Path(sys.base_prefix).resolve()
    if (closed := _closed(python)) is None:
        return None
    aside = reachable / "python"
    aside.mkdir()
    return Opened(python, closed, aside)


def status(pid: int) -> dict[str, str]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


def console_of(supervisor: int) -> list[int]:
    """The console's process, once it has given up what a child gives up first of all."""
    found = [pid for pid in children(supervisor) if runs_module(pid, "cli.console_process")]
    return [pid for pid in found if status(pid)["NoNewPrivs"] == "1"]


def test_issuer_and_workers_are_the_user_and_reloads_keep_it_so(
    reachable: Path, place: Place | None, tmp_path: Path
) -> None:
    account = pwd.getpwnam(USER)
    with Nginx(tmp_path, [Site("one.example", ISSUING.leaf("one.example"))]) as sites:
        url = sites["one.example"].url()
        daemon = Daemon(
            reachable / "daemon", hosts={"one.example": "127.0.0.1"}, common=PUBLIC, extra={"user": USER},
            console=True, first=True, namespace=place,
        )  # fmt: skip
        daemon.folder.chmod(0o755)
        root = tmp_path / "root.pem"
        daemon._roots["default"] = root

        def as_it_should_be() -> None:
            shutil.copy(daemon.state_dir / "certs" / "default-root.pem", root)
            assert curl(daemon, url).status == 200
            pids = daemon.pids()
            opened = wait_for("the console", lambda: console_of(pids.supervisor), timeout=PATIENCE)
            for pid in (pids.issuer, *opened, *pids.workers):
                about = status(pid)
                assert about["Uid"].split() == [str(account.pw_uid)] * 4
                assert about["Gid"].split() == [str(account.pw_gid)] * 4
                assert set(about["Groups"].split()) <= {str(account.pw_gid)}
                assert int(about["CapPrm"], 16) == 0
                assert about["NoNewPrivs"] == "1"
            assert status(pids.supervisor)["Uid"].split() == ["0", str(account.pw_uid), "0", str(account.pw_uid)]
            for path in daemon.state_dir.rglob("*"):
                assert path.lstat().st_uid == account.pw_uid, path

        with daemon:
            as_it_should_be()
            # A port that only root can bind, and everything replaced.
            daemon.settings["listeners"].append({"name": "low", "bind": "127.0.0.1:907", "tenant": "default"})
            daemon.write_config()
            for how in (["reload"], ["reload", "--exec"]):
                daemon.told(*how, timeout=PATIENCE)
                as_it_should_be()
            assert not daemon.log("running as root")
            if int(status(os.getpid())["CapEff"], 16) & 1 << CAP_SYS_RESOURCE:  # a container's root may lack it
                assert not daemon.log("memory_not_locked")
            pids = tree(daemon.process.pid)
            os.kill(daemon.process.pid, signal.SIGTERM)
            daemon.stop()
            assert not [pid for pid in pids if Path(f"/proc/{pid}/exe").exists()]


def test_a_state_directory_that_is_not_the_users_is_refused_with_what_to_run(reachable: Path) -> None:
    daemon = Daemon(reachable / "refused", extra={"user": USER})
    daemon.state_dir.mkdir(mode=0o700)
    told = daemon.cli("serve")
    assert told.returncode == 2
    assert f"run: chown -R {USER}: {daemon.state_dir}" in told.stderr
    assert list(daemon.state_dir.iterdir()) == []


def test_a_user_that_there_is_not_is_refused(tmp_path: Path) -> None:
    told = Daemon(tmp_path / "daemon", extra={"user": "no-such-user"}).cli("serve")
    assert told.returncode == 2
    assert "user: there is no user no-such-user" in told.stderr
    assert not (tmp_path / "daemon" / "state").exists()


def test_a_bypass_list_that_the_user_cannot_read_is_refused(tmp_path: Path) -> None:
    """Root could, and the start would be good; but it is the workers that read it."""
    listed = tmp_path / "list.txt"
    listed.write_text("a.example\n")
    listed.chmod(0o600)
    daemon = Daemon(tmp_path / "daemon", extra={"user": USER, "bypass": {"files": [str(listed)]}})
    told = daemon.cli("serve")
    assert told.returncode == 2
    assert told.stderr == (
        f"Error: bypass.files: {listed}: Permission denied; "
        "expected a text file that the user whom Sallyport runs as can read\n"
    )
    assert not daemon.state_dir.exists()
