"""WebSocket messages under way, and what they cost."""

from __future__ import annotations

from mitmproxy.options import Options
from mitmproxy.proxy.context import Context
from mitmproxy.test.tflow import twebsocketflow

from proxy.lanes.inspection.sockets import FRAGMENT, Sockets


def test_fragments_are_counted_empty_or_not_until_the_message_is_whole() -> None:
    flow = twebsocketflow()
    layer = Sockets(Context(flow.client_conn, Options()), flow, [])
    side = layer.client_ws
    assert layer.held == 0
    side.frame_buf[-1] += b"abc"
    assert layer.held == 3
    for _ in range(10):
        side.frame_buf.append(b"")
    side.frame_buf[-1] += b"de"
    assert layer.held == 5 + 10 * FRAGMENT
    assert b"".join(side.frame_buf) == b"abcde"
    side.frame_buf = [b""]
    assert layer.held == 0


def test_both_sides_have_what_was_agreed_on() -> None:
    flow = twebsocketflow()
    layer = Sockets(Context(flow.client_conn, Options()), flow, ["permessage-deflate; server_max_window_bits=10"])
    for side in (layer.client_ws, layer.server_ws):
        (extension,) = side._proto.extensions
        assert extension.enabled()
        assert extension.server_max_window_bits == 10
