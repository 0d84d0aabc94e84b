"""The main job: a real client gets a real page through a certificate of the installation's own CA."""

from __future__ import annotations

import hashlib
import json
import subprocess
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID

from tests.e2e.conftest import ISSUING
from tests.harness.curl import command, curl
from tests.harness.daemon import Daemon
from tests.harness.origins import Nginx, OpensslServer
from tests.harness.processes import wait_for

MIB = 1 << 20


def test_a_page_comes_over_http1_with_the_root_alone_trusted(daemon: Daemon, origin: Nginx) -> None:
    result = curl(daemon, origin["good.example"].url(), "--http1.1")
    assert (result.status, result.http_version) == (200, "1.1")
    assert result.text == "hello from good.example\n"


def test_a_page_comes_over_http2(daemon: Daemon, origin: Nginx) -> None:
    result = curl(daemon, origin["good.example"].url(), "--http2")
    assert (result.status, result.http_version) == (200, "2")
    assert result.text == "hello from good.example\n"


def test_a_request_is_a_line_in_the_log_without_its_query(daemon: Daemon, origin: Nginx) -> None:
    for version, protocol in (("--http1.1", "HTTP/1.1"), ("--http2", "HTTP/2")):
        result = curl(daemon, origin["good.example"].url("/not-there?secret=1"), version)
        assert result.status == 404
        entry = daemon.wait_log("request", path="/not-there", protocol=protocol)[-1]
        assert entry["host"] == f"good.example:{origin['good.example'].port}"
        assert (entry["method"], entry["status"]) == ("GET", 404)
        assert entry["response_bytes"] == len(result.body)
    assert "secret" not in daemon.stderr_text()


