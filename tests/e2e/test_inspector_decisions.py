"""What an inspector decides is what happens, whether bodies are kept or pass: it answers, kills, fails, holds."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h2.config
import h2.connection
import pytest

from tests.e2e.conftest import ISSUING, PUBLIC
from tests.harness.daemon import Daemon
from tests.harness.handled import Handled, Serve, Talk, answers, converse, to_the_end, until
from tests.harness.inspectors import Scripts
from tests.harness.processes import wait_for
from tests.harness.raw_http import Ended, Pipe, Way, connect
from tests.harness.shapes import ok

DENIES = """
from mitmproxy import http


def {hook}(flow):
    flow.response = http.Response.make(403, b"denied")
"""
RAISES = """
def request(flow):
    raise RuntimeError("a mistake of the inspector's")
"""
KILLS = """
def request(flow):
    flow.kill()
"""
LATE = """
from mitmproxy import http


def requestheaders(flow):
    flow.request.stream = lambda data: data


def request(flow):
    flow.response = http.Response.make(403, b"denied")
"""
STATUS = """
from mitmproxy import http


def request(flow):
    status = flow.request.path[1:]
    if status.isdigit():
        flow.response = http.Response.make(200)
        flow.response.status_code = int(status)


def response(flow):
    if "changed" in flow.request.path:
        flow.response.status_code = 101
"""
HOLDS = """
import asyncio
import logging
from pathlib import Path

folder = Path(__file__).parent
waiting = set()


def request(flow):
    flow.intercept()
    logging.info("held")
    task = asyncio.ensure_future(decide(flow))
    waiting.add(task)
    task.add_done_callback(waiting.discard)


async def decide(flow):
    while True:
        await asyncio.sleep(0.01)
        if folder.joinpath("resume").exists():
            return flow.resume()
        if folder.joinpath("kill").exists():
            return flow.kill()
"""
SLOW = """
import asyncio
import logging
from pathlib import Path


async def request(flow):
    logging.info(f"begins {flow.request.path}")
    while not Path(__file__).with_name("go-on").exists():
        await asyncio.sleep(0.01)


def error(flow):
    logging.info(f"error {flow.request.path}")
"""
LOOKS = """
import asyncio


async def request(flow):
    await asyncio.sleep(0)
