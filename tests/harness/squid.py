"""A real Squid as a parent proxy, in a process and a folder of its own, with as little configuration as it takes.

    with Squid(hosts=["good.example"], tls_ports=[origin.port], login=("house", "secret")) as parent:
        parent.address; parent.log()

Like Squid as it comes, it opens tunnels to TLS ports alone. The names in ``hosts`` lead it to 127.0.0.1; for others it
asks a DNS server that is not there.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.harness.pki import Issued
from tests.harness.processes import free_port, wait_for
from tests.harness.programs import need

HELPER = "/usr/lib/squid/basic_ncsa_auth"
SQUIDS_USER = "proxy"
"""Whom Debian's Squid becomes where it is started as root; it would run as root for nobody."""


class Squid:
    """``login``: user and password that it asks for (Basic). ``identity``: it is spoken to in TLS, with this."""

    def __init__(
        self,
        *,
        hosts: Sequence[str] = (),
        tls_ports: Sequence[int | str] = (443,),
        login: tuple[str, str] | None = None,
        identity: Issued | None = None,
        lines: Sequence[str] = (),
    ) -> None:
        self._squid = need("squid")
        self._hosts = hosts
        self._tls_ports = tls_ports
        self._login = login
        self._identity = identity
        self._lines = lines
        self._process: subprocess.Popen[bytes] | None = None
        self.folder = Path(tempfile.mkdtemp(prefix="squid-"))
        self.port = 0

    @property
    def address(self) -> str:
        """HOST:PORT, as a configuration names it."""
        return f"127.0.0.1:{self.port}"

    def log(self) -> list[str]:
        """Of each request: method, target, status, user (``-``: none)."""
        return (self.folder / "access.log").read_text().splitlines()

    def has_served(self, line: str) -> None:
        """Wait for a line of the log: of a tunnel it is written when that has ended."""
        wait_for(f"squid to log {line}", lambda: line in self.log(), timeout=30)

    def __enter__(self) -> Self:
        for attempt in range(5):
            self.port = free_port()
            try:
                self._start()
                break
            except AssertionError as error:
                self._stop()
                if "in use" not in str(error) or attempt == 4:
                    self.__exit__(None, None, None)
                    raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _start(self) -> None:
        folder = self.folder
        (folder / "hosts").write_text("".join(f"127.0.0.1 {name}\n" for name in self._hosts))
        (folder / "squid.conf").write_text("\n".join(self._config()) + "\n")
        folder.chmod(0o755)
        if os.geteuid() == 0:
            for each in (folder, *folder.iterdir()):
                shutil.chown(each, SQUIDS_USER)
        output = folder / "output"
        with output.open("wb") as out:
            self._process = subprocess.Popen(
                [self._squid, "-N", "-f", str(folder / "squid.conf")],
                stdin=subprocess.DEVNULL, stdout=out, stderr=out, cwd=folder,
            )  # fmt: skip
        process, log = self._process, folder / "cache.log"

        def listens() -> bool:
            said = log.read_text() if log.exists() else ""
            assert process.poll() is None, f"squid did not start: {output.read_text()}{said}"
            return "Accepting" in said

        wait_for("squid to listen", listens, timeout=60)

    def _config(self) -> list[str]:
        folder, port = self.folder, self.port
        listens = f"http_port 127.0.0.1:{port}"
        if self._identity is not None:
            certificate, key = self._identity.write(folder, "parent")
            listens = f"https_port 127.0.0.1:{port} tls-cert={certificate} tls-key={key}"
        rules = ["http_access deny CONNECT !tls_ports"]
        if self._login is not None:
            user, password = self._login
            hashed = subprocess.run(
                [need("openssl"), "passwd", "-apr1", "-stdin"],
                input=password, capture_output=True, text=True, check=True,
            ).stdout.strip()  # fmt: skip
            (folder / "users").write_text(f"{user}:{hashed}\n")
            rules = [
                f"auth_param basic program {HELPER} {folder}/users",
                "auth_param basic children 1 startup=1 idle=1",
                "acl known proxy_auth REQUIRED",
                *rules,
                "http_access deny !known",
            ]
        return [
            listens,
            f"hosts_file {folder}/hosts",
            "dns_nameservers 127.0.0.1",
            "dns_timeout 1 second",
            f"acl tls_ports port {' '.join(map(str, self._tls_ports))}",
            *rules,
            *self._lines,
            "http_access allow all",
            "cache deny all",
            "logformat told %rm %ru %>Hs %un",
            f"access_log stdio:{folder}/access.log told",
            f"cache_log {folder}/cache.log",
            f"pid_filename {folder}/squid.pid",
            f"coredump_dir {folder}",
            "shutdown_lifetime 0 seconds",
            "max_filedescriptors 1024",
            "visible_hostname parent.example",
            "pinger_enable off",
        ]

    def _stop(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
