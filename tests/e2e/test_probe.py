"""``sallyport probe`` against real servers, without a daemon."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import subprocess
import termios
from pathlib import Path
from typing import Any

import click

from tests.harness.daemon import COMMAND, REPOSITORY, Daemon, environment
from tests.harness.origins import Nginx, Site
from tests.harness.pki import Authority
from tests.harness.processes import free_port


def in_a_terminal(daemon: Daemon, *args: str, columns: int, no_colour: str) -> tuple[int, str]:
    """Run the command with a terminal as its standard output; its status, and what it wrote there."""
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (50, columns))
    with open(ours, "rb", buffering=0) as reading:
        try:
            process = subprocess.Popen(
                [*COMMAND, "--config", str(daemon.config), *args],
                cwd=REPOSITORY, env={**environment(), "TERM": "xterm", "COLUMNS": "", "NO_COLOR": no_colour},
                stdin=subprocess.DEVNULL, stdout=theirs,
            )  # fmt: skip
        finally:
            os.close(theirs)
        written = b""
        with contextlib.suppress(OSError):  # EIO: nobody has the other end any more
            while piece := reading.read(65536):
                written += piece
        return process.wait(60), written.decode().replace("\r\n", "\n")


def test_it_tells_what_the_daemon_would_do(tmp_path: Path) -> None:
    public, private = Authority.root("Public Root"), Authority.root("Private Root")
    issuing = public.intermediate("Public Issuing")
    names = ("good.example", "private.example")
    daemon = Daemon(tmp_path, hosts=dict.fromkeys((*names, "down.example"), "127.0.0.1"), common=public)
    sites = [Site(names[0], issuing.leaf(names[0])), Site(names[1], private.leaf(names[1]), with_root=True)]
    with Nginx(tmp_path, sites) as origin:

        def probed(name: str, port: int) -> tuple[int, dict[str, Any]]:
            done = daemon.cli("probe", "--json", f"{name}:{port}")
            assert done.stderr == ""
            told: dict[str, Any] = json.loads(done.stdout)
            return done.returncode, told

        status, told = probed("good.example", origin["good.example"].port)
        assert (status, told["passes"], told["findings"]) == (0, True, [])
        assert (told["tls_version"], told["alpn"], told["address"]) == ("TLSv1.3", "h2", "127.0.0.1")
        assert told["anchor"].startswith("common store (")
        assert [one["from"] for one in told["certificates"]] == [*["sent by the server"] * 2, "common store"]
        assert {one["check"] for one in told["checks"] if one["state"] != "passed"} == {
            "nothing_is_revoked", "revocation_is_known",
        }  # fmt: skip

        port = origin["private.example"].port
        status, told = probed("private.example", port)
        assert (status, told["action"], told["passes"]) == (1, "block", False)
        (finding,) = told["findings"]
        assert finding["defect"] == "untrusted_root"
        assert finding["remedy"]

        assert [one["check"] for one in told["checks"] if one["state"] == "failed"] == [finding["check"]]
        assert (told["anchor"], told["certificates"][finding["certificate"]]["from"]) == (None, "sent by the server")

        # In a terminal: in colour, the whole in its width, and the same words.
        for no_colour in ("", "1"):
            status, shown = in_a_terminal(daemon, "probe", f"private.example:{port}", columns=100, no_colour=no_colour)
            assert status == 1
            assert ("\x1b[31m" in shown) == (not no_colour)
            lines = click.unstyle(shown).splitlines()
            assert max(map(len, lines)) <= 100
            assert next(line for line in lines if "✗" in line).strip() == "│  ✗ 1 untrusted_root"
            assert lines[-1] == "Tenant default blocks it."

        daemon.told("trusted-ca", "add", "private", "-", stdin=private.pem().decode())
        status, told = probed("private.example", port)
        assert (status, told["anchor"]) == (0, "trusted CA private")
        daemon.told("trusted-ca", "limit", "private", "*.corp.example")
        status, told = probed("private.example", port)
        assert (status, told["elsewhere"]) == (
            1, [{"trusted_ca": "private", "why": "it counts for *.corp.example"}],
        )  # fmt: skip
        daemon.told("trusted-ca", "deactivate", "private")
        assert "would vouch for it, but it is not active." in daemon.cli("probe", f"private.example:{port}").stdout
        daemon.told("trusted-ca", "delete", "private")
        daemon.told("errors", "set", "untrusted_root", "allow")
        status, told = probed("private.example", port)
        assert (status, told["action"], told["passes"]) == (0, "allow", True)
        assert [one["by"] for one in told["reasons"]] == ["row untrusted_root"]
        assert origin.requests() == []

    status, told = probed("down.example", free_port())
    assert (status, told["passes"]) == (1, False)
    assert "refused" in str(told["failure"])
    denied = Daemon(tmp_path / "denied", allow=(), hosts={"good.example": "127.0.0.1"})
    done = denied.cli("probe", "good.example")
    assert done.returncode == 1
    assert "Not reached: the egress rules do not permit 127.0.0.1" in done.stdout
