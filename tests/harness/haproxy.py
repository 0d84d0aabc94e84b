"""HAProxy before a listener: what it sends first is the PROXY protocol as its authors have it."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.harness.processes import free_port, listens_on, wait_for
from tests.harness.programs import need


@dataclass
class Haproxy:
    """One port for each of ``options``, such as ``send-proxy-v2``; all lead to ``server``, from ``source``."""

    folder: Path
    server: str
    options: tuple[str, ...]
    source: str
    ports: dict[str, int] = field(default_factory=dict)
    """By option."""
    _process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    def __enter__(self) -> Self:
        self.ports = {option: free_port() for option in self.options}
        listens = "".join(
            f"listen {place}\n  bind 127.0.0.1:{port}\n  server it {self.server} source {self.source} {option}\n"
            for place, (option, port) in enumerate(self.ports.items())
        )
        times = "timeout connect 10s\n  timeout client 60s\n  timeout server 60s"
        config = self.folder / "haproxy.cfg"
        config.write_text(f"global\n  maxconn 100\ndefaults\n  mode tcp\n  {times}\n{listens}")
        # -db: one process in the foreground, which nothing of it outlives.
        process = self._process = subprocess.Popen(
            [need("haproxy"), "-db", "-q", "-f", str(config)], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL
        )
        try:
            wait_for("haproxy to listen", lambda: set(self.ports.values()) <= listens_on(process.pid), timeout=20)
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def _end(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
