"""What happens in a worker when another signing CA becomes a tenant's active one.

Everything that was made with the old one goes: leaves, the leaf key, contexts and with them the tickets to resume by;
connections under it end as soon as nothing is under way on them, and are cut at the drain time. A handshake that begins
afterwards shows the new CA's leaf or none (:meth:`proxy.tunnel.Tunnel`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from proxy.log import INFO
from proxy.session import Session, State
from proxy.snapshot import Snapshot

if TYPE_CHECKING:
    from proxy.worker import Worker

SHOWN = frozenset({State.CLIENT, State.OPEN, State.ANSWER})
"""States in which a client has been shown a leaf, or is about to be."""
LOOK_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Purge:
    """The last one of a tenant: of which generation, when (seconds since 1970), and how long after the change."""

    generation: int
    at: float
    seconds: float


class Purges:
    """Does it, and remembers the last one of each tenant: what the worker acknowledges."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self._authority: dict[str, tuple[int, int] | None] = {}
        """Each tenant's active CA and its activation: between two looks it may have been another, and then it again."""
        self._under_way: list[Snapshot] = []
        self.last: dict[str, Purge] = {}

    def changed(self, snapshot: Snapshot | None, tenant: str) -> None:
        """A tenant's working set was replaced, or the tenant is gone."""
        before = self._authority.get(tenant)
        after = (snapshot.signing_ca, snapshot.activation) if snapshot is not None else None
        self._authority[tenant] = after
        if before is None or before == after:
            return
        self._worker.leaves.forget(tenant)
        # Of TLS to the proxy under a leaf: what is inside ends with it.
        outer = [each for each in self._worker.entrance.outer if each.leg is not None and each.identity.leaf_of(tenant)]
        if snapshot is None:
            for session in self._of(tenant):
                session.abort("the tenant is gone")
            for each in outer:
                each.abort()
            return
        self._under_way.append(snapshot)
        patience = self._worker.limits.drain_timeout
        for each in outer:
            each.drain()
            self._worker.loop.call_later(patience, each.abort)
        inside = {each.session for each in outer}
        old = [session for session in self._of(tenant) if session.state in SHOWN or session in inside]
        self._end(old, self._worker.loop.time() + patience)

    def done(self, seconds: float) -> None:
        """What was replaced is in use now, ``seconds`` after it was changed in the store."""
        worker, purged = self._worker, self._under_way
        self._under_way = []
        for snapshot in purged:
            self.last[snapshot.tenant] = Purge(snapshot.generation, worker.wall(), seconds)
            worker.log.event(INFO, "signing CA purged", tenant=snapshot.tenant, generation=snapshot.generation,
                             seconds=round(seconds, 3))  # fmt: skip

    def _of(self, tenant: str) -> list[Session]:
        return [each for each in self._worker.sessions if each.snapshot is not None and each.snapshot.tenant == tenant]

    def _end(self, sessions: list[Session], until: float) -> None:
        """End those on which nothing is under way, and look again; at the end of their time, cut the others."""
        loop = self._worker.loop
        over = loop.time() >= until
        for session in sessions:
            if session.state is State.CLOSED:
                continue
            if over:
                session.abort("another signing CA is active")
            else:
                session.drain()
        left = [session for session in sessions if session.state is not State.CLOSED]
        if left:
            loop.call_later(min(LOOK_SECONDS, max(0.0, until - loop.time())), self._end, left, until)
