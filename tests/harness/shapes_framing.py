"""Shapes of HTTP/1 framing: chunks, trailers, bodies that the connection ends, and ends in the middle."""

from __future__ import annotations

from tests.harness.shapes import (
    Await,
    Finish,
    Hear,
    HearEnd,
    Say,
    Shape,
    Signal,
    chunked,
    closing,
    exchange,
    get,
    head,
    ok,
)
from tests.harness.shapes_http1 import KIB, MIB, noise

CHUNKED = head("HTTP/1.1 200 OK", "Transfer-Encoding: chunked")
TRAILED = head("HTTP/1.1 200 OK", "Transfer-Encoding: chunked", "Trailer: X-Sum, X-More")
POST_CHUNKED = get("/c", "Transfer-Encoding: chunked", method="POST")

_CHUNKS: dict[str, bytes] = {
    "one": chunked(b"hello"),
    "empty": chunked(),
    "bytes": chunked(*[bytes([byte]) for byte in b"fifty single bytes, each in a chunk of its own!!"]),
    "64-kib": chunked(*[noise(64 * KIB)] * 4),
    "uneven": chunked(*[noise(size) for size in (1, 999, 3, 16_384, 16_385, 7, 100_000, 2)]),
    "extension": chunked(b"hello", b"world", extension=b";name=value"),
    "extension-quoted": chunked(b"hello", extension=b';a="b;c \\" d";e'),
    "extension-bare": chunked(b"hello", extension=b";x"),
    "upper-case": b"0000A\r\n0123456789\r\nB\r\n01234567890\r\n000\r\n\r\n",
    "leading-zeros": b"000000005\r\nhello\r\n00000\r\n\r\n",
    "large": chunked(noise(3 * MIB)),
    "many": chunked(*[noise(1000)] * 2000),
    "crlf-inside": chunked(b"\r\n0\r\n\r\n", b"\r", b"\n", b"0\r\n\r\n"),
    "trailer": chunked(b"hello", trailers=("X-Sum: 1",)),
    "trailers": chunked(b"hello", trailers=("X-Sum: 1", "x-sum: 2", "X-More: caf\xe9", "X-Empty:")),
    "trailers-alone": chunked(trailers=("X-Sum: 0",)),
    "trailers-long": chunked(b"hello", trailers=tuple(f"X-{n}: {'v' * 100}" for n in range(80))),
}


def split(data: bytes, *sizes: int) -> tuple[bytes, ...]:
    """Pieces of these sizes, and the rest."""
    found: list[bytes] = []
    for size in sizes:
        found.append(data[:size])
        data = data[size:]
    return (*found, data) if data else tuple(found)


def chunks() -> list[Shape]:
    """RFC 9112 section 7.1, both ways, and however the records are cut."""
    down = [exchange(f"chunked-down-{name}", get("/c"), TRAILED + body) for name, body in _CHUNKS.items()]
    up = [exchange(f"chunked-up-{name}", POST_CHUNKED + body, ok(b"done")) for name, body in _CHUNKS.items()]
    body = chunked(b"hello", b"wonderful world", trailers=("X-Sum: 1",))
    single = tuple(bytes([byte]) for byte in body)
    return [
        *down,
        *up,
        exchange("chunked-down-byte-records", get("/c"), (CHUNKED, *single)),
        exchange("chunked-up-byte-records", (POST_CHUNKED, *single), ok(b"done")),
        exchange("chunked-down-cut-in-sizes", get("/c"), split(CHUNKED + chunked(noise(300)), len(CHUNKED) + 1, 1, 1,
                                                               1)),
        exchange("chunked-down-cut-in-ends", get("/c"), split(CHUNKED + chunked(b"ab"), len(CHUNKED) + 5, 1, 1, 1, 1,
                                                              1)),
        exchange("chunked-down-gzip", get("/c"), head("HTTP/1.1 200 OK", "Transfer-Encoding: chunked",
                 "Content-Encoding: gzip") + chunked(noise(700), noise(30))),
        exchange("transfer-coding-gzip", get("/c", "TE: gzip", "Connection: TE"),
                 head("HTTP/1.1 200 OK", "Transfer-Encoding: gzip, chunked") + chunked(noise(500))),
        exchange("chunked-both-ways", POST_CHUNKED + chunked(noise(5000)), CHUNKED + chunked(noise(6000), noise(1))),
        Shape("chunked-split-tcp-writes",
              client=(Say((POST_CHUNKED + body,), writes=(3, 21, 22, 90, 160, 161)), Hear(messages=1), Finish()),
              origin=(Hear(messages=1), Say((CHUNKED + body,), writes=(5, 6, 7, 50, 80)), HearEnd(), Finish()),
              methods=(b"POST",)),
    ]  # fmt: skip


