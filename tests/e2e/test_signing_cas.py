"""Another CA becomes the active one while clients are at work: what they are shown, and what becomes of them."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import PUBLIC
from tests.harness.curl import curl
from tests.harness.daemon import Daemon
from tests.harness.origins import Nginx
from tests.harness.pki import HOUR, NOW, Authority
from tests.harness.programs import need
from tests.harness.signing_cas import Client, followed, imported, roots, workers

PASSPHRASE = "correct horse battery staple"


@pytest.fixture
def daemon(tmp_path: Path, origin: Nginx) -> Iterator[Daemon]:
    """One of the test's own: what is active is not shared."""
    hosts = {name: "127.0.0.1" for name in origin.sites if name not in ("six.example", "literal")}
    with Daemon(tmp_path / "daemon", hosts=hosts, common=PUBLIC, workers=2) as running:
        assert running.root.exists()  # the built-in one's, downloaded while that is the active one
        yield running


def resumed(client: Client) -> bool:
    """Whether its ticket is worth anything, at the worker that gave it: other workers get the next connections, too."""
    for _ in range(20):
        with client.open() as opened:
            if opened.session_reused:
                return True
    return False


def purged(daemon: Daemon, generation: int) -> list[dict[str, Any]] | None:
    """The workers, once each has purged what was before that generation."""
    found = workers(daemon)
    return found if all((one["purged_generation"] or 0) >= generation for one in found) else None


def test_what_another_ca_has_signed_for_our_request_is_what_clients_see(daemon: Daemon, origin: Nginx) -> None:
    need("openssl")
    from tests.control.test_signing_cas import EXTENSIONS, openssl, root_above

    folder = daemon.folder
    root_above(folder)
    daemon.told("signing-ca", "csr", "gateway", "--common-name", "Gateway CA", "--country", "ch", "--output",
                str(folder / "gateway.csr"))  # fmt: skip
    (folder / "extensions").write_text(EXTENSIONS)
    openssl(folder, "x509", "-req", "-in", "gateway.csr", "-CA", "root.pem", "-CAkey", "root.key", "-CAcreateserial",
            "-days", "365", "-extfile", "extensions", "-out", "gateway.pem")  # fmt: skip
    files = [str(folder / "gateway.pem"), str(folder / "root.pem")]
    assert "It would be accepted" in daemon.told("signing-ca", "validate", "gateway", *files)
    followed(daemon, ("signing-ca", "complete", "gateway", *files, "--activate"))
    url = origin["good.example"].url()
    assert curl(daemon, url, "--cacert", str(folder / "root.pem")).status == 200
    client = Client(daemon, origin["good.example"].port, folder / "root.pem")
    with client.open() as opened:
        assert client.issuer(opened).startswith("Gateway CA")
    assert curl(daemon, url, "--cacert", str(daemon.folder / "default-root.pem")).exit_code in (60, 77)


def test_a_purge_is_within_a_second_and_nothing_of_the_old_ca_is_seen_behind_it(daemon: Daemon, origin: Nginx) -> None:
    root, _ = imported(daemon, "theirs")
    trusted, port = roots(daemon, root), origin["good.example"].port
    seen: list[tuple[float, str]] = []
    failures: list[str] = []
    done = threading.Event()

    def load() -> None:
        client = Client(daemon, port, trusted)
        while not done.is_set():
            began = time.time()
            try:
                with client.open() as opened:
                    seen.append((began, client.issuer(opened)))
                    client.ask(opened)
            except OSError as error:
                failures.append(f"{began}: {error!r}")

    resting = Client(daemon, port, trusted)
    idle = resting.open()
    resting.ask(idle)
    resting.session = idle.session
    assert resumed(resting)
    loads = [threading.Thread(target=load) for _ in range(4)]
    for each in loads:
        each.start()
    daemon.within(5.0, lambda: len(seen) > 20)
    before = max(one["generation"] for one in workers(daemon))
    daemon.told("signing-ca", "activate", "theirs")
    acknowledged, _ = daemon.within(3.0, lambda: purged(daemon, before + 1))
    many = len(seen)
    daemon.within(5.0, lambda: len(seen) > many + 20)
    done.set()
    for each in loads:
        each.join(20)
    assert len(acknowledged) == 2
    assert all(one["purge_seconds"] < 1.0 for one in acknowledged), acknowledged
    last = max(datetime.fromisoformat(one["purged_at"]).timestamp() for one in acknowledged)
    behind = {issuer for began, issuer in seen if began > last}
    assert behind == {"theirs issuing"}
    assert len({issuer for _, issuer in seen}) == 2
    # Nobody is refused; a connection on which something was under way ends behind it.
    assert not failures, failures[:5]
    # One that rested was told goodbye, and its ticket is worth nothing.
    idle.settimeout(5)
    assert idle.recv(10) == b""
    idle.close()
    assert not resumed(resting)
    with resting.open() as fresh:
        assert resting.issuer(fresh) == "theirs issuing"


def test_where_the_active_ca_is_revoked_the_built_in_one_signs_within_a_second(daemon: Daemon, origin: Nginx) -> None:
    root, _ = imported(daemon, "theirs")
    daemon.told("signing-ca", "activate", "theirs")
    client = Client(daemon, origin["good.example"].port, roots(daemon, root))

    def issuer() -> str:
        with client.open() as opened:
            return client.issuer(opened)

    daemon.within(1.0, lambda: issuer() == "theirs issuing")
    daemon.told("signing-ca", "revoke", "theirs")
    daemon.within(1.0, lambda: issuer().startswith("Sallyport Intermediate CA"))
    done = daemon.cli("signing-ca", "activate", "theirs")
    assert (done.returncode, "was revoked" in done.stderr) == (1, True)


