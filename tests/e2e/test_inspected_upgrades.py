"""A server's 101 under inspection: WebSockets are inspected, other protocols pass only where nobody would miss them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.conftest import ISSUING, PUBLIC
from tests.harness.daemon import Daemon
from tests.harness.handled import Handled, Serve, Talk, converse, to_the_end, until
from tests.harness.inspectors import Scripts
from tests.harness.processes import wait_for
from tests.harness.raw_http import Pipe, Way
from tests.harness.shapes_upgrades import frame

SOCKETS = """
import logging


def websocket_message(flow):
    logging.info(f"message {flow.request.path} {flow.websocket.messages[-1].content!r}")
"""
HEADS = """
def requestheaders(flow):
    pass
"""
BODIES = """
def response(flow):
    pass
"""
SCRIPTS = {"sockets": SOCKETS, "heads": HEADS, "bodies": BODIES}
NAMES = tuple(f"{name}.example" for name in SCRIPTS)
KEY = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="
ACCEPT = "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
ASKS = ("Connection: Upgrade", "Upgrade: websocket", KEY, "Sec-WebSocket-Version: 13")
TAKES = ("Connection: Upgrade", "Upgrade: websocket", ACCEPT)
DEFLATE = "Sec-WebSocket-Extensions: permessage-deflate"
UNSEEN = b"GET /unseen HTTP/1.1\r\nHost: heads.example\r\n\r\n"


@pytest.fixture(scope="module")
def server(scratch: Path) -> Iterator[Handled]:
    with Handled(scratch / "upgrades", ISSUING.leaf(NAMES)) as running:
        yield running


@pytest.fixture(scope="module")
def daemon(scratch: Path) -> Iterator[Daemon]:
    scripts = Scripts(scratch)
    for name, text in SCRIPTS.items():
        scripts.add(name, text)
    hosts = dict.fromkeys(NAMES, "127.0.0.1")
    with Daemon(
        scratch / "upgrading", hosts=hosts, common=PUBLIC, extra={"inspection": {"addons": scripts.addons}}
    ) as running:
        yield running


@pytest.fixture(autouse=True)
def unharmed(daemon: Daemon) -> Iterator[None]:
    yield
    assert not daemon.log("fault")


def asks(name: str, *fields: str, path: str = "/", version: str = "HTTP/1.1") -> bytes:
    return "\r\n".join((f"GET {path} {version}", f"Host: {name}.example", *fields, "", "")).encode()


def switches(*fields: str, more: bytes = b"") -> Serve:
    """A server that answers the first head with 101, whatever it is."""

    def serve(pipe: Pipe) -> None:
        until(pipe, b"\r\n\r\n")
        pipe.send("\r\n".join(("HTTP/1.1 101 Switching Protocols", *fields, "", "")).encode() + more)
        to_the_end(pipe)

    return serve


def talk(daemon: Daemon, server: Handled, name: str, serve: Serve, data: bytes) -> Talk:
    way = Way("proxied", daemon.proxy, str(daemon.root))
    return converse(way, f"{name}.example", server, serve, data)


REFUSED: dict[str, tuple[str, bytes, Serve, str]] = {
    "h2c": (
        "heads",
        asks("heads", "Connection: Upgrade", "Upgrade: h2c"),
        switches("Connection: Upgrade", "Upgrade: h2c"),
        "nobody inspects",
    ),
    "tls": (
        "heads",
        asks("heads", "Connection: Upgrade", "Upgrade: TLS/1.0"),
        switches("Connection: Upgrade", "Upgrade: TLS/1.0"),
        "nobody inspects",
    ),
    "nobody-asked": (
        "heads",
        asks("heads") + UNSEEN,
        switches("Connection: Upgrade", "Upgrade: odd/1"),
        "did not ask",
    ),
    "without-connection": (
        "heads",
        asks("heads", "Upgrade: odd/1"),
        switches("Connection: Upgrade", "Upgrade: odd/1"),
        "did not ask",
    ),
    "http10": (
        "heads",
        asks("heads", "Connection: Upgrade", "Upgrade: odd/1", version="HTTP/1.0"),
        switches("Connection: Upgrade", "Upgrade: odd/1"),
        "HTTP/1.0",
    ),
    "another": (
        "heads",
        asks("heads", *ASKS),
        switches("Connection: Upgrade", "Upgrade: odd/1"),
        "another protocol",
    ),
    "before-the-end": (
        "heads",
        asks("heads", *ASKS, "Content-Length: 5"),
        switches(*TAKES, more=frame(0x81, b"hi")),
        "before the request has ended",
    ),
    "version-twice": (
        "heads",
        asks("heads", *ASKS, "Sec-WebSocket-Version: 13"),
        switches(*TAKES),
        "one version 13",
    ),
    "version-8": (
        "heads",
        asks("heads", *ASKS[:3], "Sec-WebSocket-Version: 8"),
        switches(*TAKES),
        "one version 13",
    ),
    "not-offered": ("sockets", asks("sockets", *ASKS), switches(*TAKES, DEFLATE), "not offered"),
    "unknown-extension": (
        "sockets",
        asks("sockets", *ASKS, "Sec-WebSocket-Extensions: x-own"),
        switches(*TAKES, "Sec-WebSocket-Extensions: x-own"),
        "not known here",
    ),
    "bad-window": (
        "sockets",
        asks("sockets", *ASKS, DEFLATE),
        switches(*TAKES, f"{DEFLATE}; server_max_window_bits=99"),
        "cannot be used",
    ),
    "bodies-are-inspected": (
        "bodies",
        asks("bodies", "Connection: Upgrade", "Upgrade: odd/1"),
        switches("Connection: Upgrade", "Upgrade: odd/1"),
        "cannot be inspected",
    ),
    "messages-are-inspected": (
        "sockets",
        asks("sockets", "Connection: Upgrade", "Upgrade: odd/1"),
        switches("Connection: Upgrade", "Upgrade: odd/1"),
        "cannot be inspected",
    ),
}


@pytest.mark.parametrize("shape", REFUSED)
def test_a_change_of_protocol_past_the_inspectors_is_refused(daemon: Daemon, server: Handled, shape: str) -> None:
    name, request, serve, why = REFUSED[shape]
    before = len(daemon.log("refused"))  # all of them: each test has waited for its own
    seen = talk(daemon, server, name, serve, request)
    assert seen.status == 502, seen
    assert b"error=http_upgrade_failed" in seen.client
    assert seen.client.count(b"HTTP/1.1 ") == 1
    assert b"unseen" not in b"".join(seen.servers)
    refused = wait_for("it in the log", lambda: daemon.log("refused")[before:])
    assert [entry["error"] for entry in refused] == ["http_upgrade_failed"]
    assert why in refused[0]["reason"]


def test_another_protocol_passes_where_inspectors_look_at_heads_alone(daemon: Daemon, server: Handled) -> None:
    def serve(pipe: Pipe) -> None:
        switches("Connection: upgrade", "Upgrade: ODD/1", more=b"\0hello")(pipe)

    def then(pipe: Pipe) -> None:
        until(pipe, b"\0hello")
        pipe.send(b"\0there")
        pipe.notify()
        pipe.half_close()

    way = Way("proxied", daemon.proxy, str(daemon.root))
    request = asks("heads", "Connection: keep-alive, Upgrade", "Upgrade: odd/1")
    seen = converse(way, "heads.example", server, serve, request, then)
    assert seen.status == 101
    assert seen.servers[0].endswith(b"\0there")


@pytest.mark.parametrize("fields", [(), (DEFLATE,)])
def test_a_websocket_is_inspected(daemon: Daemon, server: Handled, fields: tuple[str, ...]) -> None:
    def then(pipe: Pipe) -> None:
        until(pipe, b"\r\n\r\n")
        pipe.send(frame(0x81, b"hello", b"mask"))
        pipe.send(frame(0x88, b"\x03\xe8", b"mask"))

    way = Way("proxied", daemon.proxy, str(daemon.root))
    path = f"/seen{len(fields)}"
    seen = converse(
        way, "sockets.example", server, switches(*TAKES, *fields), asks("sockets", *ASKS, *fields, path=path), then
    )
    assert seen.status == 101
    assert daemon.wait_log("inspector says", message=f"message {path} b'hello'")
