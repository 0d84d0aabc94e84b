"""Shapes of HTTP/2 exchanges."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

from tests.harness.shapes import HOST, Await, Finish, HearEnd, Signal
from tests.harness.shapes_http1 import MIB, noise
from tests.harness.shapes_http2_end import Body, Frame, Goaway, Head, Odd, Ping, Priority, Reset, Window
from tests.harness.shapes_http2_script import (
    Heard,
    HearSettings,
    Send,
    Shape2,
    answers,
    asks,
    exchange2,
    page,
)

TABLE, STREAMS, INITIAL, FRAME, EXTENDED = 1, 3, 4, 5, 8
NO_ERROR, PROTOCOL, INTERNAL, REFUSED, CANCEL, CALM, HTTP11 = 0, 1, 2, 7, 8, 11, 13
END: tuple[HearEnd, Finish] = (HearEnd(), Finish())


def messages() -> list[Shape2]:
    """Methods, statuses, fields."""
    fields: dict[str, tuple[tuple[str, str], ...]] = {
        "many": tuple((f"x-field-{n}", f"value {n}") for n in range(100)),
        "long": (("x-long", "v" * 15_000),),
        "longer-than-a-frame": (("x-long", "v" * 40_000),),
        "empty-value": (("x-empty", ""),),
        "repeated": (("x-a", "1"), ("x-b", "2"), ("x-a", "3"), ("x-a", "1")),
        "obs-text": (("x-latin", "caf\xe9 \xff\x80"),),
        "cookie-crumbs": (("cookie", "a=1"), ("cookie", "b=2"), ("cookie", "c=3")),
        "te": (("te", "trailers"),),
        "tchars": (("!#$%&'*+-.^_`|~0123456789abc", "odd name"),),
        "inside-blanks": (("x-tab", "a\tb  c"),),
        "conditional": (("if-none-match", '"a", W/"b"'), ("range", "bytes=0-1,5-")),
    }
    requests = [
        exchange2(f"h2-request-fields-{name}", (replace(asks("/", *more), huffman=name[:4] != "long"),), page("/"))
        for name, more in fields.items()
    ]
    responses = [
        exchange2(
            f"h2-response-fields-{name}",
            (asks("/"),),
            (replace(answers("/", *more), huffman=name[:4] != "long"), Body("/", b"done", end=True)),
        )
        for name, more in fields.items()
    ]
    methods = [exchange2(f"h2-method-{m.lower()}", (asks("/", method=m),), page("/"))
               for m in ("DELETE", "OPTIONS", "PATCH", "PROPFIND", "PURGE", "QUERY")]  # fmt: skip
    statuses = [
        exchange2(f"h2-status-{code}", (asks("/"),), (answers("/", ("x-a", "b"), status=code, end=True),))
        for code in (204, 205, 304, 307, 404, 421, 500, 599)
    ]
    host = Head("/", ((":method", "GET"), (":scheme", "https"), (":path", "/"), ("host", HOST)), end=True)
    secret = Head("/", (*asks("/").fields, ("x-token", "secret")), end=True, never=True)
    order = Head("/", ((":path", "/"), (":authority", HOST), (":method", "GET"), (":scheme", "https")), end=True)
    return [
        *requests,
        *responses,
        *methods,
        *statuses,
        exchange2("h2-set-cookie-many", (asks("/"),),
                  (answers("/", *[("set-cookie", f"c{n}=v") for n in range(12)], end=True),)),
        exchange2("h2-head", (asks("/", method="HEAD"),), (answers("/", ("content-length", "1234"), end=True),)),
        exchange2("h2-304-with-length", (asks("/"),), (answers("/", ("content-length", "9"), status=304, end=True),)),
        exchange2("h2-options-asterisk", (asks("*", method="OPTIONS"),), page("*"), path="*"),
        exchange2("h2-long-path", (asks("/" + "x" * 8000),), page("/" + "x" * 8000), path="/" + "x" * 8000),
        exchange2("h2-odd-path", (asks("/a?b=%00{}|^"),), page("/a?b=%00{}|^"), path="/a?b=%00{}|^"),
        exchange2("h2-host-for-authority", (host,), page("/")),
        exchange2("h2-pseudo-order", (order,), page("/")),
        exchange2("h2-never-indexed", (secret,), page("/")),
        exchange2("h2-no-huffman", (Head("/", asks("/").fields, end=True, huffman=False),), page("/")),
    ]  # fmt: skip


def bodies() -> list[Shape2]:
    """DATA of all sizes, both ways."""
    sizes = (0, 1, 16_384, 16_385, 65_535, 65_536, MIB + 1)
    down = [exchange2(f"h2-down-{size}", (asks("/"),), page("/", noise(size))) for size in sizes]
    up = [
        exchange2(f"h2-up-{size}", (asks("/", ("content-length", str(size)), method="PUT", end=False),
                                    Body("/", noise(size), end=True)), page("/"))
        for size in sizes
    ]  # fmt: skip
    post = asks("/", method="POST", end=False)
    bare = (Body("/"), Body("/", b"a"), Body("/"), Body("/", b"b"), Body("/", end=True))
    single = tuple(Body("/", bytes([byte])) for byte in b"one byte each")
    sized = answers("/", ("content-length", "4"))
    return [
        *down,
        *up,
        exchange2("h2-down-4-mib", (asks("/"),), page("/", noise(4 * MIB))),
        exchange2("h2-padded-down", (asks("/"),), (answers("/"), Body("/", noise(3000), pad=255, frame=500),
                  Body("/", pad=7, end=True))),
        exchange2("h2-padded-up", (post, Body("/", noise(3000), pad=100, frame=500), Body("/", b"x", pad=1, end=True)),
                  page("/")),
        exchange2("h2-padded-head", (Head("/", asks("/").fields, end=True, pad=200),),
                  (Head("/", answers("/").fields, pad=30), Body("/", b"x", end=True))),
        exchange2("h2-empty-data-down", (asks("/"),), (answers("/"), *bare)),
        exchange2("h2-empty-data-up", (post, *bare), page("/")),
        exchange2("h2-single-bytes", (post, *single, Body("/", end=True)),
                  (answers("/"), *single, Body("/", end=True))),
        exchange2("h2-end-in-its-own-frame", (asks("/"),), (sized, Body("/", b"done"), Body("/", end=True))),
        exchange2("h2-head-ends-nothing", (asks("/", end=False), Body("/", end=True)),
                  (answers("/"), Body("/", end=True))),
        exchange2("h2-trailers-down", (asks("/"),), (answers("/", ("trailer", "x-sum")), Body("/", b"data"),
                  Head("/", (("x-sum", "1"), ("x-more", "2"), ("x-sum", "3")), end=True))),
        exchange2("h2-trailers-up", (post, Body("/", b"data"), Head("/", (("x-sum", "1"),), end=True)), page("/")),
        exchange2("h2-trailers-alone", (asks("/"),), (answers("/"), Head("/", (("x-sum", "0"),), end=True))),
        exchange2("h2-trailers-behind-large", (asks("/"),), (answers("/"), Body("/", noise(300_000)),
                  Head("/", (("x-sum", "1"),), end=True))),
        exchange2("h2-continuation", (Head("/", (*asks("/").fields, ("x-long", "v" * 3000)), end=True, split=100),),
                  (Head("/", ((":status", "200"), ("x-long", "w" * 3000)), split=1000), Body("/", b"x", end=True))),
        exchange2("h2-gzip", (asks("/"),), (answers("/", ("content-encoding", "br")), Body("/", noise(999), end=True))),
        exchange2("h2-priority", (Priority("/"), Head("/", asks("/").fields, end=True, priority=True), Priority("/")),
                  page("/")),
        exchange2("h2-ping-between", (Ping(), asks("/"), Ping()), (Ping(), answers("/"), Ping(),
                                                                   Body("/", b"x", end=True))),
        exchange2("h2-odd-frames", (Odd(0x10, b"\0\0\0\0u=1"), Odd(0xEE, b"?"), asks("/")),
                  (Odd(0xEE, b"x" * 50), answers("/"), Odd(0xEF, b"y", "/"), Body("/", b"x", end=True))),
        exchange2("h2-grpc", (asks("/grpc", ("content-type", "application/grpc"), ("te", "trailers"), method="POST",
                  end=False), Body("/grpc", b"\0\0\0\0\3abc"), Body("/grpc", b"\0\0\0\0\0", end=True)),
                  (answers("/grpc", ("content-type", "application/grpc")), Body("/grpc", b"\0\0\0\0\2hi"),
                   Head("/grpc", (("grpc-status", "0"), ("grpc-message", "")), end=True)), path="/grpc"),
        exchange2("h2-grpc-trailers-only", (asks("/grpc", method="POST", end=False),
                                            Body("/grpc", b"\0\0\0\0\0", end=True)),
                  (answers("/grpc", ("grpc-status", "12"), end=True),), path="/grpc"),
    ]  # fmt: skip


def order() -> list[Shape2]:
    """Interim responses, answers before the request's end, resets, ends."""
    post = asks("/", ("content-length", "10"), method="POST", end=False)
    hint = answers("/", ("link", "</a.css>; rel=preload"), status=103)
    expecting = asks("/", ("expect", "100-continue"), ("content-length", "5"), method="POST", end=False)
    resets = [
        Shape2(f"h2-server-resets-{name}",
               client=(Send((asks("/"),)), Heard("/", blocks=1, body=4), Signal("half"), Heard("/", reset=True),
                       Finish()),
               origin=(Heard("/", end=True), Send((answers("/"), Body("/", b"half"))), Await("half"),
                       Send((Reset("/", code),)),
                       *END))
        for name, code in (("internal", INTERNAL), ("cancel", CANCEL), ("calm", CALM))
    ]  # fmt: skip
    return [
        *resets,
        Shape2("h2-server-refuses-a-stream",
               client=(Send((asks("/"),)), Heard("/", reset=True), Finish()),
               origin=(Heard("/", end=True), Send((Reset("/", REFUSED),)), *END)),
        Shape2("h2-server-wants-1.1",
               client=(Send((asks("/"),)), Heard("/", reset=True), Finish()),
               origin=(Heard("/", end=True), Send((Reset("/", HTTP11),)), *END)),
        Shape2("h2-client-cancels",
               client=(Send((asks("/"), asks("/other"))), Heard("/", body=4), Send((Reset("/", CANCEL),)),
                       Heard("/other", end=True), Finish()),
               origin=(Heard("/", end=True), Heard("/other", end=True), Send((answers("/"), Body("/", b"half"))),
                       Heard("/", reset=True), Send(page("/other")), *END)),
        Shape2("h2-interim",
               client=(Send((asks("/"),)), Heard("/", blocks=2), Signal("told"), Heard("/", end=True), Finish()),
               origin=(Heard("/", end=True), Send((answers("/", status=102), hint)), Await("told"), Send(page("/")),
                       *END)),
        exchange2("h2-interim-together", (asks("/"),), (answers("/", status=100), hint, *page("/"))),
        Shape2("h2-expect-continue",
               client=(Send((expecting,)), Heard("/", blocks=1), Send((Body("/", b"hello", end=True),)),
                       Heard("/", end=True),
                       Finish()),
               origin=(Heard("/", blocks=1), Send((answers("/", status=100),)), Heard("/", end=True), Send(page("/")),
                       *END)),
        Shape2("h2-expect-refused",
               client=(Send((expecting,)), Heard("/", end=True), Send((Reset("/", CANCEL),)), Finish()),
               origin=(Heard("/", blocks=1), Send((answers("/", status=417, end=True),)), Heard("/", reset=True),
                       *END)),
        Shape2("h2-early-answer-then-the-rest",
               client=(Send((post, Body("/", b"first"))), Heard("/", end=True), Send((Body("/", b"-rest", end=True),)),
                       Finish()),
               origin=(Heard("/", body=5), Send(page("/")), Heard("/", end=True), *END)),
        Shape2("h2-early-answer-with-no-error",
               client=(Send((post, Body("/", b"first"))), Heard("/", end=True, reset=True), Finish()),
               origin=(Heard("/", body=5), Send((*page("/", b"whole"), Reset("/", NO_ERROR))), *END)),
        Shape2("h2-echo-while-uploading",
               client=(Send((asks("/", method="POST", end=False), Body("/", b"one"))), Heard("/", body=3),
                       Send((Body("/", b"two", end=True),)), Heard("/", end=True), Finish()),
               origin=(Heard("/", body=3), Send((answers("/"), Body("/", b"eno"))), Heard("/", end=True),
                       Send((Body("/", b"owt", end=True),)), *END)),
        Shape2("h2-head-then-body-later",
               client=(Send((asks("/"),)), Heard("/", blocks=1), Signal("head"), Heard("/", end=True), Finish()),
               origin=(Heard("/", end=True), Send((answers("/"),)), Await("head"),
                       Send((Body("/", b"late", end=True),)), *END)),
        Shape2("h2-goaway-then-the-answer",
               client=(Send((asks("/a"), asks("/b"))), Heard("/a", end=True), Heard("/b", end=True), *END),
               origin=(Heard("/b", end=True), Send((Goaway(), answers("/a"), Body("/a", b"half"))),
                       Send((Goaway("/b"), Body("/a", b"-whole", end=True), *page("/b"))), Finish())),
        Shape2("h2-goaway-behind-the-answers",
               client=(Send((asks("/a"),)), Heard("/a", end=True), *END),
               origin=(Heard("/a", end=True), Send((*page("/a"), Goaway("/a"))), Finish())),
        Shape2("h2-goaway-refuses-the-later",
               client=(Send((asks("/a"), asks("/b"))), Heard("/a", end=True), HearEnd(), Finish()),
               origin=(Heard("/b", end=True), Send((Goaway("/a"), *page("/a"))), Finish()), cut=True),
        Shape2("h2-cut-in-the-middle",
               client=(Send((asks("/"),)), Heard("/", body=4), Signal("half"), HearEnd(), Finish()),
               origin=(Heard("/", end=True), Send((answers("/"), Body("/", b"half"))), Await("half"), Finish("cut")),
               cut=True),
        Shape2("h2-client-ends",
               client=(Send((asks("/"),)), Heard("/", end=True), Send((Goaway("", NO_ERROR),)), Finish()),
               origin=(Heard("/", end=True), Send(page("/")), *END)),
    ]  # fmt: skip


