"""A leaf for (tenant, host, server certificate, key kind): kept, else found in the store, else minted and recorded.

Whoever asks while a leaf is being made waits for that one. An answer is made with the CA that is the tenant's active
one at that moment: where another became active meanwhile, the work is done again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial

from cachetools import LRUCache

from certs.names import Host, InvalidHost, parse_host
from certs.signer import Health, RemoteSigner
from config.settings import Settings
from issuer import keyring, reuse, wireguard
from issuer.ahead import Ahead
from issuer.desk import Desk, SharedDesk, settle
from issuer.errors import Refusal, Superseded
from issuer.events import log_event
from issuer.joined import Joined
from issuer.key_managers import KeyManagers
from issuer.keyring import HeldLeafKey, Keyring, WorkingSet
from issuer.log import NOT_COUNTED, IssuanceLog, Job, KeptLeaf, Outcome
from issuer.metrics import Metrics
from issuer.protocol import (
    CheckAnswer,
    CheckRequest,
    Code,
    KeyKind,
    KeyManagerAnswer,
    KeyManagerRequest,
    LeafAnswer,
    LeafKeyAnswer,
    LeafKeyRequest,
    LeafRequest,
    WireGuardKeyAnswer,
    WireGuardKeyRequest,
)
from kms.provider import KeyProvider
from store.engine import Store

KEPT_PER_HOST = 4
"""Leaves of one host: its servers may differ in how long a leaf may live."""
LEAVES_PER_CHECKPOINT = 400
"""After so many the store's log is moved into the database: one leaf alone in a commit is some ten pages of it."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """A request for a leaf, whose host was parsed."""

    id: int
    tenant: str
    host: Host
    key: KeyKind
    server_not_after: datetime | None
    connection: str = ""
    warned_of: str = ""

    @property
    def untrusted(self) -> bool:
        """A leaf of the untrusted CA is wanted."""
        return bool(self.warned_of)

    @staticmethod
    def by(request: LeafRequest) -> Wanted:
        """What the request wants. Raises Refusal for a host that is none."""
        try:
            host = parse_host(request.host)
        except InvalidHost as error:
            raise Refusal(Code.INVALID_HOST, str(error)) from None
        end = request.server_not_after
        end_at = None if end is None else datetime.fromtimestamp(end, UTC)
        return Wanted(request.id, request.tenant, host, request.key, end_at, request.connection, request.warned_of)


