"""A TLS server that hands each connection to a function of the test, and one conversation with it, byte for byte.

with Handled(tmp_path, ISSUING.leaf(NAMES)) as server:
    talk = converse(way, "one.example", server, answers(ok(b"hello")), b"GET / HTTP/1.1\\r\\n...")
    assert talk.client.startswith(b"HTTP/1.1 200") and talk.servers == [b"GET / ..."]
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from tests.harness.listening import Listening
from tests.harness.pki import Issued
from tests.harness.processes import wait_for
from tests.harness.raw_http import Ended, How, Pipe, Way, connect

Serve = Callable[[Pipe], object]


class Handled(Listening):
    """See the module. ``serve`` is who gets the connections to come."""

    def __init__(self, folder: Path, identity: Issued, alpn: str = "http/1.1") -> None:
        super().__init__()
        folder.mkdir(parents=True, exist_ok=True)
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(*identity.write(folder, "origin"))
        self._context.set_alpn_protocols([alpn])
        self.serve: Serve = lambda pipe: None
        self.pipes: list[Pipe] = []
        self._running: list[threading.Thread] = []

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        super().__exit__(kind, error, trace)
        for pipe in self.pipes:
            pipe.close()

    def begin(self, serve: Serve) -> None:
        """Forget what was, and give connections to ``serve`` from now on."""
        self.serve, self.pipes, self._running = serve, [], []

    def received(self) -> list[bytes]:
        """What came on each connection, once all of them are over."""
        wait_for("the server's connections to end", lambda: not any(each.is_alive() for each in self._running))
        return [bytes(pipe.received) for pipe in self.pipes]

    def took(self, sock: socket.socket) -> None:
        thread = threading.Thread(target=self._one, args=(sock, self.serve, self.pipes), daemon=True)
        self._running.append(thread)
        thread.start()

    def _one(self, sock: socket.socket, serve: Serve, pipes: list[Pipe]) -> None:
        try:
            pipe = Pipe(sock, self._context, serves=True)
        except (OSError, ssl.SSLError):
            sock.close()
            return
        pipes.append(pipe)
        with contextlib.suppress(Ended, OSError, ssl.SSLError):
            serve(pipe)
        pipe.close()


def until(pipe: Pipe, what: bytes, times: int = 1) -> None:
    """Receive until this has come so often. Raises Ended."""
    while bytes(pipe.received).count(what) < times:
        pipe.receive()


def to_the_end(pipe: Pipe) -> How:
    """Receive all that comes, and say how it ended."""
    try:
        while True:
            pipe.receive()
    except Ended as ended:
        return ended.how


def answers(*messages: bytes) -> Serve:
    """A server that answers each request's head with the next of these, and reads on until the other side ends."""

    def serve(pipe: Pipe) -> None:
        for number, message in enumerate(messages, 1):
            until(pipe, b"\r\n\r\n", number)
            pipe.send(message)
        if to_the_end(pipe) == "notify":
            pipe.notify()

    return serve


@dataclass(frozen=True)
class Talk:
    """What both sides got."""

    client: bytes
    ended: How
    """For the client."""
    servers: list[bytes]
    """One for each connection."""

    @property
    def status(self) -> int:
        """Of the client's first response; 0 without one."""
        return int(self.client[9:12]) if self.client.startswith(b"HTTP/1.") else 0


def converse(
    way: Way, host: str, server: Handled, serve: Serve, data: bytes, then: Callable[[Pipe], object] | None = None
) -> Talk:
    """Send ``data``, go on with ``then``, and read until the proxy ends the connection."""
    server.begin(serve)
    with connect(way, host, server.port, "http/1.1") as pipe:
        ended: How
        try:
            pipe.send(data)
            if then is not None:
                then(pipe)
            ended = to_the_end(pipe)
        except Ended as early:
            ended = early.how
        if ended == "notify":
            pipe.notify()
        client = bytes(pipe.received)
    return Talk(client, ended, server.received())
