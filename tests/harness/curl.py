"""curl, the client that everybody has, through a proxy, with what came back taken apart."""

from __future__ import annotations

import json
import os
import re
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

_STATUS_LINE = re.compile(r"HTTP/([0-9.]+) ([0-9]{3})")


class Through(Protocol):
    """What curl needs to know of a proxy: where it listens, and which root to trust."""

    @property
    def proxy(self) -> str: ...
    @property
    def root(self) -> Path: ...


@dataclass(frozen=True)
class Head:
    """A status line and its headers, names in lower case; of several of one name, the values joined by a comma."""

    version: str
    status: int
    headers: Mapping[str, str]


@dataclass(frozen=True)
class Result:
    """What came of one curl. ``status`` is 0 where no HTTP answer came; for a refused CONNECT it is the CONNECT's."""

    exit_code: int
    status: int
    headers: Mapping[str, str]
    body: bytes = field(repr=False)
    http_version: str
    """``1.1`` or ``2``; empty where no answer came."""
    error: str
    """What curl wrote to stderr: with ``-v`` all of its talk."""
    connect: Head | None
    """The answer to the CONNECT, where there was one."""
    told: Mapping[str, object] = field(repr=False)
    """All that curl's ``--write-out '%{json}'`` tells: times, sizes, ``num_connects`` …"""

    @property
    def proxy_status(self) -> str:
        """The Proxy-Status field (RFC 9209); empty where there is none."""
        return self.headers.get("proxy-status", "")

    @property
    def text(self) -> str:
        return self.body.decode("utf-8", "replace")


def environment() -> dict[str, str]:
    """The environment without what would steer curl: proxies and CA files."""
    steering = {"http_proxy", "https_proxy", "all_proxy", "no_proxy", "curl_ca_bundle", "ssl_cert_file", "ssl_cert_dir"}
    return {name: value for name, value in os.environ.items() if name.lower() not in steering}


def command(through: Through, url: str, *args: str) -> list[str]:
    """The command line up to where the answer goes: for tests that run curl themselves (downloads, kills)."""
    proxy = ["--proxy", f"http://{through.proxy}", "--cacert", str(through.root)]
    return ["curl", "-q", "--silent", "--show-error", "--max-time", "60", *proxy, *args, url]


def curl(through: Through, url: str, *args: str, timeout: float = 90, stdin: bytes | None = None) -> Result:
    """Ask for ``url`` through the proxy, trusting its root alone. ``args`` go to curl and win over what is set here."""
    with tempfile.TemporaryDirectory(prefix="curl-") as folder:
        body, head = Path(folder, "body"), Path(folder, "head")
        answer = ["--output", str(body), "--dump-header", str(head), "--write-out", "%{json}"]
        done = subprocess.run(
            [*command(through, url, *answer), *args],
            capture_output=True,
            timeout=timeout,
            input=stdin,
            stdin=subprocess.DEVNULL if stdin is None else None,
            env=environment(),
            check=False,
        )
        told = json.loads(done.stdout) if done.stdout.startswith(b"{") else {}
        heads = _heads(head.read_text("latin-1") if head.exists() else "")
        received = body.read_bytes() if body.exists() else b""
    connect = heads.pop(0) if told.get("http_connect") and heads else None
    # 1xx are answers on the way; what counts is the last.
    last = heads[-1] if heads else connect
    return Result(
        exit_code=done.returncode,
        status=last.status if last else 0,
        headers=last.headers if last else {},
        body=received,
        http_version=last.version if last else "",
        error=done.stderr.decode("utf-8", "replace"),
        connect=connect,
        told=told,
    )


def _heads(text: str) -> list[Head]:
    found: list[Head] = []
    for block in re.split(r"\r?\n\r?\n", text):
        lines = block.splitlines()
        if not lines or (match := _STATUS_LINE.match(lines[0])) is None:
            continue
        headers: dict[str, str] = {}
        for line in lines[1:]:
            name, _, value = line.partition(":")
            name, value = name.strip().lower(), value.strip()
            headers[name] = f"{headers[name]}, {value}" if name in headers else value
        found.append(Head(match[1], int(match[2]), headers))
    return found
