"""CRLs that certificates name: fetched by one worker, kept on the disk for all, and in memory by who uses them.

One is fetched again half-way to its nextUpdate, and twice a day at least, while somebody uses it; until that succeeds
the old one serves. One that could not be had is not tried again for a minute. What is kept is never older than what was
known before, and is signed by the key of the issuer that it is asked about: on the way, which is plain HTTP, nobody can
put anything else in its place.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial

from cachetools import LRUCache, TTLCache

from certs.crl import Crl, crls_of_file
from certs.facts import Facts
from certs.revocation import Unusable
from issuer.joined import Joined
from proxy.fetching import Fetcher, FetchFailed
from proxy.log import INFO, WARNING, Log
from store.crls import CrlFiles, Failure, KeptCrl, name_of

FETCH_SECONDS = 30.0
"""For one list. Who waits for it gives up before, and the next finds it."""
FAILED_SECONDS = 60.0
OFTEN = timedelta(hours=12)
MEMORY = 64 << 20
"""Bytes of lists that a worker has in memory, or three of the largest."""
OVERDUE_SECONDS = 3600.0
"""For how long it is told of a list that it could not be fetched again, where nobody has tried since."""
_OVERHEAD = 2048
_MOST_FAILURES = 4096
_LOOK_SECONDS = 0.1
"""How often it is looked whether another worker has got it by now."""

Key = tuple[str, bytes]
"""The URL, and the digest of the issuer's key."""


class Passing(Unusable):
    """It was not asked for, for want of a place: a moment later it may be had."""


@dataclass(frozen=True, slots=True)
class _Kept:
    crl: Crl
    renew_at: datetime


@dataclass(frozen=True, slots=True)
class _Seen:
    """What is on the disk, and whether it is this worker's to fetch."""

    claimed: bool
    kept: _Kept | None
    failure: Failure | None


@dataclass(frozen=True, slots=True)
class Means:
    """What is asked with. ``thread`` is where lists are read and written; ``monotonic`` is a clock that nobody sets."""

    fetcher: Fetcher
    thread: Executor
    clock: Callable[[], datetime]
    monotonic: Callable[[], float]
    log: Log


def renewal(obtained: datetime, until: datetime) -> datetime:
    """When to ask again for what was obtained then and counts until then."""
    return obtained + min((until - obtained) / 2, OFTEN)


