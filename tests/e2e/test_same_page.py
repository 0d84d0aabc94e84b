"""A page is the same through every lane as it is without the proxy: hundreds of shapes, each sent both ways.

In the fast lane the very bytes are compared, in the inspection lane the messages; what may differ there is written
down in tests/harness/shapes_compare.py and tests/harness/shapes_http2_script.py.
"""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.e2e.conftest import ISSUING, PUBLIC
from tests.harness import shapes_framing, shapes_http1, shapes_http2, shapes_order, shapes_upgrades
from tests.harness.daemon import Daemon
from tests.harness.origins import Nginx, Site
from tests.harness.programs import need
from tests.harness.raw_http import Way, connect
from tests.harness.shapes import HOST, Finish, Hear, HearEnd, Say, Seen, Shape, Signals, get, head, pieces, run
from tests.harness.shapes_compare import View, differences_of_bytes, differences_of_messages, view
from tests.harness.shapes_http1 import MIB, noise
from tests.harness.shapes_http2_end import Frame, Head
from tests.harness.shapes_http2_script import (
    Heard,
    Send,
    Shape2,
    asks,
    differences_of_frames,
    differences_of_streams,
    play2,
    run2,
)
from tests.harness.shapes_origin import Origin
from tests.harness.shapes_reader import Reader

LANES = ("fast", "inspection")
HTTP1 = [
    *shapes_http1.shapes(),
    *shapes_framing.shapes(),
    *shapes_order.shapes(),
    *shapes_upgrades.shapes(),
]
HTTP2 = shapes_http2.shapes()

COUNTING = """
class Counting:
    def requestheaders(self, flow):
        with open({path!r}, "a") as file:
            file.write(flow.request.method + "\\n")
"""
BUFFERING = """
    def request(self, flow):
        assert flow.request.stream or flow.request.raw_content is not None

    def response(self, flow):
        assert flow.response.stream or flow.response.raw_content is not None
"""


def at_rest(shape: Shape | Shape2) -> bool:
    """Nobody waits for a part of a message: such a shape must stand it that bodies are gathered on the way.

    Who gathers a body has to say 100 himself (RFC 9110 section 10.1.1), so what expects it is left out,
    and no 100 counts.
    """
    waits = (Hear(), HearEnd(), Finish())
    return (
        not shape.cut
        and not shape.name.startswith("expect")
        and all(
            isinstance(step, (Say, Send))
            or step in waits
            or (isinstance(step, Hear) and step == Hear(messages=step.messages))
            or (isinstance(step, Heard) and step == Heard(step.stream, end=True))
            for step in (*shape.client, *shape.origin)
        )
    )


@dataclass
class Lane:
    """A way through a daemon, and how many requests its inspector has seen."""

    name: str
    way: Way
    seen: Path

    def requests(self) -> int:
        return len(self.seen.read_text().splitlines()) if self.seen.exists() else 0


@pytest.fixture(scope="module")
def direct(scratch: Path) -> Way:
    path = scratch / "public-root.pem"
    path.write_bytes(PUBLIC.pem())
    return Way("direct", None, str(path))


@pytest.fixture(scope="module")
def scripted(scratch: Path) -> Iterator[Origin]:
    with Origin(scratch / "origin", ISSUING.leaf(HOST)) as origin:
        yield origin


@pytest.fixture(scope="module")
def real(scratch: Path) -> Iterator[Nginx]:
    need("nginx")
    with Nginx(scratch / "real", [Site(HOST, ISSUING.leaf(HOST), lines=("gzip_static on;",))]) as nginx:
        www = nginx.folder / "www"
        (www / "page.txt").write_bytes(b"hello page\n" * 500)
        (www / "page.txt.gz").write_bytes(gzip.compress(b"hello page\n" * 500, mtime=0))
        (www / "large.bin").write_bytes(noise(8 * MIB))
        (www / "empty.txt").touch()
        yield nginx


@contextmanager
def running(name: str, folder: Path, script: str = "") -> Iterator[Lane]:
    """A daemon with this inspector, where there is one."""
    seen, path = folder / "seen", folder / "counting.py"
    path.write_text(f"{script.format(path=str(seen))}\naddons = [Counting()]\n")
    extra = {"inspection": {"addons": [str(path)], "on_large": "stream"}} if script else {}
    with Daemon(folder / "daemon", hosts={HOST: "127.0.0.1"}, common=PUBLIC, extra=extra) as daemon:
        yield Lane(name, Way(name, daemon.proxy, str(daemon.root)), seen)
        assert not daemon.log("fault")
        assert not daemon.log("inspector failed")


@pytest.fixture(scope="module", params=LANES)
def lane(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lane]:
    name: str = request.param
    with running(name, tmp_path_factory.mktemp(name), COUNTING if name == "inspection" else "") as one:
        yield one


@pytest.fixture(scope="module")
def buffering(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lane]:
    """The inspection lane with an inspector that asks for whole bodies."""
    with running("buffering", tmp_path_factory.mktemp("buffering"), COUNTING + BUFFERING) as one:
        yield one


