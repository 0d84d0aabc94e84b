"""Starts that must fail: one line that says what and what to do, status 2, and everything as it was."""

from __future__ import annotations

import hashlib
import os
import socket
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from kms.providers.local import MASTER_KEY_FILE
from store.engine import DATABASE_FILE
from tests.harness.daemon import Daemon
from tests.harness.processes import free_port


def bad_start(daemon: Daemon) -> str:
    """Try to start; status 2, nothing on stdout, one line on stderr, which is returned."""
    done = daemon.cli("serve")
    assert done.returncode == 2, done
    assert done.stdout == ""
    assert done.stderr.startswith("Error: ")
    assert done.stderr.count("\n") == 1, done.stderr
    assert "Traceback" not in done.stderr
    return done.stderr


def state_of(folder: Path) -> dict[str, tuple[int, int, str]]:
    """Every file and folder below with mode, owner and content. SQLite's side files and locks hold nothing of ours."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.name.endswith(("-wal", "-shm", "lock")) or path.is_socket():
            continue
        content = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
        found[str(path.relative_to(folder))] = (path.stat().st_mode, path.stat().st_uid, content)
    return found


@contextmanager
def unchanged(daemon: Daemon) -> Iterator[None]:
    before = state_of(daemon.state_dir)
    yield
    assert state_of(daemon.state_dir) == before


@contextmanager
def taken_port() -> Iterator[int]:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        yield holder.getsockname()[1]


def made(folder: Path) -> Daemon:
    """A daemon's folder in which an installation is made already."""
    daemon = Daemon(folder)
    daemon.told("tenant", "list")
    assert (daemon.state_dir / DATABASE_FILE).is_file()
    return daemon


def on_port(daemon: Daemon, port: int, tenant: str = "default") -> None:
    daemon.settings["listeners"] = [{"name": "a", "mode": "explicit", "bind": f"127.0.0.1:{port}", "tenant": tenant}]
    daemon.write_config()


def test_a_port_in_use(tmp_path: Path) -> None:
    daemon = Daemon(tmp_path)
    with taken_port() as port:
        on_port(daemon, port)
        told = bad_start(daemon)
        assert f"listeners[0].bind: cannot listen on 127.0.0.1:{port}: Address already in use" in told
        assert not daemon.state_dir.exists()
        daemon.told("tenant", "list")
        with unchanged(daemon):
            assert bad_start(daemon) == told
    with daemon:
        assert daemon.proxy == f"127.0.0.1:{port}"


def test_one_of_two_ports_in_use(tmp_path: Path) -> None:
    daemon = made(tmp_path)
    with taken_port() as port:
        on_port(daemon, free_port())
        daemon.settings["listeners"].append({"name": "b", "bind": f"127.0.0.1:{port}"})
        daemon.write_config()
        with unchanged(daemon):
            assert "listeners[1].bind" in bad_start(daemon)


def test_a_second_daemon_on_the_same_state_directory(tmp_path: Path) -> None:
    with Daemon(tmp_path) as first:
        first.pids()
        with unchanged(first):
            told = bad_start(first)
        assert f"another Sallyport (process {first.process.pid})" in told
        assert str(first.state_dir) in told
        on_port(first, int(first.proxy.rpartition(":")[2]))
        assert "another Sallyport" in bad_start(first)
        with socket.create_connection(tuple(first.proxy.split(":")), timeout=5):  # type: ignore[arg-type] # host, port
            pass
        first.pids()


def test_a_state_directory_of_another(tmp_path: Path) -> None:
    daemon = Daemon(tmp_path)
    if os.geteuid() == 0:
        daemon.state_dir.mkdir(mode=0o700)
        os.chown(daemon.state_dir, 4711, 4711)
    else:
        daemon.settings["state_dir"] = "/"
        daemon.write_config()
    told = bad_start(daemon)
    assert "belongs to user " in told
    assert "state_dir" in told
    if os.geteuid() == 0:
        assert list(daemon.state_dir.iterdir()) == []
        assert daemon.state_dir.stat().st_uid == 4711


def test_a_state_directory_that_others_can_read(tmp_path: Path) -> None:
    daemon = made(tmp_path)
    daemon.state_dir.chmod(0o750)
    with unchanged(daemon):
        assert f"chmod 700 {daemon.state_dir}" in bad_start(daemon)


