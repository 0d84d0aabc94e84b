"""A worker that is late sheds new connections, serves the open ones, and takes new ones when it has caught up."""

from __future__ import annotations

import os
import signal
import socket
import threading
from pathlib import Path

from tests.harness.daemon import Daemon
from tests.harness.processes import wait_for
from tests.harness.raw_http import open_tunnel


class Starved:
    """A process that gets hardly any processor: half a second of nothing, a moment of time, and so on."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        while not self._over.is_set():
            os.kill(self._pid, signal.SIGSTOP)
            self._over.wait(0.5)
            os.kill(self._pid, signal.SIGCONT)
            self._over.wait(0.02)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        os.kill(self._pid, signal.SIGCONT)


def answer(daemon: Daemon) -> bytes:
    """What a client that asks for a website at the proxy's own address is told."""
    host, port = daemon.proxy.split(":")
    with socket.create_connection((host, int(port)), timeout=30) as client:
        client.sendall(b"GET / HTTP/1.1\r\n\r\n")
        return client.recv(65536)


def test_new_connections_are_shed_while_it_is_late_and_open_ones_are_served(tmp_path: Path) -> None:
    with (
        Daemon(tmp_path, extra={"tunnel": {"non_tls": "pass"}, "limits": {"loop_lag": 0.25}}) as daemon,
        socket.create_server(("127.0.0.1", 0)) as echo,
        open_tunnel(daemon.proxy, "127.0.0.1", echo.getsockname()[1]) as client,
    ):
        client.sendall(b"before")
        server, _ = echo.accept()
        assert server.recv(100) == b"before"
        assert answer(daemon).startswith(b"HTTP/1.1 400")
        with Starved(daemon.pids().workers[0]):
            shed = b'Proxy-Status: sallyport; error=connection_limit_reached; details="overload"\r\n'
            wait_for("new connections to be shed", lambda: shed in answer(daemon), timeout=60)
            client.sendall(b"meanwhile")
            assert server.recv(100) == b"meanwhile"
            server.sendall(b"of course")
            assert client.recv(100) == b"of course"
        wait_for("it to catch up", lambda: answer(daemon).startswith(b"HTTP/1.1 400"), timeout=60)
        assert daemon.wait_log("refused", details="overload", status=503)
        server.close()