class Issuance:
    """Answers requests. Everything here runs on the event loop, and what waits for the store on threads.

    A request that finds its CA replaced, or its leaf made with another's limit, begins anew; the caller's deadline is
    what ends it.
    """

    def __init__(
        self,
        store: Store,
        provider: KeyProvider,
        settings: Settings,
        clock: Callable[[], datetime],
        metrics: Metrics = NOT_COUNTED,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._store = store
        self._provider = provider
        self._clock = clock
        self._leaf_key_lifetime = timedelta(seconds=settings.signing.leaf_key_lifetime)
        self._keyring = Keyring()
        self._log = IssuanceLog(store, self._keyring, timedelta(seconds=settings.signing.leaf_lifetime), clock, metrics)
        self._managers = KeyManagers(settings, metrics)
        self._issuing: SharedDesk[Job, KeptLeaf] = SharedDesk("issuing", self._log.issue)
        self.reading = Desk("reading")
        self._tidying = Desk("tidying")
        # A leaf key belongs to one tenant, CA and kind, so its number stands for all three.
        self._kept: LRUCache[tuple[int, str], tuple[KeptLeaf, ...]] = LRUCache(maxsize=settings.limits.cached_hosts)
        self._loads: Joined[tuple[str, bool], WorkingSet] = Joined()
        self._leaf_keys: Joined[tuple[int, KeyKind], HeldLeafKey] = Joined()
        # Who waits for a leaf that is being found or minted. Each has a future of its own: who is cancelled, by its
        # deadline, cancels nobody else's.
        self._making: dict[tuple[int, str], list[asyncio.Future[KeptLeaf]]] = {}
        self._since_checkpoint = 0
        self._elsewhere: set[asyncio.Task[None]] = set()
        self.ahead = Ahead(settings.limits.cached_hosts, clock, self._limit_of, self._made_ahead, self._keyring.holds)

    async def stop(self, seconds: float) -> None:
        """Let the threads end, and wait for that, but not longer than so many seconds."""
        for task in self._elsewhere:
            task.cancel()
        self.ahead.stop()
        self._keyring.close()
        await asyncio.gather(*(desk.stop(seconds) for desk in (self._issuing, self.reading, self._tidying)))

    @property
    def keyring(self) -> Keyring:
        """The keys that are held."""
        return self._keyring

    def leaf_at_hand(self, wanted: Wanted) -> LeafAnswer | None:
        """The answer where the leaf is in memory. Raises Refusal where the CA has expired meanwhile."""
        working = self._keyring.held(wanted.tenant, wanted.untrusted)
        if working is None:
            return None
        now = self._clock()
        key = working.leaf_key(working.kind_for(wanted.key), now, self._leaf_key_lifetime)
        if key is None or (leaf := self._find_kept(working, key, wanted, now)) is None:
            return None
        if working.signs_elsewhere:
            self.ahead.used(Job(working, key, wanted.host, wanted.server_not_after), leaf, now)
        return _answer(wanted, working, key, leaf, now)

    async def leaf(self, wanted: Wanted) -> LeafAnswer:
        """The answer, whatever it takes. Raises Refusal, or StoreError; then nothing was handed out."""
        while True:
            try:
                working = await self._working_set(wanted.tenant, wanted.untrusted)
                key = await self._leaf_key(working, working.kind_for(wanted.key))
                leaf = self._find_kept(working, key, wanted, self._clock())
                if leaf is None:
                    leaf = await self._made(working, key, wanted)
            except Superseded:
                continue
            # The leaf may have been made for another's request, with another limit; and time has passed.
            now = self._clock()
            limit = self._log.limit(working, wanted.server_not_after, now)
            serves_on = leaf.for_want is not None and now < leaf.not_after <= limit
            if self._keyring.holds(working) and (serves_on or reuse.usable(leaf, limit, now)):
                if working.signs_elsewhere:
                    self.ahead.used(Job(working, key, wanted.host, wanted.server_not_after), leaf, now)
                return _answer(wanted, working, key, leaf, now)

    async def leaf_key(self, request: LeafKeyRequest) -> LeafKeyAnswer:
        """A leaf key of the tenant's active CA, or untrusted one. Raises Refusal, or StoreError."""
        while True:
            working = await self._working_set(request.tenant, request.untrusted)
            key = next((key for key in working.leaf_keys.values() if key.id == request.leaf_key), None)
            if key is None:
                read = partial(keyring.older_leaf_key, self._store, self._provider, working, request.leaf_key)
                try:
                    key = await self.reading.call(read)
                except Superseded:
                    self._drop(working)
                    continue
            if self._keyring.holds(working):
                return LeafKeyAnswer(request.id, key.kind, key.pkcs8)

    async def check(self, request: CheckRequest) -> CheckAnswer:
        """Whether leaves can be made for a tenant. Raises Refusal with the reason, or StoreError."""
        working = await self._working_set(request.tenant)
        self._log.limit(working, None, self._clock())
        if isinstance(working.signer, RemoteSigner):
            if (why := working.signer.down) is not None:
                raise Refusal(Code.KEY_MANAGER_DOWN, f"tenant {request.tenant}: {why}")
            if (why := working.signer.crowded) is not None:
                raise Refusal(Code.KEY_MANAGER_BUSY, f"tenant {request.tenant}: {why}")
        return CheckAnswer(request.id, working.generation)

    def key_manager(self, request: KeyManagerRequest) -> KeyManagerAnswer:
        """How the hosts are that keep the key of a tenant's active CA."""
        working = self._keyring.held(request.tenant)
        elsewhere = None if working is None or not isinstance(working.signer, RemoteSigner) else working.signer
        return KeyManagerAnswer(request.id, Health() if elsewhere is None else elsewhere.health())

    async def wireguard_key(self, request: WireGuardKeyRequest) -> WireGuardKeyAnswer:
        """The private key of a tenant's WireGuard listeners, which is not kept here. Raises Refusal, or StoreError."""
        key = await self.reading.call(partial(wireguard.private_key, self._store, self._provider, request.tenant))
        return WireGuardKeyAnswer(request.id, key)

    def forget(self, tenant_id: int) -> int:
        """Drop a tenant's keys and leaves at once. Returns how many leaves that were."""
        dropped = self._keyring.forget(tenant_id)
        for working in dropped:
            self.ahead.forget(working)
        gone = {key.id for working in dropped for key in working.leaf_keys.values()}
        stale = [entry for entry in self._kept if entry[0] in gone]
        for entry in stale:
            del self._kept[entry]
        return len(stale)

    async def _working_set(self, tenant: str, untrusted: bool = False) -> WorkingSet:
        working = self._keyring.held(tenant, untrusted)
        if working is not None:
            return working
        return await self._loads.run((tenant, untrusted), partial(self._load, tenant, untrusted))

    async def _load(self, tenant: str, untrusted: bool) -> WorkingSet:
        while True:
            working = await self.reading.call(
                partial(keyring.load, self._store, self._provider, self._managers, tenant, untrusted)
            )
            if self._keyring.put(working):
                return working

    async def _leaf_key(self, working: WorkingSet, kind: KeyKind) -> HeldLeafKey:
        key = working.leaf_key(kind, self._clock(), self._leaf_key_lifetime)
        if key is not None:
            return key
        return await self._leaf_keys.run((working.ca_id, kind), partial(self._make_leaf_key, working, kind))

    async def _make_leaf_key(self, working: WorkingSet, kind: KeyKind) -> HeldLeafKey:
        try:
            key = await self._issuing.call(
                partial(
                    keyring.make_leaf_key,
                    self._store,
                    self._provider,
                    working,
                    kind,
                    self._clock,
                    self._leaf_key_lifetime,
                )
            )
        except Superseded:
            self._drop(working)
            raise
        old = working.leaf_keys.get(kind)
        working.leaf_keys[kind] = key
        if old is not None and old.id != key.id:
            for entry in [entry for entry in self._kept if entry[0] == old.id]:
                del self._kept[entry]
        return key

    def _made(self, working: WorkingSet, key: HeldLeafKey, wanted: Wanted) -> asyncio.Future[KeptLeaf]:
        """The leaf that is being found or minted for that host, for whomever that was begun."""
        entry = _entry(key, wanted)
        waiting = self._making.get(entry)
        if waiting is None:
            waiting = self._making[entry] = []
            job = Job(working, key, wanted.host, wanted.server_not_after, wanted.connection)
            if isinstance(working.signer, RemoteSigner):
                task = self._loop.create_task(self._made_elsewhere(entry, job, working.signer))
                self._elsewhere.add(task)
                task.add_done_callback(self._elsewhere.discard)
            else:
                self._issuing.submit(job, partial(self._issued, entry, job))
        future: asyncio.Future[KeptLeaf] = self._loop.create_future()
        waiting.append(future)
        return future

    async def _made_elsewhere(self, entry: tuple[int, str], job: Job, signer: RemoteSigner) -> None:
        """Have it signed by who takes as long as it takes, while others are issued; then record it as any other.

        Where there is one that is still valid, nobody waits for a new one.
        """
        try:
            outcome: Outcome | None = None
            if self._log.may_be_recorded(job):
                outcome = await self.reading.call(partial(self._log.recorded, job))
            if outcome is None:
                outcome = await self._still_valid(job)
            if outcome is None:
                signed = await self._log.signed_elsewhere(job, signer)
                return self._issuing.submit(signed, partial(self._issued, entry, signed))
        except Exception as error:  # noqa: BLE001 - nothing carries on: it is raised where it is awaited
            # What was given up since another CA became the active one is done again with that.
            return self._issued(entry, job, error if self._keyring.holds(job.working) else Superseded())
        return self._issued(entry, job, outcome)

    async def _made_ahead(self, job: Job) -> KeptLeaf:
        """Another leaf for a host that has one, signed elsewhere and recorded, with the leaf key that counts now.

        Raises Refusal, Superseded, StoreError.
        """
        working = job.working
        assert isinstance(working.signer, RemoteSigner)  # noqa: S101 - nothing else is done ahead
        job = replace(job, key=await self._leaf_key(working, job.key.kind))
        signed = await self._log.signed_elsewhere(job, working.signer)
        made: asyncio.Future[KeptLeaf] = self._loop.create_future()

        def recorded(outcome: KeptLeaf | Exception) -> None:
            self._note((job.key.id, job.host.text), signed, outcome)
            settle(made, outcome)

        self._issuing.submit(signed, recorded)
        return await made

    def _limit_of(self, job: Job, now: datetime) -> datetime:
        return self._log.limit(job.working, job.server_not_after, now)

    async def _still_valid(self, job: Job) -> KeptLeaf | None:
        if job.working.untrusted:
            return None
        return await self.reading.call(partial(self._log.still_valid, job))

    def _issued(self, entry: tuple[int, str], job: Job, outcome: KeptLeaf | Exception) -> None:
        self._note(entry, job, outcome)
        for future in self._making.pop(entry):
            settle(future, outcome)

    def _note(self, entry: tuple[int, str], job: Job, outcome: KeptLeaf | Exception) -> None:
        if isinstance(outcome, Superseded):
            # The store says that this CA is not the active one. The change feed will say so too, but later.
            self._drop(job.working)
        elif isinstance(outcome, KeptLeaf):
            log_event(
                "leaf_issued", "debug", id=job.connection, tenant=job.working.tenant, host=job.host.text,
                source="minted" if outcome.serial else "stored", serial=outcome.serial,
            )  # fmt: skip
            if leaf_is_kept := outcome.for_want is None and self._keyring.holds(job.working):
                leaf_is_kept = job.working.leaf_keys.get(job.key.kind) is job.key
            if leaf_is_kept:
                self._kept[entry] = (outcome, *self._kept.get(entry, ()))[:KEPT_PER_HOST]
            self._since_checkpoint += 1
            if self._since_checkpoint >= LEAVES_PER_CHECKPOINT:
                self._since_checkpoint = 0
                self._tidying.call(self._store.move_log).add_done_callback(_log_moved)

    def _find_kept(self, working: WorkingSet, key: HeldLeafKey, wanted: Wanted, now: datetime) -> KeptLeaf | None:
        kept = self._kept.get(_entry(key, wanted))
        return None if kept is None else reuse.best(kept, self._log.limit(working, wanted.server_not_after, now), now)

    def _drop(self, working: WorkingSet) -> None:
        if self._keyring.holds(working):
            self.forget(working.tenant_id)


def _entry(key: HeldLeafKey, wanted: Wanted) -> tuple[int, str]:
    """Under what a leaf is kept: the host; where clients are warned by it, also the server's certificate.

    One that was shown for another certificate of the host would let whoever has accepted that one accept this one too.
    """
    return (key.id, f"{wanted.host.text} {wanted.warned_of}" if wanted.warned_of else wanted.host.text)


def _answer(wanted: Wanted, working: WorkingSet, key: HeldLeafKey, leaf: KeptLeaf, now: datetime) -> LeafAnswer:
    return LeafAnswer(
        id=wanted.id,
        certificate=leaf.certificate,
        chain=working.chain,
        leaf_key=key.id if leaf.for_want is None else leaf.for_want,
        signing_ca=working.ca_id,
        generation=working.generation,
        not_after=leaf.not_after.timestamp(),
        reuse_until=reuse.keep_until(leaf, now, tell=working.signs_elsewhere).timestamp(),
    )


def _log_moved(done: asyncio.Future[None]) -> None:
    if not done.cancelled() and (error := done.exception()) is not None:
        log_event("store_log_not_moved", "warning", message=str(error))
