"""TLS to the proxy: curl over HTTP/1.1, Chromium and a client of our own over HTTP/2, client certificates."""

from __future__ import annotations

import contextlib
import json
import signal
import socket
import ssl
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.e2e.conftest import ISSUING, PUBLIC
from tests.harness.chromium import Chromium
from tests.harness.curl import Result, curl
from tests.harness.daemon import Daemon
from tests.harness.http2_connect import Http2Proxy
from tests.harness.origins import Nginx
from tests.harness.pki import Authority
from tests.harness.processes import wait_for

ACME = Authority.root("Acme Clients")
BETA = Authority.root("Beta Clients")
NAME = "proxy.example"
UNTRUSTED = (35, 60)
"""What curl says of a certificate that it cannot verify; inside TLS to a proxy it often says the first."""


@dataclass(frozen=True)
class Reached:
    """A listener, as curl is told of it."""

    proxy: str
    root: Path


@pytest.fixture(scope="module")
def secure(scratch: Path, origin: Nginx) -> Iterator[Daemon]:
    """``leaf`` shows a leaf of the active CA; ``given`` a certificate of files, and asks for the client's."""
    folder = scratch / "secure"
    folder.mkdir()
    certificate, key = ISSUING.leaf([NAME, "127.0.0.1"]).write(folder, "given")
    for name, authority in (("acme", ACME), ("beta", BETA)):
        (folder / f"{name}.pem").write_bytes(authority.pem())
    given = {
        "certificate": str(certificate), "key": str(key), "client_certificates": "optional",
        "client_cas": [{"file": str(folder / "acme.pem"), "tenant": "acme"}, {"file": str(folder / "beta.pem")}],
    }  # fmt: skip
    with Daemon(
        folder / "daemon", hosts=dict.fromkeys(("good.example", "private.example", "plain.example"), "127.0.0.1"),
        common=PUBLIC, listeners=(("leaf", "default"), ("given", "default"), ("acme", "acme")),
        ways={"leaf": {"mode": "explicit-tls", "tls": {"names": [NAME, "127.0.0.1"]}},
              "given": {"mode": "explicit-tls", "tls": given}},
    ) as running:  # fmt: skip
        yield running


def by_curl(daemon: Daemon, listener: str, root: Path, url: str, *args: str, proxy_root: Path | None = None) -> Result:
    """What curl gets through a TLS proxy, known as ``proxy.example``."""
    port = daemon.addresses[listener].rpartition(":")[2]
    return curl(
        Reached(daemon.addresses[listener], root), url, "--proxy", f"https://{NAME}:{port}",
        "--resolve", f"{NAME}:{port}:127.0.0.1", "--proxy-cacert", str(proxy_root or root), *args,
    )  # fmt: skip


def test_curl_reaches_a_server_through_tls_to_the_proxy(secure: Daemon, origin: Nginx) -> None:
    for version in ("--http1.1", "--http2"):
        result = by_curl(secure, "leaf", secure.root, origin["good.example"].url(), version)
        assert (result.status, result.text) == (200, "hello from good.example\n"), result.error
    blocked = by_curl(secure, "leaf", secure.root, origin["private.example"].url())
    assert (blocked.status, blocked.headers["proxy-status"].partition(";")[0]) == (502, "sallyport")
    plain = by_curl(secure, "leaf", secure.root, origin["plain.example"].url())
    assert plain.text == "hello from plain.example\n"
    size = 30 << 20
    big = by_curl(secure, "leaf", secure.root, origin["good.example"].url(origin.file("big", size)))
    assert len(big.body) == size
    refused = by_curl(secure, "leaf", secure.root, "https://nowhere.invalid/")
    assert refused.connect is not None
    assert refused.connect.status == 502


def test_a_name_that_the_proxy_does_not_have_gets_no_certificate(secure: Daemon, origin: Nginx) -> None:
    port = secure.addresses["leaf"].rpartition(":")[2]
    elsewhere = ("--proxy", f"https://bank.example:{port}", "--resolve", f"bank.example:{port}:127.0.0.1")
    result = by_curl(secure, "leaf", secure.root, origin["good.example"].url(), *elsewhere)
    assert (result.exit_code, result.status) == (35, 0)
    why = "server name: bank.example is none of the names of listener leaf (tls.names)"
    secure.wait_log("TLS to the proxy failed", listener="leaf", reason=why)


