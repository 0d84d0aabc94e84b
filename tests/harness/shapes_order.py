"""Shapes of HTTP/1 exchanges in time: interim responses, early answers, connections that are kept, pipelines."""

from __future__ import annotations

from collections.abc import Sequence

from tests.harness.shapes import (
    Await,
    Finish,
    Hear,
    HearEnd,
    Say,
    Shape,
    Signal,
    Step,
    chunked,
    exchange,
    get,
    head,
    ok,
)
from tests.harness.shapes_framing import CHUNKED, POST_CHUNKED
from tests.harness.shapes_http1 import KIB, noise


def interim() -> list[Shape]:
    """1xx (RFC 9110 section 15.2): each reaches the client before the origin says anything more."""
    early = head("HTTP/1.1 103 Early Hints", "Link: </a.css>; rel=preload", "Link: </b.js>; rel=preload")
    more: dict[str, Sequence[bytes]] = {
        "102": (head("HTTP/1.1 102 Processing"),),
        "103": (early,),
        "199": (head("HTTP/1.1 199 Odd", "X-A: b"),),
        "several": (head("HTTP/1.1 102 Processing"), early, head("HTTP/1.1 103 Early Hints", "Link: </c.png>")),
        "unasked-100": (head("HTTP/1.1 100 Continue"),),
    }
    waited = [
        Shape(
            f"interim-{name}",
            client=(Say((get("/i"),)), Hear(interim=len(heads)), Signal("told"), Hear(messages=1), Finish()),
            origin=(Hear(messages=1), Say(tuple(heads)), Await("told"), Say((ok(b"final"),)), HearEnd(), Finish()),
        )
        for name, heads in more.items()
    ]
    expecting = get("/e", "Content-Length: 5", "Expect: 100-continue", method="POST")
    final = head("HTTP/1.1 417 Expectation Failed", "Content-Length: 2", "Connection: close") + b"no"
    return [
        *waited,
        exchange("interim-together", get("/i"), head("HTTP/1.1 100 Continue") + early + ok(b"final")),
        Shape("expect-continue",
              client=(Say((expecting,)), Hear(interim=1), Say((b"hello",)), Hear(messages=1), Finish()),
              origin=(Hear(heads=1), Say((head("HTTP/1.1 100 Continue"),)), Hear(messages=1), Say((ok(b"done"),)),
                      HearEnd(), Finish()), methods=(b"POST",)),
        Shape("expect-continue-chunked",
              client=(Say((get("/e", "Transfer-Encoding: chunked", "Expect: 100-Continue", method="PUT"),)),
                      Hear(interim=1), Say((chunked(b"hello"),)), Hear(messages=1), Finish()),
              origin=(Hear(heads=1), Say((head("HTTP/1.1 100 Continue", "X-A: b"),)), Hear(messages=1),
                      Say((ok(b"done"),)), HearEnd(), Finish()), methods=(b"PUT",)),
        Shape("expect-refused",
              client=(Say((expecting,)), Hear(messages=1), Finish()),
              origin=(Hear(heads=1), Say((final,)), HearEnd(), Finish()), methods=(b"POST",)),
        exchange("expect-without-waiting", expecting + b"hello", head("HTTP/1.1 100 Continue") + ok(b"done"),
                 method=b"POST"),
        exchange("expect-ignored", expecting + b"hello", ok(b"done"), method=b"POST"),
    ]  # fmt: skip


