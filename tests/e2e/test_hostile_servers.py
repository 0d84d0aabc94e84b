"""Servers that try to get around being judged, or that only say after the handshake what they do not like."""

from __future__ import annotations

import contextlib
import socket
import ssl
import struct
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.e2e.conftest import ISSUING, PRIVATE, PRIVATE_ISSUING, PUBLIC
from tests.e2e.test_bad_clients import to_end, tunnel
from tests.harness.curl import curl
from tests.harness.daemon import Daemon
from tests.harness.origins import Nginx, OpensslServer, Site
from tests.harness.processes import wait_for

RESET = struct.pack("ii", 1, 0)


@pytest.fixture(scope="module")
def daemon(scratch: Path) -> Iterator[Daemon]:
    limits = {"idle_timeout": 3.0, "half_close_timeout": 3.0}
    with Daemon(
        scratch / "hostile", hosts={"good.example": "127.0.0.1"}, common=PUBLIC, extra={"limits": limits}
    ) as running:
        yield running


@pytest.fixture(scope="module")
def lenient(scratch: Path) -> Iterator[Daemon]:
    """What is not TLS passes."""
    with Daemon(
        scratch / "lenient",
        hosts={"good.example": "127.0.0.1"},
        common=PUBLIC,
        extra={"tunnel": {"non_tls": "pass"}},
    ) as running:
        yield running


@contextmanager
def serving(serve: Callable[[socket.socket], None]) -> Iterator[int]:
    """A server of one connection on loopback; its port."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(20)

        def once() -> None:
            with contextlib.suppress(OSError):
                connection, _ = listening.accept()
                with connection:
                    connection.settimeout(20)
                    serve(connection)

        thread = threading.Thread(target=once, daemon=True)
        thread.start()
        yield listening.getsockname()[1]
    thread.join(10)


def tls_server(folder: Path) -> ssl.SSLContext:
    chain, key = ISSUING.leaf("good.example").write(folder, "good")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(chain, key)
    return context


def trusting(daemon: Daemon) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(daemon.root))


def test_what_a_server_says_before_tls_never_reaches_the_client_as_if_it_came_through_tls(
    daemon: Daemon, tmp_path: Path
) -> None:
    context = tls_server(tmp_path)

    def serve(connection: socket.socket) -> None:
        connection.sendall(b"INJECTED")
        time.sleep(0.3)
        with contextlib.suppress(OSError, ssl.SSLError):
            context.wrap_socket(connection, server_side=True).recv(1)

    with serving(serve) as port, tunnel(daemon, port) as raw:
        time.sleep(0.2)
        with trusting(daemon).wrap_socket(raw, server_hostname="good.example") as tls:
            tls.sendall(b"GET / HTTP/1.1\r\nHost: good.example\r\nConnection: close\r\n\r\n")
            answer = tls.recv(65536)
    assert answer.startswith(b"HTTP/1.1 502")
    assert b'error=tls_protocol_error; details="protocol"' in answer
    assert b"INJECTED" not in answer


def test_a_server_does_not_get_out_of_being_judged_by_speaking_first(lenient: Daemon) -> None:
    """With ``non_tls: pass`` too, TLS is judged: behind a greeting, and behind the first byte of a TLS record."""
    hello: list[bytes] = []

    def serve(greeting: bytes) -> Callable[[socket.socket], None]:
        def run(connection: socket.socket) -> None:
            connection.sendall(greeting)
            with contextlib.suppress(OSError):
                hello.append(connection.recv(65536))

        return run

    with serving(serve(b"220 ready\r\n")) as port, tunnel(lenient, port) as raw:
        time.sleep(0.3)
        with pytest.raises((ssl.SSLError, OSError)):
            trusting(lenient).wrap_socket(raw.dup(), server_hostname="good.example")
    with serving(serve(b"\x16")) as port, tunnel(lenient, port) as raw:
        time.sleep(0.3)
        with trusting(lenient).wrap_socket(raw, server_hostname="good.example") as tls:
            tls.sendall(b"GET / HTTP/1.1\r\nHost: good.example\r\nConnection: close\r\n\r\n")
            assert tls.recv(65536).startswith(b"HTTP/1.1 502")
    assert b"".join(hello) == b""


def test_a_protocol_in_which_the_server_speaks_first_passes_where_such_may_pass(lenient: Daemon) -> None:
    def serve(connection: socket.socket) -> None:
        connection.sendall(b"220 ready\r\n")
        assert connection.recv(100) == b"QUIT\r\n"
        connection.sendall(b"221 bye\r\n")

    with serving(serve) as port, tunnel(lenient, port) as client:
        assert client.recv(100) == b"220 ready\r\n"
        client.sendall(b"QUIT\r\n")
        assert to_end(client) == b"221 bye\r\n"


@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
def test_a_server_that_wants_a_client_certificate_is_told_of(daemon: Daemon, tmp_path: Path, version: str) -> None:
    """In TLS 1.3 the server's alert comes when its handshake is through for us."""
    options = (version, "-Verify", "1", "-verify_return_error")
    with OpensslServer(tmp_path, ISSUING.leaf("good.example"), options=options) as server:
        for http in ("--http1.1", "--http2"):
            result = curl(daemon, server.url("good.example"), http)
            assert (result.status, result.proxy_status) == (
                502,
                'sallyport; error=tls_protocol_error; details="protocol"',
            ), result.error


