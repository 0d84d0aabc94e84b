"""The ICAP inspector and a real server: c-icap, its echo service, its virus scanner, and ClamAV behind that."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest
from mitmproxy import http

from addons.icap import Icap
from addons.icap_heads import IcapError
from addons.refusing import REFUSED
from tests.addons.icap_asking import inspector, post, run
from tests.addons.mitm import tflow, tutils
from tests.harness.icap_server import MARK, IcapServer, eicar
from tests.harness.pki import Authority

ROOT = Authority.root("ICAP Root")
SIZES = (0, 1, 1023, 1024, 1025, 65_536, 1_000_000, 5_000_000)
"""Around the preview that c-icap asks for (1024), and well beyond what is in any buffer."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[IcapServer]:
    identity = ROOT.intermediate("ICAP Issuing").leaf("127.0.0.1")
    with IcapServer(tmp_path_factory.mktemp("icap"), identity) as running:
        yield running


def with_inspector(do: Callable[[Icap], Awaitable[None]], **settings: str | int) -> None:
    async def ask() -> None:
        async with inspector(**settings) as icap:
            await do(icap)

    run(ask)


def response(body: bytes) -> http.HTTPFlow:
    return tflow.tflow(
        req=post().request, resp=tutils.tresp(content=body, headers=http.Headers(content_type="text/plain"))
    )


def noise(size: int) -> bytes:
    return random.Random(size).randbytes(size)  # noqa: S311 - just bytes that are not all alike


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("service", ["avscan", "virus_scan", "echo"])
@pytest.mark.parametrize("preview", [-1, 0, 100])
def test_what_is_clean_keeps_every_byte(server: IcapServer, service: str, size: int, preview: int) -> None:
    async def scan(icap: Icap) -> None:
        flow = post()
        flow.request.raw_content = noise(size + 1)
        await icap.request(flow)
        assert flow.response is None
        assert (flow.request.method, flow.request.path, flow.request.raw_content) == ("POST", "/form", noise(size + 1))
        flow = response(noise(size))
        await icap.response(flow)
        assert flow.response is not None
        assert (flow.response.status_code, flow.response.raw_content) == (200, noise(size))

    with_inspector(scan, icap_url=server.url(service), icap_preview=preview)


def test_a_virus_in_a_response_is_replaced(server: IcapServer) -> None:
    async def scan(icap: Icap) -> None:
        for _ in range(3):
            flow = response(eicar())
            await icap.response(flow)
            assert flow.response is not None
            assert flow.response.status_code == 403
            assert "VIRUS FOUND" in (flow.response.text or "")
            assert "Test.Eicar" in (flow.response.text or "")
            assert flow.response.headers["content-length"] == str(len(flow.response.raw_content or b""))
            assert "connection" not in flow.response.headers

    with_inspector(scan, icap_url=server.url("avscan"))


@pytest.mark.parametrize("size", [10, 1024, 3_000_000])
def test_a_virus_beyond_the_preview_is_found(server: IcapServer, size: int) -> None:
    async def scan(icap: Icap) -> None:
        flow = response(b"a" * size + MARK + b"z" * size)
        await icap.response(flow)
        assert flow.response is not None
        assert flow.response.status_code == 403
        assert "Test.Mark" in (flow.response.text or "")

    with_inspector(scan, icap_url=server.url("avscan"))


def test_a_virus_in_an_upload_is_answered_in_place_of_the_server(server: IcapServer) -> None:
    async def scan(icap: Icap) -> None:
        flow = post()
        flow.request.raw_content = eicar()
        await icap.request(flow)
        assert flow.response is not None
        assert flow.response.status_code == 403
        assert flow.metadata[REFUSED] == "icap"

    with_inspector(scan, icap_url=server.url("avscan"))


def test_many_at_once_share_ten_connections(server: IcapServer) -> None:
    async def scan(icap: Icap) -> None:
        flows = [response(eicar() if place % 3 == 0 else noise(place * 100)) for place in range(60)]
        await asyncio.gather(*(icap.response(flow) for flow in flows))
        statuses = [flow.response.status_code for flow in flows if flow.response]
        assert statuses == [403 if place % 3 == 0 else 200 for place in range(60)]

    with_inspector(scan, icap_url=server.url("avscan"), icap_timeout=30)


def test_over_tls(server: IcapServer, tmp_path: Path) -> None:
    root = tmp_path / "root.pem"
    root.write_bytes(ROOT.pem())

    async def scan(icap: Icap) -> None:
        for body, status in ((eicar(), 403), (noise(1_000_000), 200)):
            flow = response(body)
            await icap.response(flow)
            assert flow.response is not None
            assert flow.response.status_code == status

    with_inspector(scan, icap_url=server.secure_url("avscan"), icap_ca_file=str(root))


def test_a_service_that_is_not_there(server: IcapServer) -> None:
    async def scan(icap: Icap) -> None:
        with pytest.raises(IcapError, match=r"OPTIONS: it answered 404 Service not found; it has no such service"):
            await icap.response(response(b"x"))

    with_inspector(scan, icap_url=server.url("nothing"))


def test_a_server_that_went_and_came_back(tmp_path: Path) -> None:
    with IcapServer(tmp_path) as server:

        async def scan(icap: Icap) -> None:
            await icap.response(response(b"one"))
            await asyncio.to_thread(server.stop)
            with pytest.raises(IcapError, match="Connection refused; is it running"):
                await icap.response(response(b"two"))
            await asyncio.to_thread(server.start)
            flow = response(eicar())
            await icap.response(flow)
            assert flow.response is not None
            assert flow.response.status_code == 403

        with_inspector(scan, icap_url=server.url("avscan"))
