"""``sallyport kmip forwarder``, as a process of its own between a client of ours and a key manager."""

from __future__ import annotations

import http.client
import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.harness.command import REPOSITORY
from tests.harness.pki import Authority, Issued
from tests.harness.processes import free_port, wait_for


class ForwarderProcess:
    """On loopback, from now until :meth:`end`.

    ``own`` is its certificate, ``clients`` issues those of its clients; ``client`` is who it is to the key manager,
    whose certificate is ``servers``'.
    """

    def __init__(
        self,
        folder: Path,
        target: int,
        own: Issued,
        clients: Authority,
        client: Issued,
        servers: Authority,
        *options: str,
    ) -> None:
        self.port, self.health = free_port(), free_port()
        self._log = folder / "forwarder.log"
        folder.mkdir(exist_ok=True)
        files: dict[str, Path] = {}
        for name, issued in (("own", own), ("client", client)):
            files[name], files[f"{name}-key"] = issued.write(folder, name)
        for name, authority in (("inside", clients), ("outside", servers)):
            files[name] = folder / f"{name}.pem"
            files[name].write_bytes(authority.pem())
        command = [
            sys.executable, "-m", "cli.main", "kmip", "forwarder", "--listen", f"127.0.0.1:{self.port}",
            "--target", f"127.0.0.1:{target}", "--health", f"127.0.0.1:{self.health}", "--cert", files["own"], "--key",
            files["own-key"], "--client-ca", files["inside"], "--target-cert", files["client"], "--target-key",
            files["client-key"], "--target-ca", files["outside"], *options,
        ]  # fmt: skip
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(list(map(str, command)), stderr=log, cwd=REPOSITORY)
        try:
            wait_for("the forwarder to listen", lambda: self.events("ready"), 30)
        except BaseException:
            self.process.kill()
            self.process.wait()
            raise

    def events(self, name: str) -> list[dict[str, Any]]:
        """Its log's events of that name."""
        lines = self._log.read_text().splitlines()
        return [event for event in map(json.loads, lines) if event["event"] == name]

    def healthy(self) -> tuple[int, str]:
        """What it tells of itself."""
        connection = http.client.HTTPConnection("127.0.0.1", self.health, timeout=10)
        connection.request("GET", "/healthz")
        answer = connection.getresponse()
        return answer.status, answer.read().decode()

    def end(self) -> int:
        """SIGTERM; its exit status."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(10)