class CrlCache:
    """For one process. ``largest``: the most bytes of one list."""

    def __init__(self, means: Means, files: CrlFiles, largest: int) -> None:
        """To be made inside of a running loop. ``files`` is open."""
        self._files = files
        self._fetcher = means.fetcher
        self._thread = means.thread
        self._clock = means.clock
        self._largest = largest
        self._log = means.log
        self._loop = asyncio.get_running_loop()
        self._kept: LRUCache[Key, _Kept] = LRUCache(
            max(MEMORY, 3 * largest), getsizeof=lambda kept: len(kept.crl.encoded) + _OVERHEAD
        )
        self._failed: TTLCache[Key, str] = TTLCache(_MOST_FAILURES, FAILED_SECONDS, timer=means.monotonic)
        self._overdue: TTLCache[Key, None] = TTLCache(_MOST_FAILURES, OVERDUE_SECONDS, timer=means.monotonic)
        self._joined: Joined[Key, Crl] = Joined()
        self._renewing: set[asyncio.Task[None]] = set()

    @property
    def state(self) -> dict[str, int]:
        """For the metrics: lists in memory, their bytes, and how many of them could not be fetched again when due."""
        self._overdue.expire()
        return {"kept": len(self._kept), "bytes": int(self._kept.currsize), "overdue": len(self._overdue)}

    def at_hand(self, url: str, issuer: Facts) -> Crl | None:
        """The list, where it is in memory and counts. One that is to be fetched again is, meanwhile."""
        if issuer.spki is None:
            return None
        key, now = (url, issuer.spki), self._clock()
        kept = self._kept.get(key)
        if kept is None or now > kept.crl.next_update:
            return None
        if now >= kept.renew_at and key not in self._failed:
            task = self._loop.create_task(self._renew(key, issuer))
            self._renewing.add(task)
            task.add_done_callback(self._renewing.discard)
        return kept.crl

    async def get(self, url: str, issuer: Facts) -> Crl:
        """The list, from wherever it is to be had. Raises Unusable, saying why it is not."""
        if issuer.spki is None:
            raise Unusable("its issuer's key cannot be read")
        if (crl := self.at_hand(url, issuer)) is not None:
            return crl
        key = url, issuer.spki
        if (why := self._failed.get(key)) is not None:
            raise Unusable(why)
        # Whoever gives up leaves it to those who come next.
        return await self._joined.run(key, partial(self._obtained, key, issuer))

    async def _renew(self, key: Key, issuer: Facts) -> None:
        with contextlib.suppress(Unusable):  # said already; the old one serves
            await self._joined.run(key, partial(self._obtained, key, issuer))

    async def _obtained(self, key: Key, issuer: Facts) -> Crl:
        """The list from the disk or its URL; what is in memory where neither has it."""
        try:
            crl = await self._looked_for(key, issuer)
        except Unusable as error:
            kept = self._kept.get(key)
            if not isinstance(error, Passing):
                self._failed[key] = str(error)
                if kept is not None:
                    self._overdue[key] = None
            if kept is None or self._clock() > kept.crl.next_update:
                raise
            return kept.crl
        self._overdue.pop(key, None)
        return crl

    async def _looked_for(self, key: Key, issuer: Facts) -> Crl:
        name, until = name_of(*key), self._loop.time() + FETCH_SECONDS
        while True:
            seen = await self._elsewhere(self._look, name, issuer)
            try:
                if seen.kept is not None:
                    self._kept[key] = seen.kept
                    if self._clock() < seen.kept.renew_at:
                        return seen.kept.crl
                if seen.failure is not None:
                    raise Unusable(seen.failure.why)
                if seen.claimed:
                    return await self._fetched(key, name, issuer, until)
            finally:
                if seen.claimed:
                    self._files.release(name)
            if self._loop.time() >= until:
                raise Passing("another worker fetches it, and has not got it in time")
            await asyncio.sleep(_LOOK_SECONDS)

    async def _fetched(self, key: Key, name: str, issuer: Facts, until: float) -> Crl:
        url = key[0]
        before = self._kept.get(key)
        try:
            body = await self._fetcher.get(url, most=self._largest, until=until)
            kept, problem = await self._elsewhere(self._accepted, url, name, body, issuer, before)
        except (FetchFailed, Unusable) as error:
            if isinstance(error, FetchFailed) and error.busy:
                raise Passing(str(error)) from None
            await self._elsewhere(self._failure, name, str(error))
            self._log.event(WARNING, "revocation cannot be asked", url=url, reason=str(error))
            raise Unusable(str(error)) from None
        self._kept[key] = kept
        if problem is not None:
            self._log.event(WARNING, "crl cannot be kept", url=url, reason=problem)
        self._log.event(INFO, "crl fetched", url=url, bytes=len(body), until=kept.crl.next_update.timestamp())
        return kept.crl

    async def _elsewhere[**P, T](self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        return await self._loop.run_in_executor(self._thread, partial(work, *args, **kwargs))

    # --- in the thread ---

    def _look(self, name: str, issuer: Facts) -> _Seen:
        # In this order: who has the claim sees all that was written before.
        claimed = self._files.claim(name)
        now = self._clock()
        kept, failure = self._files.read(name, self._largest), self._files.failure(name, now.timestamp())
        if kept is None:
            return _Seen(claimed, None, failure)
        try:
            crl = Crl(kept.encoded)
            crl.check(issuer, now)
        except Unusable:  # outdated, or damaged
            return _Seen(claimed, None, failure)
        fetched_at = min(datetime.fromtimestamp(kept.fetched_at, UTC), now)
        return _Seen(claimed, _Kept(crl, renewal(fetched_at, crl.next_update)), failure)

    def _accepted(
        self, url: str, name: str, body: bytes, issuer: Facts, before: _Kept | None
    ) -> tuple[_Kept, str | None]:
        """The list of a body, written down for the others; and why it could not be. Raises Unusable."""
        encoded, *more = crls_of_file(body)
        if more:
            raise Unusable("there are several CRLs in one")
        crl, now = Crl(encoded), self._clock()
        crl.check(issuer, now)
        if before is not None and crl.this_update < before.crl.this_update:
            raise Unusable(f"it is older than the one at hand, of {before.crl.this_update:%Y-%m-%d %H:%M:%S} UTC")
        kept = _Kept(crl, renewal(now, crl.next_update))
        try:
            self._files.write(name, KeptCrl(url, now.timestamp(), crl.next_update.timestamp(), encoded))
        except OSError as error:  # a full disk; then it is for this worker alone
            return kept, error.strerror or str(error)
        return kept, None

    def _failure(self, name: str, why: str) -> None:
        with contextlib.suppress(OSError):  # then the other workers find out by themselves
            self._files.fail(name, Failure(why, self._clock().timestamp() + FAILED_SECONDS))
