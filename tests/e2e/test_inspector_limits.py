"""How much inspectors may keep of bodies: one that is larger than the limit, and all of them together."""

from __future__ import annotations

import hashlib
import subprocess
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest

from tests.e2e.conftest import ISSUING, PUBLIC
from tests.harness.curl import command, curl
from tests.harness.daemon import Daemon
from tests.harness.inspectors import Scripts
from tests.harness.origins import Nginx, Site
from tests.harness.processes import wait_for
from tests.harness.programs import need

VERSIONS = pytest.mark.parametrize("version", ["--http1.1", "--http2"])
LIMIT = 256 * 1024
MIB = 1 << 20
PARALLEL = 30
SIZES = """
import logging


def request(flow):
    logging.info(f"request {flow.request.path}: {size(flow.request)}")


def response(flow):
    logging.info(f"response {flow.request.path}: {size(flow.response)}")
    flow.response.headers["x-seen"] = "yes"


def size(message):
    return message.raw_content if message.raw_content is None else len(message.raw_content)
"""
HOLDS = """
import asyncio
from pathlib import Path


async def response(flow):
    while "hold" in flow.request.path and not Path(__file__).with_name("go-on").exists():
        await asyncio.sleep(0.02)
"""
LINES = ("location /chunked/ { gzip on; gzip_types application/octet-stream; default_type application/octet-stream; }",)


@pytest.fixture(scope="module")
def server(scratch: Path) -> Iterator[Nginx]:
    need("nginx")
    need("curl")
    names = ("sizes.example", "holds.example")
    with Nginx(scratch / "limits", [Site("origin", ISSUING.leaf(names), lines=LINES)]) as nginx:
        (nginx.www / "chunked").mkdir()
        for name in ("big", "chunked/big"):
            (nginx.www / name).write_bytes(Random(5).randbytes(MIB + 1))  # noqa: S311 - what does not compress
        nginx.file("4mib", 4 * MIB)
        yield nginx


@pytest.fixture(scope="module")
def scripts(scratch: Path) -> Scripts:
    made = Scripts(scratch)
    made.add("sizes", SIZES)
    made.add("holds", HOLDS, timeout=120)
    return made


@pytest.fixture(scope="module")
def streaming(scratch: Path, server: Nginx, scripts: Scripts) -> Iterator[Daemon]:
    inspection = {"addons": scripts.addons, "body_limit": LIMIT, "on_large": "stream"}
    hosts = {"sizes.example": "127.0.0.1"}
    with Daemon(scratch / "streams", hosts=hosts, common=PUBLIC, extra={"inspection": inspection}) as running:
        yield running


@VERSIONS
@pytest.mark.parametrize("path", ["/big", "/chunked/big"])
def test_a_large_response_passes_unseen_where_told_so(
    streaming: Daemon, server: Nginx, path: str, version: str
) -> None:
    asked = f"{path}?{version}"
    result = curl(
        streaming, server["origin"].url(asked, "sizes.example"), version, "-H", "Accept-Encoding: gzip", "--compressed"
    )
    assert result.status == 200
    assert hashlib.sha256(result.body).digest() == hashlib.sha256((server.www / "big").read_bytes()).digest()
    assert streaming.wait_log("inspector says", message=f"response {asked}: None")
    small = curl(streaming, server["origin"].url("/", "sizes.example"), version)
    assert small.headers["x-seen"] == "yes"


@VERSIONS
@pytest.mark.parametrize("known", [True, False])
def test_a_large_request_passes_unseen_where_told_so(
    streaming: Daemon, server: Nginx, known: bool, version: str
) -> None:
    path = f"/upload/large-{known}{version}"
    what = str(server.www / "big") if known else "-"
    body = (server.www / "big").read_bytes()
    asked = server["origin"].url(path, "sizes.example")
    result = curl(streaming, asked, version, "-T", what, stdin=None if known else body)
    assert result.status == 201
    assert server.uploaded(path.removeprefix("/upload/")).read_bytes() == body
    assert streaming.wait_log("inspector says", message=f"request {path}: None")


def test_many_large_bodies_stay_within_what_all_may_use(tmp_path: Path, server: Nginx, scripts: Scripts) -> None:
    """Those that an inspector holds keep what there is; the others are blocked; afterwards all of it is back."""
    go_on = scripts.folder / "go-on"
    go_on.unlink(missing_ok=True)
    inspection = {"addons": scripts.addons, "body_memory": 8 * MIB}
    with Daemon(
        tmp_path / "daemon", hosts={"holds.example": "127.0.0.1"}, common=PUBLIC, extra={"inspection": inspection}
    ) as daemon:
        url = server["origin"].url("/4mib", "holds.example")
        assert curl(daemon, url).status == 200
        idle = highest = daemon.memory_kib()
        asked = command(
            daemon, f"{url}?hold", "--http1.1", "-o", "/dev/null", "-w", "%{http_code} %{size_download}",
            "--max-time", "110",
        )  # fmt: skip
        running = [subprocess.Popen(asked, stdout=subprocess.PIPE, text=True) for _ in range(PARALLEL)]
        try:

            def refused() -> bool:
                nonlocal highest
                highest = max(highest, daemon.memory_kib())
                return sum(each.poll() is not None for each in running) >= PARALLEL - 2

            wait_for("all but two to be answered", refused, timeout=90)
            go_on.touch()
            answers = [each.communicate(timeout=60)[0] for each in running]
        finally:
            for each in running:
                each.kill()
                each.wait()
        whole = [answer for answer in answers if answer == f"200 {4 * MIB}"]
        assert len(whole) <= 2
        assert [answer[:4] for answer in answers if answer not in whole] == ["502 "] * (PARALLEL - len(whole))
        assert highest - idle < 64 * 1024, f"{highest - idle} KiB above idle"
        for _ in range(3):
            result = curl(daemon, url)
            assert (result.status, len(result.body)) == (200, 4 * MIB)
        assert not daemon.log("fault")
