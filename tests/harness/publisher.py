"""A CA's servers for tests: one that answers each path as it is told, well or badly, and openssl's OCSP responder."""

from __future__ import annotations

import contextlib
import datetime as dt
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.harness.pki import Issued
from tests.harness.processes import free_port, wait_for

Reply = bytes | Callable[[bytes], bytes] | int | str
"""A body; what makes one of the request's body; a status; ``hang``: no answer, or ``dribble``: one that never ends."""


class Publisher:
    """Listens on loopback, in threads. ``answers`` may change while it runs; what is not there is answered with 404."""

    def __init__(self, answers: Mapping[str, Reply] | None = None, address: str = "127.0.0.1") -> None:
        self.answers: dict[str, Reply] = dict(answers or {})
        self.asked: list[str] = []
        """``GET /path`` or ``POST /path``, oldest first."""
        self._ending = threading.Event()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer._answer(self, b"")

            def do_POST(self) -> None:
                outer._answer(self, self.rfile.read(int(self.headers.get("Content-Length") or 0)))

            def log_message(self, format: str, *args: object) -> None:
                """Nobody reads it."""

        self._server = ThreadingHTTPServer((address, 0), Handler)
        self._server.daemon_threads = True
        self.port = self._server.server_address[1]

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """Listen no more."""
        self._ending.set()
        self._server.shutdown()
        self._server.server_close()

    def url(self, path: str, host: str = "pki.example") -> str:
        return f"http://{host}:{self.port}{path}"

    def _answer(self, handler: BaseHTTPRequestHandler, body: bytes) -> None:
        self.asked.append(f"{handler.command} {handler.path}")
        reply = self.answers.get(handler.path, 404)
        with contextlib.suppress(OSError):
            if reply == "hang":
                self._ending.wait(60)
                return
            if isinstance(reply, int):
                handler.send_response(reply)
                handler.send_header("Content-Length", "0")
                handler.end_headers()
                return
            handler.send_response(200)
            if reply == "dribble":
                handler.end_headers()
                while not self._ending.wait(0.05):
                    handler.wfile.write(b"\x30")
                return
            made = reply(body) if callable(reply) else reply
            assert isinstance(made, bytes)
            handler.send_header("Content-Length", str(len(made)))
            handler.end_headers()
            handler.wfile.write(made)


class OcspResponder:
    """``openssl ocsp`` for one CA. ``known`` are the certificates that it knows, each with when it was revoked, if so.

    Its port is chosen before it runs, so that certificates can name it; ``known`` may be set until then.
    """

    def __init__(self, folder: Path, ca: Issued) -> None:
        self.folder = folder / f"ocsp-{time.monotonic_ns()}"
        self.ca = ca
        self.known: Sequence[tuple[Issued, dt.datetime | None]] = ()
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.folder.mkdir(parents=True)
        certificate, key = self.ca.write(self.folder, "ca")
        (self.folder / "index.txt").write_text("".join(self._line(*each) for each in self.known))
        log = self.folder / "log"
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                ["openssl", "ocsp", "-port", str(self.port), "-index", "index.txt", "-CA", str(certificate),
                 "-rsigner", str(certificate), "-rkey", str(key), "-ndays", "1"],
                cwd=self.folder, stdin=subprocess.DEVNULL, stdout=output, stderr=output,
            )  # fmt: skip
        wait_for("openssl ocsp to listen", lambda: b"aiting for OCSP client" in log.read_bytes())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """End it at once."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def url(self, host: str = "pki.example") -> str:
        return f"http://{host}:{self.port}/"

    @staticmethod
    def _line(one: Issued, revoked: dt.datetime | None) -> str:
        """As openssl's database has it: status, end, when and why it was revoked, serial number, file, name."""
        end = f"{one.certificate.not_valid_after_utc:%y%m%d%H%M%SZ}"
        state = f"V\t{end}\t" if revoked is None else f"R\t{end}\t{revoked:%y%m%d%H%M%SZ},keyCompromise"
        return f"{state}\t{one.certificate.serial_number:X}\tunknown\t/CN=x\n"