"""
SCRIPTS: dict[str, tuple[str, dict[str, Any]]] = {
    "denies-none": (DENIES.format(hook="request"), {"body": "none"}),
    "denies-whole": (DENIES.format(hook="request"), {}),
    "denies-head": (DENIES.format(hook="responseheaders"), {}),
    "denies-behind": (DENIES.format(hook="response"), {"body": "none"}),
    "raises-none": (RAISES, {"body": "none"}),
    "kills-none": (KILLS, {"body": "none"}),
    "late": (LATE, {"body": "none"}),
    "status": (STATUS, {}),
    "holds": (HOLDS, {"timeout": 1}),
    "slow": (SLOW, {"timeout": 60}),
    "looks": (LOOKS, {}),
}
NAMES = tuple(f"{name}.example" for name in SCRIPTS)


@pytest.fixture(scope="module")
def server(scratch: Path) -> Iterator[Handled]:
    with Handled(scratch / "decided", ISSUING.leaf(NAMES)) as running:
        yield running


@pytest.fixture(scope="module")
def scripts(scratch: Path) -> Scripts:
    made = Scripts(scratch)
    for name, (text, settings) in SCRIPTS.items():
        made.add(name, text, **settings)
    return made


@pytest.fixture(scope="module")
def deciding(scratch: Path, scripts: Scripts) -> Iterator[Daemon]:
    hosts = dict.fromkeys(NAMES, "127.0.0.1")
    with Daemon(
        scratch / "deciding", hosts=hosts, common=PUBLIC, extra={"inspection": {"addons": scripts.addons}}
    ) as running:
        yield running


@pytest.fixture(autouse=True)
def unharmed(deciding: Daemon) -> Iterator[None]:
    yield
    assert not deciding.log("fault")


def talk(daemon: Daemon, server: Handled, name: str, request: bytes, serve: Serve, then: Any = None) -> Talk:
    way = Way("proxied", daemon.proxy, str(daemon.root))
    return converse(way, f"{name}.example", server, serve, request, then)


def post(name: str, path: str = "/", body: bytes = b"secret", *fields: bytes) -> bytes:
    more = b"".join(field + b"\r\n" for field in fields)
    first = f"POST {path} HTTP/1.1\r\nHost: {name}.example\r\nConnection: close\r\n".encode()
    return first + more + b"Content-Length: %d\r\n\r\n" % len(body) + body


def get(name: str, path: str = "/", close: bool = True) -> bytes:
    more = "Connection: close\r\n" if close else ""
    return f"GET {path} HTTP/1.1\r\nHost: {name}.example\r\n{more}\r\n".encode()


@pytest.mark.parametrize("name", ["denies-none", "denies-whole"])
def test_an_answer_to_a_request_keeps_it_from_the_server(deciding: Daemon, server: Handled, name: str) -> None:
    seen = talk(deciding, server, name, post(name), answers(ok(b"the server's")))
    assert seen.status == 403
    assert seen.client.endswith(b"denied")
    assert b"".join(seen.servers) == b""


def test_a_request_that_cannot_be_inspected_does_not_pass_though_it_streams(deciding: Daemon, server: Handled) -> None:
    seen = talk(deciding, server, "raises-none", post("raises-none"), answers(ok(b"the server's")))
    assert seen.status == 502
    assert b'details="inspector_failed"' in seen.client
    assert b"".join(seen.servers) == b""


def test_a_request_that_is_killed_does_not_pass_though_it_streams(deciding: Daemon, server: Handled) -> None:
    seen = talk(deciding, server, "kills-none", post("kills-none", "/killed"), answers(ok(b"the server's")))
    assert (seen.client, seen.ended) == (b"", "reset")
    assert b"".join(seen.servers) == b""
    assert deciding.wait_log("request", path="/killed", outcome="killed")


def test_an_answer_behind_a_streamed_body_leaves_the_request_without_its_end(deciding: Daemon, server: Handled) -> None:
    chunked = b"POST / HTTP/1.1\r\nHost: late.example\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n"
    serve: Serve = lambda pipe: until(pipe, b"0\r\n\r\n")  # noqa: E731 - it is one
    seen = talk(deciding, server, "late", chunked + b"6\r\nsecret\r\n0\r\n\r\n", serve)
    assert seen.status == 403
    assert not any(each.endswith(b"0\r\n\r\n") for each in seen.servers)


def test_an_answer_in_place_of_the_servers_is_all_that_the_client_gets(deciding: Daemon, server: Handled) -> None:
    body = b"X" * 6 + ok(b"EVIL")
    seen = talk(deciding, server, "denies-head", get("denies-head"), answers(ok(body)))
    assert seen.status == 403
    assert seen.client.endswith(b"\r\n\r\ndenied")
    assert seen.ended == "notify"


def test_an_answer_that_comes_too_late_cuts_the_one_under_way(deciding: Daemon, server: Handled) -> None:
    seen = talk(deciding, server, "denies-behind", get("denies-behind"), answers(ok(b"the server's")))
    assert seen.ended == "reset"
    assert deciding.wait_log("inspector failed", reason="an answer in place of one that is under way")


@pytest.mark.parametrize("path", ["/100", "/101", "/103", "/7", "/changed"])
def test_what_an_inspector_makes_of_a_response_has_to_be_an_answer(
    deciding: Daemon, server: Handled, path: str
) -> None:
    seen = talk(deciding, server, "status", get("status", path), answers(ok(b"the server's")))
    assert seen.status == 502
    assert b'details="inspector_failed"' in seen.client


@pytest.mark.parametrize(("decision", "status"), [("resume", 200), ("kill", 0)])
def test_a_flow_that_an_inspector_holds_waits_for_its_decision(
    deciding: Daemon, server: Handled, scripts: Scripts, decision: str, status: int
) -> None:
    file = scripts.folder / decision
    before = len(deciding.log("inspector says", message="held"))

    def decide(pipe: Pipe) -> None:
        wait_for("it to be held", lambda: len(deciding.log("inspector says", message="held")) > before)
        assert b"".join(bytes(each.received) for each in server.pipes) == b""
        file.touch()

    try:
        seen = talk(deciding, server, "holds", post("holds"), answers(ok(b"hello")), decide)
    finally:
        file.unlink(missing_ok=True)
    assert seen.status == status
    assert b"".join(seen.servers).endswith(b"secret") is (decision == "resume")


def test_a_client_that_ends_with_its_request_is_answered(deciding: Daemon, server: Handled, scripts: Scripts) -> None:
    """Request and close_notify in one TCP write, while a hook waits."""
    go_on = scripts.folder / "go-on"
    way = Way("proxied", deciding.proxy, str(deciding.root))
    server.begin(answers(ok(b"hello")))
    try:
        with connect(way, "slow.example", server.port, "http/1.1") as pipe:
            pipe.tls.write(get("slow", "/half", close=False))
            pipe.notify()
            deciding.wait_log("inspector says", message="begins /half")
            go_on.touch()
            with pytest.raises(Ended) as ended:
                until(pipe, b"never")
            assert ended.value.how == "notify"
            assert pipe.received.endswith(b"hello")
    finally:
        go_on.unlink(missing_ok=True)


def test_all_requests_before_a_clients_end_are_answered(deciding: Daemon, server: Handled) -> None:
    requests = b"".join(get("looks", path, close=False) for path in ("/1", "/2", "/3"))
    seen = talk(
        deciding, server, "looks", requests, answers(ok(b"one"), ok(b"two"), ok(b"three")), lambda pipe: pipe.notify()
    )
    assert seen.client.count(b"HTTP/1.1 200") == 3
    assert seen.ended == "notify"


def test_a_request_that_a_clients_end_cuts_is_not_answered(deciding: Daemon, server: Handled) -> None:
    requests = get("looks", "/1", close=False) + post("looks", "/cut")[:-2]
    seen = talk(deciding, server, "looks", requests, answers(ok(b"one"), ok(b"two")), lambda pipe: pipe.notify())
    assert b"two" not in seen.client
    assert deciding.wait_log("request", path="/1", outcome="complete")


def test_an_error_is_told_once(deciding: Daemon, scratch: Path, scripts: Scripts) -> None:
    """RST_STREAM while a hook waits."""
    go_on = scripts.folder / "go-on"
    way = Way("proxied", deciding.proxy, str(deciding.root))
    try:
        with (
            Handled(scratch / "decided-h2", ISSUING.leaf("slow.example"), alpn="h2") as server,
            connect(way, "slow.example", server.port, "h2") as pipe,
        ):
            server.begin(to_the_end)
            end = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True))
            end.initiate_connection()
            fields = [(":method", "GET"), (":scheme", "https"), (":authority", "slow.example"), (":path", "/reset")]
            end.send_headers(1, fields, end_stream=True)
            pipe.send(end.data_to_send())
            deciding.wait_log("inspector says", message="begins /reset")
            end.reset_stream(1, 8)
            pipe.send(end.data_to_send())
            end.ping(b"12345678")
            pipe.send(end.data_to_send())
            until(pipe, b"12345678")
            go_on.touch()
            entry = deciding.wait_log("request", path="/reset")[0]
    finally:
        go_on.unlink(missing_ok=True)
    assert entry["outcome"] == "reset"
    assert len(deciding.log("inspector says", message="error /reset")) == 1
