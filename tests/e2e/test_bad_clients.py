"""Garbage, half a ClientHello, a bad CONNECT, a client that goes away at any byte: only that connection ends.

Nothing stays behind: no descriptor, no task's traceback in the log; and the next client is served as ever.
"""

from __future__ import annotations

import contextlib
import json
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.conftest import ISSUING, PUBLIC
from tests.harness.curl import curl
from tests.harness.daemon import Daemon
from tests.harness.origins import Nginx, OpensslServer, Site
from tests.harness.processes import wait_for


@pytest.fixture(scope="module")
def site(scratch: Path) -> Iterator[Nginx]:
    with Nginx(
        scratch / "bad", [Site("good.example", ISSUING.leaf("good.example")), Site("plain.example", None)]
    ) as it:
        yield it


@pytest.fixture(scope="module")
def target(scratch: Path, site: Nginx) -> Iterator[Daemon]:
    hosts = {"good.example": "127.0.0.1", "plain.example": "127.0.0.1", "other.example": "127.0.0.1"}
    with Daemon(scratch / "target", hosts=hosts, common=PUBLIC, allow=("127.0.0.1/32",)) as running:
        yield running


@pytest.fixture
def unharmed(target: Daemon, site: Nginx) -> Iterator[int]:
    """Around a test: descriptors as before, no fault in the log, service as ever."""
    url = site["good.example"].url()
    assert curl(target, url).status == 200
    worker = target.pids().workers[0]
    before = target.resting_files(worker)
    yield before
    assert curl(target, url).status == 200
    wait_for("every socket to close", lambda: target.open_files(worker) <= before)
    assert target.pids().workers[0] == worker
    assert not target.log("fault")
    assert not target.log("loop")
    assert "Traceback" not in target.stderr_text()


def connect(target: Daemon) -> socket.socket:
    host, port = target.proxy.split(":")
    client = socket.create_connection((host, int(port)), timeout=10)
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return client


def talk(target: Daemon, data: bytes) -> bytes:
    """Send, and read to the end."""
    with connect(target) as client:
        with contextlib.suppress(ConnectionError):
            client.sendall(data)
        return to_end(client)


def to_end(client: socket.socket) -> bytes:
    received = b""
    with contextlib.suppress(ConnectionError):
        while chunk := client.recv(65536):
            received += chunk
    return received


def tunnel(target: Daemon, port: int, host: str = "good.example") -> socket.socket:
    client = connect(target)
    client.sendall(f"CONNECT {host}:{port} HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n".encode())
    received = b""
    while not received.endswith(b"\r\n\r\n"):
        received += client.recv(1)  # what the server says may come right behind it
    assert received.startswith(b"HTTP/1.1 200 ")
    return client


def client_hello(host: str = "good.example") -> bytes:
    context = ssl.create_default_context()
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = context.wrap_bio(incoming, outgoing, server_hostname=host)
    with pytest.raises(ssl.SSLWantReadError):
        tls.do_handshake()
    return outgoing.read()


@pytest.mark.parametrize(
    ("request_line", "status"),
    [
        (b"CONNECT  HTTP/1.1", b"400"),
        (b"CONNECT good.example HTTP/1.1", b"400"),
        (b"CONNECT good.example:0 HTTP/1.1", b"400"),
        (b"CONNECT good.example:65536 HTTP/1.1", b"400"),
        (b"CONNECT good.example:443x HTTP/1.1", b"400"),
        (b"CONNECT :443 HTTP/1.1", b"400"),
        (b"CONNECT user@good.example:443 HTTP/1.1", b"400"),
        (b"CONNECT good..example:443 HTTP/1.1", b"400"),
        (b"CONNECT [::1:443 HTTP/1.1", b"400"),
        (b"CONNECT " + b"a" * 300 + b".example:443 HTTP/1.1", b"400"),
        (b"GET / HTTP/1.1", b"400"),
        (b"GET https://good.example/ HTTP/1.1", b"400"),
        (b"garbage", b"400"),
        (b"CONNECT 127.0.0.2:443 HTTP/1.1", b"403"),
        (b"CONNECT 169.254.169.254:80 HTTP/1.1", b"403"),
        (b"CONNECT [::ffff:127.0.0.2]:443 HTTP/1.1", b"403"),
        (b"CONNECT nowhere.invalid:443 HTTP/1.1", b"502"),
    ],
)
def test_a_bad_request_gets_the_fitting_status(
    target: Daemon, unharmed: int, request_line: bytes, status: bytes
) -> None:
    answer = talk(target, request_line + b"\r\nHost: x\r\nConnection: close\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 " + status), answer[:200]
    assert b"Proxy-Status: sallyport; error=" in answer
    assert b"Cache-Control: no-store" in answer


