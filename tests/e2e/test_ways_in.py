"""SOCKS5, and behind a load balancer: the same verdicts as through a CONNECT, and whose connection it really is."""

from __future__ import annotations

import json
import socket
import ssl
import struct
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from proxy.listeners.proxy_header import encoded
from tests.e2e.conftest import PUBLIC
from tests.harness.curl import Result, curl
from tests.harness.daemon import Daemon
from tests.harness.haproxy import Haproxy
from tests.harness.inspectors import Scripts
from tests.harness.origins import Nginx
from tests.harness.processes import wait_for

BALANCER = "127.0.0.2"
FROM_BALANCER = {"proxy_protocol": [f"{BALANCER}/32"]}
WAYS: dict[str, dict[str, Any]] = {
    "socks": {"mode": "socks5"},
    "balanced": FROM_BALANCER,
    "balanced-socks": {"mode": "socks5", **FROM_BALANCER},
    "balanced-transparent": {"mode": "transparent", **FROM_BALANCER},
    "balanced-tls": {"mode": "explicit-tls", "tls": {"names": ["proxy.example"]}, **FROM_BALANCER},
}
TENANTS = {"balanced-socks": "inspected"}
CLIENTS = 3
"""Connections that a client may have."""
SAYS_WHO = """
from mitmproxy import http


def request(flow):
    flow.response = http.Response.make(200, flow.client_conn.peername[0])
"""


@pytest.fixture(scope="module")
def daemon(scratch: Path, origin: Nginx) -> Iterator[Daemon]:
    scripts = Scripts(scratch)
    scripts.add("says-who", SAYS_WHO, hosts=["*"], tenants=["inspected"])
    hosts = dict.fromkeys(("good.example", "private.example", "plain.example", "closed.example"), "127.0.0.1")
    with Daemon(
        scratch / "ways",
        hosts=hosts | {"metadata.example": "169.254.169.254"},
        common=PUBLIC,
        listeners=[(name, TENANTS.get(name, "default")) for name in WAYS],
        ways=WAYS,
        extra={
            "limits": {"connections_per_client": CLIENTS, "resolve_timeout": 1},
            "inspection": {"addons": scripts.addons},
        },
    ) as running:
        yield running


def through(daemon: Daemon, name: str, url: str, *args: str, scheme: str = "socks5h") -> Result:
    entrance = daemon.listener(name)
    return curl(entrance, url, "--proxy", f"{scheme}://{entrance.proxy}", *args)


def port_of(origin: Nginx, name: str) -> int:
    return origin.sites[name].port


def connected(daemon: Daemon, name: str, source: str = "127.0.0.1") -> socket.socket:
    host, _, port = daemon.addresses[name].rpartition(":")
    return socket.create_connection((host, int(port)), timeout=30, source_address=(source, 0))


def all_of(connection: socket.socket) -> bytes:
    """What comes, to the end; a reset is one, too."""
    got = b""
    try:
        while piece := connection.recv(65536):
            got += piece
    except ConnectionResetError:
        pass
    return got


def said(daemon: Daemon, name: str, *pieces: bytes, source: str = "127.0.0.1") -> bytes:
    """All that is answered to who sends this and nothing more."""
    try:
        with connected(daemon, name, source) as connection:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for piece in pieces:
                connection.sendall(piece)
            return all_of(connection)
    except ConnectionResetError:  # before all was sent, or even before the connection was seen to stand
        return b""


# --- SOCKS5 ---


def test_pages_come_by_name_and_by_address(daemon: Daemon, origin: Nginx) -> None:
    for version in ("1.1", "2"):
        done = through(daemon, "socks", origin.sites["good.example"].url(), f"--http{version}")
        assert (done.status, done.text, done.http_version) == (200, "hello from good.example\n", version)
    port = port_of(origin, "good.example")
    done = through(
        daemon,
        "socks",
        origin.sites["good.example"].url(),
        "--resolve",
        f"good.example:{port}:127.0.0.1",
        scheme="socks5",
    )
    assert (done.status, done.told["ssl_verify_result"]) == (200, 0)


def test_what_is_wrong_with_a_server_is_said_inside_tls(daemon: Daemon, origin: Nginx) -> None:
    done = through(daemon, "socks", origin.sites["private.example"].url(), "-H", "Accept: text/html")
    assert (done.status, done.told["ssl_verify_result"]) == (502, 0)
    assert "tls_certificate_error" in done.proxy_status
    with socket.create_server(("127.0.0.1", 0)) as taken:
        closed = taken.getsockname()[1]
    done = through(daemon, "socks", f"https://closed.example:{closed}/")
    assert (done.status, "connection_refused" in done.proxy_status) == (502, True)
    done = through(daemon, "socks", f"http://closed.example:{closed}/")
    assert (done.status, "connection_refused" in done.proxy_status) == (502, True)