def test_with_a_key_that_cannot_be_opened_nothing_is_intercepted_and_it_is_said(daemon: Daemon, origin: Nginx) -> None:
    imported(daemon, "theirs")
    with closing(sqlite3.connect(daemon.state_dir / "sallyport.db", isolation_level=None)) as database:
        database.executescript(
            "BEGIN IMMEDIATE; UPDATE signing_cas SET sealed_key = x'00' WHERE name = 'theirs';"
            "UPDATE tenants SET generation = generation + 1,"
            " active_signing_ca_id = (SELECT id FROM signing_cas WHERE name = 'theirs');"
            "INSERT INTO changes (tenant_id, generation, kind, at)"
            " SELECT id, generation, 'signing_ca_activated', '2026-01-01 00:00:00.000000' FROM tenants; COMMIT"
        )
    url = origin["good.example"].url()

    def refused() -> bool:
        result = curl(daemon, url)
        return result.proxy_status == 'sallyport; error=proxy_configuration_error; details="signing_ca"'

    daemon.within(10.0, refused)
    (said,) = daemon.wait_log("signing CA cannot sign", timeout=30, tenant="default", name="theirs")
    assert (said["from"], said["level"]) == ("supervisor", "error")
    assert "the key of signing CA theirs of tenant default cannot be used" in said["reason"]
    assert all(line.get("id") for line in daemon.log("request_failed"))  # of clients; not each time that workers ask
    daemon.told("signing-ca", "activate", "built-in")
    daemon.within(10.0, lambda: curl(daemon, url).status == 200)


def test_no_key_is_anywhere_in_the_clear(daemon: Daemon, origin: Nginx) -> None:
    _, issuing = imported(daemon, "theirs")
    certificates, key, secret = (daemon.folder / name for name in ("locked.pem", "locked.key", "secret"))
    locked = Authority.root("locked root").intermediate("locked issuing")
    certificates.write_bytes(locked.chain_pem(with_root=True))
    from tests.control.test_signing_cas import pkcs8

    key.write_bytes(pkcs8(locked, PASSPHRASE.encode()))
    secret.write_text(PASSPHRASE + "\n")
    daemon.told("signing-ca", "import", "locked", "--cert", str(certificates), "--key", str(key), "--passphrase-file",
                str(secret), "--activate")  # fmt: skip
    daemon.told("signing-ca", "csr", "gateway", "--common-name", "Gateway CA")
    daemon.within(5.0, lambda: curl(daemon, origin["good.example"].url(), "-k").status == 200)
    needles = [b"PRIVATE KEY", PASSPHRASE.encode()]
    for one in (issuing, locked):
        numbers: Any = one.key.private_numbers()  # type: ignore[union-attr]
        secret_number = numbers.private_value if hasattr(numbers, "private_value") else numbers.d
        raw = secret_number.to_bytes((secret_number.bit_length() + 7) // 8, "big")
        needles += [raw, one.key_pem().splitlines()[2], raw.hex().encode()]
    places = [path for path in daemon.state_dir.rglob("*") if path.is_file()]
    places.append(daemon.stderr)
    pids = daemon.pids()
    for pid in (pids.supervisor, pids.issuer, *pids.workers):
        places += [Path(f"/proc/{pid}/environ"), Path(f"/proc/{pid}/cmdline")]
    assert any(path.name == "sallyport.db" for path in places)
    for path in places:
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            continue  # a write-ahead log comes and goes
        for needle in needles:
            assert needle not in content, path


def test_what_ends_is_said_in_the_log_by_one_process_and_a_chain_ends_with_its_root(
    daemon: Daemon, origin: Nginx
) -> None:
    # A tenth of an hour is six minutes.
    near = Authority.root("near root", not_before=NOW - 3 * HOUR, not_after=soon(600))
    trusted = daemon.folder / "company.pem"
    trusted.write_bytes(near.pem())
    assert (
        "Warning: certificate 1 (near root) ends on" in daemon.cli("trusted-ca", "add", "company", str(trusted)).stderr
    )
    said = daemon.wait_log("trusted CA ends soon", timeout=30, tenant="default", name="company")
    assert (said[0]["from"], said[0]["level"], said[0]["days_left"]) == ("supervisor", "warning", 0)

    ends = soon(20)
    root = Authority.root("short root", not_before=NOW - 3 * HOUR, not_after=ends)
    imported(daemon, "theirs", root)
    daemon.told("signing-ca", "activate", "theirs")
    url = origin["good.example"].url()
    daemon.within(5.0, lambda: curl(daemon, url, "--cacert", str(roots(daemon, root))).status == 200)
    (said_once,) = daemon.wait_log("signing CA has expired", timeout=60, tenant="default", name="theirs")
    assert (said_once["from"], said_once["level"]) == ("supervisor", "error")
    assert said_once["ends"] == f"{ends:%Y-%m-%dT%H:%M:%SZ}"
    refused = curl(daemon, url)
    assert refused.proxy_status == 'sallyport; error=proxy_configuration_error; details="signing_ca"'

    daemon.told("signing-ca", "activate", "built-in")
    daemon.within(5.0, lambda: curl(daemon, url).status == 200)
    daemon.wait_log("signing CA can sign again", timeout=30, name="built-in")
    events = [line["event"] for line in daemon.log() if " CA " in line["event"] and "purged" not in line["event"]]
    assert events.count("trusted CA ends soon") == events.count("signing CA has expired") == 1


def soon(seconds: float) -> datetime:
    """So many seconds from now."""
    return datetime.fromtimestamp(int(time.time() + seconds), UTC)
