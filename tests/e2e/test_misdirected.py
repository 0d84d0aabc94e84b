"""Requests for another host on an intercepted connection: answered 421, and no server ever sees one."""

from __future__ import annotations

import contextlib
import json
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import h2.config
import h2.connection
import h2.events
import pytest

from tests.e2e.conftest import ISSUING, PUBLIC
from tests.harness.curl import command, curl
from tests.harness.daemon import Daemon
from tests.harness.origins import Nginx, Site, WebSocketEcho
from tests.harness.processes import wait_for
from tests.harness.programs import need

HOSTS = {"one.example": "127.0.0.1", "other.example": "127.0.0.1"}
GOAWAY = 7


@pytest.fixture(scope="module")
def site(scratch: Path) -> Iterator[Nginx]:
    """Two names on one server, with one certificate for both: what makes clients reuse a connection."""
    need("nginx")
    need("curl")
    identity = ISSUING.leaf(["one.example", "other.example"])
    with WebSocketEcho() as echo:
        one = Site("one.example", identity, websocket=echo.where, lines=("server_name other.example;",))
        with Nginx(scratch / "two-names", [one]) as nginx:
            yield nginx


@pytest.fixture(scope="module")
def target(scratch: Path, site: Nginx) -> Iterator[Daemon]:
    with Daemon(scratch / "target", hosts=HOSTS, common=PUBLIC) as running:
        yield running


@pytest.fixture(autouse=True)
def unharmed(target: Daemon, site: Nginx) -> Iterator[None]:
    """Around a test: service as ever, every socket closed, and no request for the other name in the server's log."""
    url = site["one.example"].url()
    assert curl(target, url).status == 200
    worker = target.pids().workers[0]
    before = target.resting_files(worker)
    yield
    assert curl(target, url).status == 200
    wait_for("every socket to close", lambda: target.open_files(worker) <= before)
    assert not target.log("fault")
    assert "Traceback" not in target.stderr_text()
    assert not [entry for entry in site.requests() if "evil" in entry["uri"] or entry["status"] == 400]


@contextlib.contextmanager
def connected(through: Daemon, port: int, alpn: str, host: str = "one.example") -> Iterator[ssl.SSLSocket]:
    """TLS inside a tunnel; an end without close_notify is an error."""
    context = ssl.create_default_context(cafile=str(through.root))
    context.set_alpn_protocols([alpn])
    address, _, proxy_port = through.proxy.partition(":")
    with socket.create_connection((address, int(proxy_port)), timeout=20) as raw:
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        raw.sendall(f"CONNECT {host}:{port} HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n".encode())
        received = b""
        while not received.endswith(b"\r\n\r\n"):
            received += raw.recv(1)
        assert received.startswith(b"HTTP/1.1 200 ")
        with context.wrap_socket(raw, server_hostname=host, suppress_ragged_eofs=False) as tls:
            assert tls.selected_alpn_protocol() == alpn
            yield tls


def logged(site: Nginx, good: str, *evil: str) -> list[str]:
    """Which of these the server has logged, once it has the good one: it logs a moment after it has answered."""

    def seen() -> list[str]:
        return [entry["uri"] for entry in site.requests() if entry["uri"] in (good, *evil)]

    wait_for(f"{good} in the server's log", lambda: good in seen())
    return seen()


def to_end(tls: ssl.SSLSocket) -> bytes:
    received = b""
    while chunk := tls.recv(65536):
        received += chunk
    return received


@pytest.mark.parametrize("version", ["--http1.1", "--http2"])
def test_curl_with_another_host_gets_421_and_the_server_nothing(target: Daemon, site: Nginx, version: str) -> None:
    result = curl(target, site["one.example"].url("/evil-curl"), version, "-H", "Host: other.example")
    assert (result.exit_code, result.status) == (0, 421)
    assert result.proxy_status == 'sallyport; error=http_request_denied; details="misdirected"'
    assert result.headers["cache-control"] == "no-store"
    assert "other.example" in result.text
    assert result.http_version == version.removeprefix("--http")
    refused = target.wait_log("refused", details="misdirected")[-1]
    assert (refused["host"], refused["status"]) == ("one.example", 421)
    assert "other.example" in refused["reason"]
    assert not target.log("request", path="/evil-curl")


