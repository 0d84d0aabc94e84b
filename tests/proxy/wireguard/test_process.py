"""What the process that ends the tunnels tells of itself."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from config.settings import Settings
from control import wireguard
from control.installation import Installation
from issuer.client import IssuerUnavailable
from issuer.wireguard import private_key
from proxy.control import TUNNELS_SOCKETS, status_socket
from proxy.log import Log
from proxy.status_client import ask_all
from proxy.wireguard import __main__ as module
from proxy.wireguard.__main__ import Process
from tests.harness.pki import NOW


@pytest.fixture
def inst(tmp_path: Path) -> Iterator[Installation]:
    settings = Settings.model_validate(
        {
            "state_dir": str(tmp_path / "state"),
            "listeners": [{"name": "wg", "mode": "wireguard", "bind": "127.0.0.1:0", "tenant": "default"}],
        }
    )
    with Installation.open(settings, NOW) as made:
        wireguard.add_peer(made, "default", "phone", NOW)
        yield made


async def ended(process: Process) -> None:
    """Let go of what it has, which it has until it ends."""
    await process.issuer.close()
    process.shared.resolver.close()
    process.store.close()


class Front:
    """A listener without a socket."""

    streams = 3

    def __init__(self) -> None:
        self.tunnels = {b"one": None}
        self.served: list[tuple[bytes, int]] = []

    def serve(self, key: bytes, peers: tuple[object, ...]) -> None:
        self.served.append((key, len(peers)))


def test_it_tells_why_nobody_is_let_in_for_as_long_as_that_is_so(
    inst: Installation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "RETRY_SECONDS", 0)

    async def test() -> None:
        with (tmp_path / "log").open("wb") as log:
            process = Process(inst.settings, [], Log(log.fileno(), "info", "wireguard", lambda: 0.0))
            front = Front()
            process.fronts = [(inst.settings.listeners[0], front)]  # type: ignore[list-item] # all that is touched
            answers: list[bytes | Exception] = [IssuerUnavailable("timeout", "no answer within 5 s"), bytes(32)]
            answers.append(private_key(inst.store, inst.provider, "default"))

            async def key(tenant: str) -> bytes:
                answer = answers.pop(0)
                if isinstance(answer, Exception):
                    raise answer
                return answer

            monkeypatch.setattr(process.issuer, "wireguard_key", key)
            told = []
            for _ in range(3):
                await process.look()
                await asyncio.gather(*process._asking.values())
                await asyncio.sleep(0)  # for what is done when they end
                told.append(process.answer({"ask": "health"}))
            await ended(process)
        shown = [json.loads(json.dumps(each))["tenants"]["default"] for each in told]
        assert [each.pop("no_key") for each in shown] == [
            "no answer within 5 s",
            "it is not the one that belongs to the tenant's public key; restore a backup",
            None,
        ]
        assert shown == [{"peers": 1, "tunnels": 1, "streams": 3}] * 3
        assert [(bool(key), peers) for key, peers in front.served] == [(False, 1), (True, 1)]
        assert "error" in process.answer({"ask": "anything else"})

    asyncio.run(test())


def test_it_serves_where_there_is_no_room_for_its_socket(inst: Installation, tmp_path: Path) -> None:
    run = inst.settings.state_dir / "run"
    run.write_text("in the way of a folder")

    async def test() -> bytes:
        ours, theirs = socket.socketpair()
        with ours, theirs, (tmp_path / "log").open("wb") as log:
            written = Log(log.fileno(), "info", "wireguard", lambda: 0.0)
            process = Process(inst.settings, [], written)
            ending = asyncio.Event()
            running = asyncio.ensure_future(process.run(ours, ending))
            theirs.setblocking(False)
            ready = await asyncio.wait_for(asyncio.get_running_loop().sock_recv(theirs, 1), 20)
            ending.set()
            await running
            process.store.close()
            written.stop()
            return ready

    assert asyncio.run(test()) == b"r"
    assert "status cannot be told" in (tmp_path / "log").read_text()


def test_it_answers_on_a_socket_of_its_own(inst: Installation, tmp_path: Path) -> None:
    (inst.settings.state_dir / "run").mkdir()

    async def test() -> None:
        with (tmp_path / "log").open("wb") as log:
            process = Process(inst.settings, [], Log(log.fileno(), "info", "wireguard", lambda: 0.0))
            await process._status.start()
            (told,) = await ask_all(inst.settings.state_dir, {"ask": "health"}, TUNNELS_SOCKETS)
            assert told["store"] is None
            assert status_socket(inst.settings.state_dir, told["pid"], TUNNELS_SOCKETS).exists()
            assert await ask_all(inst.settings.state_dir, {"ask": "health"}) == []  # it is no worker
            process._status.stop()
            assert await ask_all(inst.settings.state_dir, {"ask": "health"}, TUNNELS_SOCKETS) == []
            await ended(process)

    asyncio.run(test())
