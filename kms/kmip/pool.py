"""Connections to a key manager that are kept, and who may use one when.

A request has one deadline for all of it: waiting for a connection, making one, failing at one host and asking the
other. Nobody waits behind a key manager that is slow for longer than that, and not more than so many wait at all. Who
has not come by a connection while there is time to use it is refused, so that others are signed for where more is
wanted than the key manager bears.

A kept connection may have been closed by the other side in the meantime; what fails on it before anything is answered
is tried once more on a new one, which is no fault of the host. A request can be made twice without harm: it is one
signature more.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Protocol

from certs.signer import Health, HostHealth
from kms.bucket import Bucket
from kms.kmip import operations
from kms.kmip.connection import Connect, Connection, Endpoint, Reach, connect
from kms.kmip.errors import KmipError, Reason
from kms.kmip.hosts import Hosts, HostState
from kms.kmip.messages import Question

PING_SECONDS = 50.0
"""A connection that was idle for so long is used for a Query: servers and firewalls drop it after some minutes."""
PROBE_SECONDS = 2.0
"""How often a broken host is looked at."""
SHARE = 0.45
"""Of the deadline, for one attempt where there is another host to be asked: the rest is for that."""

PATIENCE = 0.5
"""Of the deadline, for waiting until one more signature may be asked for: the rest is for the signature."""
CROWDED_SECONDS = 5.0
"""For so long after something was refused since too much was wanted, it is taken for granted that more will be."""

LONGEST_WHY = 400
"""Characters of why a host is down, as others are told."""


type Work[A] = Callable[[Connection], Awaitable[A]]
"""What is asked on a connection. It may be done again on another one, to another host."""


class Watcher(Protocol):
    """Who is told what happens: for the log and the metrics."""

    def failed(self, endpoint: Endpoint, error: KmipError) -> None:
        """A request or a connection failed."""

    def broke(self, endpoint: Endpoint, error: KmipError) -> None:
        """From now on the host is not asked."""

    def mended(self, endpoint: Endpoint) -> None:
        """From now on it is asked again."""


class Unwatched:
    """Nobody is told."""

    def failed(self, endpoint: Endpoint, error: KmipError) -> None: ...
    def broke(self, endpoint: Endpoint, error: KmipError) -> None: ...
    def mended(self, endpoint: Endpoint) -> None: ...


@dataclass(frozen=True, slots=True)
class PoolLimits:
    """``timeout``: seconds for a request, all in all. ``queue``: how many may wait for a connection.

    ``signatures``: in a second; a tenth of them may come at once.
    """

    connections: int = 4
    queue: int = 256
    timeout: float = 5.0
    signatures: int = 100


@dataclass(slots=True, eq=False)
class _Slot:
    """A place for one connection."""

    connection: Connection | None = None
    host: HostState | None = None
    used: float = 0.0

    def usable(self, host: HostState) -> Connection | None:
        """The connection where it is to that host and still stands; any other is let go."""
        if self.connection is not None and (self.host is not host or not self.connection.usable):
            self.drop()
        return self.connection

    @property
    def stands(self) -> bool:
        return self.connection is not None and self.connection.usable

    def drop(self) -> None:
        if self.connection is not None:
            self.connection.abort()
            self.connection = None


class Pool:
    """For one key manager, from :meth:`start` to :meth:`stop`. ``clock`` counts seconds and never goes back."""

    def __init__(
        self,
        endpoints: Sequence[Endpoint],
        reach: Reach,
        limits: PoolLimits,
        clock: Callable[[], float],
        watcher: Watcher | None = None,
        dial: Connect = connect,
    ) -> None:
        self.hosts = Hosts(endpoints)
        self._reach = reach
        self._limits = limits
        self._clock = clock
        self._watcher = watcher or Unwatched()
        self._dial = dial
        self._slots = [_Slot() for _ in range(limits.connections)]
        self._free = list(self._slots)
        self._seats = asyncio.Semaphore(limits.connections)
        self._rate = Bucket(limits.signatures, clock, max(1, limits.signatures // 10))
        self._waiting = 0
        self._crowded: tuple[float, str] | None = None
        self._closed = False
        self._looks_at = clock()
        """When broken hosts are looked at again."""
        self._tending: asyncio.Task[None] | None = None

    @property
    def timeout(self) -> float:
        """Seconds for a request."""
        return self._limits.timeout

    def start(self) -> None:
        """Connect ahead, and look after the connections from now on."""
        self._tending = asyncio.get_running_loop().create_task(self._tend_for_ever())

    def stop(self) -> None:
        """End all connections; who waits is told so."""
        self._closed = True
        if self._tending is not None:
            self._tending.cancel()
        for slot in self._slots:
            slot.drop()

    @property
    def crowded(self) -> str | None:
        """Why something was refused a moment ago since too much was wanted; None where nothing was."""
        if self._crowded is None or self._clock() - self._crowded[0] > CROWDED_SECONDS:
            return None
        return self._crowded[1]

    def health(self) -> Health:
        """How the hosts are now."""
        now = self._clock()
        under_way = sum(state.asked for state in self.hosts.states)
        return Health(tuple(self._health(state, now) for state in self.hosts.states), max(0, self._waiting - under_way))

    def _health(self, state: HostState, now: float) -> HostHealth:
        next_try = max(state.since + state.wait, self._looks_at)
        return HostHealth(
            address=str(state.endpoint),
            down_for=max(0.0, now - state.since) if state.broken else None,
            why=state.why[:LONGEST_WHY] if state.broken else "",
            next_try_in=max(0.0, next_try - now) if state.broken else None,
            connections=sum(slot.host is state and slot.stands for slot in self._slots),
            asked=state.asked,
            signed_ago=None if state.signed_at is None else max(0.0, now - state.signed_at),
            seconds=state.median,
        )

    def has_room(self) -> bool:
        """Whether a signature that nobody waits for can be asked for, and whoever comes next finds their own."""
        return self._waiting * 2 < max(2, self._limits.connections) and self._rate.half_full

    async def turn(self) -> float:
        """Wait until one more signature may be asked for, behind those who came before. The seconds that it took.

        One that is asked for a second time, of the other host say, is still that one. Raises KmipError where it would
        take too long, or too many wait already: at once, so that whoever wants it knows.
        """
        self._look_at_queue()
        wait = self._rate.reserve(self._limits.timeout * PATIENCE)
        if wait is None:
            most = self._limits.signatures
            raise self._too_much(Reason.LIMITED, f"more than kmip.signatures_per_second ({most}) are wanted")
        if not wait:
            return 0.0
        self._waiting += 1
        try:
            await asyncio.sleep(wait)
        except BaseException:
            self._rate.give_back()
            raise
        finally:
            self._waiting -= 1
        return wait

    def _look_at_queue(self) -> None:
        if self._closed:
            raise _closed()
        if self._waiting >= self._limits.queue:
            raise self._too_much(Reason.BUSY, f"{self._waiting} requests wait for the key manager already")

    def _too_much(self, reason: Reason, what: str) -> KmipError:
        self._crowded = (self._clock(), what)
        error = KmipError(reason, f"{what}; try again later")
        self._watcher.failed(self.hosts.states[0].endpoint, error)
        return error

    async def ask[A](self, question: Question[A]) -> A:
        """The answer of the first host that gives one, within the deadline. Raises KmipError."""
        return await self.use(lambda connection: connection.ask(question))

    async def use[A](self, work: Work[A], waited: float = 0.0) -> A:
        """What the work gives at the first host where it is done, within the deadline.

        ``waited``: seconds of the deadline that are over already.
        The work raises KmipError for an answer that cannot be believed (``SIGNATURE``): it is done again, on another
        connection. Raises KmipError.
        """
        self._look_at_queue()
        self._waiting += 1
        asked: list[Endpoint] = []
        try:
            async with asyncio.timeout(self._limits.timeout):
                # Whoever comes by a connection is to have the time to use it. Where more is wanted than is signed, each
                # would else wait until its time is almost over, be cut off in the middle, and leave the next without a
                # connection: nothing would be signed any more.
                async with asyncio.timeout(max(0.0, self._limits.timeout * (1 - SHARE) - waited)):
                    await self._seats.acquire()
                slot = self._free.pop()
                try:
                    return await self._answer(slot, work, asked)
                finally:
                    slot.used = self._clock()
                    self._free.append(slot)
                    self._seats.release()
        except TimeoutError:
            what = "no connection to the key manager came free in time"
            if asked:
                what = f"no answer from {asked[-1]} within {self._limits.timeout:g} s"
            raise KmipError(Reason.TIMEOUT, what) from None
        finally:
            self._waiting -= 1

    async def _answer[A](self, slot: _Slot, work: Work[A], asked: list[Endpoint]) -> A:
        tried: list[HostState] = []
        last: KmipError | None = None
        while True:
            if self._closed:
                raise _closed()
            try:
                host = self.hosts.choose(tried)
            except KmipError as error:
                raise last or error from None
            asked.append(host.endpoint)
            kept = slot.usable(host)
            try:
                answer = await self._within(host, self._attempt(slot, host, work))
            except KmipError as error:
                if error.answered:
                    self._is_well(host)
                    raise
                slot.drop()
                last = error
                if kept is not None and error.reason in (Reason.CLOSED, Reason.MISMATCH, Reason.SIGNATURE):
                    continue  # with a new connection
                self._has_failed(host, error)
                tried.append(host)
                continue
            self._is_well(host)
            return answer

    async def _attempt[A](self, slot: _Slot, host: HostState, work: Work[A]) -> A:
        connection = slot.usable(host)
        if connection is None:
            connection = await self._connected(slot, host)
        host.asked += 1
        try:
            return await work(connection)
        finally:
            host.asked -= 1

    def now(self) -> float:
        """Seconds on the pool's clock."""
        return self._clock()

    def signed(self, endpoint: Endpoint, began: float) -> None:
        """A host has made a signature that was asked for then."""
        now = self._clock()
        for host in self.hosts.states:
            if host.endpoint == endpoint:
                host.signed(now - began, now)

    async def _within[A](self, host: HostState, work: Coroutine[None, None, A]) -> A:
        """The work, within its share of the deadline where another host is left to ask."""
        others = any(state is not host and not state.broken for state in self.hosts.states)
        patience = self._limits.timeout * SHARE
        began, seconds = self._clock(), patience if others else None
        try:
            async with asyncio.timeout(seconds):
                return await work
        except TimeoutError:
            raise _late(host) from None
        except asyncio.CancelledError:
            # The deadline of the whole, or the caller has given up, who may have been hasty.
            if self._clock() - began >= patience:
                self._has_failed(host, _late(host))
            raise

    async def _connected(self, slot: _Slot, host: HostState) -> Connection:
        connection = await self._dial(host.endpoint, self._reach)
        if self._closed:
            connection.abort()
            raise _closed()
        slot.connection, slot.host = connection, host
        return connection

    # --- looking after them ---

    async def _tend_for_ever(self) -> None:
        while True:
            try:
                await self.tend()
            except Exception as error:  # noqa: BLE001 - a fault of ours must not leave a broken host broken for good
                what = f"a fault in looking after connections: {type(error).__name__}"
                self._watcher.failed(self.hosts.states[0].endpoint, KmipError(Reason.UNAVAILABLE, what))
            self._looks_at = self._clock() + PROBE_SECONDS
            await asyncio.sleep(PROBE_SECONDS)

    async def tend(self) -> None:
        """Look at broken hosts, connect what is not connected, and use what was idle for long."""
        now = self._clock()
        broken = [state for state in self.hosts.states if state.broken and state.may_be_looked_at(now)]
        await asyncio.gather(*map(self._look_at, broken))
        now = self._clock()
        # Those that nobody uses now; they are out of use for the moment that it takes.
        for slot in list(self._free):
            if slot not in self._free:
                continue
            stale = slot.connection is None or not slot.connection.usable or now - slot.used >= PING_SECONDS
            if stale or self._on_the_alternate(slot):
                await self._refresh(slot)

    def _on_the_alternate(self, slot: _Slot) -> bool:
        return slot.host is not self.hosts.states[0] and not self.hosts.states[0].broken

    async def _look_at(self, state: HostState) -> None:
        """Whether a broken host is well again: by a connection that agrees on a version, as a request would need."""
        try:
            async with asyncio.timeout(self._limits.timeout):
                connection = await self._dial(state.endpoint, self._reach)
        except KmipError as error:
            state.failed(error, self._clock())
        except TimeoutError:
            state.failed(_late(state), self._clock())
        else:
            connection.abort()
            if state.reached(self._clock()):
                self._watcher.mended(state.endpoint)

    async def _refresh(self, slot: _Slot) -> None:
        try:
            host = self.hosts.choose()
        except KmipError:
            return
        if self._seats.locked():
            return  # somebody needs it now, and that is use enough
        async with self._seats:
            self._free.remove(slot)
            try:
                async with asyncio.timeout(self._limits.timeout):
                    await self._attempt(slot, host, lambda connection: connection.ask(operations.query()))
            except (KmipError, TimeoutError) as error:
                if isinstance(error, KmipError) and error.answered:
                    return  # it says no, and so it is there
                slot.drop()
                if not isinstance(error, KmipError):
                    error = _late(host)
                if error.reason is not Reason.CLOSED:
                    self._has_failed(host, error)
            finally:
                slot.used = self._clock()
                self._free.append(slot)

    def _has_failed(self, host: HostState, error: KmipError) -> None:
        if self._closed:
            return  # by us
        self._watcher.failed(host.endpoint, error)
        if host.failed(error, self._clock()):
            self._watcher.broke(host.endpoint, error)

    def _is_well(self, host: HostState) -> None:
        if host.served():
            self._watcher.mended(host.endpoint)


def _closed() -> KmipError:
    return KmipError(Reason.UNAVAILABLE, "the connections to the key manager were closed")


def _late(host: HostState) -> KmipError:
    return KmipError(Reason.TIMEOUT, f"no answer from {host.endpoint} in time")
