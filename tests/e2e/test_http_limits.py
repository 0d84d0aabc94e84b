"""Heads beyond their limits, and HTTP/2 peers that make work for nothing: in both lanes, with a canary beside it."""

from __future__ import annotations

import contextlib
import json
import socket
import ssl
import struct
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from proxy.lanes.http2_frames import (
    CONTINUATION,
    DATA,
    HEADERS,
    PING,
    PREFACE,
    PRIORITY,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
)
from proxy.lanes.http2_sieve import ENHANCE_YOUR_CALM, REFUSED_STREAM, frame
from tests.e2e.conftest import ISSUING, PUBLIC
from tests.e2e.http2_frames import Raw, request
from tests.harness.curl import command, curl
from tests.harness.daemon import Daemon
from tests.harness.inspectors import Scripts
from tests.harness.origins import Nginx, Site
from tests.harness.processes import pss_kib, wait_for
from tests.harness.programs import need

HOST = {"fast": "fast.example", "seen": "seen.example"}
LANES = pytest.mark.parametrize("lane", HOST)
VERSIONS = pytest.mark.parametrize("version", ["--http1.1", "--http2"])
LOOKS = """
def responseheaders(flow):
    flow.response.headers["x-seen"] = "yes"
"""
KIB = 1024
LINES = ("large_client_header_buffers 8 256k;", "client_max_body_size 0;")


@pytest.fixture(scope="module")
def site(scratch: Path) -> Iterator[Nginx]:
    need("nginx")
    need("curl")
    lines = (
        *LINES,
        "location /many { " + " ".join(f"add_header X-{n} y;" for n in range(250)) + " return 200 x; }",
        "location /large { " + " ".join(f"add_header X-{n} {'y' * 2000};" for n in range(20)) + " return 200 x; }",
        "location /heavy { " + " ".join(f"add_header X-{n} {'y' * 2000};" for n in range(14)) + " return 200 x; }",
    )
    with Nginx(scratch / "http-limits", [Site("origin", ISSUING.leaf(list(HOST.values())), lines=lines)]) as nginx:
        nginx.file("image", 20_000)
        nginx.file("bulk.bin", 20 << 20)
        yield nginx


@pytest.fixture(scope="module")
def target(scratch: Path, site: Nginx) -> Iterator[Daemon]:
    scripts = Scripts(scratch)
    scripts.add("seen", LOOKS)
    hosts = dict.fromkeys(HOST.values(), "127.0.0.1")
    with Daemon(
        scratch / "target",
        hosts=hosts,
        common=PUBLIC,
        extra={"inspection": {"addons": scripts.addons}, "limits": {"header_bytes": 32 * KIB}},
    ) as it:
        yield it


@pytest.fixture(autouse=True)
def unharmed(target: Daemon, site: Nginx) -> Iterator[None]:
    yield
    for host in HOST.values():
        assert curl(target, site["origin"].url("/", host)).status == 200
    assert [entry["where"] for entry in target.log("fault")] == []
    assert "Traceback" not in target.stderr_text()


@contextlib.contextmanager
def connected(target: Daemon, site: Nginx, lane: str, alpn: str) -> Iterator[ssl.SSLSocket]:
    context = ssl.create_default_context(cafile=str(target.root))
    context.set_alpn_protocols([alpn])
    address, _, port = target.proxy.partition(":")
    where = f"{HOST[lane]}:{site['origin'].port}"
    with socket.create_connection((address, int(port)), timeout=10) as raw:
        raw.sendall(f"CONNECT {where} HTTP/1.1\r\nHost: {where}\r\n\r\n".encode())
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += raw.recv(1)
        with context.wrap_socket(raw, server_hostname=HOST[lane]) as tls:
            assert tls.selected_alpn_protocol() == alpn
            yield tls


HELD_UP = 5.0
"""Seconds that nobody else may wait: many times what it takes, for a machine that has other work."""


