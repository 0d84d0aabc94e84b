"""What only a worker that a test reaches into can show: credentials, and connections that another process hands on."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from proxy import entrance
from proxy.listeners.proxy_header import encoded
from proxy.listeners.socks5 import Socks5
from proxy.session import Session
from tests.harness.in_process import worker
from tests.harness.origins import Nginx, Site
from tests.harness.processes import wait_for
from tests.harness.programs import need

SECRET = "correct horse"
DENIED = b"\x05\x01\x00\x01\x00\x00\x00\x00\x00\x50"
"""A request to go where nobody may: so it is known how far a client came, without any server."""
NOT_ALLOWED = b"\x05\x02\x00\x01\x00\x00\x00\x00\x00\x00"


def credentials(name: str, password: str) -> bytes:
    return b"\x01" + b"".join(bytes((len(text),)) + text for text in (name.encode(), password.encode()))


async def says(where: str, *messages: bytes) -> bytes:
    """All that is answered to the messages, each sent after something was answered to the last."""
    host, _, port = where.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    answers = b""
    for message in messages:
        writer.write(message)
        answers += await reader.read(1000)
    answers += await reader.read()
    writer.close()
    return answers


def log(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "log").read_text().splitlines()]


def test_who_has_to_say_who_it_is_comes_in_with_the_right_words_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, str]] = []

    async def verify(session: Session, name: str, password: str) -> bool:
        await asyncio.sleep(0)  # as whoever asks a thread
        asked.append((name, password))
        if (name, password) != ("ann", SECRET):
            return False
        return session.is_of("default", session.peer) is None

    monkeypatch.setitem(entrance.WAYS, "socks5", partial(Socks5, verify=verify))
    right, wrong = credentials("ann", SECRET), credentials("ann", "guess")

    async def clients() -> None:
        shared = {"mode": "socks5", "authentication": {"tenants": ["default"]}}
        async with worker(tmp_path, {}, shared) as (_, where):
            assert await says(where, b"\x05\x02\x00\x02", right, DENIED) == b"\x05\x02\x01\x00" + NOT_ALLOWED
            assert await says(where, b"\x05\x01\x02" + right + DENIED) == b"\x05\x02\x01\x00" + NOT_ALLOWED
            assert await says(where, b"\x05\x01\x02", wrong) == b"\x05\x02\x01\x01"
            assert await says(where, b"\x05\x01\x02" + wrong + DENIED) == b"\x05\x02\x01\x01"
            assert asked == [("ann", SECRET)] * 2 + [("ann", "guess")] * 2
            assert await says(where, b"\x05\x01\x02", b"\x01\x00\x00") == b"\x05\x02\x01\x01"
            assert await says(where, b"\x05\x01\x02", b"\x01\x01\xff\x01a") == b"\x05\x02\x01\x01"
            assert await says(where, b"\x05\x01\x00") == b"\x05\xff"
            assert len(asked) == 4

    asyncio.run(clients())
    reasons = [line["reason"] for line in log(tmp_path) if line["event"] == "refused" and line["status"] == 407]
    assert [reason.rpartition(": ")[2] for reason in reasons] == [
        *["the user name or the password is wrong."] * 4,
        "the client does not offer a user name and a password.",
    ]
    assert SECRET not in (tmp_path / "log").read_text()


@pytest.fixture
def origin(tmp_path: Path) -> Iterator[Nginx]:
    need("nginx")
    with Nginx(tmp_path, [Site("plain.example", None)]) as nginx:
        yield nginx


def test_another_process_of_ours_passes_connections_on_over_a_unix_socket(tmp_path: Path, origin: Nginx) -> None:
    port = origin.sites["plain.example"].port
    header = encoded(("192.0.2.7", 40000), ("127.0.0.1", port))
    request = f"GET / HTTP/1.1\r\nHost: plain.example:{port}\r\nConnection: close\r\n\r\n".encode()
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(str(tmp_path / "in.sock"))
    listening.listen()

    async def asks(data: bytes) -> bytes:
        reader, writer = await asyncio.open_unix_connection(str(tmp_path / "in.sock"))
        writer.write(data)
        answer = await reader.read()
        writer.close()
        return answer

    async def passes_on() -> None:
        async with worker(tmp_path, {}, {"mode": "transparent"}, listening):
            assert (await asks(header + request)).endswith(b"hello from plain.example\n")
            assert await asks(request) == b""
            await asyncio.to_thread(wait_for, "a line for each", lambda: len(log(tmp_path)) >= 2)

    asyncio.run(passes_on())
    served, refused = log(tmp_path)
    assert (served["event"], served["client"], served["status"]) == ("request", "192.0.2.7", 200)
    assert (refused["event"], refused["details"]) == ("refused", "proxy_protocol")
