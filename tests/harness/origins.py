"""Real servers for tests, on loopback: nginx, ``openssl s_server``, and a WebSocket echo to put behind nginx.

with Nginx(tmp_path, [Site("good.example", issuing.leaf("good.example"))]) as origin:
    origin["good.example"].port; origin.requests("good.example")
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from tests.harness.namespaces import Namespace
from tests.harness.pki import Issued
from tests.harness.processes import free_port, listens_on, wait_for

NGINX = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
OPENSSL = shutil.which("openssl")
START_SECONDS = 60  # of a machine that is busy: hundreds of certificates take seconds


@dataclass
class Site:
    """One HTTPS server of nginx. ``text`` is what ``/`` answers.

    ``with_root`` sends the self-signed root too; ``sent`` are the certificates that it sends in place of the identity's
    chain. ``lines`` are more of nginx's directives for this server.
    """

    name: str
    identity: Issued | None
    address: str = "127.0.0.1"
    http2: bool = True
    protocols: str = "TLSv1.2 TLSv1.3"
    with_root: bool = False
    sent: Sequence[Issued] = ()
    alone: bool = True
    """On a port of its own. Those that are not share one, told apart by name or address, and take the first's TLS."""
    websocket: str | None = None
    """ADDRESS:PORT of a WebSocket server that ``/ws`` leads to."""
    lines: Sequence[str] = ()
    port: int = 0
    text: str = ""

    def __post_init__(self) -> None:
        self.text = self.text or f"hello from {self.name}\n"

    def url(self, path: str = "/", host: str | None = None) -> str:
        """The URL of a path, by the site's name or another host."""
        shown = host or self.name
        shown = f"[{shown}]" if ":" in shown else shown
        return f"{'http' if self.identity is None else 'https'}://{shown}:{self.port}{path}"


