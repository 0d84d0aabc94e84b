"""What two readers could understand differently: the inspection lane refuses it, the fast lane misses no request."""

from __future__ import annotations

import contextlib
import json
import ssl
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import ISSUING, PUBLIC
from tests.harness import shapes_smuggling, shapes_smuggling_http2
from tests.harness.daemon import Daemon
from tests.harness.processes import wait_for
from tests.harness.raw_http import Ended, Pipe, Way
from tests.harness.shapes import HOST, Seen, ok
from tests.harness.shapes_http2_end import Http2End
from tests.harness.shapes_http2_script import Seen2, page
from tests.harness.shapes_origin import Origin
from tests.harness.shapes_reader import Reader
from tests.harness.shapes_readings import most_requests
from tests.harness.shapes_smuggling import Odd1
from tests.harness.shapes_smuggling_http2 import Odd2

LANES = ("fast", "inspection")
HTTP1 = shapes_smuggling.shapes()
HTTP2 = shapes_smuggling_http2.shapes()
REFUSALS = {400, 421, 431, 414, 501, 505}
"""400, or what says more: misdirected, too large, not known."""


@dataclass
class Watched:
    """A way through a daemon, and its log. ``made``: how many connections went this way."""

    name: str
    way: Way
    daemon: Daemon
    made: int = 0
    read: int = 0
    entries: list[dict[str, Any]] = field(default_factory=list)

    def requests(self) -> list[dict[str, Any]]:
        """The requests that the log has of the last connection, once it says that this one has ended.

        It says so a moment later: ask only where there can be any.
        """

        def ends() -> list[str]:
            with self.daemon.stderr.open("rb") as file:
                file.seek(self.read)
                text = file.read()
            text = text[: text.rfind(b"\n") + 1]
            self.read += len(text)
            self.entries += [json.loads(line) for line in text.splitlines()]
            return [entry["id"] for entry in self.entries if entry["event"] == "connection"]

        wait_for("the connection's end in the log", lambda: len(ends()) >= self.made)
        last = ends()[-1]
        return [entry for entry in self.entries if entry["event"] == "request" and entry["id"] == last]


@pytest.fixture(scope="module")
def scripted(scratch: Path) -> Iterator[Origin]:
    with Origin(scratch / "origin", ISSUING.leaf(HOST)) as origin:
        yield origin


