"""Reload and upgrade of a running daemon: what changes, what is refused, and that no connection is lost by it."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.e2e.conftest import ISSUING, PUBLIC
from tests.harness.curl import curl
from tests.harness.daemon import COMMAND, REPOSITORY, Daemon, Pids, environment
from tests.harness.inspectors import Scripts
from tests.harness.origins import Nginx, Site
from tests.harness.processes import children, free_port, tree, wait_for
from tests.harness.programs import need
from tests.harness.steady import Steady

pytestmark = pytest.mark.timeout(600)
PATIENCE = 170
"""Seconds for processes to be there or gone, on a machine that is busy."""
NAMES = ("one.example", "two.example")
LINES = ("client_body_timeout 300s;",)  # an upload is held open for as long as a reload takes
KINDS = pytest.mark.parametrize("kind", [pytest.param("reload", marks=pytest.mark.long), "upgrade"])
"""An upgrade does all that a reload does, and more."""
FAILS_IN_WORKERS = """
    import sys
    from pathlib import Path

    if Path("FLAG").exists() and "proxy.worker" in sys.orig_argv:
        raise RuntimeError("only here")
"""


@pytest.fixture(scope="module")
def sites(scratch: Path) -> Iterator[Nginx]:
    need("nginx")
    need("curl")
    with Nginx(scratch, [Site(name, ISSUING.leaf(name), lines=LINES) for name in NAMES]) as origin:
        yield origin


def daemon_for(folder: Path, workers: int = 2, **extra: object) -> Daemon:
    limits = {"drain_timeout": 120.0, "leaf_timeout": 60.0, "tls_timeout": 60.0, "connect_head_timeout": 60.0}
    return Daemon(
        folder / "daemon", hosts={"one.example": "127.0.0.1"}, common=PUBLIC, workers=workers,
        extra={"limits": limits, **extra},
    )  # fmt: skip


def command(kind: str) -> list[str]:
    return ["reload", "--exec"] if kind == "upgrade" else ["reload"]


def ready(daemon: Daemon, url: str) -> None:
    """One request, so that what follows is not the first."""
    assert curl(daemon, url).status == 200


def all_new(daemon: Daemon, before: Pids, *, issuer: bool) -> None:
    """The supervisor is the process that it was, the others are not, and those before them are gone."""

    def gone() -> bool:
        now = children(daemon.process.pid)
        return not set(before.workers) & set(now) and (not issuer or before.issuer not in now)

    wait_for("the processes before to end", gone, timeout=PATIENCE)
    now = daemon.pids()
    assert now.supervisor == before.supervisor
    assert len(now.workers) == len(before.workers)
    assert (now.issuer != before.issuer) is issuer


def left_in_run(daemon: Daemon) -> list[str]:
    """The files in the folder ``run``, but for the status sockets of the workers that there are."""
    mine = {f"worker-{pid}.sock" for pid in daemon.pids().workers}
    return sorted(path.name for path in (daemon.state_dir / "run").iterdir() if path.name not in mine)


@KINDS
def test_nothing_is_lost_or_refused_while_others_take_over(tmp_path: Path, sites: Nginx, kind: str) -> None:
    site = sites["one.example"]
    with daemon_for(tmp_path) as daemon:
        ready(daemon, site.url())
        before = daemon.pids()
        where = (daemon, site.name, site.port)
        with Steady(*where, clients=2) as fresh, Steady(*where, keep=True) as kept:
            wait_for("the clients to be at work", lambda: fresh.answered > 5 and kept.answered > 5, timeout=PATIENCE)
            upload = fresh.connection()
            upload.putrequest("PUT", f"/upload/across-{kind}")
            upload.putheader("Content-Length", "2000")
            upload.endheaders(b"a" * 1000)

            # For a reload, something has to differ: a name that nobody knew.
            daemon.settings["resolver"]["hosts"]["two.example"] = "127.0.0.1"
            daemon.write_config()
            said = daemon.told(*command(kind), timeout=PATIENCE)
            assert "2 workers" in said
            during = (fresh.answered, kept.answered)
            wait_for("more requests", lambda: fresh.answered > during[0] + 10, timeout=PATIENCE)
            wait_for("more requests", lambda: kept.answered > during[1] + 10, timeout=PATIENCE)
            assert daemon.pids().supervisor == before.supervisor
            assert set(before.workers) & set(children(before.supervisor)), "what is under way keeps its process"

            upload.send(b"b" * 1000)
            assert upload.getresponse().status in (200, 201, 204)
            upload.close()
        assert fresh.failures == []
        assert kept.failures == []
        assert sites.uploaded(f"across-{kind}").read_bytes() == b"a" * 1000 + b"b" * 1000
        assert curl(daemon, sites["two.example"].url()).status == 200
        all_new(daemon, before, issuer=kind == "upgrade")
        assert not daemon.log("fault")


def test_after_an_upgrade_all_is_as_after_a_start(tmp_path: Path, sites: Nginx) -> None:
    url = sites["one.example"].url()
    with daemon_for(tmp_path) as daemon:
        before = daemon.pids()
        daemon.told("reload", "--exec", timeout=PATIENCE)
        all_new(daemon, before, issuer=True)
        first = daemon.pids()
        # The lock is held still, by the process that it was.
        second = subprocess.run(
            [*COMMAND, "--config", str(daemon.config), "serve"],
            cwd=REPOSITORY, env=environment(), capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        assert second.returncode == 2
        assert f"another Sallyport (process {first.supervisor})" in second.stderr
        # What dies is replaced.
        for pid in (first.workers[0], first.issuer):
            os.kill(pid, signal.SIGKILL)
        gone = {first.issuer, first.workers[0]}
        wait_for("others", lambda: not gone & {daemon.pids().issuer, *daemon.pids().workers}, timeout=PATIENCE)
        ready(daemon, url)
        # And it can be done again.
        before = daemon.pids()
        daemon.told("reload", "--exec", timeout=PATIENCE)
        all_new(daemon, before, issuer=True)
        ready(daemon, url)
        run = daemon.state_dir / "run"
        assert left_in_run(daemon) == ["issuer.sock", "reload.json"]
        daemon.stop()
        assert list(run.iterdir()) == []


def test_listeners_come_and_go_and_what_cannot_change_is_said(tmp_path: Path, sites: Nginx) -> None:
    url = sites["one.example"].url()
    with daemon_for(tmp_path, workers=1) as daemon:
        ready(daemon, url)
        kept, new = daemon.proxy, f"127.0.0.1:{free_port()}"
        listeners = daemon.settings["listeners"]
        listeners.append({"name": "new", "mode": "explicit", "bind": new, "tenant": "default"})
        daemon.settings["state_dir"] = str(tmp_path / "elsewhere")
        daemon.write_config()
        # The command looks for the daemon where the file says now.
        assert daemon.cli("reload").returncode == 1
        os.kill(daemon.process.pid, signal.SIGHUP)
        daemon.wait_log("reload done", timeout=PATIENCE)
        assert daemon.log("setting kept", setting="state_dir")
        assert not (tmp_path / "elsewhere").exists()
        for proxy in (kept, new):
            daemon.addresses["explicit"] = proxy
            ready(daemon, url)

        daemon.settings["state_dir"] = str(daemon.state_dir)
        del listeners[0]
        daemon.write_config()
        said = daemon.told("reload", timeout=PATIENCE)
        assert f"no longer listening on {kept} (listener explicit)" in said
        ready(daemon, url)
        daemon.addresses["explicit"] = kept
        wait_for("the port to be closed", lambda: curl(daemon, url).exit_code == 7, timeout=PATIENCE)


def test_what_is_wrong_is_said_whole_and_changes_nothing(tmp_path: Path, sites: Nginx) -> None:
    url = sites["one.example"].url()
    scripts = Scripts(tmp_path)
    with daemon_for(tmp_path, workers=1) as daemon:
        ready(daemon, url)
        before = daemon.pids()
        good = daemon.config.read_text()

        def refused(*expected: str, how: str = "reload") -> None:
            count = len(daemon.log(f"{how} refused"))
            told = daemon.cli(*command(how), timeout=PATIENCE)
            assert told.returncode == 1, told.stdout
            for text in (*expected, "nothing was changed"):
                assert text in told.stderr
            wait_for("the log to say so", lambda: len(daemon.log(f"{how} refused")) >= count + len(expected))
            assert daemon.pids() == before
            ready(daemon, url)

        # Read by the daemon alone, since the command would not get as far.
        daemon.config.write_text(good + "wrkers: 1\n" + "limitss: {}\n")
        os.kill(before.supervisor, signal.SIGHUP)
        wait_for("both problems", lambda: len(daemon.log("reload refused")) == 2, timeout=PATIENCE)
        assert {entry["reason"].split(": ")[1] for entry in daemon.log("reload refused")} == {"wrkers", "limitss"}

        daemon.settings["listeners"].append({"name": "b", "bind": "127.0.0.1:0", "tenant": "nobody"})
        daemon.write_config()
        refused("there is no tenant nobody")
        port = sites["one.example"].port
        daemon.settings["listeners"][-1] = {"name": "b", "bind": f"127.0.0.1:{port}"}
        daemon.write_config()
        refused(f"cannot listen on 127.0.0.1:{port}")
        del daemon.settings["listeners"][-1]
        scripts.add("broken", "this is no Python\n")
        daemon.settings["inspection"] = {"addons": scripts.addons}
        daemon.write_config()
        for how in ("reload", "upgrade"):
            refused("invalid syntax", how=how)

        daemon.config.write_text(good)
        with closing(sqlite3.connect(daemon.state_dir / "sallyport.db")) as database, database:
            revision = database.execute("SELECT version_num FROM alembic_version").fetchone()[0]
            database.execute("UPDATE alembic_version SET version_num = 'r9999'")
        refused("was written by a newer Sallyport", how="upgrade")
        with closing(sqlite3.connect(daemon.state_dir / "sallyport.db")) as database, database:
            database.execute("UPDATE alembic_version SET version_num = ?", (revision,))
        assert not daemon.log("executing")
        assert "nothing differs" in daemon.told("reload", timeout=PATIENCE)


@KINDS
def test_where_the_new_workers_cannot_start_those_before_them_go_on(tmp_path: Path, sites: Nginx, kind: str) -> None:
    flag = tmp_path / "flag"
    scripts = Scripts(tmp_path)
    scripts.add("fails", FAILS_IN_WORKERS.replace("FLAG", str(flag)), hosts=["elsewhere.example"])
    url = sites["one.example"].url()
    with daemon_for(tmp_path, workers=1, inspection={"addons": scripts.addons}) as daemon:
        ready(daemon, url)
        before = daemon.pids()
        flag.touch()
        daemon.settings["limits"]["idle_timeout"] = 300.0
        daemon.write_config()
        told = daemon.cli(*command(kind), timeout=PATIENCE)
        assert told.returncode == 1, told.stdout
        assert "the worker 1 process could not start" in told.stderr
        assert daemon.log("worker cannot start")[0]["reason"].endswith("only here")
        wait_for("what was begun to be gone", lambda: len(children(before.supervisor)) == 2, timeout=PATIENCE)
        assert daemon.pids() == before
        ready(daemon, url)
        # Whoever keeps them now keeps them alive.
        flag.unlink()
        os.kill(before.workers[0], signal.SIGKILL)
        ready(daemon, url)
        before = daemon.pids()
        daemon.told(*command(kind), timeout=PATIENCE)
        all_new(daemon, before, issuer=True)


@pytest.mark.parametrize(
    "moment",
    [
        *(pytest.param(each, marks=pytest.mark.long) for each in ("reload begun", "upgrade begun")),
        "executing",
        "upgrade continued",
    ],
)
def test_a_kill_in_the_middle_leaves_no_process_and_nothing_in_the_way(
    tmp_path: Path, sites: Nginx, moment: str
) -> None:
    with daemon_for(tmp_path, workers=1) as daemon:
        pid = daemon.process.pid
        daemon.settings["limits"]["idle_timeout"] = 300.0
        daemon.write_config()
        seen = set(tree(pid))
        os.kill(pid, signal.SIGHUP if moment == "reload begun" else signal.SIGUSR2)

        def reached() -> bool:
            seen.update(tree(pid))
            return bool(daemon.log(moment))

        wait_for(moment, reached, timeout=PATIENCE)
        if moment != "executing":
            # Not at the very beginning: something has been started by now.
            wait_for("more processes", lambda: not set(tree(pid)) <= seen, timeout=PATIENCE)
        seen.update(tree(pid))
        os.kill(pid, signal.SIGKILL)
        daemon.process.wait()
        wait_for("all to end", lambda: not any(Path(f"/proc/{one}/exe").exists() for one in seen), timeout=PATIENCE)
        assert daemon.cli("reload").returncode == 1
        daemon.kill()
        daemon.start()
        ready(daemon, sites["one.example"].url())
        assert left_in_run(daemon) == ["issuer.sock"]


@KINDS
def test_sigterm_in_the_middle_ends_all_of_it(tmp_path: Path, sites: Nginx, kind: str) -> None:
    with daemon_for(tmp_path, workers=1) as daemon:
        daemon.settings["limits"]["idle_timeout"] = 300.0
        daemon.write_config()
        os.kill(daemon.process.pid, signal.SIGUSR2 if kind == "upgrade" else signal.SIGHUP)
        daemon.wait_log(f"{kind} begun", timeout=PATIENCE)
        daemon.stop()


def test_without_a_daemon_there_is_nobody_to_ask(tmp_path: Path) -> None:
    told = daemon_for(tmp_path).cli("reload")
    assert told.returncode == 1
    assert f"no daemon runs on {tmp_path}" in told.stderr
