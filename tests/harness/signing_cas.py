"""Signing CAs of a daemon that runs: made elsewhere and imported, as a client sees them, as processes race for them."""

from __future__ import annotations

import json
import re
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self, Unpack

from cryptography import x509

from tests.harness.daemon import REPOSITORY, Daemon, Entrance, environment
from tests.harness.pki import Authority, Overrides
from tests.harness.processes import wait_for

# --- made elsewhere ---


def imported(
    daemon: Daemon, name: str, root: Authority | None = None, **overrides: Unpack[Overrides]
) -> tuple[Authority, Authority]:
    """A CA made elsewhere, imported under that name: its root, and what issues."""
    root = root or Authority.root(f"{name} root")
    issuing = root.intermediate(f"{name} issuing", **overrides)
    certificates, key = daemon.folder / f"{name}.pem", daemon.folder / f"{name}.key"
    certificates.write_bytes(issuing.chain_pem(with_root=True))
    key.write_bytes(issuing.key_pem())
    daemon.told("signing-ca", "import", name, "--cert", str(certificates), "--key", str(key))
    return root, issuing


def roots(daemon: Daemon, *more: Authority) -> Path:
    """A file with the built-in root and others, for clients that trust all of them."""
    path = daemon.folder / "roots.pem"
    path.write_bytes(daemon.root.read_bytes() + b"".join(one.pem() for one in more))
    return path


# --- as clients see them ---


class Ended(ConnectionError):  # noqa: N818 - it names what happened
    """The other side has said goodbye in order, with close_notify; ``answer`` is what had come of an answer."""

    def __init__(self, answer: bytes) -> None:
        super().__init__(f"closed behind {answer!r}")
        self.answer = answer


class Client:
    """TLS through the proxy, whose context keeps what it may resume by."""

    def __init__(self, entrance: Daemon | Entrance, port: int, trusted: Path) -> None:
        host, _, number = entrance.proxy.rpartition(":")
        self.proxy, self.port = (host, int(number)), port
        self.context = ssl.create_default_context(cafile=str(trusted))
        self.session: ssl.SSLSession | None = None

    def open(self) -> ssl.SSLSocket:
        """A connection to good.example. Raises OSError where there is none to be had."""
        tunnel = socket.create_connection(self.proxy, timeout=10)
        try:
            tunnel.sendall(f"CONNECT good.example:{self.port} HTTP/1.1\r\nHost: good.example\r\n\r\n".encode())
            answer = b""
            while not answer.endswith(b"\r\n\r\n") and (piece := tunnel.recv(1)):
                answer += piece
            assert re.fullmatch(rb"HTTP/1\.1 200 .*\r\n\r\n", answer, re.DOTALL), answer
            return self.context.wrap_socket(
                tunnel, server_hostname="good.example", session=self.session, suppress_ragged_eofs=False
            )
        except BaseException:
            tunnel.close()
            raise

    @staticmethod
    def ask(opened: ssl.SSLSocket, path: str = "/") -> bytes:
        """One request on it, its answer up to the end of the head and of the known body. Raises Ended, or OSError."""
        opened.sendall(f"GET {path} HTTP/1.1\r\nHost: good.example\r\n\r\n".encode())
        answer = b""
        while b"hello from good.example\n" not in answer:
            piece = opened.recv(65536)
            if not piece:
                raise Ended(answer)
            answer += piece
        return answer

    @staticmethod
    def leaf(opened: ssl.SSLSocket) -> x509.Certificate:
        """What the proxy has shown."""
        der = opened.getpeercert(binary_form=True)
        assert der is not None
        return x509.load_der_x509_certificate(der)

    @classmethod
    def issuer(cls, opened: ssl.SSLSocket) -> str:
        """The common name of whoever signed the leaf."""
        return re.sub("^CN=", "", cls.leaf(opened).issuer.rfc4514_string())


def workers(daemon: Daemon) -> list[dict[str, Any]]:
    """Each worker with each tenant, as ``sallyport nodes`` tells of it."""
    found: list[dict[str, Any]] = json.loads(daemon.told("nodes", "--json"))
    return found


def followed(daemon: Daemon, *changes: Sequence[str]) -> None:
    """Run each of these commands, which change one thing of the tenant, and wait until every worker goes by them."""

    def generations() -> list[int]:
        return [worker["generation"] for worker in workers(daemon)]

    before = max(generations())
    for words in changes:
        daemon.told(*words)
    wait_for("the changes to be the workers'", lambda: min(generations()) >= before + len(changes))


# --- raced for ---


RACER = """
import os, pathlib, random, signal, sys, threading, time
from datetime import UTC, datetime
from config.settings import Settings
from control import signing_cas
from control.installation import Installation
folder, seed, count, killed, pause, *names = sys.argv[1:]
choice = random.Random(int(seed))
with Installation.open(Settings(state_dir=pathlib.Path(folder)), datetime.now(UTC)) as inst:
    print("ready", flush=True)
    sys.stdin.readline()
    for left in reversed(range(int(count))):
        name = choice.choice(names)
        print(name, flush=True)
        if killed == "killed" and not left:
            threading.Timer(choice.uniform(0, 0.02), os.kill, (os.getpid(), signal.SIGKILL)).start()
        signing_cas.activate(inst, "default", name, datetime.now(UTC))
        time.sleep(choice.uniform(0, float(pause)))
    if killed == "killed":
        time.sleep(60)
"""


class Racer:
    """A process that activates one of ``names`` after the other, ``count`` times, once it is told to.

    ``killed``: SIGKILL ends it in the last of them, or just behind it. ``pause``: the longest rest between two, in
    seconds.
    """

    def __init__(
        self, state_dir: Path, seed: int, names: Sequence[str], count: int, *, killed: bool, pause: float = 0.0
    ) -> None:
        self.killed = killed
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115 - closed with the racer
        words = (state_dir, seed, count, "killed" if killed else "lives", pause, *names)
        self.process = subprocess.Popen(
            [sys.executable, "-c", RACER, *map(str, words)],
            cwd=REPOSITORY, env=environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors,
            text=True,
        )  # fmt: skip

    def ready(self) -> None:
        """Wait until it could begin."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line == "ready\n", self._complaint()

    def go(self) -> None:
        """Let it begin."""
        assert self.process.stdin is not None
        self.process.stdin.write("go\n")
        self.process.stdin.flush()

    def attempts(self) -> Iterator[str]:
        """The names, each before it is activated, up to its end: which must be the one that was meant for it."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            yield line.rstrip("\n")
        assert self.process.wait(60) == (-signal.SIGKILL if self.killed else 0), self._complaint()

    def _complaint(self) -> str:
        self._errors.seek(0)
        return self._errors.read()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.process.kill()
        self.process.wait()
        for stream in (self.process.stdin, self.process.stdout, self._errors):
            if stream is not None:
                stream.close()
