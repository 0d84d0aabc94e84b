"""A tunnel that gives up decrypting when it has judged the server: the client goes on as if we had never been there."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest

from certs.verdict import Verdict
from config.settings import Listener, Settings
from control.installation import Installation
from proxy.lanes.splice import Bypass
from proxy.ledger import Ledger
from proxy.log import Log
from proxy.seats import Seats, columns
from proxy.tunnel import Tunnel
from proxy.worker import Worker
from tests.harness.curl import Result, curl
from tests.harness.daemon import Entrance
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


@asynccontextmanager
async def worker(folder: Path) -> AsyncIterator[tuple[Worker, str]]:
    """A worker in this process, without an issuer; and where it listens."""
    listener = Listener(name="explicit", bind="127.0.0.1:0")
    settings = Settings.model_validate(
        {
            "state_dir": str(folder / "state"),
            "listeners": [listener.model_dump()],
            "resolver": {"hosts": {HOST: "127.0.0.1"}},
            "egress": {"allow": ["127.0.0.0/8"]},
            "metrics": {"enabled": False},
        }
    )
    Installation.open(settings, datetime.now(UTC)).close()  # noqa: TID251 - certificates are judged at the real time
    (folder / "state" / "run").mkdir(mode=0o700, exist_ok=True)
    listening = socket.create_server(("127.0.0.1", 0))
    listening.setblocking(False)
    ledger = Ledger.create(1, columns(settings.listeners))
    with (folder / "log").open("wb") as log:
        made = Worker(
            settings, [(listener, listening)], Log(log.fileno(), "info", "test", lambda: 0.0),
            Seats(ledger, ledger.take(), settings.limits, 1, 4096),
        )  # fmt: skip
        try:
            await made.start()
            yield made, f"127.0.0.1:{listening.getsockname()[1]}"
        finally:
            made.stop_now()
            made.entrance.close()
            made.entrance.end()
            made.status.stop()
            await made.issuer.close()
            made.resolver.close()
            made.judging.shutdown()
            made.store.close()
    ledger.finish()


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
        async with worker(tmp_path) as (made, address):
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
        async with worker(tmp_path) as (made, address):
            result = await asyncio.to_thread(curl, Entrance(address, root), site[HOST].url())
            await asyncio.to_thread(wait_for, "the connection to end", lambda: not made.sessions)
            return result

    result = asyncio.run(asyncio.wait_for(ask(), 60))
    assert result.exit_code == 35, result.error
    lines = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]
    (ended,) = [line for line in lines if line["event"] == "connection"]
    assert (ended["state"], ended["reason"]) == ("pass", "the server refused the connection")
    assert not [line for line in lines if line["event"] == "fault"]