def until_close() -> list[Shape]:
    """Bodies that the end of the connection ends (RFC 9112 section 6.3, 8), and ends that are none."""
    http10 = head("HTTP/1.0 200 OK", "Content-Type: text/plain")
    http11 = head("HTTP/1.1 200 OK", "Connection: close")
    sized = head("HTTP/1.1 200 OK", "Content-Length: 100")
    return [
        closing("until-close-1.0", get("/u"), http10 + b"up to the end"),
        closing("until-close-1.1", get("/u"), http11 + b"up to the end"),
        closing("until-close-no-connection-field", get("/u"), head("HTTP/1.1 200 OK", "X-A: b") + b"up to the end"),
        closing("until-close-empty", get("/u"), http11),
        closing("until-close-large", get("/u"), http11 + noise(2 * MIB)),
        closing("until-close-1.0-request", get("/u", version="1.0"), http10 + b"old"),
        closing("until-close-1.0-without-host", head("GET /u HTTP/1.0"), http10 + b"old"),
        closing("until-close-transfer-coding", get("/u"), head("HTTP/1.1 200 OK",
                                                               "Transfer-Encoding: gzip") + noise(90)),
        closing("until-close-looks-chunked", get("/u"), http11 + b"5\r\nhello\r\n0\r\n\r\n"),
        closing("sized-then-close", get("/u"), ok(b"whole", "Connection: close")),
        closing("sized-then-close-capital", get("/u"), ok(b"whole", "Connection: Close")),
        closing("sized-then-close-unsaid", get("/u"), ok(b"whole")),
        closing("chunked-then-close", get("/u"), head("HTTP/1.1 200 OK", "Transfer-Encoding: chunked",
                "Connection: close") + chunked(b"whole")),
        closing("204-then-close", get("/u"), head("HTTP/1.1 204 No Content", "Connection: close")),
        closing("sized-1.0", get("/u", version="1.0"), ok(b"whole", line="HTTP/1.0 200 OK")),
        *[cut(f"until-close-{how}", http11 + b"the first half", body=14, how=how) for how in ("cut", "reset")],
        *[cut(f"sized-{how}", sized + b"the first half", body=14, how=how) for how in ("notify", "cut", "reset")],
        *[cut(f"chunked-{how}", CHUNKED + b"e\r\nthe first half\r\n", body=14, how=how)
          for how in ("notify", "cut", "reset")],
        cut("chunked-cut-in-a-chunk", CHUNKED + b"ff\r\nthe first half", body=14, how="cut"),
        cut("chunked-without-last", CHUNKED + b"e\r\nthe first half\r\n0\r\n", body=14, how="notify"),
    ]  # fmt: skip


def cut(name: str, response: bytes, *, body: int, how: str) -> Shape:
    """The origin ends in the middle, once the client has so much of the body."""
    ends = {"notify": Finish("notify"), "cut": Finish("cut"), "reset": Finish("reset")}
    return Shape(
        name,
        client=(Say((get("/cut"),)), Hear(body=body), Signal("half"), HearEnd(), Finish()),
        origin=(Hear(messages=1), Say((response,)), Await("half"), ends[how]),
        cut=True,
    )


def shapes() -> list[Shape]:
    """All of these."""
    return [*chunks(), *until_close()]