@pytest.mark.parametrize(
    "garbage",
    [
        b"\x00" * 100,
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"\xff" * 70_000,
        b"GET /\x00 HTTP/1.1\r\n\r\n",
    ],
)
def test_garbage_to_the_port_ends_at_once(target: Daemon, unharmed: int, garbage: bytes) -> None:
    answer = talk(target, garbage)
    assert answer == b"" or answer.startswith(b"HTTP/1.1 4")


def test_no_credential_of_a_bad_request_is_in_the_log(target: Daemon, unharmed: int) -> None:
    talk(target, b"CONNECT user:hunter2@good.example:443 HTTP/1.1\r\nHost: x\r\n\r\n")
    plain = b"GET http://plain.example/ HTTP/1.1\r\nHost: plain.example\r\nAuthorization : Basic hunter2\r\n\r\n"
    talk(target, plain)
    target.wait_log("refused", status=400)
    assert "hunter2" not in target.stderr_text()


def test_a_head_in_single_bytes_is_read_and_a_second_one_has_its_time_limit_too(tmp_path: Path, site: Nginx) -> None:
    extra = {"limits": {"connect_head_timeout": 1.0}}
    with Daemon(tmp_path / "slow", hosts={"plain.example": "127.0.0.1"}, common=PUBLIC, extra=extra) as daemon:
        request = f"GET {site['plain.example'].url()} HTTP/1.1\r\nHost: plain.example\r\n\r\n".encode()
        with connect(daemon) as client:
            for byte in request:
                client.sendall(bytes([byte]))
            assert client.recv(65536).startswith(b"HTTP/1.1 200")
            client.sendall(request[:20])
            assert to_end(client) == b""


def test_a_head_over_its_limit_is_refused(target: Daemon, unharmed: int) -> None:
    answer = talk(target, b"CONNECT good.example:443 HTTP/1.1\r\nX: " + b"a" * 40_000)
    assert answer.startswith(b"HTTP/1.1 431")


def test_what_is_not_tls_in_a_tunnel_is_refused_and_reaches_nobody(target: Daemon, site: Nginx, unharmed: int) -> None:
    port = site["plain.example"].port
    with tunnel(target, port, "plain.example") as client:
        client.sendall(b"GET /not-tls HTTP/1.1\r\nHost: plain.example\r\n\r\n")
        answer = to_end(client)
    assert answer.startswith(b"HTTP/1.1 403")
    assert b'details="not_tls"' in answer
    with tunnel(target, port, "plain.example") as client:
        client.sendall(b"\x00\x01\x02")
        assert to_end(client) == b""
    assert not [entry for entry in site.requests("plain.example") if "/not-tls" in entry["uri"]]


@pytest.mark.parametrize(
    ("record", "alert"),
    [
        (b"\x16\x03\x01\x00\x05\x02\x00\x00\x01\x00", 10),
        (b"\x16\x03\x01\x00\x08\x01\x00\x00\x04\x03\x03\x00\x00", 50),
        (b"\x16\x03\x01\x00\x04\x01\xff\xff\xff", None),
    ],
)
def test_a_broken_client_hello_gets_an_alert(
    target: Daemon, site: Nginx, unharmed: int, record: bytes, alert: int | None
) -> None:
    with tunnel(target, site["good.example"].port) as client:
        client.sendall(record)
        answer = to_end(client)
    assert answer[:1] == b"\x15", answer
    assert answer[5] == 2
    if alert is not None:
        assert answer[6] == alert


