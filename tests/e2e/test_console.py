"""The console's process beside a daemon that runs: over TLS, killed, reloaded, under another CA; the first link."""

from __future__ import annotations

import os
import signal
import socket
import ssl
import subprocess
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509

from config.settings import Settings
from control import first_owner
from control.installation import Installation
from tests.harness.daemon import Daemon
from tests.harness.pki import Authority
from tests.harness.processes import children, runs_module, wait_for
from tests.harness.signing_cas import imported

PATH = "/api/openapi.json"
PATIENCE = 170
LINK = "Make the first account (works once, for a day): "
NEXT = Authority.root("Next Console Root")

pytestmark = pytest.mark.timeout(400)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    with Daemon(tmp_path_factory.mktemp("console"), console=True) as daemon:
        yield daemon


def root(daemon: Daemon) -> Path:
    """The root of the CA that is active now, where the daemon publishes it."""
    return daemon.state_dir / "certs" / "default-root.pem"


def get(daemon: Daemon, *options: str, path: str = PATH, host: str = "127.0.0.1") -> subprocess.CompletedProcess[str]:
    command = ["curl", "-sS", "-i", "--max-time", str(PATIENCE), "--cacert", str(root(daemon)), *options]
    url = f"https://{host}:{daemon.console.rpartition(':')[2]}{path}"
    return subprocess.run([*command, url], capture_output=True, text=True, check=False)


def answers(daemon: Daemon) -> bool:
    return get(daemon).stdout.startswith("HTTP/1.1 200 ")


def console_of(daemon: Daemon) -> int:
    """The console's process."""
    below = wait_for(
        "one console",
        lambda: [pid for pid in children(daemon.process.pid) if runs_module(pid, "cli.console_process")],
        timeout=PATIENCE,
    )
    assert len(below) == 1
    return below[0]


def shown(daemon: Daemon, name: str | None = None) -> str:
    """Who has issued the certificate that a handshake shows, by common name; nothing is verified."""
    host, _, port = daemon.console.rpartition(":")
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with (
        socket.create_connection((host, int(port)), PATIENCE) as connection,
        context.wrap_socket(connection, server_hostname=name) as tls,
    ):
        encoded = tls.getpeercert(binary_form=True)
    assert encoded is not None
    return x509.load_der_x509_certificate(encoded).issuer.rfc4514_string()


def token_of(line: str) -> str:
    return line.rpartition("/setup/")[2]


def works(daemon: Daemon, token: str) -> bool:
    settings = Settings(state_dir=daemon.state_dir)
    now = datetime.now(UTC)  # noqa: TID251 - the daemon's own clock has made the link
    inst = Installation.look(settings)
    assert inst is not None
    with closing(inst):
        return first_owner.is_open(inst, token, now)


def test_it_answers_under_a_leaf_of_the_active_ca_and_the_log_has_no_secret(running: Daemon) -> None:
    done = get(running)
    assert done.stdout.startswith("HTTP/1.1 200 "), done.stderr
    assert "server:" not in done.stdout.lower()
    port = running.console.rpartition(":")[2]
    for name in ("localhost", socket.gethostname().lower()):
        told = get(running, "--resolve", f"{name}:{port}:127.0.0.1", host=name)
        assert told.stdout.startswith("HTTP/1.1 200 "), told.stderr
    assert get(running, "--cacert", os.devnull).returncode != 0
    secret = "spl_" + "a" * 43
    told = get(running, "-H", f"Authorization: Bearer {secret}", path=f"/setup/{secret}?x={secret}")
    assert "HTTP/1.1 410 " in told.stdout
    (line,) = running.wait_log("console request", status=410, timeout=PATIENCE)
    assert (line["from"], line["method"], line["path"]) == ("console", "GET", "/setup/{token}")
    assert f"x-request-id: {line['id']}" in told.stdout
    assert running.wait_log("console request", status=200, path=PATH)
    assert secret not in running.stderr_text()


def test_another_name_is_not_answered(running: Daemon) -> None:
    console_of(running)
    assert answers(running)
    with pytest.raises(OSError):  # noqa: PT011 - reset, or an alert
        shown(running, "evil.example")


