"""Whoever is slow at any stage is gone within its time, and whoever is served meanwhile notices nothing."""

from __future__ import annotations

import contextlib
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.e2e.conftest import ISSUING, PUBLIC
from tests.harness.curl import curl
from tests.harness.daemon import Daemon
from tests.harness.origins import Nginx, Site
from tests.harness.processes import wait_for
from tests.harness.raw_http import open_tunnel

LIMITS = {
    "connect_head_timeout": 2.0, "tls_timeout": 2.0, "write_timeout": 2.0, "idle_timeout": 60.0, "drain_timeout": 1.0,
}  # fmt: skip
SLOW = 10
"""Clients at each stage."""
ALLOWED = 8.0
"""Seconds in which all must be gone: the limit, a second in which it is looked at, and what a busy machine takes."""
LARGE = 64 << 20


@pytest.fixture(scope="module")
def site(scratch: Path) -> Iterator[Nginx]:
    with Nginx(scratch / "slow", [Site("good.example", ISSUING.leaf("good.example"))]) as nginx:
        nginx.file("large.bin", LARGE)
        yield nginx


@pytest.fixture(scope="module")
def target(scratch: Path, site: Nginx) -> Iterator[Daemon]:
    extra = {"limits": LIMITS, "tunnel": {"non_tls": "pass"}}
    with Daemon(scratch / "slow-target", hosts={"good.example": "127.0.0.1"}, common=PUBLIC, extra=extra) as running:
        yield running


def connect(target: Daemon) -> socket.socket:
    host, port = target.proxy.split(":")
    return socket.create_connection((host, int(port)), timeout=10)


def asked(target: Daemon, site: Nginx) -> socket.socket:
    """A tunnel that stands."""
    return open_tunnel(target.proxy, "good.example", site["good.example"].port)


def secure(target: Daemon, site: Nginx, alpn: str = "http/1.1") -> ssl.SSLSocket:
    """A tunnel with both legs up."""
    context = ssl.create_default_context(cafile=str(target.root))
    context.set_alpn_protocols([alpn])
    return context.wrap_socket(asked(target, site), server_hostname="good.example")


def ended(connection: socket.socket) -> bool:
    """Whether the proxy has ended it, without waiting."""
    connection.setblocking(False)
    try:
        while connection.recv(65536):
            pass
    except (BlockingIOError, ssl.SSLWantReadError):
        return False
    except OSError:
        return True
    return True


def dribble(send: Callable[[bytes], object], text: bytes) -> None:
    """A piece of something that never comes to its end."""
    with contextlib.suppress(OSError):
        send(text)


