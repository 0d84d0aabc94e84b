"""An origin that follows a script: TLS on loopback, each connection gets the script that was laid out for it.

    with Origin(tmp_path, issuing.leaf(HOST)) as origin:
        client, server = origin.play(shape, way)

The next connection gets the next script; one that nobody laid out a script for is an ``intruder``.
"""

from __future__ import annotations

import contextlib
import queue
import socket
import ssl
import threading
from collections.abc import Callable
from pathlib import Path
from typing import cast

from tests.harness.listening import Listening
from tests.harness.pki import Issued
from tests.harness.raw_http import PATIENCE, Pipe, Way, connect
from tests.harness.shapes import HOST, Seen, Shape, Signals, run
from tests.harness.shapes_reader import Reader


class Origin(Listening):
    """A TLS server for one script at a time."""

    def __init__(self, folder: Path, identity: Issued) -> None:
        super().__init__()
        folder.mkdir(parents=True, exist_ok=True)
        self._files = identity.write(folder, "origin")
        self._contexts = {alpn: self._context(alpn) for alpn in ("", "http/1.1", "h2")}
        self._scripts: queue.SimpleQueue[tuple[str, Callable[[Pipe], object]]] = queue.SimpleQueue()
        self._results: queue.SimpleQueue[object] = queue.SimpleQueue()
        self.intruders = 0

    def _context(self, alpn: str) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*self._files)
        if alpn:
            context.set_alpn_protocols([alpn])
        return context

    def took(self, sock: socket.socket) -> None:
        threading.Thread(target=self._serve, args=(sock,), daemon=True).start()

    def _serve(self, sock: socket.socket) -> None:
        try:
            alpn, serve = self._scripts.get_nowait()
        except queue.Empty:
            self.intruders += 1
            sock.close()
            return
        try:
            pipe = Pipe(sock, self._contexts[alpn], serves=True)
        except OSError as error:
            sock.close()
            self._results.put(error)
            return
        try:
            self._results.put(serve(pipe))
        except Exception as error:  # noqa: BLE001 - whatever it is, the test is to show it
            pipe.close()
            self._results.put(error)

    def play_with[C, S](
        self, alpn: str, way: Way, serve: Callable[[Pipe], S], client: Callable[[Pipe], C]
    ) -> tuple[C, S]:
        """One connection over ``way``, with what runs at its two ends. Returns what both have returned."""
        self._scripts.put((alpn, serve))
        try:
            pipe = connect(way, HOST, self.port, alpn)
        except (OSError, AssertionError) as error:
            with contextlib.suppress(queue.Empty):
                self._scripts.get_nowait()
            raise AssertionError(f"no connection to the origin: {error!r}") from error
        seen = client(pipe)
        try:
            result = self._results.get(timeout=2 * PATIENCE)
        except queue.Empty:
            raise AssertionError("the origin's script does not end") from None
        assert not isinstance(result, Exception), f"the origin: {result!r}"
        return seen, cast("S", result)

    def play(self, shape: Shape, way: Way) -> tuple[Seen, Seen]:
        """An HTTP/1 shape over ``way``: what the client and what the origin has seen."""
        signals = Signals()
        return self.play_with(
            "http/1.1",
            way,
            lambda pipe: run(pipe, shape.origin, Reader(None), signals),
            lambda pipe: run(pipe, shape.client, Reader(shape.methods), signals),
        )