def test_a_client_hello_over_its_limit_is_cut_off(target: Daemon, site: Nginx, unharmed: int) -> None:
    with tunnel(target, site["good.example"].port) as client:
        with contextlib.suppress(ConnectionError):
            client.sendall(b"\x16\x03\x01\x40\x00\x01\xff\xff\xff" + b"\x00" * (0x4000 - 4))
            for _ in range(64):
                client.sendall(b"\x16\x03\x01\x40\x00" + b"\x00" * 0x4000)
        answer = to_end(client)
    assert answer == b"" or answer[:1] == b"\x15"


def test_a_client_hello_byte_by_byte_is_read(target: Daemon, site: Nginx, unharmed: int) -> None:
    context = ssl.create_default_context(cafile=str(target.root))
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = context.wrap_bio(incoming, outgoing, server_hostname="good.example")
    with tunnel(target, site["good.example"].port) as client:
        done = False
        while not done:
            try:
                tls.do_handshake()
                done = True
            except ssl.SSLWantReadError:
                pass
            for byte in outgoing.read():
                client.sendall(bytes([byte]))
            if not done:
                incoming.write(client.recv(65536))
        tls.write(b"GET / HTTP/1.1\r\nHost: good.example\r\nConnection: close\r\n\r\n")
        client.sendall(outgoing.read())
        incoming.write(client.recv(65536))
        text = b""
        while b"hello from" not in text:
            try:
                text += tls.read()
            except ssl.SSLWantReadError:
                incoming.write(client.recv(65536))


def test_a_client_that_goes_away_at_any_byte_leaves_nothing(target: Daemon, site: Nginx, unharmed: int) -> None:
    port = site["good.example"].port
    whole = f"CONNECT good.example:{port} HTTP/1.1\r\nHost: good.example\r\n\r\n".encode() + client_hello()
    for length in range(0, len(whole) + 1, 7):
        with connect(target) as client:
            client.sendall(whole[:length])
            if length % 2:
                # A reset in place of an orderly end.
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")


def test_two_names_for_one_tunnel_are_refused(target: Daemon, site: Nginx, unharmed: int) -> None:
    before = len(site.requests("good.example"))
    context = ssl.create_default_context(cafile=str(target.root))
    with (
        tunnel(target, site["good.example"].port) as raw,
        context.wrap_socket(raw, server_hostname="other.example") as tls,
    ):
        tls.sendall(
            b"GET /fronted HTTP/1.1\r\nHost: other.example\r\nAccept: application/json\r\nConnection: close\r\n\r\n"
        )
        answer = b""
        while chunk := tls.recv(65536):
            answer += chunk
    assert answer.startswith(b"HTTP/1.1 403")
    assert b'error=http_request_denied; details="sni_mismatch"' in answer
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["details"] == "sni_mismatch"
    assert len(site.requests("good.example")) == before


def test_a_tunnel_to_an_address_is_judged_by_the_server_name(target: Daemon, site: Nginx, unharmed: int) -> None:
    context = ssl.create_default_context(cafile=str(target.root))
    port = site["good.example"].port
    with tunnel(target, port, "127.0.0.1") as raw, context.wrap_socket(raw, server_hostname="good.example") as tls:
        tls.sendall(b"GET / HTTP/1.1\r\nHost: good.example\r\nConnection: close\r\n\r\n")
        assert tls.recv(65536).startswith(b"HTTP/1.1 200")


def test_a_server_that_is_not_there_is_told_over_the_clients_own_tls(target: Daemon, unharmed: int) -> None:
    from tests.harness.processes import free_port

    result = curl(target, f"https://good.example:{free_port()}/")
    assert result.connect is not None
    assert result.connect.status == 200
    assert (result.status, result.proxy_status) == (502, "sallyport; error=connection_refused")