def test_there_are_at_least_two_hundred_shapes() -> None:
    names = [*(shape.name for shape in HTTP1), *(shape.name for shape in HTTP2)]
    assert len(set(names)) == len(names)
    assert len(HTTP1) >= 200
    assert len(HTTP2) >= 100


def test_a_difference_is_found(scripted: Origin, direct: Way) -> None:
    """A changed byte, a lost field, a trailer, an interim response: the comparison itself must be able to fail."""
    shapes = {shape.name: shape for shape in HTTP1}
    shape = shapes["chunked-down-trailer"]
    plain = scripted.play(shape, direct)
    assert not differences_of_bytes(shape, *plain, plain)
    assert not differences_of_messages(shape, *plain, plain)
    for other in ("chunked-down-one", "interim-together", "response-fields-many", "line-no-reason", "sized-cut"):
        seen = scripted.play(shapes[other], direct)
        assert differences_of_messages(shape, *seen, plain), other
    client, origin = scripted.play(shape, direct)
    client.received = client.received.replace(b"hello", b"hellO")
    assert differences_of_bytes(shape, client, origin, plain)
    client.reader.messages[0].body[4:] = b"O"
    assert differences_of_messages(shape, client, origin, plain)


@pytest.mark.parametrize("shape", HTTP1, ids=[shape.name for shape in HTTP1])
def test_an_http1_shape_is_the_same(shape: Shape, lane: Lane, scripted: Origin, direct: Way) -> None:
    plain = scripted.play(shape, direct)
    assert [seen.error for seen in plain] == ["", ""], "the shape itself is wrong"
    counted = lane.requests()
    client, origin = scripted.play(shape, lane.way)
    judge = differences_of_bytes if lane.name == "fast" else differences_of_messages
    differences = judge(shape, client, origin, plain)
    assert not differences, "\n".join(differences)
    assert scripted.intruders == 0
    if lane.name == "inspection":
        assert lane.requests() - counted >= len(origin.reader.messages)


@pytest.mark.parametrize("shape", HTTP2, ids=[shape.name for shape in HTTP2])
def test_an_http2_shape_is_the_same(shape: Shape2, lane: Lane, scripted: Origin, direct: Way) -> None:
    if shape.fast_only and lane.name != "fast":
        pytest.skip("the inspection lane does not offer it to the client")
    plain = play2(scripted, shape, direct)
    assert [seen.error for seen in plain] == ["", ""], "the shape itself is wrong"
    counted = lane.requests()
    client, origin = play2(scripted, shape, lane.way)
    judge = differences_of_frames if lane.name == "fast" else differences_of_streams
    differences = judge(shape, client, origin, plain)
    assert not differences, "\n".join(differences)
    assert scripted.intruders == 0
    if lane.name == "inspection":
        assert lane.requests() - counted >= len(origin.streams)


@pytest.mark.parametrize(
    "shape", [shape for shape in HTTP1 if at_rest(shape)], ids=[shape.name for shape in HTTP1 if at_rest(shape)]
)
def test_an_http1_shape_is_the_same_where_bodies_are_asked_for(
    shape: Shape, buffering: Lane, scripted: Origin, direct: Way
) -> None:
    pairs = scripted.play(shape, direct), scripted.play(shape, buffering.way)
    for seen in (*pairs[0], *pairs[1]):
        seen.reader.interim = [one for one in seen.reader.interim if one.status != 100]
    differences = differences_of_messages(shape, *pairs[1], pairs[0])
    assert not differences, "\n".join(differences)


@pytest.mark.parametrize(
    "shape", [shape for shape in HTTP2 if at_rest(shape)], ids=[shape.name for shape in HTTP2 if at_rest(shape)]
)
def test_an_http2_shape_is_the_same_where_bodies_are_asked_for(
    shape: Shape2, buffering: Lane, scripted: Origin, direct: Way
) -> None:
    pairs = play2(scripted, shape, direct), play2(scripted, shape, buffering.way)
    for stream in (stream for seen in (*pairs[0], *pairs[1]) for stream in seen.streams.values()):
        stream.blocks = [block for block in stream.blocks if (b":status", b"100") not in block]
    differences = differences_of_streams(shape, *pairs[1], pairs[0])
    assert not differences, "\n".join(differences)


# --- nginx ---

