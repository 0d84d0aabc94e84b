"""A client that refuses our certificate for one host and takes it for another is remembered."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from tests.e2e.conftest import PUBLIC
from tests.harness.curl import curl
from tests.harness.daemon import Daemon
from tests.harness.origins import Nginx
from tests.harness.processes import wait_for


def remembered(daemon: Daemon) -> list[tuple[str, str, int, str]]:
    with closing(sqlite3.connect(f"file:{daemon.state_dir / 'sallyport.db'}?mode=ro", uri=True)) as connection:
        return connection.execute("SELECT host, client, count, how FROM refusals ORDER BY host").fetchall()


def test_who_refuses_one_host_and_takes_another_is_remembered(tmp_path: Path, origin: Nginx) -> None:
    hosts = dict.fromkeys(("good.example", "private.example"), "127.0.0.1")
    url = origin["good.example"].url()
    other = origin["private.example"].url()
    with Daemon(tmp_path / "daemon", hosts=hosts, common=PUBLIC) as daemon:
        distrusting = ("--cacert", str(tmp_path / "nothing.pem"))
        (tmp_path / "nothing.pem").write_bytes(PUBLIC.pem())
        for _ in range(2):
            assert curl(daemon, url, *distrusting).exit_code == 60
        assert curl(daemon, other).status == 502
        assert curl(daemon, url, *distrusting).exit_code == 60
        assert not remembered(daemon)
        daemon.told("errors", "set", "untrusted", "allow")
        daemon.within(2.0, lambda: curl(daemon, other).status == 200)
        wait_for("it to be remembered", lambda: remembered(daemon), timeout=30)
        assert remembered(daemon) == [("good.example", "127.0.0.1", 3, "alert")]
        # It is known after a restart, and adds up.
        daemon.stop()
        daemon.start()
        assert curl(daemon, other).status == 200
        assert curl(daemon, url, *distrusting).exit_code == 60
        wait_for("it to add up", lambda: remembered(daemon) == [("good.example", "127.0.0.1", 4, "alert")], timeout=30)
