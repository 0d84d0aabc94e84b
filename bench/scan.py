"""`make scan`: sslyze and testssl.sh look at the TLS that clients are offered; Mozilla's intermediate profile decides.

Neither is a library of ours. sslyze needs others in versions of its own, so it has a folder of its own; testssl.sh is a
package of the distribution. Both speak to a port of this process that leads through the proxy: testssl.sh ends the
lines of its own CONNECT as HTTP does not.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import socket
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any

from bench.daemon import LoadedDaemon
from bench.origin import Origin
from tests.harness.listening import Listening
from tests.harness.raw_http import open_tunnel

HOST = "localhost"
"""A name that every machine resolves: testssl.sh insists."""
GOOD = {"OK", "INFO"}
MEANT = {
    "cipher_order": "the client chooses among suites that are all good, as Mozilla's intermediate profile has it",
    "cert_expirationStatus": "leaves live for days",
    "cert_notAfter": "the same",
    "cert_revocation": "leaves live for days and have neither CRL nor OCSP",
    "DNS_CAArecord": "localhost has no records",
    "HSTS": "the origin's own matter",
    "security_headers": "the same",
}
"""What testssl.sh remarks on and is as it should be, and why."""


class Door(Listening):
    """A port that leads through the proxy to the origin."""

    def __init__(self, proxy: str, port: int) -> None:
        super().__init__()
        self._proxy = proxy
        self._behind = port

    def took(self, sock: socket.socket) -> None:
        """Both ways, on threads of their own."""
        threading.Thread(target=self._lead, args=(sock,), daemon=True).start()

    def _lead(self, client: socket.socket) -> None:
        with client:
            try:
                server = open_tunnel(self._proxy, HOST, self._behind)
            except (OSError, AssertionError):
                return
            with server:
                server.settimeout(None)
                back = threading.Thread(target=_pass_on, args=(server, client), daemon=True)
                back.start()
                _pass_on(client, server)
                back.join()


def _pass_on(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            sink.sendall(data)
    with contextlib.suppress(OSError):
        sink.shutdown(socket.SHUT_WR)


def sslyze(program: Path, root: Path, port: int) -> list[str]:
    """What is not of Mozilla's intermediate profile."""
    done = subprocess.run(
        [program, "--mozilla_config", "intermediate", "--certinfo_ca_file", root, f"{HOST}:{port}"],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    _, _, judged = done.stdout.partition("COMPLIANCE AGAINST TLS CONFIGURATION")
    print(judged.strip(" -\n"))
    if done.returncode == 0 and "OK - Compliant" in judged:
        return []
    return [line.strip(" *") for line in judged.splitlines() if line.strip().startswith("*")] or [done.stderr[-500:]]


def testssl(root: Path, port: int, folder: Path) -> list[str]:
    """Its findings that are not meant to be so."""
    out = folder / "testssl.json"
    subprocess.run(
        ["testssl", "--ip", "127.0.0.1", "--add-ca", root, "--color", "0", "--warnings", "batch", "--quiet",
         "--jsonfile", out, f"{HOST}:{port}"],
        stdout=sys.stdout, timeout=600, check=False,
    )  # fmt: skip
    found: list[dict[str, Any]] = json.loads(out.read_text())
    problems = []
    for one in found:
        if one["severity"] in GOOD:
            continue
        said = f"{one['severity']} {one['id']}: {one['finding']}"
        if (why := MEANT.get(one["id"])) is not None:
            print(f"  as it is meant: {said} ({why})")
        else:
            problems.append(said)
    return problems if len(found) > 100 else [*problems, f"testssl.sh came to {len(found)} findings alone"]


def main() -> int:
    """Run them; 0 where nothing is wrong, else 1."""
    parser = argparse.ArgumentParser(prog="make scan", description=__doc__)
    parser.add_argument("--sslyze", type=Path, required=True, help="the program")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="sallyport-scan-") as scratch:
        folder = Path(scratch).resolve()
        origin = Origin(folder)
        origin.add([HOST])
        daemon = LoadedDaemon(folder / "daemon", origin, hosts={HOST: "127.0.0.1"})
        with origin, daemon, Door(daemon.proxy, origin.port) as door:
            problems = [f"sslyze: {one}" for one in sslyze(arguments.sslyze, daemon.root, door.port)]
            problems += [f"testssl.sh: {one}" for one in testssl(daemon.root, door.port, folder)]
    for problem in problems:
        print(f"WRONG: {problem}")
    print("nothing is wrong" if not problems else f"{len(problems)} things are wrong")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
