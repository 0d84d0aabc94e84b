"""Whether one more connection may come in: a worker's row in the ledger, and the limits that its sums are held to."""

from __future__ import annotations

import os
import resource
from collections.abc import Sequence

from config.settings import Limits, Listener
from proxy.ledger import BUSY, Ledger, client_key

Seat = tuple[int, ...]
"""The cells in which a connection counts, until it leaves."""

RESERVED = 384
"""Descriptors that are not for connections: sockets, log, store, issuer, and refusals that linger."""
UNEVEN = 1.02
"""A worker may have so much more than its share: among many connections one more or less is nothing to wait for."""
IDLER = 300
"""Thousandths of a second of processor time, each second. A worker that takes so much less than the busiest one has
what comes, however many connections it has: they may rest, and those of the other may not."""
MOST = 1 << 20
"""Connections of a worker, however many descriptors there are: memory is what limits them then."""


def columns(listeners: Sequence[Listener]) -> tuple[tuple[str, str], ...]:
    """The exact columns of a ledger for these listeners: each of them, and each tenant."""
    tenants = dict.fromkeys(tenant for listener in listeners for tenant in listener.tenants)
    return (*(("listener", listener.name) for listener in listeners), *(("tenant", tenant) for tenant in tenants))


def room(descriptors: int) -> int:
    """Connections that so many descriptors are enough for: each takes two, one to the client and one to the server."""
    if descriptors < 0:  # RLIM_INFINITY
        return MOST
    return max(1, min(MOST, (descriptors - min(RESERVED, descriptors // 2)) // 2))


class Seats:
    """The connections of one worker, as they count on the node."""

    def __init__(self, ledger: Ledger, row: int, limits: Limits, workers: int, descriptors: int) -> None:
        """``workers`` share the node's limits; ``descriptors`` is what this one may have open."""
        self.ledger = ledger
        self.workers = workers
        self.start = row * ledger.width
        self.room = room(descriptors)
        """Connections that this worker has descriptors for."""
        self.most = limits.connections or self.room * workers
        self._listener = limits.connections_per_listener
        self._tenant = limits.connections_per_tenant
        self._client = limits.connections_per_client

    @property
    def open(self) -> int:
        """The connections of this worker."""
        return self.ledger.cells[self.start]

    @property
    def full(self) -> bool:
        """This worker has no descriptors for more, though the node may have."""
        return self.open >= self.room and self.ledger.total(0) < self.most

    @property
    def others(self) -> bool:
        """Another worker takes connections."""
        return len(self._taking()) > bool(self.ledger.cells[self.start + BUSY])

    def _taking(self) -> list[int]:
        """How busy each worker is that takes connections."""
        return [busy for busy in self.ledger.cells[BUSY :: self.ledger.width] if busy]

    @property
    def ahead(self) -> bool:
        """This worker has more than its share of the connections, and is no idler: the next had better be another's.

        Shares are those of workers that take connections. What others still have, who drain, makes them larger, and is
        no reason to leave anything to anybody.
        """
        ledger, mine = self.ledger, self.open
        total = ledger.total(0) * UNEVEN
        if mine * self.workers <= total:
            return False
        busy = ledger.cells[self.start + BUSY]
        taking = self._taking()
        return busy > 0 and mine * len(taking) > total and busy + IDLER >= max(taking)

    def busy(self, share: float | None) -> None:
        """Tell the other workers that this one takes connections, and how much processor time it took lately.

        ``share``: seconds in a second; None where it takes none.
        """
        self.ledger.cells[self.start + BUSY] = 0 if share is None else max(1, round(share * 1000))

    def take(self, listener: Listener, tenant: str, address: str) -> Seat | str:
        """Count one more connection; where that is one too many, count nothing and name the limit.

        ``tenant`` and ``address`` are empty where they are not known yet: then it is given up for another that counts
        for them as soon as they are.

        It counts itself first and looks then, so that two workers at once can refuse one too many but never let one
        too many in.
        """
        ledger, column, cells, start = self.ledger, self.ledger.column, self.ledger.cells, self.start
        its_listener = column["listener", listener.name]
        its_tenant = (column["tenant", tenant],) if tenant else ()
        its_client = ledger.cells_of(client_key(address)) if self._client is not None and address else ()
        seat: Seat = (0, its_listener, *its_tenant, *its_client)
        for cell in seat:
            cells[start + cell] += 1
        which = self._over(its_listener, its_tenant, its_client)
        if which is None:
            return seat
        self.leave(seat)
        return which

    def _over(self, listener: int, tenant: tuple[int, ...], client: tuple[int, ...]) -> str | None:
        """The limit that is exceeded, of the narrowest group that is: what only one client does is said so."""
        total = self.ledger.total
        if self._client is not None and client and min(map(total, client)) > self._client:
            return "connections_per_client"
        if self._tenant is not None and tenant and total(tenant[0]) > self._tenant:
            return "connections_per_tenant"
        if self._listener is not None and total(listener) > self._listener:
            return "connections_per_listener"
        if total(0) > self.most:
            return "connections"
        return None

    def leave(self, seat: Seat) -> None:
        """The connection is closed."""
        cells, start = self.ledger.cells, self.start
        for cell in seat:
            cells[start + cell] -= 1


def own_descriptors() -> int:
    """How many descriptors this process may have open."""
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def worker_count(workers: int) -> int:
    """Workers that the setting stands for: 0 is one for each core."""
    return workers or os.cpu_count() or 1