def test_several_requests_share_a_connection(daemon: Daemon, origin: Nginx) -> None:
    url = origin["good.example"].url
    more = [part for path in ("/status/204", "/") for part in ("-o", "/dev/null", url(path))]
    done = subprocess.run(
        [*command(daemon, url("/status/404"), "--http1.1", "--head", "-w", "%{http_code} %{num_connects}\\n", *more),
         "-o", "/dev/null"],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert sorted(line.split()[1] for line in done.stdout.splitlines()) == ["0", "0", "1"], done.stdout + done.stderr


def test_a_websocket_passes(daemon: Daemon, origin: Nginx) -> None:
    import ssl

    from websockets.sync.client import connect

    trusted = ssl.create_default_context(cafile=str(daemon.root))
    url = origin["good.example"].url("/ws").replace("https", "wss")
    with connect(url, ssl=trusted, proxy=f"http://{daemon.proxy}", max_size=None, compression=None) as socket:
        for message in ("hello", "x" * 200_000):
            socket.send(message)
            assert socket.recv(timeout=20) == message
    entry = daemon.wait_log("request", protocol="WebSocket")[-1]
    assert (entry["path"], entry["status"]) == ("/ws", 101)
    assert entry["response_bytes"] > 200_000


def test_a_gigabyte_comes_and_half_of_one_goes_and_little_memory_is_taken(daemon: Daemon, origin: Nginx) -> None:
    big = origin.folder / "www" / "big.bin"
    with big.open("wb") as file:
        file.truncate(1024 * MIB)
    curl(daemon, origin["good.example"].url())
    idle = daemon.memory_kib()
    highest = idle
    download = subprocess.Popen(
        command(daemon, origin["good.example"].url("/big.bin"), "--max-time", "150", "-o", "/dev/null",
                "-w", "%{size_download}"),
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    while download.poll() is None:
        highest = max(highest, daemon.memory_kib())
    assert download.communicate()[0] == str(1024 * MIB)
    with big.open("wb") as file:
        file.truncate(512 * MIB)
    upload = subprocess.Popen(
        command(daemon, origin["good.example"].url("/upload/up.bin"), "--max-time", "150", "-T", str(big),
                "-o", "/dev/null", "-w", "%{http_code}"),
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    while upload.poll() is None:
        highest = max(highest, daemon.memory_kib())
    assert upload.communicate()[0] in ("201", "204")
    stored = origin.folder / "www" / "upload" / "up.bin"
    assert stored.stat().st_size == 512 * MIB
    big.unlink()
    stored.unlink()
    assert highest - idle <= 64 * 1024, f"{highest - idle} KiB above idle"


def test_what_passes_is_not_changed(daemon: Daemon, origin: Nginx) -> None:
    import random

    data = random.Random(7).randbytes(3 * MIB + 17)  # noqa: S311 - just bytes that are not all alike
    (origin.folder / "www" / "random.bin").write_bytes(data)
    for version in ("--http1.1", "--http2"):
        result = curl(daemon, origin["good.example"].url("/random.bin"), version)
        assert hashlib.sha256(result.body).digest() == hashlib.sha256(data).digest()


def test_a_client_that_speaks_tls_1_2_only(daemon: Daemon, origin: Nginx) -> None:
    result = curl(daemon, origin["good.example"].url(), "--tls-max", "1.2", "-v")
    assert result.status == 200
    assert "SSL connection using TLSv1.2" in result.error


def test_towards_a_tls_1_2_server_the_client_gets_no_more_than_tls_1_2(daemon: Daemon, origin: Nginx) -> None:
    result = curl(daemon, origin["old.example"].url(), "-v")
    assert result.status == 200
    assert "SSL connection using TLSv1.2" in result.error
    assert curl(daemon, origin["old.example"].url(), "--tlsv1.3").exit_code == 35
    assert "SSL connection using TLSv1.3" in curl(daemon, origin["good.example"].url(), "-v").error


def test_a_tls_1_2_s_server(daemon: Daemon, tmp_path: Path) -> None:
    with OpensslServer(tmp_path, ISSUING.leaf("good.example"), options=("-tls1_2",)) as server:
        result = curl(daemon, server.url("good.example"))
        assert result.status == 200
        assert "TLSv1.2" in result.text


def test_ipv6(daemon: Daemon, origin: Nginx) -> None:
    assert curl(daemon, origin["six.example"].url()).status == 200
    assert curl(daemon, origin["six.example"].url(host="::1")).text == "hello from six.example\n"


def test_an_ip_literal_gets_a_leaf_with_that_address(daemon: Daemon, origin: Nginx) -> None:
    assert curl(daemon, origin["literal"].url(host="127.0.0.1")).text == "hello from literal\n"


def test_an_international_name(daemon: Daemon, origin: Nginx) -> None:
    port = origin["xn--bcher-kva.example"].port
    assert curl(daemon, f"https://bücher.example:{port}/").status == 200
    assert curl(daemon, f"https://xn--bcher-kva.example:{port}/").status == 200


def test_plain_http_is_forwarded(daemon: Daemon, origin: Nginx) -> None:
    result = curl(daemon, origin["plain.example"].url())
    assert (result.status, result.text) == (200, "hello from plain.example\n")
    assert "sallyport" in result.headers["via"]
    seen = json.loads(curl(daemon, origin["plain.example"].url("/echo"), "-H", "Proxy-Connection: keep-alive").text)
    assert seen


def shown_chain(daemon: Daemon, host: str, port: int, *options: str) -> list[x509.Certificate]:
    """What ``openssl s_client`` is shown through the proxy."""
    done = subprocess.run(
        ["openssl", "s_client", "-proxy", daemon.proxy, "-connect", f"{host}:{port}", "-servername", host,
         "-showcerts", *options],
        capture_output=True, input=b"", timeout=30, check=False,
    )  # fmt: skip
    return x509.load_pem_x509_certificates(done.stdout)


def test_the_leaf_is_as_the_profile_says(daemon: Daemon, origin: Nginx, tmp_path: Path) -> None:
    port = origin["good.example"].port
    leaf, intermediate = shown_chain(daemon, "good.example", port)
    extensions = leaf.extensions
    names = extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert list(names) == [x509.DNSName("good.example")]
    usage = extensions.get_extension_for_class(x509.KeyUsage)
    assert usage.critical
    assert usage.value.digital_signature
    assert not usage.value.key_cert_sign
    assert list(extensions.get_extension_for_class(x509.ExtendedKeyUsage).value) == [ExtendedKeyUsageOID.SERVER_AUTH]
    assert not extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    authority = extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value
    subject = intermediate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    assert authority.key_identifier == subject.digest
    assert isinstance(leaf.public_key(), ec.EllipticCurvePublicKey)
    assert leaf.public_key() != intermediate.public_key()
    assert (leaf.not_valid_after_utc - leaf.not_valid_before_utc).days <= 8
    assert leaf.not_valid_before_utc >= intermediate.not_valid_before_utc
    assert leaf.serial_number.bit_length() > 64
    paths = {}
    for name, certificate in (("leaf", leaf), ("intermediate", intermediate)):
        paths[name] = tmp_path / f"{name}.pem"
        paths[name].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    verified = subprocess.run(
        ["openssl", "verify", "-x509_strict", "-purpose", "sslserver", "-verify_hostname", "good.example",
         "-CAfile", str(daemon.root), "-untrusted", str(paths["intermediate"]), str(paths["leaf"])],
        capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip
    assert verified.returncode == 0, verified.stdout + verified.stderr
    show = ["openssl", "x509", "-in", str(paths["leaf"]), "-noout", "-text"]
    text = subprocess.run(show, capture_output=True, text=True, timeout=30, check=True).stdout
    assert "DNS:good.example" in text
    assert "TLS Web Server Authentication" in text
    assert "id-ecPublicKey" in text


def test_the_leaf_ends_with_the_servers_own_certificate(daemon: Daemon, tmp_path: Path) -> None:
    from tests.harness.pki import HOUR, NOW

    with OpensslServer(tmp_path, ISSUING.leaf("fronted.example", not_after=NOW + 5 * HOUR)) as server:
        leaf, _ = shown_chain(daemon, "fronted.example", server.port)
    assert leaf.not_valid_after_utc == NOW + 5 * HOUR


def test_a_restart_signs_nothing_again(daemon: Daemon, origin: Nginx) -> None:
    port = origin["good.example"].port
    before = shown_chain(daemon, "good.example", port)[0].serial_number
    daemon.stop()
    daemon.start()
    assert shown_chain(daemon, "good.example", port)[0].serial_number == before


def test_a_session_is_resumed(daemon: Daemon, origin: Nginx, tmp_path: Path) -> None:
    port = origin["good.example"].port
    session = tmp_path / "session"
    base = [
        "openssl",
        "s_client",
        "-proxy",
        daemon.proxy,
        "-connect",
        f"good.example:{port}",
        "-servername",
        "good.example",
    ]
    request = b"GET / HTTP/1.1\r\nHost: good.example\r\nConnection: close\r\n\r\n"

    def ask(*options: str) -> str:
        done = subprocess.run(
            [*base, "-ign_eof", *options], input=request, capture_output=True, timeout=30, check=False
        )
        return done.stdout.decode("utf-8", "replace")

    assert "New, TLSv1.3" in ask("-sess_out", str(session))
    assert "Reused, TLSv1.3" in ask("-sess_in", str(session))


def test_a_half_closed_client_still_gets_its_answer(daemon: Daemon, origin: Nginx) -> None:
    """The end of the request's side is passed on; the answer still comes."""
    port = origin["good.example"].port
    (origin.folder / "www" / "rest.bin").write_bytes(b"r" * 400_000)
    done = subprocess.run(
        ["openssl", "s_client", "-proxy", daemon.proxy, "-connect", f"good.example:{port}",
         "-servername", "good.example", "-quiet", "-ign_eof"],
        input=b"GET /rest.bin HTTP/1.1\r\nHost: good.example\r\nConnection: close\r\n\r\n",
        capture_output=True, timeout=30, check=False,
    )  # fmt: skip
    assert done.stdout.endswith(b"r" * 400_000)


@pytest.mark.parametrize("version", ["--http1.1", "--http2"])
def test_a_connection_that_rests_costs_little_and_ends_when_the_client_goes(
    daemon: Daemon, origin: Nginx, version: str
) -> None:
    worker = daemon.pids().workers[0]
    curl(daemon, origin["good.example"].url())  # the worker's connection to the issuer is there from now on
    before = daemon.resting_files(worker)
    (origin.folder / "www" / "random.bin").write_bytes(b"s" * 3 * MIB)
    slow = subprocess.Popen(
        command(daemon, origin["good.example"].url("/slow/random.bin"), version, "-o", "/dev/null"),
        stderr=subprocess.DEVNULL,
    )
    try:
        wait_for("the connection to open", lambda: daemon.open_files(worker) >= before + 2)
    finally:
        slow.kill()
        slow.wait()
    wait_for("both sockets to close", lambda: daemon.open_files(worker) <= before)