def order() -> list[Shape]:
    """Answers before the request has ended, and both ways at once."""
    upload = get("/o", "Content-Length: 10", method="POST")
    return [
        Shape("early-answer-then-the-rest",
              client=(Say((upload + b"first",)), Hear(messages=1), Say((b"-rest",)), Signal("sent"), Finish()),
              origin=(Hear(heads=1), Say((ok(b"early"),)), Await("sent"), Hear(messages=1), HearEnd(), Finish()),
              methods=(b"POST",)),
        Shape("early-answer-then-next-request",
              client=(Say((upload + b"first",)), Hear(messages=1), Say((b"-rest" + get("/next"),)), Hear(messages=2),
                      Finish()),
              origin=(Hear(heads=1), Say((ok(b"early"),)), Hear(messages=2), Say((ok(b"second"),)), HearEnd(),
                      Finish()),
              methods=(b"POST", b"GET")),
        Shape("early-answer-chunked",
              client=(Say((upload + b"first",)), Hear(messages=1), Say((b"-rest",)), Signal("sent"), Finish()),
              origin=(Hear(heads=1), Say((CHUNKED + chunked(b"early"),)), Await("sent"), Hear(messages=1), HearEnd(),
                      Finish()),
              methods=(b"POST",)),
        Shape("early-answer-and-close",
              client=(Say((upload + b"first",)), HearEnd(), Finish()),
              origin=(Hear(heads=1, body=5), Say((ok(b"too large", "Connection: close", line="HTTP/1.1 413 Large"),)),
                      Finish()),
              methods=(b"POST",)),
        Shape("echo-while-uploading",
              client=(Say((POST_CHUNKED + b"3\r\none\r\n",)), Hear(body=3), Say((b"3\r\ntwo\r\n",)), Hear(body=6),
                      Say((b"0\r\n\r\n",)), Hear(messages=1), Finish()),
              origin=(Hear(body=3), Say((CHUNKED + b"3\r\neno\r\n",)), Hear(body=6), Say((b"3\r\nowt\r\n",)),
                      Hear(messages=1), Say((b"0\r\n\r\n",)), HearEnd(), Finish()), methods=(b"POST",)),
        Shape("events-one-by-one",
              client=(Say((get("/events"),)), *_each("heard", (7, 14, 21)), Hear(messages=1), Finish()),
              origin=(Hear(messages=1), Say((CHUNKED,)), *_sent((b"7\r\ndata: 1\r\n", b"7\r\ndata: 2\r\n",
                                                                 b"7\r\ndata: 3\r\n")),
                      Say((b"0\r\n\r\n",)), HearEnd(), Finish())),
        Shape("head-then-body-later",
              client=(Say((get("/late"),)), Hear(heads=1), Signal("head"), Hear(messages=1), Finish()),
              origin=(Hear(messages=1), Say((head("HTTP/1.1 200 OK", "Content-Length: 4"),)), Await("head"),
                      Say((b"late",)),
                      HearEnd(), Finish())),
        Shape("upload-part-by-part",
              client=(Say((upload,)), Signal("0"), Await("1"), Say((b"12345",)), Await("2"), Say((b"67890",)),
                      Hear(messages=1), Finish()),
              origin=(Hear(heads=1), Signal("1"), Hear(body=5), Signal("2"), Hear(messages=1), Say((ok(b"done"),)),
                      HearEnd(), Finish()), methods=(b"POST",)),
        Shape("client-half-closes",
              client=(Say((get("/half"),)), Finish("half"), HearEnd()),
              origin=(Hear(messages=1), HearEnd(), Say((ok(b"still answered"),)), Finish())),
        Shape("client-aborts-an-upload",
              client=(Say((upload + b"first",)), Await("got"), Finish("reset")),
              origin=(Hear(heads=1, body=5), Signal("got"), HearEnd(), Finish()), methods=(b"POST",), cut=True),
        Shape("client-aborts-a-download",
              client=(Say((get("/big"),)), Hear(body=1), Finish("reset")),
              origin=(Hear(messages=1), Say((ok(noise(32 * KIB)),), lossy=True), HearEnd(), Finish()), cut=True),
        Shape("no-answer-at-all",
              client=(Say((get("/none"),)), HearEnd(), Finish()),
              origin=(Hear(messages=1), Finish()), cut=True),
        Shape("half-a-head",
              client=(Say((get("/none"),)), HearEnd(), Finish()),
              origin=(Hear(messages=1), Say((b"HTTP/1.1 200 OK\r\nContent-Le",)), Finish()), cut=True),
    ]  # fmt: skip


def _each(name: str, sizes: Sequence[int]) -> list[Step]:
    return [step for size in sizes for step in (Hear(body=size), Signal(f"{name}-{size}"))]


def _sent(parts: Sequence[bytes]) -> list[Step]:
    return [step for n, part in enumerate(parts, 1) for step in (Say((part,)), Await(f"heard-{7 * n}"))]