class Canary:
    """One who asks again and again on a connection of its own; ``worst`` is the longest that an answer took."""

    def __init__(self, target: Daemon, site: Nginx) -> None:
        self.worst = 0.0
        self.answers = 0
        self._stop = threading.Event()
        self._where = target, site
        self._thread = threading.Thread(target=self._ask, daemon=True)

    def _ask(self) -> None:
        asked = b"GET / HTTP/1.1\r\nHost: fast.example\r\n\r\n"
        with connected(*self._where, "fast", "http/1.1") as tls:
            while not self._stop.wait(0.005):
                started = time.monotonic()
                tls.sendall(asked)
                answer = tls.recv(65536)
                assert answer.startswith(b"HTTP/1.1 200 ")
                while b"hello from" not in answer:
                    answer += tls.recv(65536)
                self.worst = max(self.worst, time.monotonic() - started)
                self.answers += 1

    def __enter__(self) -> Canary:
        self._thread.start()
        wait_for("the canary's first answer", lambda: self.answers)
        return self

    def __exit__(self, *_: object) -> None:
        before = self.answers
        wait_for("the canary's next answer", lambda: self.answers > before)
        self._stop.set()
        self._thread.join(10)


# --- heads ---


@LANES
@VERSIONS
@pytest.mark.parametrize(
    ("fields", "detail"),
    [
        ([f"X-{n}: y" for n in range(201)], "header_fields"),
        ([f"X-{n}: {'y' * 2000}" for n in range(20)], "header_bytes"),
    ],
)
def test_a_request_with_too_much_of_a_head_gets_431_and_the_server_nothing(
    target: Daemon, site: Nginx, lane: str, version: str, fields: list[str], detail: str
) -> None:
    path = f"/refused-{lane}{version}{detail}"
    asked = [part for one in fields for part in ("-H", one)]
    result = curl(target, site["origin"].url(path, HOST[lane]), version, "-H", "Accept: application/json", *asked)
    assert (result.exit_code, result.status) == (0, 431)
    assert result.proxy_status == f'sallyport; error=http_request_error; details="{detail}"'
    assert json.loads(result.body)["details"] == detail
    assert target.wait_log("refused", status=431, details=detail, host=HOST[lane])
    assert not [entry for entry in site.requests() if path in entry["uri"]]


@LANES
@VERSIONS
@pytest.mark.parametrize(("path", "detail"), [("/many", "header_fields"), ("/large", "header_bytes")])
def test_a_response_with_too_much_of_a_head_becomes_502(
    target: Daemon, site: Nginx, lane: str, version: str, path: str, detail: str
) -> None:
    result = curl(target, site["origin"].url(path, HOST[lane]), version)
    assert (result.exit_code, result.status) == (0, 502)
    assert result.proxy_status == f'sallyport; error=http_response_header_section_size; details="{detail}"'
    assert "x-1" not in result.headers
    assert target.wait_log("refused", status=502, details=detail, host=HOST[lane])


@LANES
@VERSIONS
def test_a_heavy_head_within_the_limits_passes(target: Daemon, site: Nginx, lane: str, version: str) -> None:
    asked = [part for n in range(14) for part in ("-H", f"X-{n}: {'y' * 2000}")]
    result = curl(target, site["origin"].url("/heavy", HOST[lane]), version, *asked)
    assert result.status == 200
    assert len(result.headers["x-13"]) == 2000


def test_cookies_that_http2_has_cut_into_many_fields_count_as_one(target: Daemon, site: Nginx) -> None:
    crumbs = [("cookie", f"a{n}=b") for n in range(250)]
    for lane, host in HOST.items():
        with connected(target, site, lane, "h2") as tls:
            raw = Raw(tls)
            raw.begin()
            tls.sendall(request(1, host, *crumbs))
            while 1 not in raw.ended:
                assert raw.read()
            assert 1 in raw.bodies


