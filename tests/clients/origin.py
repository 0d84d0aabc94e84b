"""The servers that the clients go to: one nginx, with a certificate of a private CA, and what clients fetch behind it.

``/`` is a page, ``/ws`` sends back what it gets, ``/git/`` is a repository that can be cloned and pushed to,
``/simple/`` an index of Python packages, ``/npm/`` a registry of Node's, ``/apt/`` a repository of Debian's.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import io
import json
import os
import subprocess
import tarfile
import threading
import zipfile
from collections.abc import Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.harness.origins import Nginx, Site, WebSocketEcho
from tests.harness.pki import Authority

TEXT = "hello through the proxy"
NAME = "tiny"
"""Of the package that every kind of repository has."""


class Origin:
    """nginx for ``hosts``, and the repositories. ``ca`` is what its certificate ends in."""

    def __init__(self, folder: Path, hosts: Sequence[str]) -> None:
        self.folder = folder
        self.ca = Authority.root("Clients' Private Root")
        self._identity = self.ca.intermediate("Clients' Private Issuing").leaf(hosts)
        self._open = contextlib.ExitStack()

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as opening:
            git = opening.enter_context(GitServer(self.folder / "git"))
            echo = opening.enter_context(WebSocketEcho())
            site = Site(
                "clients.example",
                self._identity,
                text=TEXT,
                websocket=echo.where,
                lines=[
                    f"location /git/ {{ proxy_pass http://{git.where}/; client_max_body_size 0; }}",
                    "location /simple/ { default_type text/html; }",
                    "location /npm/ { default_type application/json; }",
                ],
            )
            self._nginx = opening.enter_context(Nginx(self.folder, [site]))
            self.port = site.port
            self._publish_wheel()
            self._publish_deb()
            self._open = opening.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.close()

    def requests(self, host: str) -> list[dict[str, Any]]:
        """What was asked of it by this name."""
        return [one for one in self._nginx.requests() if one["host"] == f"{host}:{self.port}"]

    def publish(self, path: str, content: bytes) -> None:
        """Have it answer ``path`` with this."""
        file = self._nginx.www / path.lstrip("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)

    def publish_node_package(self, host: str) -> None:
        """The package of this host's registry: a registry has whole URLs in it, so that each host has its own."""
        manifest = {"name": NAME, "version": "1.0.0", "main": "index.js"}
        members = {"package/package.json": json.dumps(manifest).encode(), "package/index.js": TEXT.encode()}
        package = _tar_gz(members)
        digest = base64.b64encode(hashlib.sha512(package).digest()).decode()
        url = f"https://{host}:{self.port}/npm/{host}/{NAME}.tgz"
        release = {**manifest, "dist": {"tarball": url, "integrity": f"sha512-{digest}"}}
        index = {"name": NAME, "dist-tags": {"latest": "1.0.0"}, "versions": {"1.0.0": release}}
        self.publish(f"/npm/{host}/{NAME}.tgz", package)
        self.publish(f"/npm/{host}/{NAME}", json.dumps(index).encode())

    def _publish_wheel(self) -> None:
        """A wheel, and the index that leads to it (PEP 503)."""
        made = io.BytesIO()
        info = f"{NAME}-1.0.dist-info"
        with zipfile.ZipFile(made, "w") as wheel:
            wheel.writestr(f"{NAME}.txt", TEXT)
            wheel.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {NAME}\nVersion: 1.0\n")
            wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
            wheel.writestr(f"{info}/RECORD", f"{NAME}.txt,,\n{info}/METADATA,,\n{info}/WHEEL,,\n{info}/RECORD,,\n")
        file = f"{NAME}-1.0-py3-none-any.whl"
        digest = hashlib.sha256(made.getvalue()).hexdigest()
        self.publish(f"/simple/{NAME}/{file}", made.getvalue())
        self.publish(f"/simple/{NAME}/index.html", f'<a href="{file}#sha256={digest}">{file}</a>'.encode())

    def _publish_deb(self) -> None:
        """A package, and the repository that it alone is in."""
        control = f"Package: {NAME}\nVersion: 1.0\nArchitecture: all\nMaintainer: nobody\nDescription: a text\n"
        parts = {
            "debian-binary": b"2.0\n",
            "control.tar.gz": _tar_gz({"./control": control.encode()}),
            "data.tar.gz": _tar_gz({f"./usr/share/{NAME}/{NAME}.txt": TEXT.encode()}),
        }
        package = b"!<arch>\n" + b"".join(
            f"{name:<16}{0:<12}{0:<6}{0:<6}{100644:<8}{len(part):<10}`\n".encode() + part + b"\n" * (len(part) % 2)
            for name, part in parts.items()
        )
        digest = hashlib.sha256(package).hexdigest()
        index = f"{control}Filename: {NAME}.deb\nSize: {len(package)}\nSHA256: {digest}\n".encode()
        listed = f" {hashlib.sha256(index).hexdigest()} {len(index)} Packages\n"
        release = f"Date: Thu, 01 Jan 2026 00:00:00 UTC\nSHA256:\n{listed}"
        self.publish(f"/apt/{NAME}.deb", package)
        self.publish("/apt/Packages", index)
        self.publish("/apt/Release", release.encode())