@pytest.mark.parametrize("version", ["--http1.1", "--http2"])
def test_a_problem_document_for_who_wants_json(target: Daemon, site: Nginx, version: str) -> None:
    asked = ("-H", "Host: other.example", "-H", "Accept: application/json")
    result = curl(target, site["one.example"].url("/evil-json"), version, *asked)
    assert result.headers["content-type"] == "application/problem+json"
    assert json.loads(result.body)["details"] == "misdirected"


@pytest.mark.parametrize("host", ["one.example", "ONE.Example.", "one.example:443", "one.example:1"])
@pytest.mark.parametrize("version", ["--http1.1", "--http2"])
def test_the_same_host_in_other_words_is_served(target: Daemon, site: Nginx, version: str, host: str) -> None:
    assert curl(target, site["one.example"].url(), version, "-H", f"Host: {host}").status == 200


@pytest.mark.parametrize("version", ["--http1.1", "--http2"])
def test_on_a_connection_that_was_used_before_the_second_request_is_refused(
    target: Daemon, site: Nginx, version: str
) -> None:
    url, first_path = site["one.example"].url, f"/?first{version}"
    form = "%{http_code} %{num_connects}\\n"
    first = [version, "--cacert", str(target.root), "--proxy", f"http://{target.proxy}", "-w", form, "-o", "/dev/null"]
    done = subprocess.run(
        [*command(target, url(first_path), version, "-w", form, "-o", "/dev/null"),
         "--next", *first, "-H", "Host: other.example", url("/evil-second")],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.stdout.splitlines() == ["200 1", "421 0"], done.stderr
    assert logged(site, first_path, "/evil-second") == [first_path]


@pytest.mark.parametrize("version", ["--http1.1", "--http2"])
def test_an_upload_to_another_host_is_told_and_none_of_it_arrives(
    target: Daemon, site: Nginx, tmp_path: Path, version: str
) -> None:
    body = tmp_path / "body"
    with body.open("wb") as file:
        file.truncate(300_000)
    result = curl(
        target, site["one.example"].url("/upload/evil"), version, "-T", str(body), "-H", "Host: other.example"
    )
    assert result.status == 421
    assert not site.uploaded("evil").exists()


def test_pipelined_requests_are_answered_in_their_order(target: Daemon, site: Nginx) -> None:
    site.file("pipelined.bin", 100_000)
    good = b"GET /slow/pipelined.bin HTTP/1.1\r\nHost: one.example\r\n\r\n"
    evil = b"GET /evil-pipelined HTTP/1.1\r\nHost: other.example\r\n\r\n"
    with connected(target, site["one.example"].port, "http/1.1") as tls:
        tls.sendall(good + b"GET /status/404 HTTP/1.1\r\nHost: one.example\r\n\r\n" + evil + good)
        answers = to_end(tls)
    places = [answers.index(b"HTTP/1.1 " + status) for status in (b"200 ", b"404 ", b"421 ")]
    assert places == sorted(places)
    assert answers.count(b"HTTP/1.1 ") == 3


def test_a_request_that_comes_byte_by_byte_never_begins_for_the_server(target: Daemon, site: Nginx) -> None:
    good = b"GET /status/404?bytewise HTTP/1.1\r\nHost: one.example\r\n\r\n"
    evil = b"GET /evil-bytewise HTTP/1.1\r\nHost: other.example\r\n\r\n"
    with connected(target, site["one.example"].port, "http/1.1") as tls:
        for byte in good + evil:
            tls.sendall(bytes([byte]))
        answers = to_end(tls)
    assert answers.startswith(b"HTTP/1.1 404 ")
    assert answers.count(b"HTTP/1.1 421 ") == 1
    assert logged(site, "/status/404?bytewise", "/evil-bytewise") == ["/status/404?bytewise"]


def test_a_websocket_to_another_host_is_not_opened(target: Daemon, site: Nginx) -> None:
    from websockets.exceptions import InvalidStatus
    from websockets.sync.client import connect

    context = ssl.create_default_context(cafile=str(target.root))
    url = site["one.example"].url("/ws?evil").replace("https", "wss")
    with (
        connected(target, site["one.example"].port, "http/1.1") as tls,
        pytest.raises(InvalidStatus) as caught,
        connect(url.replace("one.example", "other.example").replace("wss", "ws"), sock=tls, compression=None),
    ):
        pass
    assert caught.value.response.status_code == 421
    with connect(url.replace("?evil", ""), ssl=context, proxy=f"http://{target.proxy}", compression=None) as good:
        good.send("hello")
        assert good.recv(timeout=20) == "hello"


def test_a_request_without_a_host_is_malformed(target: Daemon, site: Nginx) -> None:
    with connected(target, site["one.example"].port, "http/1.1") as tls:
        tls.sendall(b"GET /evil HTTP/1.1\r\n\r\n")
        assert to_end(tls).startswith(b"HTTP/1.1 400 ")
    assert target.wait_log("refused", status=400, error="http_request_error")


class Http2Client:
    """h2 on a socket. GOAWAY is kept from h2, which takes nothing behind one, though more may come (RFC 9113, 6.8)."""

    def __init__(self, tls: ssl.SSLSocket) -> None:
        self.tls = tls
        self.h2 = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding="utf-8"))
        self.h2.initiate_connection()
        self.events: list[h2.events.Event] = []
        self.last_stream = -1
        self._received = b""

    def ask(self, stream: int, host: str, path: str, method: str = "GET", *, end: bool = True) -> None:
        fields = [(":method", method), (":scheme", "https"), (":authority", host), (":path", path)]
        self.h2.send_headers(stream, fields, end_stream=end)
        self.send()

    def send(self) -> None:
        self.tls.sendall(self.h2.data_to_send())

    def read(self) -> bool:
        """Take what comes next; False: the other side has ended."""
        data = self.tls.recv(65536)
        self._received += data
        while len(self._received) >= 9 and len(self._received) >= (size := 9 + int.from_bytes(self._received[:3])):
            frame, self._received = self._received[:size], self._received[size:]
            if frame[3] == GOAWAY:
                self.last_stream = int.from_bytes(frame[9:13])
            else:
                self.events += self.h2.receive_data(frame)
        self.send()
        return bool(data)

    def until(self, kind: type[h2.events.Event], stream: int) -> None:
        while not any(isinstance(event, kind) and vars(event).get("stream_id") == stream for event in self.events):
            assert self.read(), f"it ended without {kind.__name__} of stream {stream}"

    def statuses(self) -> dict[int, str]:
        return {
            event.stream_id: dict(event.headers or ())[":status"]  # type: ignore[misc, call-overload] # text, as configured
            for event in self.events
            if isinstance(event, h2.events.ResponseReceived) and event.stream_id is not None
        }


