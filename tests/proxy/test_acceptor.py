"""A few connections in a turn of the loop, a pause where the machine gives no more, and nothing after the end."""

from __future__ import annotations

import asyncio
import errno
import itertools
import os
import socket
import struct
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from proxy.acceptor import ALONE_SECONDS, AT_ONCE, LOOKED_AT, UNWANTED, Acceptor


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
        self.patience = 0.0
        self.left = 0
        self.clients: list[socket.socket] = []
        self.acceptor = Acceptor(
            asyncio.get_running_loop(),
            self.listening,  # type: ignore[arg-type] # a socket with errors to give
            lambda connection, peer: self.accepted.append(connection),
            lambda: self.full,
            lambda: self.patience,
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

    async def leave_one(self) -> None:
        """Connect, and let it be left to others for a moment."""
        self.connect(1)
        for _ in range(20):
            await asyncio.sleep(0)

    def moment_over(self) -> None:
        """What was left to others long enough (tests make a moment very long, and end it)."""
        leaving = self.acceptor._leaving
        assert leaving is not None
        leaving.cancel()
        self.acceptor._take()

    def by_another(self) -> None:
        """Another worker, on the same socket, takes one."""
        self.listening.real.accept()[0].close()

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


# --- a worker that had better not have what comes ---

LONG = 3600.0
"""A moment that a test ends by itself."""


def test_what_comes_is_left_to_others_for_a_moment() -> None:
    async def test(rig: Rig) -> None:
        await rig.leave_one()
        await rig.until(1)
        rig.patience = LONG
        await rig.leave_one()
        rig.acceptor.resume()  # that a connection ends is no reason to hurry
        await rig.leave_one()
        assert (rig.listening.accepts, len(rig.accepted)) == (2, 1)  # the first, and that there were no more
        rig.by_another()
        rig.moment_over()
        assert len(rig.accepted) == 2
        assert rig.acceptor._leaving is None  # nothing waits any more

    run(test)


def test_a_moment_ends_by_itself() -> None:
    async def test(rig: Rig) -> None:
        rig.patience = 0.001
        rig.connect(3)
        await rig.until(3)

    run(test)


def test_what_nobody_else_has_taken_is_taken_one_by_one() -> None:
    async def test(rig: Rig) -> None:
        rig.patience = LONG
        rig.connect(2)
        for number in range(1, UNWANTED):
            await rig.leave_one()
            rig.moment_over()
            assert len(rig.accepted) == number

    run(test)


def test_a_worker_that_may_have_the_next_again_takes_all_that_wait() -> None:
    async def test(rig: Rig) -> None:
        rig.patience = LONG
        rig.connect(2)
        await rig.leave_one()
        rig.patience = 0
        rig.moment_over()
        assert len(rig.accepted) == 3

    run(test)


def test_what_another_has_taken_is_no_reason_to_take_the_next() -> None:
    async def test(rig: Rig) -> None:
        rig.patience = LONG
        for _ in range(2 * UNWANTED):
            await rig.leave_one()
            rig.by_another()
            rig.moment_over()
        assert (rig.accepted, rig.complaints) == ([], [])

    run(test)


def test_where_nobody_else_takes_anything_nothing_is_left_to_them_for_a_while() -> None:
    async def test(rig: Rig) -> None:
        rig.patience = LONG
        for number in range(1, UNWANTED + 1):
            await rig.leave_one()
            rig.moment_over()
            assert len(rig.accepted) == number
        rig.connect(3)
        await rig.until(UNWANTED + 3)  # well within the while, or the test waits for an hour
        assert rig.acceptor._leaving is None

    run(test)


def test_one_that_others_do_take_begins_the_count_anew() -> None:
    async def test(rig: Rig) -> None:
        rig.patience = LONG
        for number in range(1, UNWANTED):
            await rig.leave_one()
            rig.moment_over()
            assert len(rig.accepted) == number
        await rig.leave_one()
        rig.by_another()
        rig.moment_over()
        for _ in range(UNWANTED - 1):
            await rig.leave_one()
            rig.moment_over()
        await rig.leave_one()
        assert len(rig.accepted) == 2 * (UNWANTED - 1)
        assert rig.acceptor._leaving is not None

    run(test)


def test_after_the_while_it_begins_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("proxy.acceptor.ALONE_SECONDS", 0)
    monkeypatch.setattr("proxy.acceptor.ALONE_TIMES", 0)

    async def test(rig: Rig) -> None:
        rig.patience = LONG
        for number in range(1, 2 * UNWANTED):
            await rig.leave_one()
            assert rig.acceptor._leaving is not None
            rig.moment_over()
            assert len(rig.accepted) == number

    run(test)


def test_one_moment_that_takes_far_too_long_says_as_much_as_several() -> None:
    """Where a turn of the loop is long, so is a moment, and a few such would be all that is taken in a second."""

    async def test(rig: Rig) -> None:
        rig.patience = 0.001
        rig.connect(5)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert rig.acceptor._leaving is not None
        time.sleep(UNWANTED * 0.001 * 2)  # noqa: ASYNC251 - the loop's long turn
        rig.patience = LONG
        rig.moment_over()
        await rig.until(5)
        assert rig.acceptor._alone_until > asyncio.get_running_loop().time() + ALONE_SECONDS / 2

    run(test)


def test_of_two_workers_each_gets_its_share() -> None:
    """Both in one loop, on one socket, the one that always wakes first having had all of them before."""

    async def main() -> None:
        rig = Rig()
        counts = [0, 0]

        def taking(which: int) -> Callable[[socket.socket, Any], None]:
            def arrived(connection: socket.socket, peer: Any) -> None:
                counts[which] += 1
                rig.accepted.append(connection)

            return arrived

        rig.acceptor._arrived = taking(0)
        rig.acceptor._patience = lambda: LONG * (counts[0] > counts[1])
        other = Acceptor(
            asyncio.get_running_loop(), rig.listening.real.dup(), taking(1), lambda: False,
            lambda: 0.001 * (counts[1] > counts[0]), lambda error: None, lambda: None,
        )  # fmt: skip
        other.start()
        try:
            for number in range(1, 21):
                rig.connect(1)
                await rig.until(number)
                if rig.acceptor._leaving is not None:
                    rig.moment_over()
            assert counts == [10, 10]
        finally:
            other.close()
            rig.end()

    asyncio.run(main())


def test_the_end_may_come_while_something_is_left_to_others() -> None:
    async def test(rig: Rig) -> None:
        rig.patience = LONG
        await rig.leave_one()
        leaving = rig.acceptor._leaving
        assert leaving is not None
        rig.acceptor.close()
        assert leaving.cancelled()
        rig.acceptor.close()

    run(test)


def test_a_worker_without_room_does_not_take_what_nobody_else_did() -> None:
    async def test(rig: Rig) -> None:
        rig.patience = LONG
        await rig.leave_one()
        rig.full = True
        rig.moment_over()
        assert rig.listening.accepts == 0
        rig.full, rig.patience = False, 0
        rig.acceptor.resume()
        await rig.until(1)

    run(test)


def test_what_was_left_to_others_and_cannot_be_had_is_waited_for_like_any_other() -> None:
    async def test(rig: Rig) -> None:
        rig.patience = LONG
        await rig.leave_one()
        rig.moment_over()
        assert (rig.complaints, rig.accepted) == ([os.strerror(errno.EMFILE)], [])
        rig.acceptor.resume()
        for _ in range(20):
            await asyncio.sleep(0)
        rig.moment_over()
        assert len(rig.accepted) == 1

    run(test, errno.EMFILE)
