"""A flow as a record of mitmproxy's dump format, with bodies of bounded size."""

from __future__ import annotations

from typing import Any

from mitmproxy import http
from mitmproxy.io import tnetstring


def record_of(flow: http.HTTPFlow, body_limit: int) -> bytes:
    """What mitmproxy.io.FlowWriter writes of the flow, but for what is longer than ``body_limit`` bytes.

    Of a longer body, and of the messages of a WebSocket together, that much is kept; the flow's comment then says so,
    and how long it was. Raises ValueError or TypeError for metadata of another addon that the format cannot hold.
    """
    state: dict[str, Any] = flow.get_state()
    notes = [note for side in ("request", "response") if (note := _shorten(state, side, body_limit))]
    if state.get("websocket") is not None:
        notes += _shorten_messages(state["websocket"], body_limit)
    if notes:
        state["comment"] = "; ".join(filter(None, (state.get("comment"), *notes)))
    state["backup"] = None  # a second copy, of the flow before somebody edited it by hand
    return tnetstring.dumps(state)


def _shorten(state: dict[str, Any], side: str, limit: int) -> str | None:
    message = state.get(side)
    if message is None:
        return None
    content: bytes | None = message["content"]
    if content is None:
        return f"archive: the {side}'s body was streamed and not kept"
    if len(content) <= limit:
        return None
    state[side] = {**message, "content": content[:limit]}
    return f"archive: {limit} of {len(content)} bytes of the {side}'s body were kept"


def _shorten_messages(websocket: dict[str, Any], limit: int) -> list[str]:
    messages: list[tuple[Any, ...]] = websocket["messages"]
    kept: list[tuple[Any, ...]] = []
    for message in messages:
        limit -= len(message[2])
        if limit < 0:
            websocket["messages"] = kept
            return [f"archive: {len(kept)} of {len(messages)} WebSocket messages were kept"]
        kept.append(message)
    return []
