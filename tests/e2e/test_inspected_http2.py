"""HTTP/2 in the inspection lane against peers that play by their own rules: turns, windows, ends, floods."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hyperframe import frame as frames

from tests.e2e.conftest import ISSUING, PUBLIC
from tests.harness.daemon import Daemon
from tests.harness.inspectors import Scripts
from tests.harness.processes import pss_kib, wait_for
from tests.harness.raw_http import Ended, Pipe
from tests.harness.raw_http2 import RawHttp2, TlsServer, through

HOST = "turns.example"
LOOKS = """
    def requestheaders(flow):
        pass
"""
SLOW = """
    import asyncio
    import logging


    under_way = 0


    async def requestheaders(flow):
        global under_way
        under_way += 1
        logging.info(f"most {under_way}")
        try:
            await asyncio.sleep(3)
        finally:
            under_way -= 1
"""
REFUSED_STREAM, CALM = 7, 11
MIB = 1 << 20
Play = Callable[[RawHttp2], None]


class Stage:
    """One server for all the tests of the module: each sets what it plays next."""

    def __init__(self) -> None:
        self.settings: dict[int, int] = {}
        self.play: Play = lambda end: None
        self.ends: list[RawHttp2] = []
        self.go_on = threading.Event()

    def serve(self, pipe: Pipe) -> None:
        end = RawHttp2(pipe, serves=True, settings=self.settings)
        self.ends.append(end)
        self.play(end)

    def set(self, play: Play, settings: dict[int, int] | None = None) -> None:
        self.play, self.settings = play, settings or {}
        self.ends.clear()
        self.go_on.clear()


@pytest.fixture(scope="module")
def stage() -> Stage:
    return Stage()


@pytest.fixture(scope="module")
def server(scratch: Path, stage: Stage) -> Iterator[TlsServer]:
    with TlsServer(scratch / "http2", ISSUING.leaf([HOST, "slow.example"]), stage.serve) as running:
        yield running


@pytest.fixture(scope="module")
def target(scratch: Path) -> Iterator[Daemon]:
    scripts = Scripts(scratch / "inspected")
    scripts.add("turns", LOOKS, body="none")
    scripts.add("slow", SLOW, body="none", timeout=30)
    with Daemon(
        scratch / "inspected", hosts=dict.fromkeys([HOST, "slow.example"], "127.0.0.1"), common=PUBLIC,
        extra={"inspection": {"addons": scripts.addons}, "limits": {"http2_stream_window": MIB}},
    ) as running:  # fmt: skip
        yield running


@pytest.fixture
def client(target: Daemon, server: TlsServer, request: pytest.FixtureRequest) -> Iterator[Callable[..., RawHttp2]]:
    opened: list[Pipe] = []

    def connect(host: str = HOST, **more: bool) -> RawHttp2:
        pipe = through(target.proxy, target.root, host, server.port)
        opened.append(pipe)
        return RawHttp2(pipe, serves=False, **more)

    yield connect
    for pipe in opened:
        pipe.close()
    assert not target.log("fault")


def first_request(end: RawHttp2) -> None:
    end.until(lambda came: came.kind == "Headers")


def rests(end: RawHttp2) -> None:
    end.until(lambda came: False, 20)


def asked_for(stage: Stage, path: bytes) -> None:
    """Wait until the server has that request."""
    wait_for(
        f"{path!r} at the server",
        lambda: [
            came
            for end in stage.ends
            for came in list(end.seen)
            if came.kind == "Headers" and dict(came.told).get(b":path") == path
        ],
        timeout=30,
    )


def one_and_two_that_wait(stage: Stage, client: RawHttp2) -> None:
    """Ask for one, and for two more when the server has it; only then does the server go on."""
    client.ask(1, "/1", host=HOST)
    asked_for(stage, b"/1")
    for stream in (3, 5):
        client.ask(stream, f"/{stream}", host=HOST)
    settled(client)
    stage.go_on.set()


def settled(client: RawHttp2) -> None:
    """The proxy has taken all that was sent before: a PING comes back."""
    mark = b"settled!"
    client.raw(frames.PingFrame(0, opaque_data=mark).serialize())
    assert client.until(lambda came: came.kind == "Ping")


ONE_AT_A_TIME = {3: 1}


def test_requests_that_wait_are_given_back_where_the_server_goes(stage: Stage, client: Callable[..., RawHttp2]) -> None:
    def goes(end: RawHttp2) -> None:
        first_request(end)
        stage.go_on.wait(30)
        end.goaway(1)
        end.answer(1)
        rests(end)

    stage.set(goes, ONE_AT_A_TIME)
    asking = client()
    one_and_two_that_wait(stage, asking)
    assert all(map(asking.over, (1, 3, 5)))
    assert asking.told(1, "Headers")[0][0] == (b":status", b"200")
    assert asking.told(3, "RstStream") == asking.told(5, "RstStream") == [REFUSED_STREAM]
    assert [came.stream for came in stage.ends[0].seen if came.kind == "Headers"] == [1]


def test_requests_that_wait_are_given_back_where_the_server_closes(
    stage: Stage, client: Callable[..., RawHttp2]
) -> None:
    def closes(end: RawHttp2) -> None:
        first_request(end)
        stage.go_on.wait(30)
        end.pipe.notify()
        end.pipe.close()

    stage.set(closes, ONE_AT_A_TIME)
    asking = client()
    one_and_two_that_wait(stage, asking)
    assert all(map(asking.over, (1, 3, 5)))
    assert asking.told(1, "Headers")[0][0] == (b":status", b"502")
    assert asking.told(3, "RstStream") == asking.told(5, "RstStream") == [REFUSED_STREAM]


def test_a_body_does_not_overtake_its_request_in_the_queue(stage: Stage, client: Callable[..., RawHttp2]) -> None:
    def answers(end: RawHttp2) -> None:
        end.until(lambda came: came.stream == 3 and came.ends)
        end.answer(3)
        rests(end)

    stage.set(answers, ONE_AT_A_TIME)
    asking = client()
    asking.ask(1, "/one", host=HOST)
    asked_for(stage, b"/one")
    asking.ask(3, "/two", host=HOST, method="POST", end=False)
    settled(asking)
    asking.reset(1)
    asking.data(3, b"FIRST-")
    asking.data(3, b"SECOND", end=True)
    assert asking.over(3)
    assert asking.told(3, "Headers")[0][0] == (b":status", b"200")
    assert bytes(stage.ends[0].body[3]) == b"FIRST-SECOND"


def test_a_request_that_was_reset_in_the_queue_is_never_asked(stage: Stage, client: Callable[..., RawHttp2]) -> None:
    def answers(end: RawHttp2) -> None:
        end.until(lambda came: came.kind == "Headers" and dict(came.told)[b":path"] == b"/three")
        end.answer(max(came.stream for came in end.seen if came.kind == "Headers"))
        rests(end)

    stage.set(answers, ONE_AT_A_TIME)
    asking = client()
    asking.ask(1, "/one", host=HOST)
    asked_for(stage, b"/one")
    asking.ask(3, "/two", host=HOST)
    settled(asking)
    asking.reset(3)
    asking.reset(1)
    asking.ask(5, "/three", host=HOST)
    assert asking.over(5)
    paths = [dict(came.told)[b":path"] for came in stage.ends[0].seen if came.kind == "Headers"]
    assert paths == [b"/one", b"/three"]


@pytest.mark.parametrize("size", [100_000, 300_000])
def test_an_answer_is_whole_though_the_server_has_gone(
    stage: Stage, client: Callable[..., RawHttp2], size: int
) -> None:
    def answers_and_goes(end: RawHttp2) -> None:
        first_request(end)
        end.answer(1, end=False)
        for at in range(0, size, 10_000):
            end.data(1, b"x" * 10_000, end=at + 10_000 == size)
        end.pipe.notify()
        end.pipe.close()

    stage.set(answers_and_goes)
    asking = client()
    asking.ask(1, host=HOST)
    assert asking.until(lambda came: came.stream == 1 and came.ends)
    assert len(asking.body[1]) == size


@pytest.mark.parametrize("status", ["1xx", "abc", "-200", "+200", "2_00", "0200", "20"])
def test_a_status_that_is_none_is_no_fault_and_no_answer(
    stage: Stage, client: Callable[..., RawHttp2], status: str
) -> None:
    def answers(end: RawHttp2) -> None:
        first_request(end)
        end.answer(1, status)
        rests(end)

    stage.set(answers)
    asking = client()
    asking.ask(1, host=HOST)
    assert asking.over(1)
    assert asking.told(1, "Headers")[0][0] == (b":status", b"502")


def test_a_peer_that_takes_nothing_is_read_no_more(
    stage: Stage, client: Callable[..., RawHttp2], target: Daemon
) -> None:
    stage.set(rests)
    asking = client()
    asking.ask(1, host=HOST)
    settled(asking)
    worker = target.pids().workers[0]
    before = pss_kib(worker)
    pings = frames.PingFrame(0, opaque_data=b"flooding").serialize() * 4096
    asking.pipe.socket.settimeout(2)
    with contextlib.suppress(Ended, OSError):  # it is closed, or nothing more is taken of it
        for _ in range(600):
            asking.raw(pings)
        pytest.fail("40 MB of PINGs were taken from a peer that reads nothing")
    assert pss_kib(worker) - before < 24 * 1024


def test_what_is_held_for_windows_that_stay_shut_is_bounded(
    stage: Stage, client: Callable[..., RawHttp2], target: Daemon
) -> None:
    begun = threading.Event()

    def answers(end: RawHttp2) -> None:
        end.pipe.socket.settimeout(20)
        while True:
            end._take()
            for came in [each for each in end.seen if each.kind == "Headers"]:
                end.seen.remove(came)
                end.answer(came.stream, end=False)
                begun.set()
                for at in range(64):
                    end.data(came.stream, b"y" * 16_000, end=at == 63)

    stage.set(answers, {3: 1000})
    asking = client(opens=False)
    worker = target.pids().workers[0]
    before = pss_kib(worker)
    asking.raw(frames.SettingsFrame(0, settings={4: 0}).serialize())
    asking.until(lambda came: came.kind == "Settings")
    for stream in range(1, 160, 2):
        asking.ask(stream, host=HOST)
    assert begun.wait(20)
    asking.until(lambda came: False, 3)
    assert pss_kib(worker) - before < 40 * 1024


def test_resets_make_no_room_for_more_hooks(stage: Stage, client: Callable[..., RawHttp2], target: Daemon) -> None:
    stage.set(rests)
    asking = client("slow.example")
    asking.until(lambda came: came.kind == "Settings")
    with contextlib.suppress(Ended, OSError):  # the connection may be ended for it
        for stream in range(1, 1400, 2):
            asking.ask(stream, host="slow.example")
            asking.reset(stream)
        asking.until(lambda came: came.kind in ("RstStream", "GoAway") and came.told == CALM)
    said = wait_for("the hooks to begin", lambda: [e["message"] for e in target.log("inspector says")])
    assert max(int(message.split()[1]) for message in said if message.startswith("most")) <= 256
