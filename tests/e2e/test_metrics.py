"""What a daemon tells of itself, against traffic that the test made and knows exactly."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.conftest import PRIVATE, PRIVATE_ISSUING, PUBLIC
from tests.harness.curl import command, curl
from tests.harness.daemon import Daemon
from tests.harness.monitor import get, readiness, scrape, value
from tests.harness.origins import Nginx
from tests.harness.processes import wait_for
from tests.harness.programs import need

HOSTS = dict.fromkeys(("good.example", "private.example", "plain.example"), "127.0.0.1")
SEEN_SECONDS = 5
"""Workers hand on their counts once a second."""


@pytest.fixture
def watched(tmp_path: Path, origin: Nginx) -> Iterator[Daemon]:
    """Two workers, and a monitor."""
    with Daemon(tmp_path, hosts=HOSTS, common=PUBLIC, workers=2, metrics=True) as daemon:
        wait_for("the monitor to be there", lambda: ready(daemon), timeout=30)
        yield daemon


def ready(daemon: Daemon) -> bool:
    try:
        return readiness(daemon) == (200, ["ready"])
    except OSError:
        return False  # it is being started


def seen(daemon: Daemon, name: str, expected: float, /, **labels: str) -> None:
    """Wait until a count is what it has to be."""
    told: list[float] = []

    def there() -> bool:
        told.append(value(scrape(daemon), name, **labels))
        return told[-1] == expected

    try:
        wait_for(f"{name} {labels} to be {expected}", there, timeout=SEEN_SECONDS)
    except AssertionError as error:
        error.add_note(f"it was {told[-1]}")
        raise


def test_the_counts_of_both_workers_are_exactly_the_traffic(watched: Daemon, origin: Nginx) -> None:
    good, private, plain = (origin[f"{name}.example"].url() for name in ("good", "private", "plain"))
    for _ in range(8):
        assert curl(watched, good, "--http1.1").status == 200
    for _ in range(3):
        assert curl(watched, good + "not-there", "--http2").status == 404
    for _ in range(4):
        assert curl(watched, private).status == 502
    for _ in range(2):
        assert curl(watched, plain).status == 200
    assert curl(watched, "https://169.254.169.254/").status == 403

    def lane(name: str, expected: float) -> None:
        seen(watched, "connections_total", expected, tenant="default", mode="explicit", lane=name)

    lane("fast", 11)
    lane("answer", 4)
    lane("plain", 2)
    lane("none", 1)
    seen(watched, "connections_open", 0)
    seen(watched, "verdicts_total", 11, tenant="default", defect="none", action="allow")
    seen(watched, "verdicts_total", 4, tenant="default", defect="incomplete_chain", action="block")
    seen(watched, "requests_total", 8, tenant="default", lane="fast", status_class="2xx")
    seen(watched, "requests_total", 3, tenant="default", lane="fast", status_class="4xx")
    seen(watched, "requests_total", 2, tenant="default", lane="plain", status_class="2xx")
    seen(watched, "refused_total", 4, reason="tls_certificate_error")
    seen(watched, "refused_total", 1, reason="destination_ip_prohibited")
    seen(watched, "handshake_seconds_count", 11 + 4, leg="server")
    seen(watched, "handshake_seconds_count", 11 + 4, leg="client")
    seen(watched, "faults_total", 0)
    # Of three leaves (one host's two ends of life are two), each worker asks for those that it has not seen.
    samples = scrape(watched)
    asked, hits = value(samples, "leaves_asked_total"), value(samples, "leaf_cache_hits_total")
    assert asked + hits == 15
    minted = value(samples, "leaves_minted_total", tenant="default", signer="local")
    assert minted == 2
    assert value(samples, "sign_seconds_count", signer="local") == minted
    assert value(samples, "workers") == 2
    assert value(samples, "ready") == 1
    assert value(samples, "signing_ca_expiry_seconds", tenant="default") > 86_400


def test_what_a_killed_worker_has_counted_stays(watched: Daemon, origin: Nginx) -> None:
    for _ in range(6):
        assert curl(watched, origin["good.example"].url()).status == 200
    seen(watched, "connections_total", 6, tenant="default", mode="explicit", lane="fast")
    before = watched.pids().workers
    for pid in before:
        os.kill(pid, signal.SIGKILL)
    wait_for("both to be replaced", lambda: not set(before) & set(watched.pids().workers), timeout=30)
    wait_for("it to be ready again", lambda: ready(watched), timeout=30)
    assert curl(watched, origin["good.example"].url()).status == 200
    seen(watched, "connections_total", 7, tenant="default", mode="explicit", lane="fast")
    restarts = [value(scrape(watched), "process_restarts_total", process=f"worker {number}") for number in (1, 2)]
    assert restarts == [1, 1]

    def sockets() -> list[str]:
        return sorted(path.name for path in (watched.state_dir / "run").glob("worker-*.sock"))

    # The second may still be starting: what the monitor was told last holds for a moment.
    wait_for("a socket of each", lambda: sockets() == sorted(f"worker-{pid}.sock" for pid in watched.pids().workers))


def test_a_change_is_seen_in_the_generation_and_the_trusted_cas_and_timed(
    watched: Daemon, origin: Nginx, tmp_path: Path
) -> None:
    bundle = tmp_path / "private.pem"
    bundle.write_bytes(PRIVATE_ISSUING.pem() + PRIVATE.pem())
    before = value(scrape(watched), "generation", tenant="default")
    watched.told("trusted-ca", "add", "company", str(bundle))
    seen(watched, "generation", before + 1, tenant="default")
    seen(watched, "purge_seconds_count", 2)  # each worker's
    assert value(scrape(watched), "trusted_ca_expiry_seconds", tenant="default", name="company") > 0
    watched.told("trusted-ca", "delete", "company")
    seen(watched, "trusted_ca_expiry_seconds", 0, tenant="default", name="company")


def test_it_is_not_ready_without_a_worker_or_an_issuer_says_so_and_is_ready_again(watched: Daemon) -> None:
    status, _, body = get(watched.monitor, "/healthz")
    assert (status, body) == (200, "ok\n")
    # Stopped, not killed: one that was killed is back before anybody looks.
    pids = watched.pids()
    worker, number = pids.workers[0], 1 + pids.workers.index(pids.workers[0])
    os.kill(worker, signal.SIGSTOP)
    try:
        said = wait_for("it to say so", lambda: not ready(watched) and readiness(watched)[1], timeout=20)
        assert said[0].endswith("of 2 is not there, or does not answer"), (said, number)
        assert get(watched.monitor, "/healthz")[0] == 200
    finally:
        os.kill(worker, signal.SIGCONT)
    wait_for("it to be ready again", lambda: ready(watched), timeout=30)
    os.kill(pids.issuer, signal.SIGSTOP)
    try:

        def issuer_missed() -> bool:
            return any(line.startswith("the issuer cannot be reached: ") for line in readiness(watched)[1])

        wait_for("it to say that the issuer is not there", issuer_missed, timeout=30)
        told = json.loads(get(watched.monitor, "/readyz", "application/json")[2])
        assert told["ready"] is False
        assert any("the issuer cannot be reached" in line for line in told["reasons"])
        assert value(scrape(watched), "ready") == 0
    finally:
        os.kill(pids.issuer, signal.SIGCONT)
    wait_for("it to be ready again", lambda: ready(watched), timeout=30)


def test_it_says_that_it_drains(watched: Daemon, origin: Nginx) -> None:
    path = origin.file("drained.bin", 50 << 20)
    url = origin["good.example"].url(path)
    slow = subprocess.Popen(
        [*command(watched, url, "--limit-rate", "4M", "-o", "/dev/null")],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    seen(watched, "connections_open", 1)
    watched.process.send_signal(signal.SIGTERM)
    lines = wait_for("it to say so", lambda: not ready(watched) and readiness(watched)[1], timeout=10)
    assert any(line.endswith("is draining: it takes no new connections") for line in lines)
    slow.terminate()
    slow.wait()


def test_top_shows_an_open_download(watched: Daemon, origin: Nginx) -> None:
    path = origin.file("watched.bin", 50 << 20)
    slow = subprocess.Popen(
        [*command(watched, origin["good.example"].url(path), "--limit-rate", "2M", "-o", "/dev/null")],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:

        def shown() -> list[dict[str, object]]:
            told = json.loads(watched.told("top", "--once", "--json", "--interval", "1"))
            # A client that takes so much a second takes it in bursts: between two looks there may be none.
            open_now = [one for one in told["connections"] if one["to_client"] > 1 << 20]
            return [told] if open_now and told["rates"]["bytes_to_client"] > 0 else []

        told = wait_for("the download in top", shown, timeout=40)[0]
        (one,) = told["connections"]
        assert (one["host"], one["tenant"], one["state"], one["lane"]) == ("good.example", "default", "open", "fast")
        assert one["client"] == "127.0.0.1"
        assert one["to_client"] > one["to_server"] > 0
        assert told["hosts"] == {"good.example": 1}
        assert told["verdicts"] == {"none": 1}
        assert len(told["workers"]) == 2
        text = watched.told("top", "--once", "--interval", "0.1")
        assert "good.example" in text
        assert "1 connections" in text
    finally:
        slow.terminate()
        slow.wait()


def test_top_says_that_there_is_no_daemon(tmp_path: Path) -> None:
    done = Daemon(tmp_path).cli("top", "--once")
    assert done.returncode == 1
    assert done.stderr.startswith(f"Error: no worker answers in {tmp_path / 'state' / 'run'}; start the daemon with")


def test_the_formats_that_a_scraper_asks_for_are_well_formed(watched: Daemon) -> None:
    _, kind, text = get(watched.monitor, "/metrics", "application/openmetrics-text; version=1.0.0")
    assert kind.startswith("application/openmetrics-text")
    assert text.endswith("# EOF\n")
    status, kind, text = get(watched.monitor, "/metrics")
    assert (status, kind.split(";")[0]) == (200, "text/plain")
    done = subprocess.run(
        [need("promtool"), "check", "metrics"], input=text, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        (b'{"ask": "health"}\n', '"draining"'),
        (b'{"ask": "connections", "most": 5}\n', '"connections"'),
        (b'{"ask": "connections", "most": 5000}\n', '"error"'),
        (b'{"ask": "health", "more": 1}\n', '"error"'),
        (b"[[[[\n", '"error"'),
        (b"x" * 5000, ""),
    ],
)
def test_a_status_socket_answers_its_questions_and_no_others(
    watched_by_all: Daemon, question: bytes, answer: str
) -> None:
    (path,) = (watched_by_all.state_dir / "run").glob("worker-*.sock")
    assert path.stat().st_mode & 0o777 == 0o600
    with socket.socket(socket.AF_UNIX) as asking:
        asking.settimeout(20)
        asking.connect(str(path))
        asking.sendall(question)
        said = b""
        try:
            while piece := asking.recv(65536):
                said += piece
        except ConnectionError:
            pass
    assert (answer in said.decode()) if answer else said == b""


def test_one_who_asks_nothing_is_let_go_and_keeps_nobody_else_from_asking(watched_by_all: Daemon) -> None:
    (path,) = (watched_by_all.state_dir / "run").glob("worker-*.sock")
    silent = [socket.socket(socket.AF_UNIX) for _ in range(40)]
    try:
        for one in silent:
            one.settimeout(20)
            one.connect(str(path))
        for one in silent:
            with contextlib.suppress(ConnectionError):  # cut: as good
                assert one.recv(1) == b""
        assert json.loads(watched_by_all.told("top", "--once", "--json", "--interval", "0.1"))["workers"]
    finally:
        for one in silent:
            one.close()


@pytest.fixture(scope="module")
def watched_by_all(scratch: Path) -> Iterator[Daemon]:
    """One worker, without metrics: status sockets are there all the same."""
    with Daemon(scratch / "all", common=PUBLIC) as daemon:
        assert not (daemon.state_dir / "run" / "metrics").exists()
        yield daemon
