"""A script for mitmdump in tests: names below ``.example`` lead to loopback, as the daemon can be told."""

from __future__ import annotations

from mitmproxy.proxy.server_hooks import ServerConnectionHookData


def server_connect(data: ServerConnectionHookData) -> None:
    """Replace the address before mitmproxy connects to it; its SNI stays."""
    host, *rest = data.server.address
    if host.rstrip(".").endswith(".example"):
        data.server.address = ("127.0.0.1", *rest)
