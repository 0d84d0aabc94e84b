"""``client.c``, compiled where it is needed, and what it tells."""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

SOURCE = Path(__file__).with_name("client.c")


class ClientFailed(Exception):  # noqa: N818 - it names what happened
    """The client could not do its work, and says why."""


@dataclass(frozen=True)
class Trouble:
    """A request that came to something else. Times are those of ``time.monotonic``."""

    start: float
    end: float
    stage: str
    host: str
    what: str

    @staticmethod
    def parse(line: str) -> Trouble | None:
        """A line of the client's stderr; None for others."""
        parts = line.rstrip("\n").split(" ", 5)
        if len(parts) < 5 or parts[0] != "E":
            return None
        return Trouble(float(parts[1]), float(parts[2]), parts[3], parts[4], parts[5] if len(parts) > 5 else "")


@dataclass(frozen=True)
class Times:
    """Milliseconds."""

    count: int = 0
    p50: float = 0.0
    p99: float = 0.0
    max: float = 0.0


@dataclass(frozen=True)
class Result:
    """What one client did. ``wrong`` answers are among the ``errors``; ``missed``: turns for which it was not free."""

    seconds: float
    connections: int
    requests: int
    errors: int
    wrong: int
    cuts: int
    resumed: int
    open: int
    missed: int
    bytes: int
    handshake_ms: Times
    request_ms: Times
    troubles: tuple[Trouble, ...] = field(default=(), repr=False)


def compiler_missing() -> str | None:
    """What is missing to compile the client; None: nothing."""
    if shutil.which("cc") is None:
        return "a C compiler (apt-get install gcc libc6-dev)"
    if not Path("/usr/include/openssl/ssl.h").exists():
        return "OpenSSL's headers (apt-get install libssl-dev)"
    return None


def build(folder: Path) -> Path:
    """Compile it into ``folder``. Raises SystemExit saying what to install."""
    if missing := compiler_missing():
        raise SystemExit(f"bench: missing: {missing}")
    program = folder / "client"
    subprocess.run(
        ["cc", "-O2", "-Wall", "-Wextra", "-o", str(program), str(SOURCE), "-lssl", "-lcrypto", "-lpthread"],
        check=True,
    )
    return program


@dataclass(frozen=True)
class Route:
    """How a client gets to the origin: through ``proxy`` (None: directly), trusting ``root``."""

    program: Path
    target: str
    root: Path
    proxy: str | None
    prefix: tuple[str, ...] = ()
    """What the client is started with: as another user, say."""

    def command(self, *arguments: str) -> list[str]:
        where = ["--direct"] if self.proxy is None else ["--proxy", self.proxy]
        return [*self.prefix, str(self.program), *where, "--target", self.target, "--ca", str(self.root), *arguments]

    def run(self, *arguments: str, timeout: float = 300) -> Result:
        """Run to the end."""
        return Running(self.command(*arguments)).finish(timeout)

    def start(self, *arguments: str) -> Running:
        """Run beside us."""
        return Running(self.command(*arguments))


class Running:
    """A client at work. Its stderr goes to a file, so that no pipe fills."""

    def __init__(self, command: Sequence[str]) -> None:
        self._errors: IO[str] = tempfile.TemporaryFile("w+")  # noqa: SIM115 - closed with the client
        self.process = subprocess.Popen(
            list(command), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors, text=True
        )

    def ready(self) -> int:
        """Wait for "ready" (``--gate``); how many connections are open."""
        assert self.process.stdout is not None  # noqa: S101 - it is a pipe
        line = self.process.stdout.readline()
        if not line.startswith("ready"):
            raise ClientFailed(f"the client said {line!r}; {self._said()}")
        return int(line.split()[1])

    def go(self) -> Result:
        """Let a gated client work, and read its result; its connections stay open."""
        self.begin()
        return self.told()

    def begin(self) -> None:
        """Let a gated client work."""
        assert self.process.stdin is not None  # noqa: S101 - it is a pipe
        self.process.stdin.write("go\n")
        self.process.stdin.flush()

    def told(self) -> Result:
        """The result of a gated client, waited for."""
        assert self.process.stdout is not None  # noqa: S101 - it is a pipe
        return self._result(self.process.stdout.readline())

    def end(self) -> None:
        """Let go of the connections, and of the process."""
        if self.process.stdin is not None and not self.process.stdin.closed:
            self.process.stdin.close()
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        if self.process.stdout is not None:
            self.process.stdout.close()
        self._errors.close()

    def finish(self, timeout: float = 300) -> Result:
        """Wait for the end and read the result."""
        try:
            out, _ = self.process.communicate(timeout=timeout)
            return self._result(out)
        except subprocess.TimeoutExpired:
            raise ClientFailed(f"the client did not end within {timeout} s") from None
        finally:
            self.end()

    def _said(self) -> str:
        self._errors.seek(0)
        return self._errors.read()[-2000:]

    def _result(self, line: str) -> Result:
        try:
            told: dict[str, Any] = json.loads(line.splitlines()[-1])
        except (ValueError, IndexError):
            raise ClientFailed(f"the client said {line!r}; {self._said()}") from None
        self._errors.seek(0)
        troubles = tuple(trouble for each in self._errors if (trouble := Trouble.parse(each)) is not None)
        handshake, request = Times(**told.pop("handshake_ms")), Times(**told.pop("request_ms"))
        return Result(**told, handshake_ms=handshake, request_ms=request, troubles=troubles)