def test_it_is_closed_to_others_and_cannot_gain_rights(running: Daemon) -> None:
    pid = console_of(running)
    assert answers(running)
    about = dict(line.split(":\t", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines() if ":\t" in line)
    assert about["NoNewPrivs"] == "1"
    assert Path(f"/proc/{pid}/mem").stat().st_uid == 0, "PR_SET_DUMPABLE 0 makes it root's"
    limits = Path(f"/proc/{pid}/limits").read_text()
    assert next(line for line in limits.splitlines() if line.startswith("Max core file size")).split()[4] == "0"
    if os.geteuid() == 0:
        assert int(about["VmLck"].split()[0]) > 10_000
    assert running.told("nodes", "--json")
    assert "console" not in running.cli("nodes").stderr


def test_killed_it_is_back_and_the_workers_do_not_notice(running: Daemon) -> None:
    assert answers(running)
    before, workers = console_of(running), running.pids().workers
    os.kill(before, signal.SIGKILL)
    assert wait_for("the next console", lambda: console_of(running) != before, timeout=PATIENCE)
    assert answers(running)  # it waits in the socket's queue
    assert running.log("process died", process="console", pid=before)
    assert running.pids().workers == workers


@pytest.mark.parametrize("how", [(), ("--exec",)], ids=["reload", "upgrade"])
def test_a_reload_and_an_upgrade_keep_its_socket(running: Daemon, how: tuple[str, ...]) -> None:
    assert answers(running)
    before = console_of(running)
    running.settings["limits"]["leaf_timeout"] = 9 if how else 8
    running.settings["console"]["bind"] = "127.0.0.1:9" if how else "127.0.0.1:0"
    running.write_config()
    said = running.told("reload", *how, timeout=PATIENCE)
    assert ("console: it cannot change" in said) is bool(how)
    assert answers(running)
    wait_for("the console before to end", lambda: before not in children(running.process.pid), timeout=PATIENCE)
    assert console_of(running) != before
    assert answers(running)
    assert not running.log("process killed")


def test_another_ca_counts_from_the_next_handshake(running: Daemon) -> None:
    assert answers(running)
    first = shown(running)
    imported(running, "next", NEXT)
    running.told("signing-ca", "activate", "next")
    issuer, seconds = running.within(20, lambda: (now := shown(running)) != first and now)
    assert "next issuing" in str(issuer)
    assert shown(running, "localhost") == issuer
    assert answers(running), "the root that is published is the new one's"
    assert seconds < 15
    assert running.log("console certificate")


def test_who_starts_it_gets_a_link_while_there_is_no_owner(tmp_path: Path) -> None:
    """Printed once, to standard output; another one with each start and by command."""
    folder = tmp_path / "daemon"
    with Daemon(folder, console=True) as daemon:

        def printed() -> str:
            (line,) = [line for line in daemon.said if line.startswith(LINK)]
            assert line.startswith(f"{LINK}https://{daemon.console}/setup/spl_")
            return token_of(line)

        first = printed()
        assert works(daemon, first)
        assert daemon.cli("serve").returncode == 2
        assert works(daemon, first), "a start that fails takes nobody's link away"
        assert answers(daemon)
        told = daemon.told("admin", "setup-link")
        assert told.startswith(f"https://{daemon.console}/setup/spl_")
        second = token_of(told.strip())
        assert (works(daemon, first), works(daemon, second)) == (False, True)

        daemon.stop()
        real = datetime.now(UTC)  # noqa: TID251 - the daemon's own clock looks at it
        valid = {"not_before": real - timedelta(days=1), "not_after": real + timedelta(days=1)}
        given = Authority.root("Given Root")
        certificate, key = given.leaf(["127.0.0.1"], **valid).write(tmp_path, "given")  # type: ignore[arg-type] # by name
        daemon.settings["console"]["tls"] = {"certificate": str(certificate), "key": str(key)}
        daemon.write_config()
        daemon.start()
        third = printed()
        assert (works(daemon, second), works(daemon, third)) == (False, True)
        assert shown(daemon) == "CN=Given Root"
        renewed = Authority.root("Renewed Root")
        renewed.leaf(["127.0.0.1"], **valid).write(tmp_path, "given")  # type: ignore[arg-type] # by name
        wait_for("the files to be read again", lambda: shown(daemon) == "CN=Renewed Root", timeout=PATIENCE)

        daemon.told("admin", "create", "ann")
        assert not works(daemon, third)
        refused = daemon.cli("admin", "setup-link")
        assert refused.returncode == 1
        assert "there is an owner" in refused.stderr
        kept = b"".join(path.read_bytes() for path in daemon.state_dir.rglob("*") if path.is_file())
        for token in (first, second, third):
            assert token not in daemon.stderr_text()
            assert token.encode() not in kept


def test_a_port_that_is_taken_is_said_and_nothing_is_started(tmp_path: Path) -> None:
    daemon = Daemon(tmp_path, console=True)
    with socket.create_server(("127.0.0.1", 0)) as holder:
        daemon.settings["console"]["bind"] = f"127.0.0.1:{holder.getsockname()[1]}"
        daemon.write_config()
        done = daemon.cli("serve")
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("Error: console.bind: cannot listen on 127.0.0.1:")
    assert done.stderr.count("\n") == 1
    assert not daemon.state_dir.exists()
