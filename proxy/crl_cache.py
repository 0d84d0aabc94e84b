"""CRLs that certificates name: fetched by one worker, kept on the disk for all, and in memory by who uses them.

One is fetched again half-way to its nextUpdate, and twice a day at least, while somebody uses it; until that succeeds
the old one serves, from memory or from the disk: nobody waits for a new one who can have one that counts. One that
could not be had is not tried again for a minute. What is kept is never older than what was known before, and is signed
by the issuer that it is asked about, by name and key: on the way, which is plain HTTP, nobody can put anything else in
its place.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial

from cachetools import LRUCache, TTLCache

from certs.crl import Crl, check_may_sign, crls_of_file
from certs.der import tbs_fields
from certs.facts import Facts
from certs.revocation import UNREADABLE, Unusable
from issuer.joined import Joined
from proxy.fetching import Fetcher, FetchFailed
from proxy.log import INFO, WARNING, Log
from store.crls import CrlFiles, Failure, KeptCrl, State, name_of

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
"""The URL; and of the issuer the digest of its key, and its name. (A CA may have other certificates for them.)"""


class Passing(Unusable):
    """It was not asked for, for want of a place: a moment later it may be had."""


@dataclass(frozen=True, slots=True)
class _Kept:
    crl: Crl
    renew_at: datetime
    file: State | None
    """The file that has it, too."""


@dataclass(frozen=True, slots=True)
class _Seen:
    """What is on the disk: the file; what it has, where that was not known and counts; why nothing could be had."""

    file: State | None
    kept: _Kept | None = None
    useless: bool = False
    """What it has does not count."""
    failure: Failure | None = None
    claimed: bool = False
    """Whether it is this worker's to fetch."""


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