def test_a_clients_reset_reaches_the_server_as_one_and_not_as_a_whole_upload(daemon: Daemon, tmp_path: Path) -> None:
    context = tls_server(tmp_path)
    ends: list[object] = []

    def serve(connection: socket.socket) -> None:
        with context.wrap_socket(connection, server_side=True, suppress_ragged_eofs=False) as tls:
            try:
                while data := tls.recv(65536):
                    if data.endswith(b"part"):
                        ready.set()
                ends.append("close_notify")
            except (OSError, ssl.SSLError) as error:
                ends.append(type(error))

    ready = threading.Event()
    with serving(serve) as port:
        raw = tunnel(daemon, port)
        tls = trusting(daemon).wrap_socket(raw, server_hostname="good.example")
        tls.sendall(b"POST / HTTP/1.1\r\nHost: good.example\r\nContent-Length: 1000\r\n\r\npart")
        assert ready.wait(10)
        tls.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        tls.close()
        wait_for("the server to notice", lambda: ends)
    assert ends != ["close_notify"]


def test_a_trust_that_was_taken_away_counts_for_a_connection_that_was_waiting(daemon: Daemon, tmp_path: Path) -> None:
    chain = tmp_path / "private.pem"
    chain.write_bytes(PRIVATE_ISSUING.pem() + PRIVATE.pem())
    with Nginx(tmp_path, [Site("good.example", PRIVATE_ISSUING.leaf("good.example"))]) as nginx:
        site = nginx["good.example"]
        daemon.told("trusted-ca", "add", "private", str(chain))
        daemon.within(2, lambda: curl(daemon, site.url()).status == 200)
        raw = tunnel(daemon, site.port)
        daemon.told("trusted-ca", "delete", "private")
        daemon.within(2, lambda: curl(daemon, site.url()).status == 502)
        with raw, trusting(daemon).wrap_socket(raw, server_hostname="good.example") as tls:
            tls.sendall(b"GET / HTTP/1.1\r\nHost: good.example\r\nConnection: close\r\n\r\n")
            assert tls.recv(65536).startswith(b"HTTP/1.1 502")


def test_clients_and_servers_that_do_not_read_are_gone_in_their_time(daemon: Daemon, tmp_path: Path) -> None:
    context = tls_server(tmp_path)
    stop = threading.Event()

    def serve(connection: socket.socket) -> None:
        with context.wrap_socket(connection, server_side=True) as tls:
            tls.recv(1000)
            tls.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n")
            with contextlib.suppress(OSError, ssl.SSLError):
                while not stop.is_set():
                    tls.sendall(b"x" * 65536)

    with OpensslServer(tmp_path, ISSUING.leaf("good.example")) as server:
        assert curl(daemon, server.url("good.example")).status == 200  # what is opened once is open now
    worker = daemon.pids().workers[0]
    before = daemon.resting_files(worker)
    with serving(serve) as port:
        raw = tunnel(daemon, port)
        tls = trusting(daemon).wrap_socket(raw, server_hostname="good.example")
        tls.sendall(b"GET / HTTP/1.1\r\nHost: good.example\r\n\r\n")
        time.sleep(0.5)
        assert daemon.open_files(worker) >= before + 2
        # Idle time, then the time that a closed connection may take.
        wait_for("both sockets to close", lambda: daemon.open_files(worker) <= before, timeout=25)
        stop.set()
        tls.close()


def test_openssl_tells_what_it_would_not_have(daemon: Daemon, tmp_path: Path) -> None:
    """A client that does not trust the root says so in an alert, and the log says that it did."""
    with OpensslServer(tmp_path, ISSUING.leaf("good.example")) as server:
        subprocess.run(
            ["curl", "-q", "-sS", "--proxy", f"http://{daemon.proxy}", server.url("good.example")],
            capture_output=True,
            timeout=30,
            check=False,
        )
    wait_for(
        "the alert in the log",
        lambda: [one for one in daemon.log("connection", state="client") if "unknown ca" in one["reason"]],
    )
