"""The origin: nginx with a certificate for each host name, and answers from which a mix-up shows.

``/t/NONCE`` answers with the line ``HOST /t/NONCE``, ``/r/NONCE`` with that line 200 times, ``/file`` with a file whose
every byte is the number of its 64 KiB block, ``/endless`` with 10 GB of nothing.
"""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.harness.origins import NGINX
from tests.harness.pki import Authority, new_key, self_signed
from tests.harness.processes import free_port, wait_for

FILE_BLOCKS = 1600
BLOCK = 64 * 1024
FILE_BYTES = FILE_BLOCKS * BLOCK
ENDLESS_BYTES = 10_000_000_000
LARGE_BYTES = 2_000_000


class Origin:
    """Serves HTTPS (HTTP/1.1 and HTTP/2) for names that are added before it starts.

    The certificates are those of ``root``; all have one key, so that making thousands takes seconds.
    """

    def __init__(self, folder: Path, connections: int = 4096) -> None:
        self.folder = folder / "origin"
        self.connections = connections
        self.root = Authority.root("Bench Root")
        self.port = free_port()
        self._key = new_key()
        self._process: subprocess.Popen[bytes] | None = None
        (self.folder / "certificates").mkdir(parents=True)
        (self.folder / "www").mkdir()
        (self.folder / "temp").mkdir()
        (self.folder / "key.pem").touch(0o600)
        self.root_file = self.folder / "root.pem"
        self.root_file.write_bytes(self.root.pem())
        with (self.folder / "www" / "file").open("wb") as file:
            for number in range(FILE_BLOCKS):
                file.write(bytes([number % 256]) * BLOCK)
        with (self.folder / "www" / "endless").open("wb") as file:
            file.truncate(ENDLESS_BYTES)
        with (self.folder / "www" / "large").open("wb") as file:
            file.truncate(LARGE_BYTES)

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def process(self) -> subprocess.Popen[bytes]:
        assert self._process is not None, "the origin does not run"  # noqa: S101 - a mistake of the caller
        return self._process

    def add(self, hosts: Iterable[str]) -> None:
        """Certificates for these names."""
        for host in hosts:
            made = self.root.leaf(host, key=self._key)
            (self.folder / "certificates" / host).write_bytes(made.chain_pem() + made.key_pem())

    def add_self_signed(self, host: str) -> None:
        """A certificate that nobody vouches for."""
        made = self_signed(host, key=self._key)
        (self.folder / "certificates" / host).write_bytes(made.pem() + made.key_pem())

    def add_under(self, authority: Authority, host: str) -> None:
        """A certificate of a CA that the daemon does not know."""
        made = authority.leaf(host, key=self._key)
        (self.folder / "certificates" / host).write_bytes(made.chain_pem() + made.key_pem())

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Start nginx and wait until it listens."""
        if NGINX is None:
            raise SystemExit("bench: nginx is missing; install nginx-light")
        config = self.folder / "nginx.conf"
        config.write_text(self._config())
        errors = self.folder / "error.log"
        self._process = subprocess.Popen(
            [NGINX, "-p", str(self.folder), "-c", str(config), "-e", str(errors)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        pid_file = self.folder / "nginx.pid"

        def listens() -> bool:
            if self.process.poll() is not None:
                raise SystemExit(f"bench: nginx did not start: {errors.read_text()[-1000:]}")
            return pid_file.exists()

        wait_for("nginx to listen", listens)

    def stop(self) -> None:
        """End it; its connections end with it."""
        if self._process is None:
            return
        self._process.send_signal(signal.SIGCONT)
        self._process.terminate()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None

    def freeze(self, frozen: bool) -> None:
        """Stop it in whatever it is doing, or let it go on."""
        self.process.send_signal(signal.SIGSTOP if frozen else signal.SIGCONT)

    def _config(self) -> str:
        temp = " ".join(
            f"{kind}_temp_path {self.folder}/temp/{kind};"
            for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        certificates = f"{self.folder}/certificates"
        twenty = "$line" * 20
        return f"""
daemon off; master_process off; pid {self.folder}/nginx.pid;
worker_rlimit_nofile {self.connections + 100};
events {{ worker_connections {self.connections}; }}
http {{
  {temp}
  access_log off; default_type text/plain; tcp_nodelay on;
  keepalive_timeout 3600s; keepalive_requests 100000000; client_header_timeout 600s; send_timeout 600s;
  server {{
    listen 127.0.0.1:{self.port} ssl http2 backlog=8192; server_name _; root {self.folder}/www;
    ssl_certificate {certificates}/$ssl_server_name; ssl_certificate_key {certificates}/$ssl_server_name;
    ssl_protocols TLSv1.2 TLSv1.3; ssl_session_cache off;
    set $line "$host $request_uri\\n";
    # Whoever sends a request where it does not belong shall see it.
    if ($ssl_server_name != $host) {{ return 421; }}
    location /t/ {{ return 200 $line; }}
    location /r/ {{ set $twenty "{twenty}"; return 200 "{"$twenty" * 10}"; }}
  }}
}}
"""