class GitServer:
    """git's own server program, ``git http-backend``, behind a small HTTP server; to put behind nginx.

    nginx gives it each request whole, with its length.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __enter__(self) -> Self:
        self._make()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.where = f"127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)

    def _make(self) -> None:
        """A repository of one commit with one file."""
        bare = self.folder / f"{NAME}.git"
        bare.mkdir(parents=True)
        who = {
            f"GIT_{role}_{what}": "nobody@clients.example"
            for role in ("AUTHOR", "COMMITTER")
            for what in ("NAME", "EMAIL")
        }

        def git(*words: str, given: str = "") -> str:
            alone = {"HOME": str(self.folder), "GIT_CONFIG_NOSYSTEM": "1", "PATH": os.environ["PATH"], **who}
            done = subprocess.run(
                ["git", "-C", str(bare), *words], input=given, capture_output=True, text=True, check=True, env=alone
            )
            return done.stdout.strip()

        git("init", "--bare", "--quiet", "--initial-branch=main")
        git("config", "http.receivepack", "true")
        blob = git("hash-object", "-w", "--stdin", given=TEXT)
        tree = git("mktree", given=f"100644 blob {blob}\t{NAME}.txt\n")
        git("update-ref", "refs/heads/main", git("commit-tree", tree, "-m", "One file"))

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        root = self.folder

        class Handler(BaseHTTPRequestHandler):
            def answer(self) -> None:
                path, _, query = self.path.partition("?")
                done = subprocess.run(
                    ["git", "http-backend"],
                    env={
                        "PATH": os.environ["PATH"],
                        "GIT_PROJECT_ROOT": str(root),
                        "GIT_HTTP_EXPORT_ALL": "1",
                        "GIT_CONFIG_COUNT": "1",
                        "GIT_CONFIG_KEY_0": "safe.directory",
                        "GIT_CONFIG_VALUE_0": "*",
                        "REQUEST_METHOD": self.command,
                        "PATH_INFO": path,
                        "QUERY_STRING": query,
                        "CONTENT_TYPE": self.headers.get("Content-Type", ""),
                        "CONTENT_LENGTH": self.headers.get("Content-Length", "0"),
                        "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
                        "GIT_PROTOCOL": self.headers.get("Git-Protocol", ""),
                    },
                    input=self.rfile.read(int(self.headers.get("Content-Length", "0"))),
                    capture_output=True,
                    check=False,
                )
                head, _, body = done.stdout.partition(b"\r\n\r\n")
                fields = [line.split(": ", 1) for line in head.decode("latin-1").splitlines()]
                self.send_response(next((int(value[:3]) for name, value in fields if name == "Status"), 200))
                for name, value in fields:
                    if name != "Status":
                        self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

            do_GET = do_POST = answer  # noqa: N815 -- the names that http.server looks for

            def log_message(self, *_: object) -> None:
                """nginx has a log."""

        return Handler


def _tar_gz(members: dict[str, bytes]) -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w:gz") as tar:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(content), 0o644
            tar.addfile(member, io.BytesIO(content))
    return made.getvalue()