def older(at_hand: datetime) -> Unusable:
    """What a list or an answer is that was made before the one at hand."""
    return Unusable(f"it is older than the one at hand, of {at_hand:%Y-%m-%d %H:%M:%S} UTC")


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
        self._useless: TTLCache[Key, State] = TTLCache(_MOST_FAILURES, FAILED_SECONDS, timer=means.monotonic)
        """Files that were read and do not count."""
        self._unread = 0
        """Bytes of lists that have come and wait for the thread."""
        self._obtaining: Joined[Key, Crl] = Joined()
        self._fetching: Joined[Key, Crl] = Joined()
        self._renewing: dict[Key, asyncio.Task[None]] = {}

    @property
    def state(self) -> dict[str, int]:
        """For the metrics: lists in memory, their bytes, and how many of them could not be fetched again when due."""
        self._overdue.expire()
        return {"kept": len(self._kept), "bytes": int(self._kept.currsize), "overdue": len(self._overdue)}

    def at_hand(self, url: str, issuer: Facts) -> Crl | None:
        """The list, where it is in memory and counts. One that is to be fetched again is, meanwhile."""
        if (key := _key(url, issuer)) is None:
            return None
        return self._in_memory(key, issuer)

    async def get(self, url: str, issuer: Facts) -> Crl:
        """The list, from wherever it is to be had. Raises Unusable, saying why it is not."""
        if (key := _key(url, issuer)) is None:
            raise Unusable("its issuer's key cannot be read")
        check_may_sign(issuer)
        if (crl := self._in_memory(key, issuer)) is not None:
            return crl
        # Whoever gives up leaves it to those who come next.
        return await self._obtaining.run(key, partial(self._obtained, key, issuer))

    def _in_memory(self, key: Key, issuer: Facts) -> Crl | None:
        now, kept = self._clock(), self._kept.get(key)
        if kept is None or now > kept.crl.next_update:
            return None
        if now >= kept.renew_at and key not in self._failed and key not in self._renewing:
            task = self._renewing[key] = self._loop.create_task(self._renew(key, issuer))
            task.add_done_callback(lambda _: self._renewing.pop(key))
        return kept.crl

    async def _renew(self, key: Key, issuer: Facts) -> None:
        with contextlib.suppress(Unusable):  # said already; the old one serves
            await self._fetching.run(key, partial(self._fetched, key, issuer))

    async def _obtained(self, key: Key, issuer: Facts) -> Crl:
        """The list from the disk, where one counts, and else from its URL."""
        seen = await self._elsewhere(self._read, name_of(*key), issuer, self._useless.get(key))
        self._take(key, seen)
        if (crl := self._in_memory(key, issuer)) is not None:
            return crl
        if (why := self._failed.get(key)) is not None:
            raise Unusable(why)
        return await self._fetching.run(key, partial(self._fetched, key, issuer))

    def _take(self, key: Key, seen: _Seen) -> None:
        """Have in memory what was found on the disk, which may be older: a full disk keeps what it has."""
        kept, found = self._kept.get(key), seen.kept
        if found is not None and (kept is None or found.crl.this_update >= kept.crl.this_update):
            self._kept[key] = found
        if seen.useless and seen.file is not None:
            self._useless[key] = seen.file

    async def _fetched(self, key: Key, issuer: Facts) -> Crl:
        """The list anew."""
        try:
            crl = await self._looked_for(key, issuer)
        except Passing:
            raise
        except Unusable as error:
            self._failed[key] = str(error)
            if key in self._kept:
                self._overdue[key] = None
            raise
        self._overdue.pop(key, None)
        return crl

    async def _looked_for(self, key: Key, issuer: Facts) -> Crl:
        """The list from its URL, or from the disk as soon as another worker has fetched it."""
        name, until = name_of(*key), self._loop.time() + FETCH_SECONDS
        kept = self._kept.get(key)
        known = self._useless.get(key) if kept is None else kept.file
        while True:
            seen = await self._elsewhere(self._look, name, issuer, known)
            try:
                known = seen.file
                self._take(key, seen)
                kept = self._kept.get(key, kept)
                if kept is not None and self._clock() < kept.renew_at:
                    return kept.crl
                if seen.failure is not None:
                    raise Unusable(seen.failure.why)
                if seen.claimed:
                    return await self._asked(key, name, issuer, kept, until)
            finally:
                if seen.claimed:
                    self._files.release(name)
            if self._loop.time() >= until:
                raise Passing("another worker fetches it, and has not got it in time")
            await asyncio.sleep(_LOOK_SECONDS)

    async def _asked(self, key: Key, name: str, issuer: Facts, before: _Kept | None, until: float) -> Crl:
        """The list from its URL."""
        url = key[0]
        if self._unread > MEMORY:
            raise Passing("other lists have to be read first")
        try:
            body = await self._fetcher.get(url, most=self._largest, until=until)
            with self._counted(body):
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

    @contextlib.contextmanager
    def _counted(self, body: bytes) -> Iterator[None]:
        self._unread += len(body)
        try:
            yield
        finally:
            self._unread -= len(body)

    async def _elsewhere[**P, T](self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        return await self._loop.run_in_executor(self._thread, partial(work, *args, **kwargs))

    # --- in the thread ---

    def _look(self, name: str, issuer: Facts, known: State | None) -> _Seen:
        # In this order: who has the claim sees all that was written before.
        claimed = self._files.claim(name)
        seen = self._read(name, issuer, known)
        return replace(seen, failure=self._files.failure(name, self._clock().timestamp()), claimed=claimed)

    def _read(self, name: str, issuer: Facts, known: State | None) -> _Seen:
        """What the file has, unless it is the one that is known: reading a long list takes long."""
        file = self._files.state(name)
        if file is None or file == known or (kept := self._files.read(name, self._largest)) is None:
            return _Seen(file)
        now = self._clock()
        try:
            crl = Crl(kept.encoded)
            crl.check(issuer, now)
            fetched_at = min(datetime.fromtimestamp(kept.fetched_at, UTC), now)
        except UNREADABLE:  # outdated, or damaged
            return _Seen(file, useless=True)
        return _Seen(file, _Kept(crl, renewal(fetched_at, crl.next_update), file))

    def _accepted(
        self, url: str, name: str, body: bytes, issuer: Facts, before: _Kept | None
    ) -> tuple[_Kept, str | None]:
        """The list of a body, written down for the others; and why it could not be. Raises Unusable."""
        (encoded,) = crls_of_file(body, most=1)  # RFC 5280 4.2.1.13
        crl, now = Crl(encoded), self._clock()
        crl.check(issuer, now)
        if before is not None and crl.this_update < before.crl.this_update:
            raise older(before.crl.this_update)
        renew_at = renewal(now, crl.next_update)
        try:
            file = self._files.write(name, KeptCrl(url, now.timestamp(), crl.next_update.timestamp(), encoded))
        except OSError as error:  # a full disk; then it is for this worker alone
            return _Kept(crl, renew_at, None), error.strerror or str(error)
        return _Kept(crl, renew_at, file), None

    def _failure(self, name: str, why: str) -> None:
        with contextlib.suppress(OSError):  # then the other workers find out by themselves
            self._files.fail(name, Failure(why, self._clock().timestamp() + FAILED_SECONDS))


def _key(url: str, issuer: Facts) -> Key | None:
    if issuer.spki is None:
        return None
    return url, issuer.spki + tbs_fields(issuer.certificate.tbs_certificate_bytes).subject.whole