class Nginx:
    """One nginx for all the sites: one process, its requests in an access log of JSON lines.

    Beside ``/`` every site has the files made by :meth:`file`, ``PUT /upload/NAME``, ``/slow/NAME`` (64 KiB/s),
    ``/echo`` (what the request looked like, as JSON) and ``/status/CODE`` for 204, 304, 404 and 500.
    """

    def __init__(self, folder: Path, sites: Sequence[Site], namespace: Namespace | None = None) -> None:
        """``namespace``: where it runs; then its sites have the ports that they say."""
        self.namespace = namespace
        assert NGINX is not None, "nginx is not installed: apt-get install nginx-light"
        self.folder = folder / "nginx"
        self.sites = {site.name: site for site in sites}
        assert len(self.sites) == len(sites), "two sites of one name"
        self.access = self.folder / "access.log"
        self.www = self.folder / "www"
        self._process: subprocess.Popen[bytes] | None = None
        self._asked_port = 0
        for part in ("www/upload", "temp"):
            (self.folder / part).mkdir(parents=True, exist_ok=True)

    def __getitem__(self, name: str) -> Site:
        return self.sites[name]

    def __enter__(self) -> Self:
        for attempt in range(5):
            shared, self._asked_port = free_port(), free_port()
            for site in self.sites.values() if self.namespace is None else ():
                site.port = free_port(site.address) if site.alone else shared
            try:
                self._start()
                break
            except AssertionError as error:
                self.stop()
                # Between the search for a free port and nginx's bind, another test may have taken it.
                if "Address already in use" not in str(error) or attempt == 4:
                    raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _start(self) -> None:
        config = self.folder / "nginx.conf"
        errors = self.folder / "error.log"
        errors.write_text("")
        config.write_text(self._config())
        assert NGINX is not None
        inside = self.namespace.prefix if self.namespace is not None else ()
        self._process = subprocess.Popen(
            [*inside, NGINX, "-p", str(self.folder), "-c", str(config), "-e", str(errors)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        process = self._process

        def answers() -> bool:
            assert process.poll() is None, f"nginx did not start: {errors.read_text()}"
            if self.namespace is not None:
                return {site.port for site in self.sites.values()} <= listens_on(process.pid)
            return all(_accepts(*where) for where in {(site.address, site.port) for site in self.sites.values()})

        wait_for("nginx to listen", answers, timeout=START_SECONDS)

    def stop(self) -> None:
        """End it at once. Its log stays readable."""
        if self._process is None:
            return
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None

    def change(self, name: str, identity: Issued) -> None:
        """Give a site another certificate. nginx starts again, on the same ports: one process alone cannot reload."""
        self.sites[name].identity = identity
        self.stop()
        self._start()

    def file(self, name: str, size: int) -> str:
        """Make a file of zeroes of ``size`` bytes (it takes no room on the disk); its path for a URL."""
        with (self.www / name).open("wb") as made:
            made.truncate(size)
        return f"/{name}"

    def uploaded(self, name: str) -> Path:
        """Where ``PUT /upload/NAME`` went."""
        return self.www / "upload" / name

    def requests(self, name: str | None = None) -> list[dict[str, Any]]:
        """The requests that were answered, oldest first, of one site where named.

        Each has site, method, uri, protocol, status, host, tls, sni, resumed, connection, sent, received.
        """
        self._has_logged()
        lines = self.access.read_text().splitlines() if self.access.exists() else []
        entries: list[dict[str, Any]] = [json.loads(line) for line in lines]
        return [entry for entry in entries if name is None or entry["site"] == name]

    def _has_logged(self) -> None:
        """Come back once the log has every request whose answer somebody may have by now.

        nginx logs a request a moment after its answer, but before it turns to what comes next: so to this, too.
        """
        if self._process is None or self.namespace is not None:
            return
        with socket.create_connection(("127.0.0.1", self._asked_port), timeout=START_SECONDS) as asking:
            asking.sendall(b"GET / HTTP/1.0\r\n\r\n")
            while asking.recv(65536):
                pass

    def wait_requests(self, count: int, name: str | None = None) -> list[dict[str, Any]]:
        """The requests, once there are at least ``count``: for those of which nobody has waited for the answer."""
        wait_for(f"{count} requests in nginx's log", lambda: len(self.requests(name)) >= count)
        return self.requests(name)

    def _config(self) -> str:
        temp = self.folder / "temp"
        kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        servers = "\n".join(self._server(place, site) for place, site in enumerate(self.sites.values()))
        asked = f"server {{ listen 127.0.0.1:{self._asked_port}; access_log off; return 204; }}"
        if self.namespace is not None:
            asked = ""
        # One process in the foreground: nothing of it can be left behind, and it reads what only the tests' user may.
        return f"""
daemon off; master_process off; pid {self.folder}/nginx.pid;
events {{ worker_connections 2048; }}
http {{
  {" ".join(f"{kind}_temp_path {temp}/{kind};" for kind in kinds)}
  log_format tests escape=json '{{"site":"$server_name","method":"$request_method","uri":"$request_uri",'
    '"protocol":"$server_protocol","status":$status,"host":"$http_host","tls":"$ssl_protocol",'
    '"sni":"$ssl_server_name","resumed":"$ssl_session_reused","connection":$connection,'
    '"sent":$body_bytes_sent,"received":$request_length}}';
  access_log {self.access} tests;
  default_type text/plain;
  client_max_body_size 0;
  server_names_hash_bucket_size 128; server_names_hash_max_size 4096;
  keepalive_timeout 120s;
  {asked}
  {servers}
}}
"""

    def _server(self, place: int, site: Site) -> str:
        where = f"[{site.address}]" if ":" in site.address else site.address
        tls = ""
        listen = f"{where}:{site.port}"
        if site.identity is not None:
            certificate, key = self.folder / f"{place}.pem", self.folder / f"{place}.key"
            sent = site.sent or site.identity.line(with_root=site.with_root)
            certificate.write_bytes(b"".join(issued.pem() for issued in sent))
            key.touch(0o600)
            key.write_bytes(site.identity.key_pem())
            listen += " ssl" + (" http2" if site.http2 else "")
            tls = f"ssl_certificate {certificate}; ssl_certificate_key {key}; ssl_protocols {site.protocols};"
        websocket = ""
        if site.websocket is not None:
            websocket = f"""
    location /ws {{
      proxy_pass http://{site.websocket}; proxy_http_version 1.1; proxy_read_timeout 120s;
      proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection $http_connection;
      proxy_set_header Host $http_host;
    }}"""
        codes = "\n".join(f"    location = /status/{code} {{ return {code}; }}" for code in (204, 304, 404, 500))
        text = site.text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
        echo = (
            '{"method":"$request_method","uri":"$request_uri","host":"$http_host","protocol":"$server_protocol",'
            '"tls":"$ssl_protocol","sni":"$ssl_server_name","via":"$http_via","forwarded":"$http_x_forwarded_for"}'
        )
        return f"""
  server {{
    listen {listen}; server_name {site.name}; root {self.www};
    {tls}
    {" ".join(site.lines)}
    location = / {{ return 200 "{text}"; }}
    location = /echo {{ default_type application/json; return 200 '{echo}'; }}
    location /slow/ {{ alias {self.www}/; limit_rate 64k; }}
    location /upload/ {{ dav_methods PUT; create_full_put_path on; }}
{codes}{websocket}
  }}"""


@dataclass
class OpensslServer:
    """``openssl s_server`` with one certificate. Its options are openssl's own: ``-tls1_2``, ``-alpn`` …

    With ``answer`` (``-www``) it answers every request with a page about the connection; without it, it prints what
    comes, decrypted, so that :meth:`log` shows whether anything came.
    """

    folder: Path
    identity: Issued
    options: Sequence[str] = ()
    address: str = "127.0.0.1"
    answer: bool = True
    with_root: bool = False
    port: int = 0
    _process: subprocess.Popen[bytes] | None = field(default=None, repr=False)
    _output: list[bytes] = field(default_factory=list, repr=False)
    _reader: threading.Thread | None = field(default=None, repr=False)

    def __enter__(self) -> Self:
        assert OPENSSL is not None, "openssl is not installed: apt-get install openssl"
        folder = self.folder / f"s_server-{time.monotonic_ns()}"
        folder.mkdir(parents=True)
        certificate, key, chain = folder / "leaf.pem", folder / "leaf.key", folder / "chain.pem"
        certificate.write_bytes(self.identity.pem())
        key.touch(0o600)
        key.write_bytes(self.identity.key_pem())
        chain.write_bytes(self.identity.chain_pem(with_root=self.with_root).removeprefix(self.identity.pem()))
        more = ["-cert_chain", str(chain)] if chain.stat().st_size else []
        where = f"[{self.address}]" if ":" in self.address else self.address
        answer = ["-www"] if self.answer else []
        self._process = subprocess.Popen(
            [OPENSSL, "s_server", "-accept", f"{where}:{self.port}", "-cert", str(certificate), "-key", str(key), *more,
             *answer, *self.options],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )  # fmt: skip
        assert self._process.stdout is not None
        self._reader = threading.Thread(target=self._read, args=(self._process.stdout,), daemon=True)
        self._reader.start()
        try:
            wait_for("openssl s_server to listen", self._accepts)
        except AssertionError as error:
            self.stop()
            raise AssertionError(f"{error}: {self.log()}") from None
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _read(self, stream: IO[bytes]) -> None:
        while chunk := os.read(stream.fileno(), 65536):
            self._output.append(chunk)

    def _accepts(self) -> bool:
        """Its line ``ACCEPT 127.0.0.1:40123`` tells the port and that it listens, without a connection."""
        for line in self.log().splitlines():
            if line.startswith("ACCEPT "):
                self.port = int(line.rpartition(":")[2])
                return True
        assert self._process is not None
        assert self._process.poll() is None, "openssl s_server ended"
        return False

    def log(self) -> str:
        """All it printed so far: what it is, each connection, and without ``answer`` what came through it."""
        return b"".join(self._output).decode("utf-8", "replace")

    def say(self, data: bytes) -> None:
        """Send it to whoever is connected; it must not begin with one of the letters that s_server takes for commands.

        Without ``answer`` only: with it, what is said goes nowhere.
        """
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.stdin.write(data)
        self._process.stdin.flush()

    def stop(self) -> None:
        """End it at once."""
        if self._process is None:
            return
        self._process.kill()
        self._process.wait()
        if self._reader is not None:
            self._reader.join(5)
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                stream.close()
        self._process = None

    def url(self, host: str, path: str = "/") -> str:
        return f"https://{f'[{host}]' if ':' in host else host}:{self.port}{path}"


class WebSocketEcho:
    """A WebSocket server without TLS that sends back what it gets; to put behind nginx (``Site.websocket``)."""

    def __init__(self, address: str = "127.0.0.1") -> None:
        self.address = address
        self.where = ""

    def __enter__(self) -> Self:
        from websockets.sync.server import ServerConnection, serve

        def echo(connection: ServerConnection) -> None:
            for message in connection:
                connection.send(message)

        self._server = serve(echo, self.address, 0, max_size=None)
        self.where = f"{self.address}:{self._server.socket.getsockname()[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._thread.join(5)


def _accepts(address: str, port: int) -> bool:
    try:
        with socket.create_connection((address, port), timeout=1):
            return True
    except OSError:
        return False
