"""What is agreed on with clients and with servers, and what those are told with whom nothing can be."""

from __future__ import annotations

import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from OpenSSL import SSL

from tests.e2e.conftest import ISSUING, PUBLIC
from tests.harness.daemon import Daemon
from tests.harness.listening import Listening
from tests.harness.memory_tls import server_context
from tests.harness.raw_http import PATIENCE, open_tunnel

HOST = "good.example"
GROUP = "X25519MLKEM768"
BODY = bytes(range(ord("a"), ord("z"))) * 240


class Server(Listening):
    """A server of the newest OpenSSL, which nginx of the distribution has not; ``groups`` is what each came to."""

    def __init__(self) -> None:
        super().__init__()
        self.groups: list[str | None] = []
        self._context = server_context(ISSUING.leaf(HOST), ciphers="HIGH")

    def took(self, sock: socket.socket) -> None:
        connection = SSL.Connection(self._context, sock)
        connection.set_accept_state()
        try:
            connection.do_handshake()
            self.groups.append(connection.get_group_name())
            connection.recv(65536)
            head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(BODY)}\r\nConnection: close\r\n\r\n"
            connection.sendall(head.encode() + BODY)
            connection.shutdown()
        except SSL.Error:
            pass  # a client that came to nothing, as most here
        finally:
            sock.close()


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with Server() as running:
        yield running


@pytest.fixture(scope="module")
def daemon(scratch: Path) -> Iterator[Daemon]:
    with Daemon(scratch / "profile", hosts={HOST: "127.0.0.1"}, common=PUBLIC) as running:
        yield running


@contextmanager
def hands_shaken(daemon: Daemon, server: Server, prepare: Callable[[SSL.Context], None]) -> Iterator[SSL.Connection]:
    """A client's TLS with the daemon. Raises SSL.Error."""
    context = SSL.Context(SSL.TLS_CLIENT_METHOD)
    context.load_verify_locations(str(daemon.root))
    context.set_verify(SSL.VERIFY_PEER)
    prepare(context)
    with open_tunnel(daemon.proxy, HOST, server.port) as sock:
        sock.settimeout(None)  # pyOpenSSL cannot wait for one that has a time limit
        watchdog = threading.Timer(PATIENCE, sock.shutdown, (socket.SHUT_RDWR,))
        watchdog.start()
        try:
            connection = SSL.Connection(context, sock)
            connection.set_tlsext_host_name(HOST.encode())
            connection.set_connect_state()
            connection.do_handshake()
            yield connection
        finally:
            watchdog.cancel()


def test_keys_are_agreed_on_in_a_way_that_outlives_quantum_computers_on_both_legs(
    daemon: Daemon, server: Server
) -> None:
    """draft-ietf-tls-ecdhe-mlkem, as browsers offer it."""
    with hands_shaken(daemon, server, lambda context: None) as connection:
        assert connection.get_protocol_version_name() == "TLSv1.3"
        assert connection.get_group_name() == GROUP
        connection.sendall(f"GET / HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode())
        assert connection.recv(65536).startswith(b"HTTP/1.1 200 ")
    assert server.groups[-1] == GROUP


@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
@pytest.mark.parametrize("largest", ["512", "4096"])
def test_a_client_of_small_records_gets_the_whole_answer(
    daemon: Daemon, server: Server, version: str, largest: str
) -> None:
    """RFC 6066, section 4: max_fragment_length."""
    done = subprocess.run(
        ["openssl", "s_client", "-proxy", daemon.proxy, "-connect", f"{HOST}:{server.port}", "-servername", HOST,
         version, "-maxfraglen", largest, "-quiet", "-verify_return_error", "-CAfile", str(daemon.root)],
        input=f"GET / HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode(), capture_output=True, timeout=30, check=False,
    )  # fmt: skip
    assert done.stdout.startswith(b"HTTP/1.1 200 OK"), done.stderr
    assert done.stdout.endswith(b"\r\n\r\n" + BODY)


def old_version(context: SSL.Context) -> None:
    context.set_cipher_list(b"ALL:@SECLEVEL=0")
    context.set_max_proto_version(SSL.TLS1_1_VERSION)


def no_secrecy(context: SSL.Context) -> None:
    context.set_max_proto_version(SSL.TLS1_2_VERSION)
    context.set_cipher_list(b"AES128-GCM-SHA256:AES256-SHA")


def chained_blocks(context: SSL.Context) -> None:
    context.set_max_proto_version(SSL.TLS1_2_VERSION)
    context.set_cipher_list(b"ECDHE-RSA-AES128-SHA:ECDHE-ECDSA-AES128-SHA")


@pytest.mark.parametrize(
    ("prepare", "alert"),
    [
        (old_version, "protocol version"),
        (no_secrecy, "handshake failure"),
        (chained_blocks, "handshake failure"),
    ],
)
def test_a_client_with_whom_nothing_can_be_agreed_on_is_told_in_an_alert(
    daemon: Daemon, server: Server, prepare: Callable[[SSL.Context], None], alert: str
) -> None:
    with pytest.raises(SSL.Error) as caught, hands_shaken(daemon, server, prepare):
        pass
    assert alert in str(caught.value)
    assert "alert" in str(caught.value)