def hello() -> bytes:
    """A whole ClientHello."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = ssl.create_default_context().wrap_bio(incoming, outgoing, server_hostname="good.example")
    with contextlib.suppress(ssl.SSLWantReadError):
        tls.do_handshake()
    return outgoing.read()


def in_head(target: Daemon, site: Nginx) -> tuple[socket.socket, Callable[[], None]]:
    client = connect(target)
    client.sendall(b"CONNECT good.example:443 HTTP/1.1\r\nX: ")
    return client, lambda: dribble(client.sendall, b"a")


def in_hello(target: Daemon, site: Nginx) -> tuple[socket.socket, Callable[[], None]]:
    client = asked(target, site)
    whole = iter(hello()[:-1])
    return client, lambda: dribble(client.sendall, bytes([next(whole)]))


def in_handshake(target: Daemon, site: Nginx) -> tuple[socket.socket, Callable[[], None]]:
    client = asked(target, site)
    client.sendall(hello())
    assert client.recv(5)[:1] == b"\x16"
    return client, lambda: dribble(client.sendall, b"\x14" if client.fileno() % 2 else b"")


def in_request(target: Daemon, site: Nginx) -> tuple[socket.socket, Callable[[], None]]:
    client = secure(target, site)
    client.sendall(b"GET / HTTP/1.1\r\nHost: good.example\r\nX: ")
    return client, lambda: dribble(client.sendall, b"a")


def in_header_block(target: Daemon, site: Nginx) -> tuple[socket.socket, Callable[[], None]]:
    client = secure(target, site, "h2")
    client.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes.fromhex("000000040000000000"))
    # HEADERS without END_HEADERS, and then a CONTINUATION of one byte at a time (RFC 9113, section 6.10).
    client.sendall(bytes.fromhex("000001010100000001") + b"\x82")
    return client, lambda: dribble(client.sendall, bytes.fromhex("000001090000000001") + b"\x87")


STAGES = {
    "its CONNECT": in_head, "its ClientHello": in_hello, "its handshake": in_handshake, "a request's head": in_request,
    "an HTTP/2 header block": in_header_block,
}  # fmt: skip


@pytest.mark.parametrize("stage", STAGES)
def test_clients_that_are_slow_with(stage: str, target: Daemon, site: Nginx) -> None:
    begin = STAGES[stage]
    slow = [begin(target, site) for _ in range(SLOW)]
    started = time.monotonic()
    left = slow

    def gone() -> bool:
        nonlocal left
        for _, more in left:
            more()
        left = [(client, more) for client, more in left if not ended(client)]
        return not left

    assert curl(target, site["good.example"].url()).status == 200
    wait_for(f"clients slow with {stage} to be gone", gone, timeout=ALLOWED, pause=0.2)
    assert time.monotonic() - started > 1  # and not at once
    for client, _ in slow:
        client.close()
    assert not target.log("fault")


def test_clients_that_read_a_byte_a_second_are_cut_and_the_rest_of_the_answer_is_not_kept(
    target: Daemon, site: Nginx
) -> None:
    slow = [secure(target, site) for _ in range(SLOW)]
    for client in slow:
        client.sendall(b"GET /large.bin HTTP/1.1\r\nHost: good.example\r\n\r\n")
    assert all(client.recv(1) for client in slow)
    before = len(target.log("connection"))

    def cut() -> bool:
        for client in slow:
            with contextlib.suppress(OSError):
                client.recv(1)
        told = [e for e in target.log("connection") if e["reason"].startswith("the client took ")]
        return len(told) == SLOW

    wait_for("all of them to be cut", cut, timeout=ALLOWED, pause=0.5)
    assert len(target.log("connection")) - before == SLOW
    for client in slow:
        client.setblocking(True)
        # Nobody may take what it has for the whole answer: the end is a reset.
        with pytest.raises((ConnectionResetError, ssl.SSLError)):
            drain(client)
        client.close()


def drain(client: socket.socket) -> None:
    while client.recv(1 << 20):
        pass


def test_a_client_that_reads_slowly_but_reads_gets_everything(target: Daemon, site: Nginx) -> None:
    # Far longer than write_timeout in all, and never as long without a byte.
    result = curl(target, site["good.example"].url("/large.bin"), "--limit-rate", "12M", "--output", "/dev/null")
    assert result.status == 200
    assert float(str(result.told["time_total"])) > 4
    assert int(str(result.told["size_download"])) == LARGE


def test_a_server_that_takes_nothing_is_let_go(target: Daemon) -> None:
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        with open_tunnel(target.proxy, "good.example", deaf.getsockname()[1]) as client:
            client.setblocking(False)
            ends: list[OSError] = []

            def cut() -> bool:
                try:
                    client.send(b"x" * 65536)
                except BlockingIOError:
                    pass
                except OSError as error:
                    ends.append(error)
                return bool(ends)

            wait_for("the connection to be cut", cut, timeout=ALLOWED + 2, pause=0.001)
        told = target.wait_log("connection", state="pass")
        assert any(entry["reason"].startswith("the server took ") for entry in told)


def test_a_connection_lives_no_longer_than_it_may_and_a_request_under_way_is_waited_for(
    tmp_path: Path, site: Nginx
) -> None:
    limits = LIMITS | {"total_timeout": 2.0, "drain_timeout": 3.0, "write_timeout": 60.0}
    with Daemon(tmp_path, hosts={"good.example": "127.0.0.1"}, common=PUBLIC, extra={"limits": limits}) as daemon:
        started = time.monotonic()
        resting, busy, stuck = (secure(daemon, site) for _ in range(3))
        resting.sendall(b"GET / HTTP/1.1\r\nHost: good.example\r\n\r\n")
        assert resting.recv(65536).startswith(b"HTTP/1.1 200")
        for client in (busy, stuck):
            client.sendall(b"GET /large.bin HTTP/1.1\r\nHost: good.example\r\n\r\n")
        wait_for("the one that rests to end", lambda: ended(resting), timeout=ALLOWED)
        assert time.monotonic() - started > 2
        # The answer that was under way comes whole, and then this one ends as well.
        received = 0
        while piece := busy.recv(1 << 20):
            received += len(piece)
        assert received > LARGE
        told = daemon.wait_log("connection", reason="time limit: total", timeout=ALLOWED)
        assert [entry["limit"] for entry in told] == ["total_timeout"]
        for client in (resting, busy, stuck):
            client.close()
