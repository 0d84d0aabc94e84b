"""A WebSocket under inspection: mitmproxy's layer, with messages that cost what they are long, and a count of them.

mitmproxy's own copies all of a message for each piece of it that comes, and keeps a list of fragments without end.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import wsproto
from mitmproxy.http import HTTPFlow
from mitmproxy.proxy import events
from mitmproxy.proxy.context import Context
from mitmproxy.proxy.layers.websocket import WebsocketConnection, WebsocketLayer
from wsproto.extensions import Extension, PerMessageDeflate

from proxy.lanes.inspection.messages import Out

FRAGMENT: Final = 128
"""Bytes that a fragment of a message costs, empty or not."""


class _Fragments(list[bytearray]):
    """A message under way, by its frames. ``held`` is what it costs, in bytes."""

    __slots__ = ("_before",)

    def __init__(self) -> None:
        super().__init__((bytearray(),))
        self._before = 0

    def append(self, fragment: Any) -> None:
        """Another frame begins."""
        self._before += len(self[-1]) + FRAGMENT
        super().append(bytearray(fragment))

    @property
    def held(self) -> int:
        return self._before + len(self[-1])


class _Side(WebsocketConnection):
    """One side's frames."""

    def __setattr__(self, name: str, value: Any) -> None:
        # mitmproxy begins a message with a new list, and adds to its last element in place.
        super().__setattr__(name, _Fragments() if name == "frame_buf" else value)


class Sockets(WebsocketLayer):
    """To be made behind websocket_start. ``deflates``: see :func:`proxy.lanes.inspection.upgrades.deflates`."""

    client_ws: _Side
    server_ws: _Side

    def __init__(self, context: Context, flow: HTTPFlow, deflates: Sequence[str]) -> None:
        super().__init__(context, flow)
        self.client_ws = _Side(wsproto.ConnectionType.SERVER, _extensions(deflates), conn=context.client)
        self.server_ws = _Side(wsproto.ConnectionType.CLIENT, _extensions(deflates), conn=context.server)

    def start(self, event: events.Event) -> Out[None]:
        """The hook websocket_start was called before."""
        yield from ()
        self._handle_event = self.relay_messages  # type: ignore[method-assign]

    _handle_event = start

    @property
    def held(self) -> int:
        """Bytes of messages that are not whole yet."""
        return sum(side.frame_buf.held for side in (self.client_ws, self.server_ws))  # type: ignore[attr-defined]


def _extensions(deflates: Sequence[str]) -> list[Extension]:
    made: list[Extension] = []
    for parameters in deflates:
        one = PerMessageDeflate()
        one.finalize(parameters)
        made.append(one)
    return made