# Name: requests on one connection, and their methods.
PAGES: dict[str, tuple[tuple[bytes, ...], tuple[bytes, ...]]] = {
    "file": ((get("/page.txt"),), (b"GET",)),
    "head": ((get("/page.txt", method="HEAD"), get("/page.txt")), (b"HEAD", b"GET")),
    "gzip": ((get("/page.txt", "Accept-Encoding: gzip"),), (b"GET",)),
    "empty": ((get("/empty.txt"),), (b"GET",)),
    "large": ((get("/large.bin"),), (b"GET",)),
    "range": ((get("/large.bin", "Range: bytes=1000-1999"),), (b"GET",)),
    "ranges": ((get("/page.txt", "Range: bytes=0-9,100-109"),), (b"GET",)),
    "range-beyond": ((get("/page.txt", "Range: bytes=999999-"),), (b"GET",)),
    "missing": ((get("/missing"),), (b"GET",)),
    "status-204": ((get("/status/204"), get("/status/304"), get("/status/500")), (b"GET",) * 3),
    "put": ((get("/upload/x", "Content-Length: 5", method="PUT") + b"hello",), (b"PUT",)),
    "put-chunked": ((get("/upload/y", "Transfer-Encoding: chunked", method="PUT") + b"5\r\nhello\r\n0\r\n\r\n",),
                    (b"PUT",)),
    "put-expecting": ((get("/upload/z", "Content-Length: 5", "Expect: 100-continue", method="PUT") + b"hello",),
                      (b"PUT",)),
    "pipelined": ((get("/page.txt") + get("/empty.txt") + get("/", method="HEAD") + get("/missing"),),
                  (b"GET", b"GET", b"HEAD", b"GET")),
    "not-allowed": ((get("/", "Content-Length: 1", method="POST") + b"x",), (b"POST",)),
    "http-1.0": ((head("GET /page.txt HTTP/1.0", f"Host: {HOST}"),), (b"GET",)),
}  # fmt: skip
BOUNDARY = b"multipart/byteranges; boundary="


def known(views: list[View]) -> list[View]:
    """Without what differs from answer to answer: the date, and the boundary between ranges."""
    boundaries = [
        value.removeprefix(BOUNDARY) for one in views for _, value in one.fields if value.startswith(BOUNDARY)
    ]
    found: list[View] = []
    for one in views:
        body = one.body
        fields = [(name, value) for name, value in one.fields if name.lower() != b"date"]
        for boundary in boundaries:
            body = body.replace(boundary, b"BOUNDARY")
            fields = [(name, value.replace(boundary, b"BOUNDARY")) for name, value in fields]
        found.append(View(one.line, fields, body, one.trailers, one.whole))
    return found


def ask(way: Way, port: int, name: str) -> tuple[list[View], list[bytes], str]:
    """Answers, interim responses and the end of the connection."""
    requests, methods = PAGES[name]
    reader = Reader(methods)
    last = HearEnd() if name == "http-1.0" else Hear(messages=len(methods))
    seen: Seen = run(connect(way, HOST, port, "http/1.1"), (Say(pieces(requests)), last, Finish()), reader, Signals())
    assert not seen.error
    return known([view(one) for one in reader.messages]), [one.line for one in reader.interim], seen.ended


@pytest.mark.parametrize("name", PAGES)
def test_a_page_of_nginx_is_the_same(name: str, lane: Lane, real: Nginx, direct: Way) -> None:
    if name.startswith("put"):
        ask(direct, real[HOST].port, name)  # the first makes the file: 201, later ones 204
    assert ask(lane.way, real[HOST].port, name) == ask(direct, real[HOST].port, name)


def test_a_file_that_has_not_changed_is_not_sent(lane: Lane, real: Nginx, direct: Way) -> None:
    port = real[HOST].port
    (answer,), _, _ = ask(direct, port, "file")
    etag = dict(answer.fields)[b"ETag"].decode()
    request = get("/page.txt", f"If-None-Match: {etag}")
    shown = []
    for way in (direct, lane.way):
        reader = Reader((b"GET",))
        run(connect(way, HOST, port, "http/1.1"), (Say((request,)), Hear(messages=1), Finish()), reader, Signals())
        shown.append(known([view(one) for one in reader.messages]))
    assert shown[0][0].line == b"HTTP/1.1 304 Not Modified"
    assert shown[0] == shown[1]


PAGES2: dict[str, tuple[Head, ...]] = {
    "file": (asks("/page.txt"),),
    "head": (asks("/page.txt", method="HEAD"),),
    "gzip": (asks("/page.txt", ("accept-encoding", "gzip")),),
    "large": (asks("/large.bin"),),
    "range": (asks("/large.bin", ("range", "bytes=5-")),),
    "status": (asks("/status/204"), asks("/status/304"), asks("/missing")),
    "many": (*[asks(f"/page.txt?{n}") for n in range(90)], asks("/large.bin")),
}


@pytest.mark.parametrize("name", PAGES2)
def test_a_page_of_nginx_over_http2_is_the_same(name: str, lane: Lane, real: Nginx, direct: Way) -> None:
    requests: tuple[Frame, ...] = PAGES2[name]
    ends = tuple(Heard(one.stream, end=True) for one in PAGES2[name])
    shape = Shape2(name, client=(Send(requests), *ends, Finish()), origin=())
    shown = []
    for way in (direct, lane.way):
        seen = run2(connect(way, HOST, real[HOST].port, "h2"), shape, Signals(), serves=False)
        assert not seen.error
        shown.append({
            path: ([[pair for pair in block if pair[0] != b"date"] for block in stream.blocks], stream.body,
                   stream.ended)
            for path, stream in seen.streams.items()
        })  # fmt: skip
    assert shown[0] == shown[1]
