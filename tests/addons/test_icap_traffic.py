"""The ICAP inspector with traffic: curl through a proxy that runs it, nginx behind, c-icap and ClamAV beside."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.addons.conftest import Start
from tests.addons.proxies import Mitmdump
from tests.harness.curl import curl
from tests.harness.icap_server import MARK, IcapServer, eicar
from tests.harness.origins import Nginx
from tests.harness.processes import free_port, wait_for

MIB = 1 << 20
VERSIONS = ("--http1.1", "--http2")


@pytest.fixture(scope="module")
def icap(tmp_path_factory: pytest.TempPathFactory) -> Iterator[IcapServer]:
    with IcapServer(tmp_path_factory.mktemp("icap")) as running:
        yield running


def put(origin: Nginx, name: str, body: bytes) -> str:
    """A file at the origin; its path."""
    (origin.www / name).write_bytes(body)
    return f"/{name}"


def test_a_virus_is_not_downloaded(start: Start, origin: Nginx, icap: IcapServer) -> None:
    running = start("icap", {"icap_url": icap.url("avscan"), "icap_timeout": 30})
    for name, body in (("eicar.com", eicar()), ("late.bin", b"x" * MIB + MARK)):
        url = origin["good.example"].url(put(origin, name, body))
        for version in VERSIONS:
            result = curl(running, url, version)
            assert (result.status, result.exit_code) == (403, 0)
            assert "VIRUS FOUND" in result.text
            assert MARK not in result.body
            assert eicar() not in result.body


def test_what_is_clean_comes_byte_for_byte(start: Start, origin: Nginx, icap: IcapServer) -> None:
    running = start("icap", {"icap_url": icap.url("avscan"), "icap_timeout": 30})
    for size in (0, 1, 1024, 1025, 3 * MIB + 17):
        body = random.Random(size).randbytes(size)  # noqa: S311 - just bytes that are not all alike
        url = origin["good.example"].url(put(origin, f"{size}.bin", body))
        for version in VERSIONS:
            result = curl(running, url, version)
            assert (result.status, result.headers["content-length"]) == (200, str(size))
            assert hashlib.sha256(result.body).digest() == hashlib.sha256(body).digest()
    assert curl(running, origin["good.example"].url("/1025.bin"), "--head").headers["content-length"] == "1025"
    assert curl(running, origin["good.example"].url("/status/304")).status == 304
    assert curl(running, origin["good.example"].url("/status/204")).status == 204


def test_an_upload_is_scanned(start: Start, origin: Nginx, icap: IcapServer, tmp_path: Path) -> None:
    running = start("icap", {"icap_url": icap.url("avscan"), "icap_timeout": 30})
    file = tmp_path / "upload"
    for version in VERSIONS:
        for body in (eicar(), b"y" * MIB + MARK):
            file.write_bytes(body)
            result = curl(running, origin["good.example"].url("/upload/bad.bin"), version, "-T", str(file))
            assert result.status == 403
            result = curl(running, origin["good.example"].url("/echo"), version, "--data-binary", f"@{file}")
            assert result.status == 403
        file.write_bytes(b"clean" * MIB)
        result = curl(running, origin["good.example"].url("/upload/good.bin"), version, "-T", str(file))
        assert result.status in (201, 204)
        assert origin.uploaded("good.bin").read_bytes() == file.read_bytes()
    assert not origin.uploaded("bad.bin").exists()
    assert {entry["method"] for entry in origin.requests()} == {"PUT"}, "what is refused never reaches the server"


def test_what_the_service_rewrites_arrives_rewritten(start: Start, origin: Nginx, icap: IcapServer) -> None:
    """The echo service sends back what fits its preview, with a Via field of its own, or by lot says 204."""
    running = start("icap", {"icap_url": icap.url("echo"), "icap_timeout": 30})

    def rewritten(version: str) -> bool:
        result = curl(running, origin["good.example"].url(), version)
        assert (result.status, result.text) == (200, "hello from good.example\n")
        assert result.headers["content-length"] == str(len(result.body))
        return "C-ICAP" in result.headers.get("via", "")

    for version in VERSIONS:
        wait_for("a rewritten answer", partial(rewritten, version), timeout=60)
    assert json.loads(curl(running, origin["good.example"].url("/echo")).text)["method"] == "GET"


def test_where_the_icap_server_is_down_nothing_passes_unsaid(start: Start, origin: Nginx) -> None:
    url = f"icap://127.0.0.1:{free_port()}/avscan"
    running = start("icap", {"icap_url": url})
    for version in VERSIONS:
        result = curl(running, origin["good.example"].url(), version)
        if isinstance(running, Mitmdump):
            assert result.status == 200, "mitmdump lets pass what raised"
        else:
            assert result.status == 502
            assert "inspector_failed" in result.proxy_status
    said = f"ICAP server {url}: OPTIONS: no connection to 127.0.0.1"
    wait_for("the log to say so", lambda: said in running.output())