def test_plain_http_is_forwarded_in_both_lanes(daemon: Daemon, origin: Nginx) -> None:
    done = through(daemon, "socks", origin.sites["plain.example"].url("/echo"))
    assert json.loads(done.body)["host"] == f"plain.example:{port_of(origin, 'plain.example')}"
    logged = daemon.wait_log("request", path="/echo")[0]
    assert (logged["host"].partition(":")[0], logged["status"]) == ("plain.example", 200)
    header = encoded(("192.0.2.30", 4000), ("192.0.2.1", 1080))
    asked = b"\x05\x01\x00" + b"\x05\x01\x00\x03\x0dplain.example" + struct.pack("!H", port_of(origin, "plain.example"))
    get = b"GET / HTTP/1.1\r\nHost: plain.example\r\nConnection: close\r\n\r\n"
    answer = said(daemon, "balanced-socks", header + asked + get, source=BALANCER)
    assert answer.startswith(b"\x05\x00" + b"\x05\x00\x00\x01" + bytes(6) + b"HTTP/1.1 200")
    assert answer.endswith(b"192.0.2.30")


def test_refusals_have_their_replies_and_are_logged(daemon: Daemon) -> None:
    def reply(request: bytes) -> int:
        answer = said(daemon, "socks", b"\x05\x01\x00", request)
        assert answer.startswith(b"\x05\x00\x05"), answer
        assert len(answer) == 12
        return answer[3]

    assert reply(b"\x05\x01\x00\x01\xa9\xfe\xa9\xfe\x00\x50") == 2
    assert reply(b"\x05\x01\x00\x03\x10metadata.example\x00\x50") == 2
    assert reply(b"\x05\x01\x00\x04" + bytes(10) + b"\xff\xff\xa9\xfe\xa9\xfe\x00\x50") == 2
    assert reply(b"\x05\x01\x00\x03\x0fnowhere.invalid\x01\xbb") == 4
    assert reply(b"\x05\x02\x00\x01\x7f\x00\x00\x01\x00\x50") == 7
    assert reply(b"\x05\x03\x00\x01\x7f\x00\x00\x01\x00\x50") == 7
    assert reply(b"\x05\x01\x00\x05\x00") == 8
    assert reply(b"\x05\x01\x00\x03\x00\x00\x50") == 1
    assert said(daemon, "socks", b"\x05\x01\x02") == b"\x05\xff"
    assert said(daemon, "socks", b"\x04\x01\x00\x50\x7f\x00\x00\x01\x00") == b""
    assert said(daemon, "socks", b"GET / HTTP/1.1\r\n\r\n").startswith(b"HTTP/1.1 400")
    assert daemon.wait_log("refused", error="destination_ip_prohibited", host="metadata.example", port=80)
    reasons = ("UDP ASSOCIATE", "host name is empty", "does not offer no authentication", "got SOCKS4")
    wait_for(
        "each reason in the log",
        lambda: all(any(why in line.get("reason", "") for line in daemon.log("refused")) for why in reasons),
    )


def test_one_too_many_is_reset(daemon: Daemon) -> None:
    with ExitStack() as held:
        for _ in range(CLIENTS):
            held.enter_context(connected(daemon, "socks", "127.0.0.9"))
        assert said(daemon, "socks", b"\x05\x01\x00", source="127.0.0.9") == b""
    assert daemon.wait_log("refused", details="connections_per_client", client="127.0.0.9", listener="socks")


# --- PROXY protocol ---


def one_page(origin: Nginx, path: str) -> bytes:
    return f"GET {origin.sites['plain.example'].url(path)} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode()


def test_the_client_is_whom_the_balancer_names(daemon: Daemon, origin: Nginx) -> None:
    v1 = b"PROXY TCP6 2001:db8::5 2001:db8::1 40000 8080\r\n"
    v2 = encoded(("192.0.2.5", 40000), ("192.0.2.1", 8080))
    for path, header, client in (
        ("/one", v1, "2001:db8::5"),
        ("/two", v2, "192.0.2.5"),
        ("/own", b"PROXY UNKNOWN\r\n", BALANCER),
    ):
        data = header + one_page(origin, path)
        answer = said(daemon, "balanced", *(data[n : n + 1] for n in range(len(data))), source=BALANCER)
        assert answer.startswith(b"HTTP/1.1 404"), answer
        assert daemon.wait_log("request", path=path)[0]["client"] == client


