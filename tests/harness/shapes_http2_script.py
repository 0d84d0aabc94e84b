"""Shapes over HTTP/2: their scripts, how they are run, and what is compared of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from tests.harness.raw_http import PATIENCE, Ended, Pipe, Way
from tests.harness.shapes import HOST, Await, Finish, HearEnd, Signal, Signals
from tests.harness.shapes_compare import where
from tests.harness.shapes_http2_end import Body, Frame, Head, Http2End, Stream
from tests.harness.shapes_origin import Origin


@dataclass(frozen=True)
class Send:
    """Send frames."""

    frames: tuple[Frame, ...]


@dataclass(frozen=True)
class Heard:
    """Receive until a stream has so many header blocks, bytes of body, its end or its reset."""

    stream: str
    blocks: int = 0
    body: int = 0
    end: bool = False
    reset: bool = False

    def met(self, streams: dict[str, Stream]) -> bool:
        found = streams.get(self.stream)
        return (
            found is not None
            and len(found.blocks) >= self.blocks
            and len(found.body) >= self.body
            and (found.ended or not self.end)
            and (found.reset is not None or not self.reset)
        )


@dataclass(frozen=True)
class HearSettings:
    """Receive until the other side's SETTINGS are there."""


Step2 = Send | Heard | HearSettings | HearEnd | Signal | Await | Finish


@dataclass(frozen=True)
class Shape2:
    """An exchange over HTTP/2; see :class:`tests.harness.shapes.Shape`."""

    name: str
    client: tuple[Step2, ...]
    origin: tuple[Step2, ...]
    client_settings: tuple[tuple[int, int], ...] = ()
    origin_settings: tuple[tuple[int, int], ...] = ()
    client_opens: bool = True
    origin_opens: bool = True
    cut: bool = False
    """The connection ends in the middle."""
    fast_only: bool = False
    """What two HTTP/2 connections with a proxy between them do not have in common."""


@dataclass
class Seen2:
    """What one end has sent and received by the time its script was through."""

    sent: bytes = b""
    received: bytes = b""
    streams: dict[str, Stream] = field(default_factory=dict)
    goaway: list[int] = field(default_factory=list)
    ended: str = "open"
    error: str = ""


def run2(pipe: Pipe, shape: Shape2, signals: Signals, *, serves: bool) -> Seen2:
    """Run one end's script."""
    seen = Seen2()
    at: Step2 | None = None
    steps = shape.origin if serves else shape.client
    try:
        settings = dict(shape.origin_settings if serves else shape.client_settings)
        end = Http2End(
            pipe, serves=serves, settings=settings, opens=shape.origin_opens if serves else shape.client_opens
        )
        seen.streams, seen.goaway = end.streams, end.goaway
        for at in steps:
            _step2(end, at, signals)
    except Ended as ended:
        if not isinstance(at, HearEnd):
            seen.error = f"the other side ended ({ended.how}) in {at!r:.200}"
    except TimeoutError:
        seen.error = f"nothing came in {at!r:.200}"
    except (OSError, ValueError) as error:
        seen.error = f"{error!r} in {at!r:.200}"
    finally:
        pipe.linger()
    seen.ended = pipe.ended or "open"
    seen.sent, seen.received = bytes(pipe.sent), bytes(pipe.received)
    return seen


def _step2(end: Http2End, step: Step2, signals: Signals) -> None:
    match step:
        case Send(frames):
            end.send(frames)
        case Heard():
            while not step.met(end.streams):
                end.pump()
        case HearSettings():
            while not end.theirs:
                end.pump()
        case HearEnd():
            try:
                while True:
                    end.pump()
            except Ended:
                return
        case Signal(name):
            signals[name].set()
        case Await(name):
            if not signals[name].wait(PATIENCE):
                raise TimeoutError
        case Finish("reset"):
            end.pipe.reset()
        case Finish(how):
            if how != "cut":
                end.pipe.notify()
            end.pipe.half_close()


