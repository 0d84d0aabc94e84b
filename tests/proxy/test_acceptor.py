"""A few connections in a turn of the loop, a pause where the machine gives no more, and nothing after the end."""

from __future__ import annotations

import asyncio
import errno
import itertools
import os
import socket
import struct
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from proxy.acceptor import AT_ONCE, LOOKED_AT, Acceptor


class Listening:
    """A listening socket whose ``accept`` raises what it is told to first."""

    def __init__(self, real: socket.socket, *errors: int) -> None:
        self.real = real
        self.errors = list(errors)
        self.accepts = 0

    def fileno(self) -> int:
        return self.real.fileno()

    def close(self) -> None:
        self.real.close()

    def accept(self) -> tuple[socket.socket, Any]:
        self.accepts += 1
        if self.errors:
            number = self.errors.pop(0)
            raise OSError(number, os.strerror(number))
        return self.real.accept()


class Rig:
    """An acceptor on a port of its own, and what it did."""

    def __init__(self, *errors: int) -> None:
        real = socket.create_server(("127.0.0.1", 0), backlog=512)
        real.setblocking(False)
        self.port = real.getsockname()[1]
        self.listening = Listening(real, *errors)
        self.accepted: list[socket.socket] = []
        self.complaints: list[str] = []
        self.full = False
        self.left = 0
        self.clients: list[socket.socket] = []
        self.acceptor = Acceptor(
            asyncio.get_running_loop(),
            self.listening,  # type: ignore[arg-type] # a socket with errors to give
            lambda connection, peer: self.accepted.append(connection),
            lambda: self.full,
            lambda error: self.complaints.append(str(error.strerror)),
            self._has_left,
        )
        self.acceptor.start()

    def _has_left(self) -> None:
        self.left += 1

    def leave(self, count: int) -> None:
        """Connect, and be gone again: reset, or with FIN."""
        for number in range(count):
            with socket.create_connection(("127.0.0.1", self.port)) as client:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", number % 2, 0))

    def connect(self, count: int) -> None:
        self.clients += [socket.create_connection(("127.0.0.1", self.port)) for _ in range(count)]

    async def until(self, accepted: int) -> None:
        async with asyncio.timeout(10):
            while len(self.accepted) < accepted:  # noqa: ASYNC110 - what is waited for is state that has no event
                await asyncio.sleep(0)

    def end(self) -> None:
        self.acceptor.close()
        for one in (*self.clients, *self.accepted):
            one.close()


def run(test: Callable[[Rig], Awaitable[None]], *errors: int) -> None:
    async def main() -> None:
        rig = Rig(*errors)
        try:
            await test(rig)
        finally:
            rig.end()

    asyncio.run(main())


def test_what_is_open_has_its_turn_between_a_few_that_are_accepted() -> None:
    async def test(rig: Rig) -> None:
        rig.connect(3 * AT_ONCE + 1)
        grown = []
        before = 0
        while len(rig.accepted) < 3 * AT_ONCE + 1:
            await asyncio.sleep(0)
            grown.append(len(rig.accepted) - before)
            before = len(rig.accepted)
        assert max(grown) == AT_ONCE

    run(test)


def test_those_who_have_left_are_let_go_and_take_nobodys_place() -> None:
    async def test(rig: Rig) -> None:
        rig.leave(LOOKED_AT - AT_ONCE)
        rig.connect(AT_ONCE)
        rig.clients[0].sendall(b"x")
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert (rig.left, len(rig.accepted)) == (LOOKED_AT - AT_ONCE, AT_ONCE)  # in one turn
        assert [one.getpeername() for one in rig.accepted] == [one.getsockname() for one in rig.clients]
        assert rig.accepted[0].recv(2) == b"x"

    run(test)


def test_a_turn_ends_though_nobody_of_those_who_wait_is_there() -> None:
    async def test(rig: Rig) -> None:
        rig.leave(3 * LOOKED_AT)
        turns = [0]
        while turns[-1] < 3 * LOOKED_AT:
            await asyncio.sleep(0)
            turns.append(rig.left)
        assert max(after - before for before, after in itertools.pairwise(turns)) == LOOKED_AT

    run(test)


@pytest.mark.parametrize("error", [errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EINVAL])
def test_it_pauses_where_the_machine_gives_no_more_and_goes_on_when_a_connection_has_ended(error: int) -> None:
    async def test(rig: Rig) -> None:
        rig.connect(2)
        while not rig.complaints:  # noqa: ASYNC110 - what is waited for is state that has no event
            await asyncio.sleep(0)
        for _ in range(20):
            await asyncio.sleep(0)
        assert (rig.listening.accepts, rig.accepted) == (1, [])
        rig.acceptor.resume()
        await rig.until(2)
        assert rig.complaints == [os.strerror(error)]

    run(test, error)


def test_without_an_end_of_any_connection_it_tries_again_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("proxy.acceptor.PAUSE_SECONDS", 0.01)

    async def test(rig: Rig) -> None:
        rig.connect(1)
        await rig.until(1)
        assert rig.listening.accepts >= 3

    run(test, errno.EMFILE, errno.EMFILE)


def test_a_connection_that_is_gone_before_it_is_accepted_costs_the_others_nothing() -> None:
    async def test(rig: Rig) -> None:
        rig.connect(2)
        await rig.until(2)
        assert not rig.complaints

    run(test, errno.ECONNABORTED, errno.EPROTO)


def test_a_worker_without_room_leaves_connections_to_the_others() -> None:
    async def test(rig: Rig) -> None:
        rig.full = True
        rig.connect(1)
        for _ in range(20):
            await asyncio.sleep(0)
        assert rig.listening.accepts == 0
        other, _ = await asyncio.get_running_loop().sock_accept(rig.listening.real)
        other.close()

    run(test)


def test_after_the_end_nothing_is_accepted_and_nothing_wakes_it() -> None:
    async def test(rig: Rig) -> None:
        rig.full = True
        rig.connect(1)
        await asyncio.sleep(0.01)
        rig.acceptor.close()
        rig.acceptor.resume()
        rig.acceptor.close()
        assert rig.listening.fileno() == -1
        await asyncio.sleep(0.01)
        assert not rig.accepted

    run(test)
