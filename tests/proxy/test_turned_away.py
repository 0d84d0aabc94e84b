"""A refused client reads why, though it has asked already; and only so many linger."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable

import pytest

from proxy import turned_away
from proxy.turned_away import READ, READS, TurnedAway

ANSWER = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n"


def run(test: Callable[[TurnedAway], Awaitable[None]]) -> None:
    async def main() -> None:
        room = TurnedAway(asyncio.get_running_loop())
        try:
            await test(room)
        finally:
            room.close()

    asyncio.run(main())


def pair() -> tuple[socket.socket, socket.socket]:
    """Both ends of a TCP connection: the client's, which waits 5 seconds at most, and the proxy's."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        client = socket.create_connection(listening.getsockname(), timeout=5)
        accepted, _ = listening.accept()
    return client, accepted


async def until(done: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not done():  # noqa: ASYNC110 - what is waited for is state that has no event
            await asyncio.sleep(0.005)


def test_a_client_that_has_asked_already_reads_the_answer_to_its_end() -> None:
    async def test(room: TurnedAway) -> None:
        client, ours = pair()
        with client:
            client.sendall(b"CONNECT example.com:443 HTTP/1.1\r\n\r\n")
            room.tell(ours, ANSWER)
            client.sendall(b"and more, too late")
            await asyncio.sleep(0)
            assert client.recv(1000) == ANSWER
            assert client.recv(1000) == b""
        await until(lambda: len(room) == 0)
        assert ours.fileno() == -1

    run(test)


def test_one_that_stays_is_let_go_of_in_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turned_away, "SECONDS", 0.05)

    async def test(room: TurnedAway) -> None:
        pairs = [pair() for _ in range(3)]
        for _, ours in pairs:
            room.tell(ours, ANSWER)
        assert len(room) == 3
        await until(lambda: len(room) == 0)
        for client, ours in pairs:
            assert ours.fileno() == -1
            client.close()

    run(test)


def test_one_that_sends_without_end_is_not_read_without_end() -> None:
    async def test(room: TurnedAway) -> None:
        client, ours = pair()
        with client:
            room.tell(ours, ANSWER)
            client.setblocking(False)
            sent = 0

            def cut() -> bool:
                nonlocal sent
                try:
                    while sent < 100 * READ * READS:
                        sent += client.send(b"x" * READ)
                except BlockingIOError:
                    return len(room) == 0
                except ConnectionError:
                    return True
                return False

            await until(cut)
            assert len(room) == 0

    run(test)


def test_beyond_those_that_may_linger_the_rest_is_told_and_reset(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turned_away, "MOST", 2)

    async def test(room: TurnedAway) -> None:
        pairs = [pair() for _ in range(3)]
        for _, ours in pairs:
            room.tell(ours, ANSWER)
        assert len(room) == 2
        assert pairs[2][1].fileno() == -1
        assert pairs[2][0].recv(1000) == ANSWER
        with pytest.raises(ConnectionError):
            pairs[2][0].sendall(b"anybody there?")
        for client, _ in pairs:
            client.close()

    run(test)


def test_one_that_is_gone_is_no_fault() -> None:
    async def test(room: TurnedAway) -> None:
        client, ours = pair()
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
        client.close()
        room.tell(ours, ANSWER)
        await until(lambda: len(room) == 0)
        assert ours.fileno() == -1

    run(test)