def test_a_state_directory_that_is_a_file(tmp_path: Path) -> None:
    daemon = Daemon(tmp_path)
    daemon.state_dir.write_text("mine")
    assert "is not a folder" in bad_start(daemon)
    assert daemon.state_dir.read_text() == "mine"


def test_a_database_of_a_newer_version(tmp_path: Path) -> None:
    daemon = made(tmp_path)
    with closing(sqlite3.connect(daemon.state_dir / DATABASE_FILE)) as database, database:
        database.execute("UPDATE alembic_version SET version_num = '9999_later'")
    with unchanged(daemon):
        told = bad_start(daemon)
    assert "newer Sallyport (revision 9999_later)" in told
    assert str(daemon.state_dir / DATABASE_FILE) in told


def test_a_database_that_is_none(tmp_path: Path) -> None:
    daemon = made(tmp_path)
    for path in daemon.state_dir.glob(f"{DATABASE_FILE}*"):
        path.unlink()
    (daemon.state_dir / DATABASE_FILE).write_bytes(b"not a database, but long enough to look at" * 100)
    with unchanged(daemon):
        assert str(daemon.state_dir / DATABASE_FILE) in bad_start(daemon)


def test_a_corrupt_key_file(tmp_path: Path) -> None:
    daemon = made(tmp_path)
    path = daemon.state_dir / MASTER_KEY_FILE
    secret = path.read_text()
    path.write_text(secret[:-12] + "AAAAAAAAAAA\n")
    with unchanged(daemon):
        told = bad_start(daemon)
    assert str(path) in told
    assert not any(line in told for line in secret.splitlines()[1:])


def test_a_key_file_that_others_can_read(tmp_path: Path) -> None:
    daemon = made(tmp_path)
    path = daemon.state_dir / MASTER_KEY_FILE
    path.chmod(0o644)
    with unchanged(daemon):
        assert f"chmod 600 {path}" in bad_start(daemon)


def test_a_key_file_that_is_gone_is_not_made_anew_beside_its_database(tmp_path: Path) -> None:
    daemon = made(tmp_path)
    path = daemon.state_dir / MASTER_KEY_FILE
    path.unlink()
    with unchanged(daemon):
        assert str(path) in bad_start(daemon)
    assert not path.exists()


def test_the_key_file_of_another_installation(tmp_path: Path) -> None:
    one, other = made(tmp_path / "one"), made(tmp_path / "other")
    (one.state_dir / MASTER_KEY_FILE).write_bytes((other.state_dir / MASTER_KEY_FILE).read_bytes())
    with unchanged(one):
        assert "not the one of the database" in bad_start(one)


def test_a_ca_file_that_is_missing(tmp_path: Path) -> None:
    daemon = Daemon(tmp_path, common=tmp_path / "none.pem")
    told = bad_start(daemon)
    assert "trust.common_store" in told
    assert str(tmp_path / "none.pem") in told
    assert not daemon.state_dir.exists()


def test_a_ca_file_without_a_certificate(tmp_path: Path) -> None:
    (tmp_path / "empty.pem").write_text("nothing\n")
    daemon = Daemon(tmp_path, common=tmp_path / "empty.pem")
    assert "holds no certificate" in bad_start(daemon)
    assert not daemon.state_dir.exists()


def test_a_ca_file_whose_certificate_cannot_be_read(tmp_path: Path) -> None:
    broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
    (tmp_path / "broken.pem").write_text(broken)
    daemon = Daemon(tmp_path, common=tmp_path / "broken.pem")
    assert str(tmp_path / "broken.pem") in bad_start(daemon)
    assert not daemon.state_dir.exists()


def test_a_listener_for_a_tenant_that_does_not_exist(tmp_path: Path) -> None:
    daemon = Daemon(tmp_path)
    on_port(daemon, free_port(), tenant="acme")
    told = bad_start(daemon)
    expected = "listeners[0]: there is no tenant acme; create it with: sallyport tenant create acme"
    assert told == f"Error: {expected}\n"
    assert not daemon.state_dir.exists()
    daemon.told("tenant", "list")
    with unchanged(daemon):
        assert bad_start(daemon) == told
    daemon.told("tenant", "create", "acme")
    daemon.tenants, daemon.listeners = ("acme",), (("a", "acme"),)
    with daemon:
        assert daemon.root.is_file()


def test_a_setting_that_is_unknown(tmp_path: Path) -> None:
    daemon = Daemon(tmp_path, extra={"frobnicate": True})
    assert "frobnicate" in bad_start(daemon)
    assert not daemon.state_dir.exists()