def kept() -> list[Shape]:
    """Several exchanges on one connection, one after the other and pipelined (RFC 9112 section 9.3)."""
    kinds: list[tuple[bytes, bytes, bytes]] = [
        (b"GET", get("/1"), ok(b"one")),
        (b"HEAD", get("/2", method="HEAD"), head("HTTP/1.1 200 OK", "Content-Length: 99")),
        (b"POST", get("/3", "Content-Length: 3", method="POST") + b"abc", CHUNKED + chunked(b"three")),
        (b"PUT", POST_CHUNKED.replace(b"POST", b"PUT", 1) + chunked(b"x", b"yz"), head("HTTP/1.1 204 No Content")),
        (b"GET", get("/5", 'If-None-Match: "x"'), head("HTTP/1.1 304 Not Modified", "Content-Length: 5")),
    ]
    found: list[Shape] = []
    for count in (2, 5, 20):
        turns = [kinds[n % len(kinds)] for n in range(count)]
        asked, answered = [turn[1] for turn in turns], [turn[2] for turn in turns]
        used = tuple(turn[0] for turn in turns)
        talk = [(Say((data,)), Hear(messages=n)) for n, data in enumerate(asked, 1)]
        serve = [(Hear(messages=n), Say((data,))) for n, data in enumerate(answered, 1)]
        one_by_one = tuple(step for pair in serve for step in pair)
        found += [
            Shape(f"kept-{count}", client=(*[step for pair in talk for step in pair], Finish()),
                  origin=(*one_by_one, HearEnd(), Finish()), methods=used),
            Shape(f"pipelined-{count}", client=(Say((b"".join(asked),)), Hear(messages=count), Finish()),
                  origin=(*one_by_one, HearEnd(), Finish()), methods=used),
            Shape(f"pipelined-{count}-in-records", client=(Say(tuple(asked)), Hear(messages=count), Finish()),
                  origin=(*one_by_one, HearEnd(), Finish()), methods=used),
        ]  # fmt: skip
    alive = head("HTTP/1.0 200 OK", "Content-Length: 3", "Connection: keep-alive") + b"one"
    two = (Hear(messages=1), Say((alive,)), Hear(messages=2), Say((ok(b"two", line="HTTP/1.0 200 OK"),)), Finish())
    return [
        *found,
        *[Shape(f"kept-1.0-{word}",
                client=(Say((get("/1", f"Connection: {word}", version="1.0"),)), Hear(messages=1),
                        Say((get("/2", version="1.0"),)), Hear(messages=2), HearEnd(), Finish()),
                origin=two, methods=(b"GET", b"GET")) for word in ("keep-alive", "Keep-Alive")],
        *[Shape(f"client-says-{word}",
                client=(Say((get("/1", f"Connection: {word}"),)), Hear(messages=1), HearEnd(), Finish()),
                origin=(Hear(messages=1), Say((ok(b"one"),)), Finish())) for word in ("close", "Close", "close, x")],
        Shape("empty-lines-before-requests",
              client=(Say((b"\r\n" + get("/1"),)), Hear(messages=1), Say((b"\r\n\r\n" + get("/2"),)), Hear(messages=2),
                      Finish()),
              origin=(Hear(messages=1), Say((ok(b"one"),)), Hear(messages=2), Say((ok(b"two"),)), HearEnd(), Finish()),
              methods=(b"GET", b"GET")),
        Shape("empty-line-behind-a-body",
              client=(Say((get("/1", "Content-Length: 3", method="POST") + b"abc\r\n",)), Hear(messages=1),
                      Say((get("/2"),)), Hear(messages=2), Finish()),
              origin=(Hear(messages=1), Say((ok(b"one"),)), Hear(messages=2), Say((ok(b"two"),)), HearEnd(), Finish()),
              methods=(b"POST", b"GET")),
        Shape("304-chunked-then-another",
              client=(Say((get("/1"),)), Hear(messages=1), Say((get("/2"),)), Hear(messages=2), Finish()),
              origin=(Hear(messages=1), Say((head("HTTP/1.1 304 Not Modified", "Transfer-Encoding: chunked"),)),
                      Hear(messages=2), Say((ok(b"two"),)), HearEnd(), Finish()), methods=(b"GET", b"GET")),
        Shape("idle-then-the-origin-closes",
              client=(Say((get("/1"),)), Hear(messages=1), Signal("idle"), HearEnd(), Finish()),
              origin=(Hear(messages=1), Say((ok(b"one"),)), Await("idle"), Finish())),
    ]  # fmt: skip


def shapes() -> list[Shape]:
    """All of these."""
    return [*interim(), *order(), *kept()]
