"""What a shape is: who sends what, in which order, and how it ends; and how a script of steps is run at one end.

A shape is two scripts, the client's and the origin's. They run in two threads of one process, so that one can wait for
what the other has seen (:class:`Signal`, :class:`Await`), without a byte on the connection.

    exchange("get-plain", get("/"), ok(b"hello"))
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from tests.harness.raw_http import PATIENCE, Ended, Pipe
from tests.harness.shapes_reader import Reader

HOST = "shapes.example"


@dataclass(frozen=True)
class Say:
    """Send bytes: each piece is a TLS record, ``writes`` are where TCP writes end within it."""

    pieces: tuple[bytes, ...]
    writes: tuple[int, ...] = ()
    lossy: bool = False
    """The other side may be gone already."""


@dataclass(frozen=True)
class Hear:
    """Receive until so many messages are whole, heads or interim responses there, or bytes of the last body or raw."""

    messages: int = 0
    heads: int = 0
    interim: int = 0
    body: int = 0
    raw: int = 0

    def met(self, reader: Reader) -> bool:
        body = len(reader.messages[-1].body) if reader.messages else 0
        return (
            reader.done >= self.messages
            and len(reader.messages) >= self.heads
            and len(reader.interim) >= self.interim
            and body >= self.body
            and len(reader.raw) >= self.raw
        )


@dataclass(frozen=True)
class HearEnd:
    """Receive until the other side ends."""


@dataclass(frozen=True)
class Signal:
    """Tell the other script."""

    name: str


@dataclass(frozen=True)
class Await:
    """Wait for the other script."""

    name: str


@dataclass(frozen=True)
class Switch:
    """What is received from here on is another protocol. At the origin: a client's end switches by itself."""


@dataclass(frozen=True)
class Finish:
    """End one's side. ``notify``: close_notify and FIN; ``half``: the same, and what comes is still received;
    ``cut``: FIN without close_notify; ``reset``: RST."""

    how: Literal["notify", "half", "cut", "reset"] = "notify"


Step = Say | Hear | HearEnd | Signal | Await | Switch | Finish


@dataclass(frozen=True)
class Shape:
    """An exchange over HTTP/1. ``methods``: of its requests, since an answer's framing depends on them.

    ``cut``: an end in the middle, behind which bytes that were under way may be lost.
    """

    name: str
    client: tuple[Step, ...]
    origin: tuple[Step, ...]
    methods: tuple[bytes, ...] = (b"GET",)
    cut: bool = False


@dataclass
class Seen:
    """What one end has sent and received by the time its script was through."""

    sent: bytes = b""
    received: bytes = b""
    reader: Reader = field(default_factory=lambda: Reader(None))
    ended: str = "open"
    """How the other side ended, where it did: notify, cut or reset."""
    error: str = ""


class Signals:
    """What two scripts tell each other."""

    def __init__(self) -> None:
        self._events: dict[str, threading.Event] = {}
        self._lock = threading.Lock()

    def __getitem__(self, name: str) -> threading.Event:
        with self._lock:
            return self._events.setdefault(name, threading.Event())


def run(pipe: Pipe, steps: Sequence[Step], reader: Reader, signals: Signals) -> Seen:
    """Run one end's script. What goes wrong is in the result: the two ends are compared, not judged here."""
    seen = Seen(reader=reader)
    at: Step | None = None
    try:
        for at in steps:
            _step(pipe, at, reader, signals)
    except Ended as end:
        if not isinstance(at, HearEnd):
            seen.error = f"the other side ended ({end.how}) in {at!r:.200}"
    except TimeoutError:
        seen.error = f"nothing came in {at!r:.200}"
    except OSError as error:
        seen.error = f"{error!r} in {at!r:.200}"
    finally:
        pipe.linger()
    if pipe.ended is not None:
        reader.end()
        seen.ended = pipe.ended
    seen.sent, seen.received = bytes(pipe.sent), bytes(pipe.received)
    return seen


def _step(pipe: Pipe, step: Step, reader: Reader, signals: Signals) -> None:
    match step:
        case Say(pieces, writes, lossy):
            try:
                for piece in pieces:
                    pipe.send(piece, writes=writes)
            except Ended:
                if not lossy:
                    raise
        case Hear():
            while not step.met(reader):
                reader.feed(pipe.receive())
        case HearEnd():
            try:
                while True:
                    reader.feed(pipe.receive())
            except Ended:
                return
        case Signal(name):
            signals[name].set()
        case Await(name):
            if not signals[name].wait(PATIENCE):
                raise TimeoutError
        case Switch():
            reader.switch()
        case Finish("reset"):
            pipe.reset()
        case Finish(how):
            if how != "cut":
                pipe.notify()
            pipe.half_close()


# --- what shapes are put together from ---


def head(line: str, *fields: str) -> bytes:
    """A head, its lines given as latin-1 text."""
    return "\r\n".join((line, *fields, "", "")).encode("latin-1")


def get(path: str, *fields: str, method: str = "GET", version: str = "1.1") -> bytes:
    """A request without a body."""
    return head(f"{method} {path} HTTP/{version}", f"Host: {HOST}", *fields)


def ok(body: bytes = b"", *fields: str, line: str = "HTTP/1.1 200 OK") -> bytes:
    """A response with its length."""
    return head(line, *fields, f"Content-Length: {len(body)}") + body


def chunked(*chunks: bytes, trailers: Sequence[str] = (), extension: bytes = b"") -> bytes:
    """The body in chunks."""
    data = b"".join(b"%x%s\r\n%s\r\n" % (len(chunk), extension, chunk) for chunk in chunks)
    return data + b"0\r\n" + "".join(f"{line}\r\n" for line in trailers).encode("latin-1") + b"\r\n"


def exchange(
    name: str,
    request: bytes | Sequence[bytes],
    response: bytes | Sequence[bytes],
    *,
    method: bytes = b"GET",
) -> Shape:
    """One request, one answer that tells its own end; then the client closes."""
    return Shape(
        name,
        client=(Say(pieces(request)), Hear(messages=1), Finish()),
        origin=(Hear(messages=1), Say(pieces(response)), HearEnd(), Finish()),
        methods=(method,),
    )


def closing(name: str, request: bytes, response: bytes, *, how: Literal["notify", "cut", "reset"] = "notify") -> Shape:
    """One request, one answer that the origin's end ends."""
    return Shape(
        name,
        client=(Say((request,)), HearEnd(), Finish()),
        origin=(Hear(messages=1), Say((response,)), Finish(how)),
        cut=how != "notify",
    )


def pieces(data: bytes | Sequence[bytes]) -> tuple[bytes, ...]:
    """Bytes or pieces as pieces."""
    return (data,) if isinstance(data, bytes) else tuple(data)