@pytest.fixture(scope="module", params=LANES)
def lane(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    name: str = request.param
    folder = tmp_path_factory.mktemp(name)
    script = folder / "watching.py"
    script.write_text("class Watching:\n    def requestheaders(self, flow): pass\n\naddons = [Watching()]\n")
    extra: dict[str, Any] = {"log": {"level": "debug"}}
    if name == "inspection":
        extra["inspection"] = {"addons": [str(script)]}
    with Daemon(folder / "daemon", hosts={HOST: "127.0.0.1"}, common=PUBLIC, extra=extra) as daemon:
        yield Watched(name, Way(name, daemon.proxy, str(daemon.root)), daemon)
        assert not daemon.log("fault")


def serve_once(pipe: Pipe) -> Seen:
    """An origin that answers once it has a head, whatever it is, and each request after that."""
    seen = Seen(reader=Reader(None))
    answered = 0
    with contextlib.suppress(Ended, ssl.SSLError, OSError):
        while True:
            seen.reader.feed(pipe.receive())
            begun = b"\n\r\n" in pipe.received or b"\n\n" in pipe.received
            while answered < max(begun, seen.reader.done):
                answered += 1
                pipe.send(ok(b"ok"))
    pipe.notify()
    pipe.linger()
    seen.received = bytes(pipe.received)
    return seen


def send_once(pipe: Pipe, data: bytes) -> Seen:
    """A client that reads up to the first answer, or to the end."""
    seen = Seen(reader=Reader((b"POST",)))
    with contextlib.suppress(Ended):
        pipe.send(data)
    with contextlib.suppress(Ended):
        while not seen.reader.done:
            seen.reader.feed(pipe.receive())
    pipe.notify()
    pipe.half_close()
    pipe.linger()
    seen.received = bytes(pipe.received)
    return seen


def test_there_are_at_least_sixty_shapes() -> None:
    names = [*(shape.name for shape in HTTP1), *(shape.name for shape in HTTP2)]
    assert len(set(names)) == len(names)
    assert len([shape for shape in HTTP1 if shape.refuse]) >= 60
    assert len([shape for shape in HTTP2 if shape.refuse]) >= 40


def test_a_hidden_request_is_counted() -> None:
    """The count is what the other tests rest on: it must find what any reader could take for a request."""
    both = {shape.name: shape.data for shape in HTTP1}
    assert most_requests(both["length-and-coding"]) == 2
    assert most_requests(both["codings-two-differ"]) == 2
    assert most_requests(both["coding-behind-a-bare-cr"]) == 2
    assert most_requests(ok(b"GET /canary HTTP/1.1")) == 0
    assert most_requests(both["bare-lf-throughout"]) == 1


@pytest.mark.parametrize("shape", HTTP1, ids=[shape.name for shape in HTTP1])
def test_no_request_is_smuggled_over_http1(shape: Odd1, lane: Watched, scripted: Origin) -> None:
    lane.made += 1
    client, origin = scripted.play_with("http/1.1", lane.way, serve_once, lambda pipe: send_once(pipe, shape.data))
    if most := most_requests(origin.received):
        logged = lane.requests()
        assert most <= len(logged), f"{origin.received!r}\n{logged}"
    if shape.refuse and shape.in_body:
        assert not any(message.whole for message in origin.reader.messages), shape.clause
        assert b"/canary" not in origin.received
    elif shape.refuse:
        assert origin.received == b"", shape.clause
    if shape.refuse and lane.name == "inspection":
        statuses = [message.status for message in client.reader.messages]
        assert all(status in REFUSALS for status in statuses), client.received
        # An answer given while the client still writes can be lost to the reset behind it (RFC 9112 section 9.6).
        assert statuses or shape.in_body or len(shape.data) > 64 * 1024, "closed without a word"


def serve_streams(pipe: Pipe) -> dict[str, bool]:
    """An HTTP/2 origin that answers each request that has ended. Returns its streams, and whether they had ended."""
    try:
        end = Http2End(pipe, serves=True, settings={}, opens=True)
    except Ended:
        pipe.close()
        return {}
    answered: set[str] = set()
    with contextlib.suppress(Exception):  # what it reads may be as wrong as can be
        while True:
            end.pump()
            for name, stream in list(end.streams.items()):
                if stream.ended and name not in answered:
                    answered.add(name)
                    end.send(page(name))
    pipe.notify()
    pipe.linger()
    return {name: stream.ended for name, stream in end.streams.items()}


def send_frames(pipe: Pipe, shape: Odd2) -> Seen2:
    """An HTTP/2 client that waits for an answer, a reset, GOAWAY or the end."""
    end = Http2End(pipe, serves=False, settings={}, opens=True)
    with contextlib.suppress(Ended):
        end.send(shape.frames)
        while not end.goaway and not any(one.ended or one.reset is not None for one in end.streams.values()):
            end.pump()
    pipe.notify()
    pipe.half_close()
    pipe.linger()
    return Seen2(streams=end.streams, goaway=end.goaway, ended=pipe.ended or "open")


@pytest.mark.parametrize("shape", HTTP2, ids=[shape.name for shape in HTTP2])
def test_no_request_is_smuggled_over_http2(shape: Odd2, lane: Watched, scripted: Origin) -> None:
    lane.made += 1
    client, streams = scripted.play_with("h2", lane.way, serve_streams, lambda pipe: send_frames(pipe, shape))
    if streams:
        assert len(streams) <= len(lane.requests())
    if not shape.refuse or lane.name != "inspection":
        return
    if shape.in_body:
        assert not any(streams.values()), shape.clause
    else:
        assert not streams, shape.clause
    stream = next(iter(client.streams.values()), None)
    status = int(dict(stream.blocks[0])[b":status"]) if stream and stream.blocks else 0
    refused = status in REFUSALS or (stream is not None and stream.reset is not None)
    assert refused or client.goaway or client.ended != "open"
    assert not 200 <= status < 400
