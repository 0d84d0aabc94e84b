"""What was visited is known for a day: which hosts use a trusted CA, and what a change would do to them."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

from tests.e2e.conftest import PRIVATE, PRIVATE_ISSUING, PUBLIC
from tests.harness.curl import curl
from tests.harness.daemon import Daemon
from tests.harness.origins import Nginx
from tests.harness.processes import wait_for

WRITTEN = 30.0
"""Seconds in which a worker has written down what it saw, generously."""


def known(daemon: Daemon) -> list[tuple[str, bool]]:
    """The servers that were written down, and whether the chain of each ended in an anchor."""
    with closing(sqlite3.connect(f"file:{daemon.state_dir / 'sallyport.db'}?mode=ro", uri=True)) as connection:
        rows = connection.execute("SELECT host, anchor_sha256 IS NOT NULL FROM recent_servers ORDER BY host")
        return [(host, bool(anchored)) for host, anchored in rows]


def test_what_a_change_would_do_is_what_it_then_does(tmp_path: Path, origin: Nginx) -> None:
    hosts = dict.fromkeys(("good.example", "plain.example", "private.example"), "127.0.0.1")
    private, good = origin["private.example"], origin["good.example"]
    chain = tmp_path / "private.pem"
    chain.write_bytes(PRIVATE_ISSUING.pem() + PRIVATE.pem())
    # Of a host of which nothing is logged nothing is remembered.
    extra: dict[str, Any] = {"log": {"never_log": ["good.example"]}}
    with Daemon(tmp_path / "daemon", hosts=hosts, common=PUBLIC, extra=extra) as daemon:

        def told(*command: str) -> Any:
            return json.loads(daemon.told(*command, "--json"))

        assert curl(daemon, good.url()).status == 200
        assert curl(daemon, private.url()).status == 502
        assert curl(daemon, f"https://plain.example:{origin['plain.example'].port}/").status == 502
        both = [("plain.example", False), ("private.example", False)]
        wait_for("the servers to be known", lambda: known(daemon) == both, timeout=WRITTEN)
        tried = told("trusted-ca", "add", "private", str(chain), "--dry-run")
        assert (tried["servers"], tried["not_tried"]) == (2, [])
        (one,) = tried["differing"]
        assert (one["host"], one["port"]) == ("private.example", private.port)
        assert one["before"] == {"defects": ["incomplete_chain"], "action": "block"}
        assert one["after"] == {"defects": [], "action": "allow"}
        assert curl(daemon, private.url()).status == 502

        daemon.told("trusted-ca", "add", "private", str(chain))
        daemon.within(2.0, lambda: curl(daemon, private.url()).status == 200)
        wait_for("it to be known again", lambda: ("private.example", True) in known(daemon), timeout=WRITTEN)
        assert [ca["used_by_hosts"] for ca in told("trusted-ca", "list")] == [1]
        (one,) = told("trusted-ca", "deactivate", "private", "--dry-run")["differing"]
        assert (one["before"]["action"], one["after"]["action"]) == ("allow", "block")
        assert curl(daemon, private.url()).status == 200
        daemon.told("trusted-ca", "deactivate", "private")
        daemon.within(2.0, lambda: curl(daemon, private.url()).status == 502)