def test_a_header_is_required_of_the_balancer_and_taken_from_nobody_else(daemon: Daemon, origin: Nginx) -> None:
    header = encoded(("192.0.2.5", 40000), ("192.0.2.1", 8080))
    for one in (header, b"PROXY TCP4 192.0.2.5 192.0.2.1 1 2\r\n"):
        answer = said(daemon, "balanced", one + one_page(origin, "/never"))
        assert answer.startswith(b"HTTP/1.1 400")
        assert b"proxy_protocol" in answer
        assert b"\x05" not in said(daemon, "balanced-socks", one + b"\x05\x01\x00")
    assert said(daemon, "balanced", one_page(origin, "/near")).startswith(b"HTTP/1.1 404")
    for _ in range(20):
        assert said(daemon, "balanced", one_page(origin, "/never"), source=BALANCER).startswith(b"HTTP/1.1 400")
        assert said(daemon, "balanced-transparent", b"\x16\x03\x01", source=BALANCER) == b""
    assert said(daemon, "balanced", b"PROXY TCP4 1.2.3.4 \r\n", source=BALANCER).startswith(b"HTTP/1.1 400")
    lines = daemon.wait_log("refused", details="proxy_protocol")
    assert {line["client"] for line in lines} == {BALANCER}
    assert len(lines) < 20
    assert not [entry for entry in origin.requests("plain.example") if entry["uri"] == "/never"]
    assert not daemon.log("fault")


def test_limits_count_clients_and_not_the_balancer(daemon: Daemon, origin: Nginx) -> None:
    def header(client: str) -> bytes:
        return encoded((client, 40000), ("192.0.2.1", 8080))

    with ExitStack() as held:
        for client in ("192.0.2.50", "192.0.2.51"):
            mine = [held.enter_context(connected(daemon, "balanced", BALANCER)) for _ in range(CLIENTS)]
            for connection in mine:
                connection.sendall(header(client))
            full = said(daemon, "balanced", header(client) + one_page(origin, "/full"), source=BALANCER)
            assert full.startswith(b"HTTP/1.1 503")
            assert b'details="connections_per_client"' in full
            mine[-1].sendall(one_page(origin, "/within"))
            assert all_of(mine[-1]).startswith(b"HTTP/1.1 404")
    lines = daemon.wait_log("refused", details="connections_per_client", listener="balanced")
    assert {line["client"] for line in lines} <= {"192.0.2.50", "192.0.2.51"}

    def served() -> bool:
        answer = said(daemon, "balanced", header("192.0.2.50") + one_page(origin, "/room"), source=BALANCER)
        return answer.startswith(b"HTTP/1.1 404")

    wait_for("room", served)


def test_a_transparent_connection_goes_where_the_header_says(daemon: Daemon, origin: Nginx) -> None:
    context = ssl.create_default_context(cafile=str(daemon.root))
    header = encoded(("192.0.2.60", 40000), ("127.0.0.1", port_of(origin, "good.example")))
    with connected(daemon, "balanced-transparent", BALANCER) as connection:
        connection.sendall(header)
        with context.wrap_socket(connection, server_hostname="good.example") as tls:
            tls.sendall(b"GET /through HTTP/1.1\r\nHost: good.example\r\nConnection: close\r\n\r\n")
            assert all_of(tls).startswith(b"HTTP/1.1 404")
    assert daemon.wait_log("request", path="/through")[0]["client"] == "192.0.2.60"
    own = encoded(("192.0.2.60", 40000), (BALANCER, 443))
    assert said(daemon, "balanced-transparent", own + b"\x16\x03\x01", source=BALANCER) == b""
    assert "to the load balancer itself" in daemon.wait_log("no destination", client="192.0.2.60")[0]["reason"]


def test_the_header_comes_before_tls_to_the_proxy(daemon: Daemon, origin: Nginx) -> None:
    context = ssl.create_default_context(cafile=str(daemon.root))
    with connected(daemon, "balanced-tls", BALANCER) as connection:
        connection.sendall(encoded(("192.0.2.70", 40000), ("192.0.2.1", 443)))
        with context.wrap_socket(connection, server_hostname="proxy.example") as tls:
            tls.sendall(one_page(origin, "/over-tls"))
            assert all_of(tls).startswith(b"HTTP/1.1 404")
    assert daemon.wait_log("request", path="/over-tls")[0]["client"] == "192.0.2.70"
    assert said(daemon, "balanced-tls", b"\x16\x03\x01", source=BALANCER) == b""


def test_haproxy_is_understood(daemon: Daemon, origin: Nginx, tmp_path: Path) -> None:
    options = ("send-proxy", "send-proxy-v2", "send-proxy-v2-ssl-cn check check-send-proxy inter 100ms")
    with Haproxy(tmp_path, daemon.addresses["balanced"], options, BALANCER) as haproxy:
        for number, port in enumerate(haproxy.ports.values()):
            client = f"127.0.0.{20 + number}"
            done = curl(
                daemon.listener("balanced"), origin.sites["good.example"].url(f"/haproxy-{number}"),
                "--proxy", f"http://127.0.0.1:{port}", "--interface", client,
            )  # fmt: skip
            assert done.status == 404, done.error
            assert daemon.wait_log("request", path=f"/haproxy-{number}")[0]["client"] == client
