"""A handshake with a server that waits for whether our client certificate may be shown. The rest is in tests/e2e."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine

from proxy.tls_leg import LegError
from proxy.upstream import ServerLeg, dial


class Waiter:
    """The owner of a leg, who waits for its end."""

    def __init__(self) -> None:
        self.errors: list[tuple[int, int]] = []
        self.gone = asyncio.Event()

    def server_connected(self) -> None: ...
    def server_established(self) -> None: ...
    def server_refused(self, error: LegError) -> None: ...
    def server_data(self, data: bytes) -> None: ...
    def server_ended(self, orderly: bool) -> None: ...
    def server_writable(self, writable: bool) -> None: ...

    def server_lost(self, error: Exception | None) -> None:
        self.gone.set()


def run(scenario: Callable[[ServerLeg, Waiter], Coroutine[None, None, None]]) -> None:
    async def whole() -> None:
        async with asyncio.timeout(30):
            server = await asyncio.get_running_loop().create_server(asyncio.Protocol, "127.0.0.1", 0)
            async with server:
                waiter = Waiter()
                leg = ServerLeg(waiter)
                await dial(["127.0.0.1"], server.sockets[0].getsockname()[1], lambda: leg, 10)
                await scenario(leg, waiter)
                server.close_clients()

    asyncio.run(whole())


def test_what_a_handshake_waits_for_ends_with_its_connection() -> None:
    async def scenario(leg: ServerLeg, waiter: Waiter) -> None:
        ended = asyncio.Event()

        async def work() -> None:
            try:
                await asyncio.Event().wait()
            finally:
                ended.set()

        leg.wait_for(work())
        assert leg.waiting
        assert leg.transport is not None
        assert not leg.transport.is_reading()
        await asyncio.sleep(0)
        leg.close(orderly=False)
        await waiter.gone.wait()
        await ended.wait()
        await asyncio.sleep(0)
        assert not leg.waiting

    run(scenario)


def test_where_that_fails_the_connection_ends_and_it_is_told() -> None:
    async def scenario(leg: ServerLeg, waiter: Waiter) -> None:
        told: list[object] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context["exception"]))

        async def work() -> None:
            raise ZeroDivisionError

        leg.wait_for(work())
        await waiter.gone.wait()
        assert [type(each) for each in told] == [ZeroDivisionError]

    run(scenario)
