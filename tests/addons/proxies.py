"""Proxies that run an inspector in tests, all started in the same way.

with PROXIES["mitmdump"](tmp_path, "block_url", {"block_url_file": str(file)}, trust=root) as running:
    curl(running, "https://good.example/")
"""

from __future__ import annotations

import os
import re
import resource
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

from tests.harness.daemon import Daemon
from tests.harness.pki import Issued
from tests.harness.processes import wait_for

REPOSITORY = Path(__file__).resolve().parents[2]
_LISTENS = re.compile(r"proxy listening at (\S+)\.\s")


class Running(Protocol):
    """A proxy with one inspector in it: what :func:`tests.harness.curl.curl` needs, its output, and its end."""

    @property
    def proxy(self) -> str: ...
    @property
    def root(self) -> Path: ...
    def output(self) -> str:
        """All that it said so far."""

    def stop(self) -> int:
        """End it as an operator does, and wait for that. Returns the exit status."""

    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class Starter(Protocol):
    """Makes a proxy: a folder of its own, the inspector's name, its options, whose certificates servers have."""

    def __call__(
        self,
        folder: Path,
        inspector: str,
        options: Mapping[str, str | int],
        *,
        trust: Issued,
    ) -> Running: ...


class Mitmdump:
    """mitmdump itself. ``largest_file``: bytes that a file it writes may have (a disk that is full, to the program)."""

    def __init__(
        self,
        folder: Path,
        inspector: str,
        options: Mapping[str, str | int],
        *,
        trust: Issued,
        largest_file: int | None = None,
    ) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        trusted = folder / "trusted.pem"
        trusted.write_bytes(trust.pem())
        self.root = folder / "conf" / "mitmproxy-ca-cert.pem"
        self.proxy = ""
        settings = {
            "confdir": folder / "conf",
            "listen_host": "127.0.0.1",
            "listen_port": 0,
            "ssl_verify_upstream_trusted_ca": trusted,
            "connection_strategy": "lazy",
            **options,
        }
        self._command = [
            str(Path(sys.executable).with_name("mitmdump")),
            *("-s", str(REPOSITORY / "addons" / f"{inspector}.py")),
            *("-s", str(Path(__file__).with_name("names.py"))),
            *(part for name, value in settings.items() for part in ("--set", f"{name}={value}")),
        ]
        self._largest_file = largest_file
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        wait_for("mitmdump to listen", self._listens, timeout=60)
        return self

    def start(self) -> subprocess.Popen[bytes]:
        """Start it without waiting."""
        environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
        with (self.folder / "output").open("wb") as output:
            self._process = subprocess.Popen(
                self._command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, env=environment
            )
        return self._process

    def _listens(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, f"mitmdump ended: {self.output()}"
        if (found := _LISTENS.search(self.output())) is None:
            return False
        self.proxy = found[1]
        if self._largest_file is not None:
            resource.prlimit(self._process.pid, resource.RLIMIT_FSIZE, (self._largest_file, self._largest_file))
        return True

    def output(self) -> str:
        return (self.folder / "output").read_text("utf-8", "replace")

    def stop(self) -> int:
        assert self._process is not None
        self._process.terminate()
        try:
            return self._process.wait(30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


class Sallyport:
    """The daemon, with one worker, and the inspector in its inspection lane."""

    def __init__(self, folder: Path, inspector: str, options: Mapping[str, str | int], *, trust: Issued) -> None:
        inspection = {"addons": [inspector], "options": dict(options)}
        hosts = {f"{name}.example": "127.0.0.1" for name in ("good", "other", "recorder")}
        self._daemon = Daemon(folder, hosts=hosts, common=trust, extra={"inspection": inspection})

    def __enter__(self) -> Self:
        self._daemon.__enter__()
        return self

    @property
    def proxy(self) -> str:
        return self._daemon.proxy

    @property
    def root(self) -> Path:
        return self._daemon.root

    def output(self) -> str:
        return self._daemon.stderr_text()

    def stop(self) -> int:
        self._daemon.stop()
        return 0

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._daemon.__exit__(kind, error, trace)


PROXIES: dict[str, Starter] = {"mitmdump": Mitmdump, "sallyport": Sallyport}
"""Every proxy that the tests with traffic go through."""
