"""Origins for the tests with traffic, and ``start``, which starts a proxy with one inspector in it."""

from __future__ import annotations

import json
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, cast

import pytest

from tests.addons.proxies import PROXIES, Running
from tests.harness.origins import Nginx, Site
from tests.harness.pki import Authority
from tests.harness.programs import need

ROOT = Authority.root("Public Root")
ISSUING = ROOT.intermediate("Public Issuing")
Start = Callable[..., Running]


class Recorder:
    """An HTTPS server that keeps the heads of requests as they came and answers with a field twice."""

    name = "recorder.example"

    def __init__(self, folder: Path) -> None:
        self.heads: list[list[tuple[str, str]]] = []
        certificate, key = ISSUING.leaf(self.name).write(folder, "recorder")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        heads = self.heads

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                heads.append([(name, value) for name, value in self.headers.items()])
                self.send_response(200)
                for name, value in (("Server-Timing", "a"), ("server-timing", "b"), ("Content-Length", "3")):
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(b"ok\n")

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True, do_handshake_on_connect=False)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)

    def __enter__(self) -> Recorder:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join(5)
        self._server.server_close()

    def url(self, path: str = "/") -> str:
        """An address at this server."""
        return f"https://{self.name}:{self._server.server_port}{path}"

    def values(self, name: str) -> list[str]:
        """The values of a field in the last request, whatever its case."""
        return [value for own, value in self.heads[-1] if own.lower() == name.lower()]


@pytest.fixture
def recorder(tmp_path: Path) -> Iterator[Recorder]:
    with Recorder(tmp_path) as running:
        yield running


@pytest.fixture
def origin(tmp_path: Path) -> Iterator[Nginx]:
    need("nginx")
    need("curl")
    names = ("good.example", "other.example")
    lines = ('location = /headers { return 200 "$http_restrict_access_to_tenants $http_x_one"; }',)
    with Nginx(tmp_path, [Site(name, ISSUING.leaf(name), lines=lines) for name in names]) as nginx:
        yield nginx


@pytest.fixture(scope="module", params=sorted(PROXIES))
def start(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Start]:
    """``start("block_url", {"block_url_file": …})``: a running proxy, each kind in turn; ended after the module.

    Whoever asks for the same inspector with the same options gets the same proxy: starting one costs seconds.
    """
    running: dict[tuple[str, frozenset[tuple[str, str | int]]], Running] = {}
    with ExitStack() as stack:

        def starting(inspector: str, options: Mapping[str, str | int]) -> Running:
            wanted = inspector, frozenset(options.items())
            if wanted not in running:
                folder = tmp_path_factory.mktemp("proxy")
                proxy = PROXIES[request.param](folder, inspector, options, trust=ROOT)
                running[wanted] = stack.enter_context(proxy)
            return running[wanted]

        yield starting


def problem(body: bytes) -> dict[str, Any]:
    """A problem document, read."""
    return cast("dict[str, Any]", json.loads(body))