def test_a_server_that_hangs_up_or_talks_something_else(target: Daemon, unharmed: int) -> None:
    import threading

    def serve(answer: bytes) -> tuple[int, threading.Thread]:
        listening = socket.create_server(("127.0.0.1", 0))

        def once() -> None:
            connection, _ = listening.accept()
            connection.recv(65536)
            connection.sendall(answer)
            connection.close()
            listening.close()

        thread = threading.Thread(target=once, daemon=True)
        thread.start()
        return listening.getsockname()[1], thread

    for answer, said in (
        (b"", "error=connection_terminated"),
        (b"HTTP/1.1 400 no TLS here\r\n\r\n", 'error=tls_protocol_error; details="protocol"'),
        (b"\x15\x03\x03\x00\x02\x02\x28", 'error=tls_protocol_error; details="protocol"'),
    ):
        port, thread = serve(answer)
        result = curl(target, f"https://good.example:{port}/")
        assert (result.status, result.proxy_status) == (502, f"sallyport; {said}")
        thread.join(5)


@pytest.mark.parametrize("asks", [False, True])
def test_a_client_that_is_gone_is_not_answered_in_the_place_of_a_server_that_breaks_off(
    target: Daemon, unharmed: int, tmp_path: Path, *, asks: bool
) -> None:
    """An OpenSSL server answers an end without close_notify by an alert; nobody is there to be told of it."""
    context = ssl.create_default_context(cafile=str(target.root))
    options = ("-tls1_3", *(("-Verify", "1", "-verify_return_error") if asks else ()))
    with OpensslServer(tmp_path, ISSUING.leaf("good.example"), options, answer=False) as server:
        with tunnel(target, server.port) as raw, context.wrap_socket(raw, server_hostname="good.example") as tls:
            if asks:
                tls.sendall(b"GET / HTTP/1.1\r\nHost: good.example\r\n\r\n")
            raw_end = tls.detach()  # without close_notify
        with socket.socket(fileno=raw_end) as client:
            client.shutdown(socket.SHUT_WR)
            client.settimeout(5)  # less than the time that a client has for reading an answer
            to_end(client)
    if asks:
        assert target.wait_log("refused", port=server.port)
    else:
        assert "server TLS" in target.wait_log("connection", port=server.port)[0]["reason"]
        assert not target.log("refused", port=server.port)


def test_a_stream_that_cannot_be_followed_ends_the_connection(target: Daemon, site: Nginx, unharmed: int) -> None:
    context = ssl.create_default_context(cafile=str(target.root))
    with (
        tunnel(target, site["good.example"].port) as raw,
        context.wrap_socket(raw, server_hostname="good.example") as tls,
    ):
        tls.sendall(b"this is no HTTP\r\n\r\n")
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            assert tls.recv(100) == b""
    assert target.wait_log("unparsed", action="close")


@pytest.mark.parametrize("setting", ["pass"])
def test_what_cannot_be_followed_passes_where_the_operator_says_so(tmp_path: Path, site: Nginx, setting: str) -> None:
    extra = {"tunnel": {"on_unparsed": setting, "non_tls": setting}}
    hosts = {"good.example": "127.0.0.1", "plain.example": "127.0.0.1"}
    with Daemon(tmp_path / "lenient", hosts=hosts, common=PUBLIC, extra=extra) as daemon:
        context = ssl.create_default_context(cafile=str(daemon.root))
        port = site["good.example"].port
        with tunnel(daemon, port) as raw, context.wrap_socket(raw, server_hostname="good.example") as tls:
            tls.sendall(b"this is no HTTP\r\n\r\n")
            assert tls.recv(100).startswith(b"HTTP/1.1 400 Bad Request")
        with tunnel(daemon, site["plain.example"].port, "plain.example") as client:
            client.sendall(b"GET / HTTP/1.1\r\nHost: plain.example\r\nConnection: close\r\n\r\n")
            assert b"hello from plain.example" in to_end(client)
        assert daemon.wait_log("passed", host="plain.example")
