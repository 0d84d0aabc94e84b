"""A tunnel that gives up decrypting when it has judged the server: the client goes on as if we had never been there."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from certs.verdict import Verdict
from proxy.lanes.splice import Bypass
from proxy.tunnel import Tunnel
from tests.harness.curl import Result, curl
from tests.harness.daemon import Entrance
from tests.harness.in_process import worker
from tests.harness.origins import Nginx, Site
from tests.harness.pki import Authority
from tests.harness.processes import wait_for
from tests.harness.programs import need

HOST = "private.example"
PRIVATE = Authority.root("Private Root")


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Nginx]:
    need("nginx")
    need("curl")
    with Nginx(tmp_path, [Site(HOST, PRIVATE.intermediate("Issuing").leaf(HOST))]) as nginx:
        yield nginx


@pytest.fixture
def root(tmp_path: Path) -> Path:
    path = tmp_path / "root.pem"
    path.write_bytes(PRIVATE.pem())
    return path


def bypassing(
    monkeypatch: pytest.MonkeyPatch, before: Callable[[Tunnel], object] = lambda tunnel: None
) -> list[Verdict]:
    """Have every tunnel bypassed when its server is judged; the verdicts."""
    verdicts: list[Verdict] = []

    def judged(tunnel: Tunnel, verdict: Verdict, source: str) -> None:
        verdicts.append(verdict)
        before(tunnel)
        tunnel._bypass(Bypass(reason="incomplete_chain"))

    monkeypatch.setattr(Tunnel, "_judged", judged)
    return verdicts


@pytest.mark.parametrize("version", ["--http1.1", "--http2"])
def test_the_client_gets_a_connection_of_its_own_to_the_server_that_was_judged(
    tmp_path: Path, site: Nginx, root: Path, monkeypatch: pytest.MonkeyPatch, version: str
) -> None:
    verdicts = bypassing(monkeypatch)

    async def ask() -> tuple[Result, int]:
        async with worker(tmp_path, {HOST: "127.0.0.1"}) as (made, address):
            result = await asyncio.to_thread(curl, Entrance(address, root), site[HOST].url(), version)
            return result, made.metrics.totals()["connections", "default", "explicit", "bypass"]

    result, counted = asyncio.run(ask())
    assert (result.exit_code, result.text) == (0, f"hello from {HOST}\n"), result.error
    assert len(verdicts) == 1
    assert counted == 1
    (request,) = site.wait_requests(1)
    assert request["sni"] == HOST
    lines = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]
    (line,) = [line for line in lines if line["event"] == "bypassed"]
    assert (line["host"], line["address"], line["reason"]) == (HOST, "127.0.0.1", "incomplete_chain")
    assert line["response_bytes"] > len(result.body)
    assert not [line for line in lines if line["event"] == "fault"]


def test_where_the_server_is_not_there_any_more_the_connection_ends(
    tmp_path: Path, site: Nginx, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bypassing(monkeypatch, lambda tunnel: site.stop())

    async def ask() -> Result:
        async with worker(tmp_path, {HOST: "127.0.0.1"}) as (made, address):
            result = await asyncio.to_thread(curl, Entrance(address, root), site[HOST].url())
            await asyncio.to_thread(wait_for, "the connection to end", lambda: not made.sessions)
            return result

    result = asyncio.run(asyncio.wait_for(ask(), 60))
    assert result.exit_code == 35, result.error
    lines = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]
    (ended,) = [line for line in lines if line["event"] == "connection"]
    assert (ended["state"], ended["reason"]) == ("pass", "the server refused the connection")
    assert not [line for line in lines if line["event"] == "fault"]
