"""Shapes of HTTP/1 connections that become another protocol's, WebSocket among them."""

from __future__ import annotations

from tests.harness.shapes import (
    HOST,
    Finish,
    Hear,
    HearEnd,
    Say,
    Shape,
    Step,
    Switch,
    exchange,
    get,
    head,
    ok,
)
from tests.harness.shapes_http1 import MIB, noise


def upgrades() -> list[Shape]:
    """101 (RFC 9110 section 7.8): from there on the bytes are another protocol's."""
    asks = get("/up", "Connection: Upgrade", "Upgrade: odd/1")
    switching = head("HTTP/1.1 101 Switching Protocols", "Connection: Upgrade", "Upgrade: odd/1")
    end: tuple[Step, ...] = (HearEnd(), Finish())
    return [
        Shape("upgrade-bytes",
              client=(Say((asks,)), Hear(interim=1), Say((b"\x00ping",)), Hear(raw=5), Finish()),
              origin=(Hear(messages=1), Switch(), Say((switching,)), Hear(raw=5), Say((b"\xffpong",)), *end)),
        Shape("upgrade-the-origin-speaks-first",
              client=(Say((asks,)), Hear(raw=5), Say((b"hello",)), Hear(raw=8), Finish()),
              origin=(Hear(messages=1), Switch(), Say((switching + b"first",)), Hear(raw=5), Say((b"bye",)), *end)),
        Shape("upgrade-line-ends-first",
              client=(Say((asks,)), Hear(raw=6), Say((b"\n\r\n12",)), Hear(raw=9), Finish()),
              origin=(Hear(messages=1), Switch(), Say((switching + b"\r\n\r\nab",)), Hear(raw=5), Say((b"bye",)),
                      *end)),
        Shape("upgrade-large",
              client=(Say((asks,)), Hear(interim=1), Say((noise(MIB),)), Hear(raw=MIB), Finish()),
              origin=(Hear(messages=1), Switch(), Say((switching,)), Hear(raw=MIB), Say((noise(MIB),)), *end)),
        Shape("upgrade-the-origin-ends",
              client=(Say((asks,)), Hear(raw=3), HearEnd(), Finish()),
              origin=(Hear(messages=1), Switch(), Say((switching + b"bye",)), Finish())),
        Shape("upgrade-the-client-half-closes",
              client=(Say((asks,)), Hear(interim=1), Say((b"last",)), Finish("half"), HearEnd()),
              origin=(Hear(messages=1), Switch(), Say((switching,)), Hear(raw=4), HearEnd(), Say((b"after",)),
                      Finish())),
        Shape("upgrade-refused",
              client=(Say((asks,)), Hear(messages=1), Say((get("/next"),)), Hear(messages=2), Finish()),
              origin=(Hear(messages=1), Say((ok(b"no"),)), Hear(messages=2), Say((ok(b"two"),)), *end),
              methods=(b"GET", b"GET")),
        exchange("upgrade-426", get("/up"), ok(b"", "Upgrade: odd/1", "Connection: Upgrade",
                 line="HTTP/1.1 426 Upgrade Required")),
        *websockets(),
    ]  # fmt: skip


def websockets() -> list[Shape]:
    """RFC 6455, frame by frame."""
    key, accept = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
    text, binary = frame(0x81, b"hello", b"mask"), frame(0x82, noise(70_000), b"\1\2\3\4")
    echo: dict[str, tuple[bytes, bytes, str]] = {
        "text": (text, frame(0x81, b"hello"), ""),
        "binary-large": (binary, frame(0x82, noise(70_000)), ""),
        "fragments": (frame(0x01, b"he", b"mask") + frame(0x00, b"ll", b"ksam") + frame(0x80, b"o", b"mask"),
                      frame(0x01, b"he") + frame(0x80, b"llo"), ""),
        "ping-pong": (frame(0x89, b"p", b"mask") + text, frame(0x8A, b"p") + frame(0x89, b"") + frame(0x81, b"x"), ""),
        "control-between-fragments": (frame(0x01, b"he", b"mask") + frame(0x89, b"",
                                                                          b"mask") + frame(0x80, b"y", b"mask"),
                                      frame(0x81, b"hey"), ""),
        "deflate": (frame(0xC1, bytes.fromhex("f248cdc9c90700"), b"mask"), frame(0xC1, bytes.fromhex("f248cdc9c90700")),
                    "Sec-WebSocket-Extensions: permessage-deflate"),
        "empty": (frame(0x81, b"", b"mask"), frame(0x81, b""), ""),
        "close": (frame(0x88, b"\x03\xe8bye", b"mask"), frame(0x88, b"\x03\xe8bye"), ""),
    }  # fmt: skip
    found: list[Shape] = []
    for name, (there, back, extension) in echo.items():
        more = [extension] if extension else []
        asks = head("GET /ws HTTP/1.1", f"Host: {HOST}", "Upgrade: websocket", "Connection: Upgrade", key,
                    "Sec-WebSocket-Version: 13", *more)  # fmt: skip
        takes = head("HTTP/1.1 101 Switching Protocols", "Upgrade: websocket", "Connection: Upgrade", accept, *more)
        found.append(
            Shape(
                f"websocket-{name}",
                client=(Say((asks,)), Hear(interim=1), Say((there,)), Hear(raw=len(back)), Finish()),
                origin=(
                    Hear(messages=1),
                    Switch(),
                    Say((takes,)),
                    Hear(raw=len(there)),
                    Say((back,)),
                    HearEnd(),
                    Finish(),
                ),
            )
        )
    return found


def frame(first: int, payload: bytes, mask: bytes = b"") -> bytes:
    """A WebSocket frame (RFC 6455 section 5.2); ``first`` is FIN, RSV and opcode."""
    size, masked = len(payload), 0x80 if mask else 0
    if size < 126:
        length = bytes([masked | size])
    elif size < 65536:
        length = bytes([masked | 126]) + size.to_bytes(2)
    else:
        length = bytes([masked | 127]) + size.to_bytes(8)
    data = bytes(byte ^ mask[n % 4] for n, byte in enumerate(payload)) if mask else payload
    return bytes([first]) + length + mask + data


def shapes() -> list[Shape]:
    """All of these."""
    return upgrades()
