"""Plain HTTP for what certificates point to, on loopback: files by their path, and paths at which it never answers."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Mapping

from tests.harness.listening import Listening
from tests.harness.processes import wait_for


class FileServer(Listening):
    """Answers GET with ``files``, a missing one with 404, and what is ``silent`` not at all. ``asked``: every path."""

    def __init__(self, files: Mapping[str, bytes] | None = None, silent: tuple[str, ...] = ()) -> None:
        super().__init__()
        self.files = dict(files or {})
        self.silent = silent
        self.asked: list[str] = []

    def wait_for(self, times: int) -> None:
        """Until it was asked so often."""
        wait_for(f"{times} requests", lambda: len(self.asked) >= times)

    def url(self, path: str, host: str = "ca.example") -> str:
        return f"http://{host}:{self.port}{path}"

    def took(self, sock: socket.socket) -> None:
        threading.Thread(target=self._serve, args=(sock,), daemon=True).start()

    def _serve(self, sock: socket.socket) -> None:
        with sock, contextlib.suppress(OSError):
            head = b""
            while b"\r\n\r\n" not in head:
                if not (piece := sock.recv(4096)):
                    return
                head += piece
            path = head.split(b" ", 2)[1].decode()
            self.asked.append(path)
            if path in self.silent:
                while sock.recv(4096):
                    pass
                return
            body = self.files.get(path)
            status = b"404 Not Found" if body is None else b"200 OK"
            body = body or b""
            sock.sendall(b"HTTP/1.1 %s\r\nContent-Length: %d\r\n\r\n%s" % (status, len(body), body))