def test_http2_carries_tunnels_beside_each_other_and_plain_requests(secure: Daemon, origin: Nginx) -> None:
    site, plain = origin["good.example"], origin["plain.example"]
    with Http2Proxy(secure.addresses["leaf"], secure.root, NAME) as proxy:
        tunnels = [proxy.connect(f"good.example:{site.port}") for _ in range(10)]
        for tunnel in tunnels:
            tunnel.secure(secure.root, "good.example")
        path = origin.file("some", 3 << 20)
        for number, tunnel in enumerate(tunnels):
            wanted = path if number % 2 else "/"
            answer = tunnel.request(
                f"GET {wanted} HTTP/1.1\r\nHost: good.example\r\nConnection: close\r\n\r\n".encode()
            )
            head, _, body = answer.partition(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200"), head
            assert len(body) == (3 << 20 if number % 2 else len(site.text))
        asked = proxy.get("http", f"plain.example:{plain.port}", "/echo")
        assert (asked.status, json.loads(asked.body)["protocol"]) == (200, "HTTP/1.1")
        refused = proxy.get("http", "nowhere.invalid", "/")
        assert (refused.status, refused.ended) == (502, True)
        assert "dns" in refused.headers["proxy-status"]


@pytest.mark.parametrize(
    "fields",
    [
        [(":method", "CONNECT"), (":authority", "good.example:443"), (":scheme", "https"), (":path", "/")],
        [(":method", "CONNECT"), (":authority", "good.example:443"), (":path", "/")],
        [(":method", "CONNECT")],
        [(":method", "GET"), (":authority", "plain.example"), (":path", "/")],
        [(":method", "GET"), (":scheme", "http"), (":authority", "a b"), (":path", "/")],
        [(":method", "GET"), (":scheme", "http"), (":authority", "a"), (":path", "/"), ("connection", "close")],
    ],
)
def test_a_malformed_request_resets_its_stream_and_no_other(
    secure: Daemon, origin: Nginx, fields: list[tuple[str, str]]
) -> None:
    with Http2Proxy(secure.addresses["leaf"], secure.root, NAME) as proxy:
        proxy.http.config.validate_outbound_headers = False
        proxy.http.config.normalize_outbound_headers = False
        kept = proxy.connect(f"good.example:{origin['good.example'].port}")
        number = proxy.ask(fields)
        assert proxy.wait(number, lambda stream: stream.reset is not None).reset == 1
        kept.secure(secure.root, "good.example")
        assert b"hello" in kept.request(b"GET / HTTP/1.1\r\nHost: good.example\r\nConnection: close\r\n\r\n")


def test_an_authority_that_is_no_host_is_a_bad_request(secure: Daemon) -> None:
    with Http2Proxy(secure.addresses["leaf"], secure.root, NAME) as proxy:
        number = proxy.ask([(":method", "CONNECT"), (":authority", "not_a_port:x")])
        assert proxy.wait(number, lambda stream: stream.ended).status == 400


def test_chromium_browses_over_http2_to_the_proxy(secure: Daemon, origin: Nginx, tmp_path: Path) -> None:
    from cryptography import x509

    root = x509.load_pem_x509_certificate(secure.root.read_bytes())
    address = secure.addresses["leaf"]
    with Chromium(tmp_path, trusts=[root], proxy=f"https://{address}") as browser:
        assert browser.fetch(origin["good.example"].url()) == ""
    # Chromium says no where it must: it does not take a proxy whose certificate it cannot verify.
    with Chromium(tmp_path / "untrusting", proxy=f"https://{address}") as browser:
        assert browser.fetch(origin["good.example"].url()) != ""


def test_a_clients_certificate_says_whose_the_connection_is(secure: Daemon, origin: Nginx, tmp_path: Path) -> None:
    url = origin["good.example"].url("/status/404")
    public = tmp_path / "public.pem"
    public.write_bytes(PUBLIC.pem())
    acme, default = secure.root_of("acme"), secure.root_of("default")
    shown = {}
    for name, authority in (("acme", ACME), ("beta", BETA)):
        certificate, key = authority.leaf(f"client.{name}.example", eku=["client"]).write(tmp_path, name)
        shown[name] = ("--proxy-cert", str(certificate), "--proxy-key", str(key))
    assert by_curl(secure, "given", acme, url, *shown["acme"], proxy_root=public).status == 404
    assert by_curl(secure, "given", default, url, *shown["beta"], proxy_root=public).status == 404
    assert by_curl(secure, "given", default, url, proxy_root=public).status == 404
    # Whose it is not, its CA does not vouch for.
    assert by_curl(secure, "given", default, url, *shown["acme"], proxy_root=public).exit_code in UNTRUSTED
    assert by_curl(secure, "given", acme, url, proxy_root=public).exit_code in UNTRUSTED
    other = Authority.root("Nobody").leaf("client.example", eku=["client"]).write(tmp_path, "nobody")
    strange = ("--proxy-cert", str(other[0]), "--proxy-key", str(other[1]))
    assert by_curl(secure, "given", default, url, *strange, proxy_root=public).status == 0


def test_no_session_is_resumed_where_certificates_tell_tenants_apart(secure: Daemon, tmp_path: Path) -> None:
    public = tmp_path / "public.pem"
    public.write_bytes(PUBLIC.pem())
    certificate, key = ACME.leaf("client.example", eku=["client"]).write(tmp_path, "acme")
    for version in ("-tls1_2", "-tls1_3"):
        session = tmp_path / f"session{version}"
        where = ["-connect", secure.addresses["given"], "-servername", NAME, "-CAfile", str(public), version]
        first = subprocess.run(
            ["openssl", "s_client", *where, "-cert", str(certificate), "-key", str(key), "-sess_out", str(session)],
            input=b"GET / HTTP/1.1\r\n\r\n", capture_output=True, timeout=60, check=False,
        )  # fmt: skip
        assert b"Verify return code: 0" in first.stdout
        if session.exists():
            again = subprocess.run(
                ["openssl", "s_client", *where, "-sess_in", str(session)],
                input=b"GET / HTTP/1.1\r\n\r\n", capture_output=True, timeout=60, check=False,
            )  # fmt: skip
            assert b"New, TLS" in again.stdout


def test_a_worker_that_leaves_says_goodbye_on_a_connection_that_rests(secure: Daemon) -> None:
    with Http2Proxy(secure.addresses["leaf"], secure.root, NAME) as proxy:
        number = proxy.ask([(":method", "CONNECT"), (":authority", "nowhere.invalid:443")])
        assert proxy.wait(number, lambda stream: stream.ended).status == 502
        before = secure.pids().workers
        secure.settings["limits"]["http2_streams"] = 99
        secure.write_config()
        secure.process.send_signal(signal.SIGHUP)
        wait_for("GOAWAY", lambda: proxy.goaway, timeout=60)
        wait_for("the end", lambda: proxy.over, timeout=60)
        wait_for("the other worker", lambda: secure.pids().workers != before, timeout=60)


def test_a_certificate_of_files_is_read_again_when_it_changes(secure: Daemon, origin: Nginx, scratch: Path) -> None:
    files = scratch / "secure"
    renewed = PUBLIC.intermediate("Renewed").leaf([NAME, "127.0.0.1"])
    renewed.write(files, "given")
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE

    def shown() -> bool:
        host, _, port = secure.addresses["given"].rpartition(":")
        with (
            socket.create_connection((host, int(port)), timeout=30) as wire,
            context.wrap_socket(wire, server_hostname=NAME) as tls,
        ):
            return tls.getpeercert(binary_form=True) == renewed.raw

    wait_for("the new certificate", shown, timeout=30, pause=0.2)


def test_a_client_that_has_said_all_it_will_still_gets_its_answer(secure: Daemon, origin: Nginx) -> None:
    site = origin["plain.example"]
    address, _, port = secure.addresses["leaf"].rpartition(":")
    coming, going = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = ssl.create_default_context(cafile=str(secure.root)).wrap_bio(coming, going, server_hostname=NAME)
    with socket.create_connection((address, int(port)), 30) as wire:
        while True:
            try:
                tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                wire.sendall(going.read())
                coming.write(wire.recv(65536))
        tls.write(f"GET {site.url()} HTTP/1.1\r\nHost: plain.example\r\n\r\n".encode())
        with contextlib.suppress(ssl.SSLWantReadError):
            tls.unwrap()  # close_notify
        wire.sendall(going.read())
        wire.shutdown(socket.SHUT_WR)
        while data := wire.recv(65536):
            coming.write(data)
    plain = b""
    with contextlib.suppress(ssl.SSLError):
        while data := tls.read(65536):
            plain += data
    assert plain.startswith(b"HTTP/1.1 200"), plain