@LANES
def test_a_flood_of_headers_is_answered_and_takes_no_memory(target: Daemon, site: Nginx, lane: str) -> None:
    """256 MiB, if they were read."""
    worker = target.pids().workers[0]
    before = pss_kib(worker)
    with connected(target, site, lane, "http/1.1") as tls, Canary(target, site) as canary:
        raw = Raw(tls)
        tls.sendall(b"GET /flood HTTP/1.1\r\nHost: " + HOST[lane].encode() + b"\r\n")
        raw.flood(b"X-Flood: " + b"y" * 1000 + b"\r\n", 250_000)
        answer = b""
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            while piece := tls.recv(65536):
                answer += piece
    assert answer.startswith(b"HTTP/1.1 431 ")
    assert pss_kib(worker) - before < 16 * KIB
    assert canary.worst < HELD_UP


# --- floods of HTTP/2 ---


def opened(number: int, host: str) -> bytes:
    return b"".join(
        request(stream, host) + frame(RST_STREAM, 0, stream, struct.pack(">L", 8)) for stream in range(1, 2 * number, 2)
    )


FLOODS: dict[str, tuple[str, Callable[[str], tuple[bytes, int]]]] = {
    "resets": ("resets", lambda host: (opened(20_000, host), 1)),
    "ping": ("pings", lambda host: (frame(PING, 0, 0, bytes(8)), 100_000)),
    "settings": ("settings", lambda host: (frame(SETTINGS, 0, 0, b""), 100_000)),
    "priority": ("control", lambda host: (frame(PRIORITY, 0, 1, bytes(5)), 100_000)),
    "window updates of nothing": ("control", lambda host: (frame(WINDOW_UPDATE, 0, 0, b"\0\0\0\1"), 100_000)),
    "unknown frames": ("control", lambda host: (frame(0xBB, 0, 0, b""), 100_000)),
    "empty DATA": ("empty", lambda host: (frame(DATA, 0, 1, b""), 100_000)),
    "CONTINUATION": ("continuation", lambda host: (frame(CONTINUATION, 0, 3, b"\0"), 100_000)),
    "empty CONTINUATION": ("continuation", lambda host: (frame(CONTINUATION, 0, 3, b""), 100_000)),
}


@LANES
@pytest.mark.parametrize("name", FLOODS)
def test_a_flood_is_told_to_calm_down_and_harms_nobody_else(target: Daemon, site: Nginx, lane: str, name: str) -> None:
    kind, make = FLOODS[name]
    data, times = make(HOST[lane])
    worker = target.pids().workers[0]
    before, log = pss_kib(worker), len(target.log("over a limit", kind=kind, host=HOST[lane]))
    with Canary(target, site) as canary, connected(target, site, lane, "h2") as tls:
        started = time.monotonic()
        raw = Raw(tls)
        raw.begin()
        if name == "empty DATA":
            tls.sendall(request(1, HOST[lane], flags=4))
        elif "CONTINUATION" in name:
            tls.sendall(frame(HEADERS, 1, 3, b"\x82"))
        raw.storm(data, times)
        assert time.monotonic() - started < 10  # 5, and as much again for a machine that has other work
    assert ENHANCE_YOUR_CALM in raw.codes or not raw.codes  # a RST that follows can overtake it
    wait_for("one line in the log", lambda: len(target.log("over a limit", kind=kind, host=HOST[lane])) == log + 1)
    assert pss_kib(worker) - before < 16 * KIB
    assert canary.worst < HELD_UP


@LANES
def test_a_block_without_end_ends_the_connection(target: Daemon, site: Nginx, lane: str) -> None:
    with connected(target, site, lane, "h2") as tls:
        raw = Raw(tls)
        raw.begin()
        tls.sendall(frame(HEADERS, 1, 1, bytes(16384)))
        raw.flood(frame(CONTINUATION, 0, 1, bytes(16384)), 20)
        while raw.read():
            pass
    assert raw.codes or raw.heads
    if lane == "fast":
        assert target.wait_log("refused", status=431, host=HOST[lane])
    else:
        assert target.wait_log("over a limit", kind="header_bytes", host=HOST[lane])