def play2(origin: Origin, shape: Shape2, way: Way) -> tuple[Seen2, Seen2]:
    """A shape over ``way``: what the client and what the origin has seen."""
    signals = Signals()
    return origin.play_with(
        "h2",
        way,
        lambda pipe: run2(pipe, shape, signals, serves=True),
        lambda pipe: run2(pipe, shape, signals, serves=False),
    )


# --- what is compared ---


def differences_of_frames(shape: Shape2, client: Seen2, origin: Seen2, direct: tuple[Seen2, Seen2]) -> list[str]:
    """What the fast lane has changed: each end must receive what the other sent.

    Behind its script's end neither reads what the other's last acknowledgements were.
    """
    found = [f"{who}: {seen.error}" for who, seen in (("client", client), ("origin", origin)) if seen.error]
    for who, got, sent in (("origin", origin.received, client.sent), ("client", client.received, origin.sent)):
        if not sent.startswith(got):
            found.append(f"the {who} received {where(got, sent)}")
    return found + _differences_of_streams(client, origin, direct)


def differences_of_streams(shape: Shape2, client: Seen2, origin: Seen2, direct: tuple[Seen2, Seen2]) -> list[str]:
    """What the inspection lane has changed, beyond what it may.

    Two connections meet in a proxy: stream numbers, frames and their flags, padding, priorities, windows, SETTINGS,
    PING and GOAWAY are each connection's own (RFC 9113 sections 5 and 6); so is the order of pseudo fields.
    """
    found = [f"{who}: {seen.error}" for who, seen in (("client", client), ("origin", origin)) if seen.error]
    return found + ([] if shape.cut else _differences_of_streams(client, origin, direct))


def _differences_of_streams(client: Seen2, origin: Seen2, direct: tuple[Seen2, Seen2]) -> list[str]:
    found: list[str] = []
    for who, now, then in (("client", client, direct[0]), ("origin", origin, direct[1])):
        if now.streams.keys() != then.streams.keys():
            found.append(f"the {who} saw streams {list(now.streams)}, directly {list(then.streams)}")
        for name, stream in now.streams.items():
            plain = then.streams.get(name)
            if plain is None:
                continue
            if (here := _shown(stream)) != (there := _shown(plain)):
                found.append(f"the {who}'s {name} is {here!r:.900}\n  directly {there!r:.900}")
            if stream.body != plain.body:
                found.append(f"the {who}'s {name} has {where(bytes(stream.body), bytes(plain.body))}")
            if not plain.never <= stream.never:
                found.append(f"the {who}'s {name}: not any more never-indexed: {plain.never - stream.never}")
    return found


def _shown(stream: Stream) -> tuple[list[list[tuple[bytes, bytes]]], bool, int | None]:
    blocks = [
        sorted(pair for pair in block if pair[0].startswith(b":")) + [pair for pair in block if pair[0][:1] != b":"]
        for block in stream.blocks
    ]
    return blocks, stream.ended, stream.reset


# --- what shapes are put together from ---


def asks(path: str, *fields: tuple[str, str], method: str = "GET", end: bool = True) -> Head:
    """A request's HEADERS."""
    return Head(
        path,
        ((":method", method), (":scheme", "https"), (":authority", HOST), (":path", path), *fields),
        end=end,
    )


def answers(path: str, *fields: tuple[str, str], status: int = 200, end: bool = False) -> Head:
    """A response's HEADERS."""
    return Head(path, ((":status", str(status)), *fields), end=end)


def exchange2(name: str, request: Sequence[Frame], response: Sequence[Frame], *, path: str = "/") -> Shape2:
    """One stream, from its request's end to its response's."""
    return Shape2(
        name,
        client=(Send(tuple(request)), Heard(path, end=True), Finish()),
        origin=(Heard(path, end=True), Send(tuple(response)), HearEnd(), Finish()),
    )


def page(path: str, data: bytes = b"done") -> tuple[Frame, ...]:
    """A plain answer."""
    return (answers(path, ("content-type", "text/plain")), Body(path, data, end=True))