def test_a_stream_that_was_begun_goes_on_beside_one_for_another_host(target: Daemon, site: Nginx) -> None:
    """The case of connection coalescing (RFC 9113 section 9.1.1)."""
    with connected(target, site["one.example"].port, "h2") as tls:
        client = Http2Client(tls)
        client.ask(1, f"one.example:{site['one.example'].port}", "/upload/coalesced", "PUT", end=False)
        client.h2.send_data(1, b"hello ")
        client.ask(3, "other.example", "/evil-coalesced")
        client.until(h2.events.StreamEnded, 3)
        assert client.statuses() == {3: "421"}
        assert client.last_stream == 3
        client.ask(5, "one.example", "/evil-late")
        client.until(h2.events.StreamReset, 5)
        client.h2.send_data(1, b"world", end_stream=True)
        client.send()
        while client.read():
            pass
    assert client.statuses() == {3: "421", 1: "201"}
    assert site.uploaded("coalesced").read_bytes() == b"hello world"
    reset = [event for event in client.events if isinstance(event, h2.events.StreamReset)]
    assert [(event.stream_id, event.error_code) for event in reset] == [(5, 7)]
    assert target.wait_log("request", path="/upload/coalesced", outcome="complete")


def test_a_download_that_is_under_way_is_not_hurt(target: Daemon, site: Nginx) -> None:
    site.file("whole.bin", 300_000)
    with connected(target, site["one.example"].port, "h2") as tls:
        client = Http2Client(tls)
        client.h2.increment_flow_control_window(1 << 20)
        client.ask(1, "one.example", "/slow/whole.bin")
        client.h2.increment_flow_control_window(1 << 20, 1)
        client.send()
        client.until(h2.events.DataReceived, 1)
        client.ask(3, "other.example", "/evil-beside")
        while client.read():
            pass
    assert client.statuses() == {1: "200", 3: "421"}
    assert sum(len(event.data) for event in client.events if isinstance(event, h2.events.DataReceived)) == 300_000