def test_streams_beyond_the_limit_are_refused_and_the_others_answered(target: Daemon, site: Nginx) -> None:
    """RFC 9113 section 5.1.2: a client that has not seen our SETTINGS does not know better."""
    with connected(target, site, "seen", "h2") as tls:
        raw = Raw(tls)
        tls.sendall(PREFACE + frame(SETTINGS, 0, 0, b""))
        tls.sendall(b"".join(request(stream, HOST["seen"], flags=4) for stream in range(1, 241, 2)))
        tls.sendall(b"".join(frame(DATA, 1, stream, b"") for stream in range(1, 241, 2)))
        while len(raw.ended) < 120:
            assert raw.read(), raw
        assert set(raw.resets.values()) == {REFUSED_STREAM}
        assert sorted(raw.resets) == list(range(201, 241, 2))
        tls.sendall(request(301, HOST["seen"]))
        while 301 not in raw.ended:
            assert raw.read()
        assert 301 in raw.bodies


# --- what is heavy, and right ---


@LANES
@pytest.mark.parametrize("parallel", [1, 100])
def test_a_page_of_300_requests_over_one_connection(
    target: Daemon, site: Nginx, lane: str, parallel: int, tmp_path: Path
) -> None:
    url = site["origin"].url("/image?[1-300]", HOST[lane])
    args = ["--http2", "-o", "/dev/null", "-w", "%{http_code} %{size_download}\\n", "--no-progress-meter"]
    args += ["--parallel", "--parallel-max", str(parallel)] if parallel > 1 else []
    done = subprocess.run(command(target, url, *args), capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout.split("\n")[:300] == ["200 20000"] * 300, done.stderr
    assert not target.log("over a limit", host=HOST[lane], side="server")


@LANES
def test_fifty_images_that_are_cancelled_at_once_and_what_is_asked_then(target: Daemon, site: Nginx, lane: str) -> None:
    with connected(target, site, lane, "h2") as tls:
        raw = Raw(tls)
        raw.begin()
        for round in range(3):
            first = 1 + 200 * round
            streams = range(first, first + 100, 2)
            tls.sendall(b"".join(request(stream, HOST[lane]) for stream in streams))
            raw.read()
            tls.sendall(b"".join(frame(RST_STREAM, 0, stream, struct.pack(">L", 8)) for stream in streams))
            last = first + 100
            tls.sendall(request(last, HOST[lane]))
            while last not in raw.ended:
                assert raw.read()
            assert last in raw.bodies
    assert not raw.codes


@LANES
def test_an_upload_of_many_small_frames_with_pings_and_window_updates(target: Daemon, site: Nginx, lane: str) -> None:
    with connected(target, site, lane, "h2") as tls:
        raw = Raw(tls)
        raw.begin()
        tls.sendall(request(1, HOST[lane], ("content-length", "30000"), flags=4))
        for _ in range(300):
            tls.sendall(
                frame(DATA, 0, 1, b"x") * 100
                + frame(PING, 0, 0, bytes(8))
                + frame(WINDOW_UPDATE, 0, 0, b"\0\0\0\1") * 100
            )
        tls.sendall(frame(DATA, 1, 1, b""))
        while 1 not in raw.ended:
            assert raw.read(), raw.codes
    assert 1 in raw.heads
    assert not raw.codes


@LANES
def test_a_download_whose_reader_updates_the_windows_at_each_frame(target: Daemon, site: Nginx, lane: str) -> None:
    url = site["origin"].url("/bulk.bin", HOST[lane])
    result = curl(target, url, "--http2")
    assert (result.status, len(result.body)) == (200, 20 << 20)
    assert not target.log("over a limit", host=HOST[lane], kind="control", side="server")