def streams() -> list[Shape2]:
    """Many at once, windows, what waits and what must not."""
    names = [f"/{n}" for n in range(100)]
    everything: list[Any] = [Heard(name, end=True) for name in names]
    back: tuple[Frame, ...] = tuple(
        itertools.chain.from_iterable(page(name, name.encode()) for name in reversed(names))
    )
    slow_first = (answers("/slow"), Body("/slow", noise(1000), end=True), *page("/quick"))
    narrow = ((INITIAL, 100),)
    held = (Send((asks("/slow"),)), Send((asks("/quick"),)), Heard("/quick", end=True))
    few: list[Any] = [
        step
        for n in range(0, 100, 4)
        for step in (
            Send(tuple(asks(name) for name in names[n : n + 4])),
            *(Heard(name, end=True) for name in names[n : n + 4]),
        )
    ]
    few_back: list[Any] = [step for name in names for step in (Heard(name, end=True), Send(page(name)))]
    return [
        Shape2("h2-100-streams",
               client=(Send(tuple(asks(name) for name in names)), *everything, Finish()),
               origin=(*everything, Send(back), *END)),
        Shape2("h2-100-streams-uploading",
               client=(Send(tuple(asks(name, method="POST", end=False) for name in names)),
                       Send(tuple(Body(name, name.encode() * 50, end=True) for name in names)), *everything, Finish()),
               origin=(*everything, Send(back), *END)),
        Shape2("h2-streams-one-after-the-other", client=(*few, Finish()), origin=(*few_back, *END)),
        Shape2("h2-slow-streams-hold-up-no-other",
               client=(Send(tuple(asks(name) for name in names[:20])), Send((asks("/quick"),)),
                       Heard("/quick", end=True),
                       Signal("quick"), *everything[:20], Finish()),
               origin=(HearSettings(), Heard("/quick", end=True), Send(page("/quick")), Await("quick"),
                       Send(tuple(itertools.chain.from_iterable(page(name) for name in names[:20]))), *END)),
        Shape2("h2-server-allows-two-streams",
               client=(HearSettings(), Send((asks("/a"), asks("/b"))), Heard("/a", end=True), Heard("/b", end=True),
                       Send((asks("/c"),)), Heard("/c", end=True), Finish()),
               origin=(Heard("/a", end=True), Heard("/b", end=True), Send((*page("/b"), *page("/a"))),
                       Heard("/c", end=True),
                       Send(page("/c")), *END), origin_settings=((STREAMS, 2),)),
        Shape2("h2-narrow-client",
               client=(*held, Send((Window("/slow", 400),)), Heard("/slow", body=500), Send((Window("/slow", 600),)),
                       Heard("/slow", end=True), Finish()),
               origin=(HearSettings(), Heard("/quick", end=True), Send(slow_first), *END),
               client_settings=narrow, client_opens=False),
        Shape2("h2-window-to-the-last-byte",
               client=(*held, Send((Window("/slow", 900),)), Heard("/slow", end=True), Finish()),
               origin=(HearSettings(), Heard("/quick", end=True), Send(slow_first), *END),
               client_settings=narrow, client_opens=False),
        Shape2("h2-window-to-the-last-byte-then-trailers",
               client=(*held, Send((Window("/slow", 900),)), Heard("/slow", end=True), Finish()),
               origin=(HearSettings(), Heard("/quick", end=True), Send((answers("/slow"), Body("/slow", noise(1000)),
                       Head("/slow", (("x-sum", "1"),), end=True), *page("/quick"))), *END),
               client_settings=narrow, client_opens=False),
        Shape2("h2-no-error-while-the-window-is-shut",
               client=(Send((asks("/slow", method="POST", end=False),)), Send((asks("/quick"),)),
                       Heard("/quick", end=True),
                       Heard("/slow", body=100), Send((Window("/slow", 900),)), Heard("/slow", end=True), Finish()),
               origin=(HearSettings(), Heard("/quick", end=True), Send(slow_first), Heard("/slow", blocks=1), *END),
               client_settings=narrow, client_opens=False),
        Shape2("h2-narrow-server",
               client=(HearSettings(), Send((asks("/slow", method="PUT", end=False),
                                             Body("/slow", noise(1000), end=True),
                       asks("/quick"))), Heard("/quick", end=True), Heard("/slow", end=True), Finish()),
               origin=(Heard("/slow", body=100), Heard("/quick", end=True),
                       Send((*page("/quick"), Window("/slow", 900))),
                       Heard("/slow", end=True), Send(page("/slow")), *END),
               origin_settings=narrow, origin_opens=False),
        Shape2("h2-window-of-five-bytes",
               client=(Send((asks("/"),)), Heard("/", end=True), Finish()),
               origin=(HearSettings(), Heard("/", end=True), Send(page("/", noise(2_000))), *END),
               client_settings=((INITIAL, 5), (FRAME, 16_384), (TABLE, 0))),
        Shape2("h2-large-frames",
               client=(Send((asks("/"),)), Heard("/", end=True), Finish()),
               origin=(HearSettings(), Heard("/", end=True), Send((answers("/"),
                                                                   Body("/", noise(MIB), end=True, frame=60_000))),
                       *END), client_settings=((INITIAL, 2 * MIB), (FRAME, 2**17))),
        Shape2("h2-extended-connect",
               client=(HearSettings(), Send((Head("/ws", ((":method", "CONNECT"), (":protocol", "websocket"),
                       (":scheme", "https"), (":authority", HOST), (":path", "/ws"))), Body("/ws", b"\x81\x80mask"))),
                       Heard("/ws", body=2), Send((Body("/ws", end=True),)), Heard("/ws", end=True), Finish()),
               origin=(Heard("/ws", body=6), Send((answers("/ws"), Body("/ws", b"\x81\0"))), Heard("/ws", end=True),
                       Send((Body("/ws", end=True),)), *END), origin_settings=((EXTENDED, 1),), fast_only=True),
    ]  # fmt: skip


def shapes() -> list[Shape2]:
    """All of these."""
    return [*messages(), *bodies(), *order(), *streams()]
