"""Leaves that are signed elsewhere, made anew before anybody has to wait for it: for hosts in use, and those alone.

Each leaf has a moment of its own from which on that is done, so that what was made on one morning is not all made anew
on another. It is done one at a time for each signing CA, and only where its signer has room: hosts that wait for their
first leaf go before.
"""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from cachetools import FIFOCache

from certs.signer import RemoteSigner
from issuer import reuse
from issuer.errors import Refusal
from issuer.events import log_event
from issuer.keyring import WorkingSet
from issuer.log import Job, KeptLeaf
from issuer.protocol import KeyKind

LOOK_SECONDS = 10.0
PAUSE_SECONDS = 0.05
"""After so long it is asked again whether there is room."""
RETRY = timedelta(minutes=1)
"""After a failure."""

type _Place = tuple[int, KeyKind, str]
"""Signing CA, kind of key, host."""


@dataclass(slots=True)
class _Use:
    """A host that was asked for, what its next leaf is to be made with, and the one that it has."""

    job: Job
    leaf: KeptLeaf
    due: datetime
    asked: datetime


class Ahead:
    """Knows ``size`` hosts, those that were asked for last.

    ``limit`` says when a leaf that is made now would end, and ``renew`` makes one and records it; both raise Refusal,
    and the second whatever else prevents it. ``holds``: whether a working set is still its tenant's.
    """

    def __init__(
        self,
        size: int,
        clock: Callable[[], datetime],
        limit: Callable[[Job, datetime], datetime],
        renew: Callable[[Job], Awaitable[KeptLeaf]],
        holds: Callable[[WorkingSet], bool],
    ) -> None:
        self._clock = clock
        self._limit = limit
        self._renew = renew
        self._holds = holds
        # What is used is put anew: to look for what is due must not count as use.
        self._uses: FIFOCache[_Place, _Use] = FIFOCache(size)
        self._queues: dict[WorkingSet, dict[_Place, None]] = {}
        """What is due, of each signing CA that something is being renewed for, in that order."""
        self._rounds: set[asyncio.Task[None]] = set()

    def used(self, job: Job, leaf: KeptLeaf, now: datetime) -> None:
        """The host was asked for, and has this leaf."""
        place = (job.working.ca_id, job.key.kind, job.host.text)
        use = self._uses.get(place)
        if use is None or use.leaf.certificate != leaf.certificate:
            use = _Use(job, leaf, _due(leaf), now)
        use.job, use.asked = job, now
        self._uses[place] = use
        if self._is_due(use, now):
            self._put(place, use)

    def look(self) -> None:
        """Begin with what is due, what ends first before the others."""
        now = self._clock()
        due = [(use.leaf.not_after, place, use) for place, use in self._uses.items() if self._is_due(use, now)]
        for _, place, use in sorted(due, key=lambda one: one[:2]):
            self._put(place, use)

    async def follow(self) -> None:
        """Look again and again, until cancelled."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            self.look()

    def forget(self, working: WorkingSet) -> None:
        """The working set is no longer its tenant's."""
        for place in [place for place, use in self._uses.items() if use.job.working is working]:
            del self._uses[place]

    def stop(self) -> None:
        """Renew nothing more."""
        for task in self._rounds:
            task.cancel()

    def _is_due(self, use: _Use, now: datetime) -> bool:
        if now < use.due or now - use.asked > reuse.in_use(use.leaf) or not self._holds(use.job.working):
            return False
        try:
            # One that would not last longer is not worth a signature: the server's own certificate is about to end.
            return use.leaf.not_after < self._limit(use.job, now) - reuse.SLACK
        except Refusal:
            return False  # the CA has expired, which is told elsewhere

    def _put(self, place: _Place, use: _Use) -> None:
        working = use.job.working
        if not isinstance(working.signer, RemoteSigner) or working.signer.down is not None:
            return
        if (queue := self._queues.get(working)) is None:
            queue = self._queues[working] = {}
            task = asyncio.get_running_loop().create_task(self._round(working, working.signer, queue))
            self._rounds.add(task)
            task.add_done_callback(self._rounds.discard)
        if len(queue) < self._uses.maxsize:
            queue.setdefault(place)

    async def _round(self, working: WorkingSet, signer: RemoteSigner, queue: dict[_Place, None]) -> None:
        """One after the other, for as long as somebody signs. What is left is found again by the next look."""
        try:
            while queue and self._holds(working) and signer.down is None:
                if not signer.has_room():
                    await asyncio.sleep(PAUSE_SECONDS)
                    continue
                place = next(iter(queue))
                use = self._uses.get(place)
                if use is not None and self._is_due(use, self._clock()):
                    await self._renewed(use)
                del queue[place]
        finally:
            del self._queues[working]

    async def _renewed(self, use: _Use) -> None:
        """Where no signature is to be had, the one before serves on until it ends."""
        try:
            leaf = await self._renew(use.job)
        except Exception as error:  # noqa: BLE001 - said, and tried again
            use.due = self._clock() + RETRY
            if self._holds(use.job.working):
                why = str(error) if isinstance(error, Refusal) else type(error).__name__
                log_event(
                    "leaf_not_renewed", "warning",
                    tenant=use.job.working.tenant, host=use.job.host.text, message=why,
                )  # fmt: skip
        else:
            use.leaf, use.due = leaf, _due(leaf)


def _due(leaf: KeptLeaf) -> datetime:
    # Any number will do that is the leaf's own, and another for each.
    return reuse.renew_ahead_at(leaf, zlib.crc32(leaf.certificate) / (1 << 32))