@pytest.mark.parametrize("protocol", ["http/1.1", "h2"])
def test_the_server_gets_an_end_in_good_order(target: Daemon, tmp_path: Path, protocol: str) -> None:
    identity = ISSUING.leaf("one.example")
    chain, key = tmp_path / "chain.pem", tmp_path / "key.pem"
    chain.write_bytes(identity.chain_pem())
    key.write_bytes(identity.key_pem())
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(chain, key)
    context.set_alpn_protocols([protocol])
    received: list[bytes | str] = []

    def serve() -> None:
        raw, _ = listening.accept()
        raw.settimeout(20)
        try:
            with context.wrap_socket(raw, server_side=True, suppress_ragged_eofs=False) as tls:
                if protocol == "h2":
                    tls.sendall(bytes([0, 0, 0, 4, 0, 0, 0, 0, 0]))
                received.append(to_end(tls))
        except OSError as error:
            received.append(repr(error))

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        port = listening.getsockname()[1]
        with connected(target, port, protocol) as tls:
            if protocol == "h2":
                client = Http2Client(tls)
                client.ask(1, "other.example", "/evil")
                while client.read():
                    pass
                assert client.statuses() == {1: "421"}
            else:
                tls.sendall(b"GET /evil HTTP/1.1\r\nHost: other.example\r\n\r\n")
                assert to_end(tls).startswith(b"HTTP/1.1 421 ")
        thread.join(20)
    (said,) = received
    assert isinstance(said, bytes), said
    assert b"evil" not in said


@pytest.mark.parametrize("version", ["--http1.1", "--http2"])
def test_it_passes_where_the_operator_says_so(tmp_path: Path, site: Nginx, version: str) -> None:
    path = f"/status/404?passed{version}"
    with Daemon(tmp_path / "lenient", hosts=HOSTS, common=PUBLIC, extra={"tunnel": {"misdirected": "pass"}}) as daemon:
        asked = (version, "-H", "Host: other.example")
        assert curl(daemon, site["one.example"].url(path), *asked).status == 404
    assert logged(site, path) == [path]


def test_what_was_kept_of_a_head_passes_too_where_what_cannot_be_followed_passes(tmp_path: Path, site: Nginx) -> None:
    head = b"GET /status/404?kept HTTP/1.1\r\nHost: one.example\r\nConnection: close\r\nX-Odd: a\x01b\r\n\r\n"
    with (
        Daemon(tmp_path / "lenient", hosts=HOSTS, common=PUBLIC, extra={"tunnel": {"on_unparsed": "pass"}}) as daemon,
        connected(daemon, site["one.example"].port, "http/1.1") as tls,
    ):
        for place in range(0, len(head), 20):
            tls.sendall(head[place : place + 20])
        assert to_end(tls).startswith(b"HTTP/1.1 404 ")
        assert daemon.wait_log("unparsed", action="pass")
