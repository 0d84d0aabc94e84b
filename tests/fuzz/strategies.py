"""What strangers may send, as hypothesis strategies: whole and right, nearly right, and nothing of the kind.

Right messages are put together from parts, so that what they say is known without parsing them. ``edited`` makes the
nearly right ones: most bugs of a parser lie one edit away from what it was written for.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

CLIENT, SERVER = "client", "server"
Stream = list[tuple[str, bytes]]
"""Pieces of bytes, and who sends them."""

# Splits and edits

CUTS = st.lists(st.integers(0, 4000), max_size=8)
"""Where bytes are cut; taken modulo their length."""


def cut(data: bytes, places: Sequence[int]) -> list[bytes]:
    """The bytes in pieces; none of them is empty."""
    at = sorted({0, len(data), *(place % (len(data) + 1) for place in places)})
    return [data[a:b] for a, b in pairwise(at)]


EDITS = st.lists(
    st.tuples(
        st.sampled_from(["set", "insert", "delete", "double", "end", "flip"]),
        st.integers(0, 4000),
        st.integers(0, 255),
    ),
    max_size=4,
)


def edit(data: bytes, edits: Sequence[tuple[str, int, int]]) -> bytes:
    """The bytes with small changes."""
    out = bytearray(data)
    for what, where, value in edits:
        if not out:
            break
        at = where % len(out)
        match what:
            case "set":
                out[at] = value
            case "insert":
                out.insert(at, value)
            case "delete":
                del out[at : at + 1 + value % 4]
            case "double":
                out[at:at] = out[at : at + 1 + value % 64]
            case "end":
                del out[len(out) - min(at, value) :]
            case _:
                out[at] ^= 1 << value % 8
    return bytes(out)


def edited(whole: SearchStrategy[bytes]) -> SearchStrategy[bytes]:
    """What ``whole`` gives, with up to four small changes."""
    return st.builds(edit, whole, EDITS)


# TLS: the ClientHello


def extension(kind: int, data: bytes) -> bytes:
    """RFC 8446 section 4.2."""
    return struct.pack(">HH", kind, len(data)) + data


def _name(name: bytes) -> bytes:
    return extension(0, struct.pack(">HBH", len(name) + 3, 0, len(name)) + name)


def _alpn(names: list[bytes]) -> bytes:
    joined = b"".join(bytes([len(name)]) + name for name in names)
    return extension(16, struct.pack(">H", len(joined)) + joined)


_X25519_SHARE = extension(51, b"\x00\x24\x00\x1d\x00\x20" + bytes(range(1, 33)))
_GROUPS = extension(10, b"\x00\x04\x00\x1d\x00\x17")
_ALGORITHMS = extension(13, b"\x00\x06\x04\x03\x08\x04\x04\x01")
EXTENSIONS = st.one_of(
    st.from_regex(rb"[a-zA-Z0-9.-]{1,30}", fullmatch=True).map(_name),
    st.binary(max_size=12).map(_name),
    st.lists(st.sampled_from([b"h2", b"http/1.1", b"x", b"\x0a\x0a"]), min_size=1, max_size=3).map(_alpn),
    st.sampled_from(
        [extension(43, b"\x04\x03\x04\x03\x03"), extension(43, b"\x02\x03\x04"), extension(43, b"\x02\x03\x03")]
    ),
    st.sampled_from([_X25519_SHARE, _GROUPS, _ALGORITHMS, extension(23, b""), extension(0xFF01, b"\0")]),
    st.builds(extension, st.integers(0, 60), st.binary(max_size=20)),
)


def hello_message(extensions: bytes | None, suites: bytes, session: bytes, version: int = 0x0303) -> bytes:
    """A handshake message (RFC 8446 section 4.1.2)."""
    body = struct.pack(">H", version) + bytes(range(32)) + bytes([len(session)]) + session
    body += struct.pack(">H", len(suites)) + suites + b"\x01\x00"
    if extensions is not None:
        body += struct.pack(">H", len(extensions)) + extensions
    return b"\x01" + len(body).to_bytes(3, "big") + body


HELLO_MESSAGES = st.builds(
    hello_message,
    st.one_of(
        st.none(),
        st.lists(EXTENSIONS, max_size=6).map(b"".join),
        st.lists(EXTENSIONS, max_size=3).map(
            lambda more: b"".join([_GROUPS, _ALGORITHMS, _X25519_SHARE, extension(43, b"\x04\x03\x04\x03\x03"), *more])
        ),
    ),
    st.sampled_from([b"\x13\x01", b"\x13\x01\xc0\x2b\xc0\x2f", b"\xc0\x2f", b"\x5a\x5a\x13\x02\xc0\x2b"]),
    st.binary(max_size=32),
    st.sampled_from([0x0303, 0x0303, 0x0301, 0x0304]),
)


def records(message: bytes, places: Sequence[int], version: int = 0x0301) -> bytes:
    """The message in records that are cut at these places (RFC 8446 section 5.1)."""
    return b"".join(b"\x16" + struct.pack(">HH", version, len(piece)) + piece for piece in cut(message, places))


# HTTP/1

HEAD_PARTS = st.sampled_from(
    [b"GET", b"CONNECT", b"POST", b" ", b"http://a/", b"a:443", b"[::1]:443", b"HTTP/1.1", b"HTTP/1.0",
     b"HTTP/2.0", b"\r\n",
     b"\r\n", b"\n", b"\r", b":", b"Host", b"Host: a\r\n", b"Content-Length: 0\r\n", b"Content-Length: 3\r\n", b"\t",
     b"Transfer-Encoding: chunked\r\n", b"Proxy-Authorization: Basic eDp5\r\n", b"x", b"\x00", b"\x80", b"\x7f",
     b"CONNECT a:443 HTTP/1.1\r\n", b"GET http://a/ HTTP/1.1\r\n", b"Upgrade: websocket\r\n",
     b"Connection: Upgrade\r\n"]
)  # fmt: skip
_TOKENS = st.from_regex(rb"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,12}", fullmatch=True)
_VALUES = st.from_regex(rb"([!-~]([ -~]{0,10}[!-~])?)?", fullmatch=True)


def _head(line: bytes, fields: list[tuple[bytes, bytes]]) -> bytes:
    return line + b"\r\n" + b"".join(name + b": " + value + b"\r\n" for name, value in fields) + b"\r\n"


CONNECT_HEADS = st.builds(
    _head,
    st.sampled_from(
        [b"CONNECT a.example:443 HTTP/1.1", b"CONNECT [2001:db8::1]:8443 HTTP/1.0", b"GET http://a/b?c HTTP/1.1"]
    ),
    st.lists(st.tuples(_TOKENS, _VALUES), max_size=4),
)
REQUEST_HEADS = st.one_of(
    CONNECT_HEADS,
    edited(CONNECT_HEADS),
    st.lists(HEAD_PARTS, max_size=14).map(b"".join),
    st.binary(max_size=200),
)


@dataclass(frozen=True)
class Turn:
    """A request and its answer, as known before anybody reads them."""

    method: str
    path: str
    status: int
    asked: bytes
    answered: bytes
    request_bytes: int
    response_bytes: int


def _chunked(body: bytes, sizes: list[int], trailers: bytes) -> bytes:
    out, at = b"", 0
    for size in sizes:
        piece = body[at : at + size]
        if not piece:
            break
        out += b"%x\r\n" % len(piece) + piece + b"\r\n"
        at += len(piece)
    rest = body[at:]
    if rest:
        out += b"%X;x=y\r\n" % len(rest) + rest + b"\r\n"
    return out + b"0\r\n" + trailers + b"\r\n"


@st.composite
def turns(draw: Any, host: str = "good.example") -> Turn:
    """A right exchange of HTTP/1.1 on a connection that stays open (RFC 9112)."""
    method = draw(st.sampled_from(["GET", "POST", "HEAD", "PUT", "DELETE", "OPTIONS"]))
    path = draw(st.from_regex(r"/[a-zA-Z0-9._~-]{0,8}", fullmatch=True))
    query = draw(st.sampled_from(["", "?a=b", "?"]))
    body = draw(st.binary(max_size=60))
    sizes = draw(st.lists(st.integers(1, 40), max_size=3))
    trailers = draw(st.sampled_from([b"", b"", b"X-Sum: 1\r\n"]))
    fields = f"Host: {host}\r\n".encode() + draw(
        st.sampled_from([b"", b"Accept: */*\r\n", b"X:\r\n", b"cookie: a=b\r\n"])
    )
    framing = draw(st.sampled_from(["none", "length", "chunked"]))
    asked = f"{method} {path}{query} HTTP/1.1\r\n".encode() + fields
    if framing == "none":
        asked += b"\r\n"
    elif framing == "length":
        asked += b"Content-Length: %d\r\n\r\n" % len(body) + body
    else:
        asked += b"Transfer-Encoding: chunked\r\n\r\n" + _chunked(body, sizes, trailers)
    sent = 0 if framing == "none" else len(body)
    status = draw(st.sampled_from([200, 200, 204, 304, 404, 500]))
    interim = draw(st.sampled_from([b"", b"", b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"]))
    said = draw(st.binary(max_size=80))
    answered = interim + b"HTTP/1.1 %d Reason\r\nServer: s\r\n" % status
    if status in (204, 304) or method == "HEAD":
        answered += draw(st.sampled_from([b"\r\n", b"Content-Length: 7\r\n\r\n"] if status != 204 else [b"\r\n"]))
        said = b""
    elif draw(st.booleans()):
        answered += b"Content-Length: %d\r\n\r\n" % len(said) + said
    else:
        answered += b"Transfer-Encoding: chunked\r\n\r\n" + _chunked(said, sizes, trailers)
    return Turn(method, path, status, asked, answered, sent, len(said))


HTTP1_PARTS = st.sampled_from(
    [b"GET / HTTP/1.1\r\nHost: good.example\r\n\r\n", b"GET / HTTP/1.1\r\n", b"POST /x HTTP/1.0\r\n",
     b"HEAD / HTTP/1.1\r\n",
     b"Host: good.example\r\n", b"Host: other.example\r\n", b"Host:a", b"A: b\r\n", b"Content-Length: 1\r\n",
     b"Content-Length: 2\r\n",
     b"Transfer-Encoding: chunked\r\n", b"Transfer-Encoding: gzip, chunked\r\n", b"Connection: close\r\n",
     b"Connection: keep-alive\r\n", b"Connection: Upgrade\r\nUpgrade: websocket\r\n", b"HTTP/1.1 200 OK\r\n",
     b"HTTP/1.1 204 N\r\n",
     b"HTTP/1.1 304 N\r\n", b"HTTP/1.1 100 C\r\n\r\n", b"HTTP/1.1 101 S\r\n", b"HTTP/1.0 200 OK\r\n", b"\r\n",
     b"\r\n", b"\n", b"\r",
     b" ", b"\t", b"\x0b", b"\xff", b"\x00", b"x", b"xy", b"1\r\nx\r\n", b"2;a=\"b\"\r\nxy\r\n", b"0\r\n",
     b"0\r\n\r\n", b":"]
)  # fmt: skip
HTTP1_STREAMS: SearchStrategy[Stream] = st.one_of(
    st.lists(st.tuples(st.sampled_from([CLIENT, SERVER]), HTTP1_PARTS), max_size=14),
    st.builds(
        lambda made, asked, answered: [
            (CLIENT, edit(b"".join(turn.asked for turn in made), asked)),
            (SERVER, edit(b"".join(turn.answered for turn in made), answered)),
        ],
        st.lists(turns(), max_size=3),
        EDITS,
        EDITS,
    ),
)

# HTTP/2


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """RFC 9113 section 4.1."""
    return struct.pack(">HBBBL", len(payload) >> 8, len(payload) & 255, kind, flags, stream) + payload


PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
# :method GET, :scheme https, :path /, :authority good.example (RFC 7541 sections 6.1 and 6.2)
REQUEST_BLOCK = b"\x82\x87\x84\x01\x0cgood.example"
OTHER_BLOCK = b"\x82\x87\x84\x01\x0dother.example"
ANSWER_BLOCK = b"\x88"
FRAMES = st.builds(
    frame,
    st.integers(0, 11),
    st.sampled_from([0, 1, 4, 5, 5, 8, 9, 0xC, 0x24, 0x2D]),
    st.sampled_from([0, 1, 1, 3, 2, 5]),
    st.one_of(
        st.sampled_from([REQUEST_BLOCK, OTHER_BLOCK, ANSWER_BLOCK, b"", bytes(4), bytes(5), bytes(6), bytes(8)]),
        st.binary(max_size=20),
        st.sampled_from(
            [b"\0\0\0\2" + REQUEST_BLOCK, b"\x02" + REQUEST_BLOCK + b"\0\0", b"\0\x03\0\0\0\1", b"\x3f\xe1\x1f\x88"]
        ),
    ),
)
HTTP2_STREAMS: SearchStrategy[Stream] = st.lists(
    st.tuples(st.sampled_from([CLIENT, SERVER]), st.one_of(FRAMES, FRAMES, st.binary(max_size=12))), max_size=20
).map(lambda stream: [(CLIENT, PREFACE + frame(4, 0, 0)), (SERVER, frame(4, 0, 0)), *stream])

STEPS = st.lists(
    st.tuples(
        st.sampled_from(
            ["ask", "upload", "end", "answer", "body", "finish", "reset", "refuse", "ping", "settings", "early"]
        ),
        st.integers(0, 5),
        st.binary(max_size=40),
    ),
    max_size=16,
)
"""What two peers of HTTP/2 do in turn: the step, which of the open streams, and bytes for it."""

# Ways in: SOCKS5 (RFC 1928, RFC 1929), and the PROXY protocol

_SHORT_TEXT = st.binary(max_size=255) | st.sampled_from(
    [b"good.example", b"192.0.2.1", b"[::1]", "bücher.example".encode()]
)


def _counted(text: bytes) -> bytes:
    return bytes((len(text),)) + text


_SOCKS_ADDRESS = st.one_of(
    st.binary(min_size=4, max_size=4).map(lambda address: b"\x01" + address),
    st.binary(min_size=16, max_size=16).map(lambda address: b"\x04" + address),
    _SHORT_TEXT.map(lambda name: b"\x03" + _counted(name)),
)
SOCKS5 = st.one_of(
    st.binary(max_size=255).map(lambda methods: b"\x05" + _counted(methods)),
    st.builds(lambda name, word: b"\x01" + _counted(name) + _counted(word), _SHORT_TEXT, _SHORT_TEXT),
    st.builds(
        lambda command, address, port: b"\x05" + bytes((command, 0)) + address + port,
        st.sampled_from([1, 1, 1, 2, 3]),
        _SOCKS_ADDRESS,
        st.binary(min_size=2, max_size=2),
    ),
)
"""A greeting, credentials or a request."""

_ADDRESS = st.ip_addresses().map(str)
_TLV = st.builds(
    lambda kind, data: struct.pack(">BH", kind, len(data)) + data, st.integers(0, 255), st.binary(max_size=40)
)
PROXY_HEADERS = st.one_of(
    st.builds(
        lambda family, ends, ports: " ".join(["PROXY", family, *ends, *ports]).encode() + b"\r\n",
        st.sampled_from(["TCP4", "TCP6", "UNKNOWN"]),
        st.tuples(_ADDRESS, _ADDRESS),
        st.tuples(*[st.integers(0, 65536).map(str)] * 2),
    ),
    st.builds(
        lambda command, kind, block, tlvs: (
            b"\r\n\r\n\0\r\nQUIT\n"
            + struct.pack(">BBH", command, kind, len(block + b"".join(tlvs)))
            + block
            + b"".join(tlvs)
        ),
        st.sampled_from([0x20, 0x21, 0x21]),
        st.sampled_from([0x00, 0x11, 0x21, 0x31]),
        st.sampled_from([0, 12, 36, 216]).flatmap(lambda size: st.binary(min_size=size, max_size=size)),
        st.lists(_TLV, max_size=4),
    ),
)
"""Of both versions; a block may be of another family than it says."""

# JSON

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)

# YAML

YAML_PARTS = st.sampled_from(
    [": ", "\n", "\n  ", "\n    - ", "- ", "{", "}", "[", "]", ", ", "&a ", "*a ", "!!int ", "!!map ", "!x ", "'",
     '"', "# ",
     "name", "bind", "mode", "127.0.0.1:1", "enabled", "true", "~", "1", "-1.5", ".nan", "1e999", "0o9",
     "2026-02-31", "<<",
     "? ", "|\n", ">-\n ", "---\n", "...\n", "%YAML 9.9\n", "%TAG ! x\n", "\\", "\t", "\x85", "\ufeff", "é",
     "limits:\n  ",
     "listeners:\n  - ", "inspection: ", "addons: ", "trust: ", "workers: ", "egress: ", "state_dir: "]
)  # fmt: skip
