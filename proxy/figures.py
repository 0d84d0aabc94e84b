"""How many servers were judged how, and which hosts were blocked most: gathered in a worker, and then in the store.

Verdicts count by defect and action, ten minutes together, and have no host. Blocked hosts count by the hour, without
the client. Of hosts of ``log.never_log`` nothing is counted. :class:`proxy.recent.Recorder` writes what has gathered,
every few seconds; what a killed worker had not written is lost.

Clients choose what is blocked: each can name hosts without end. So one of them has half of the places of an hour at
most, and what it invents beyond that is not counted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from cachetools import LRUCache

from certs.names import Host
from certs.verdict import Action
from proxy.ledger import client_key
from proxy.log import Log
from store.traffic_figures import HOUR, MOST_BLOCKED, STEP

KNOWN = 8192
"""Blocked hosts of which a worker knows that they have a place."""
CLIENTS = 4096
"""Whose shares are known."""
SHARE = 2
"""One client has no more than one in so many of the places of a tenant's hour."""
GATHERED = 1000
"""Blocked hosts between two times of writing; beyond them no other is counted."""
_STEP, _HOUR = int(STEP.total_seconds()), int(HOUR.total_seconds())

type Judged = tuple[str, int, str, str]
"""Tenant, beginning of the ten minutes (seconds since 1970), first defect or ``none``, action."""
type Blocked = tuple[str, int, str, str]
"""Tenant, beginning of the hour (seconds since 1970), host, first defect."""


@dataclass(frozen=True, slots=True)
class Gathered:
    """What has come since the last time of writing."""

    verdicts: Counter[Judged] = field(default_factory=Counter)
    blocked: Counter[Blocked] = field(default_factory=Counter)

    def __bool__(self) -> bool:
        return bool(self.verdicts)


class Figures:
    """What one of so many workers gathers. ``clock`` tells seconds since 1970. ``hosts``: blocked hosts are counted."""

    def __init__(self, clock: Callable[[], float], log: Log, workers: int = 1, hosts: bool = True) -> None:
        self.hosts = hosts
        self._clock = clock
        self._log = log
        self._most = max(1, MOST_BLOCKED // SHARE // workers)
        self._placed: LRUCache[Blocked, bool] = LRUCache(KNOWN)
        self._shares: LRUCache[tuple[str, bytes], tuple[int, int]] = LRUCache(CLIENTS)
        """The hour that each client was last seen in, and how many places it has had in it."""
        self._gathered = Gathered()

    def judged(self, tenant: str, client: str, host: Host, defect: str, action: Action) -> None:
        """A server was judged for a client (its address). ``defect``: the first that was found, or ``none``."""
        never = self._log.never
        if never is not None and never.covers(host.text):
            return
        now = int(self._clock())
        self._gathered.verdicts[tenant, now - now % _STEP, defect, action.value] += 1
        if action is Action.BLOCK and self.hosts:
            self._blocked((tenant, now - now % _HOUR, host.text, defect), client)

    def gathered(self) -> Gathered:
        """What was gathered since this was last asked."""
        gathered, self._gathered = self._gathered, Gathered()
        return gathered

    def again(self, gathered: Gathered) -> None:
        """It could not be written: it is still to be, as far as there is room for it."""
        self._gathered.verdicts.update(gathered.verdicts)
        for blocked, count in gathered.blocked.items():
            if blocked in self._gathered.blocked or len(self._gathered.blocked) < GATHERED:
                self._gathered.blocked[blocked] += count

    def _blocked(self, blocked: Blocked, client: str) -> None:
        counts = self._gathered.blocked
        if blocked not in counts and (len(counts) >= GATHERED or not self._has_place(blocked, client)):
            return
        counts[blocked] += 1

    def _has_place(self, blocked: Blocked, client: str) -> bool:
        """Whether the host has a place in its hour, or the client may give it one; then it has."""
        if blocked in self._placed:
            return True
        tenant, hour, _, _ = blocked
        key = tenant, client_key(client) if client else b""
        begun, taken = self._shares.get(key, (hour, 0))
        if begun != hour:
            taken = 0
        if taken >= self._most:
            return False
        self._shares[key] = hour, taken + 1
        self._placed[blocked] = True
        return True
