"""What was issued: found again before anything is signed anew, and recorded before it is handed out.

One round is for all the leaves that are wanted at that moment together: one look into the store for those that may be
there, then a signature for each leaf that is not there, then one transaction for all of these, and so one commit. In
that transaction the CA is looked at once more: what was signed by one that is no longer its tenant's active one is
neither recorded nor handed out.

A round is a generator that begins on the event loop, where nothing may wait. Before it has to wait, since somebody else
is writing or a signature takes long, it yields None, and is continued on a thread (:mod:`issuer.desk`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import partial

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from certs import profile
from certs.lint import LintError
from certs.mint import MintError, completed, mint, rehearsed
from certs.names import Host
from certs.signer import RemoteSigner, Signer, SigningError
from issuer import reuse
from issuer.errors import Refusal, Superseded
from issuer.keyring import HeldLeafKey, Keyring, WorkingSet
from issuer.metrics import Metrics, NullMetrics
from issuer.protocol import Code
from store import changes, leaves, signing_cas
from store.engine import Busy, Conflict, Connection, Store, StoreError
from store.records import Leaf, NewLeaf

NOT_COUNTED = NullMetrics()
LEAF_KEYS_BACK = 4
"""Leaf keys that are looked through where none can be signed: leaves live for a week, keys make new ones for days."""
AS_GOOD_AS_EXPIRED = timedelta(seconds=1)
"""A certificate ends with a whole second: a server's that ends within this one leaves no time to a leaf."""


@dataclass(frozen=True, slots=True)
class KeptLeaf:
    """A leaf that is recorded and may be shown."""

    certificate: bytes
    not_after: datetime
    issued_at: datetime
    serial: str = ""
    """Hexadecimal; only where it was minted just now."""
    for_want: int | None = None
    """Its leaf key's number, where it is time for another leaf, perhaps of another key, and none is to be had now."""


@dataclass(frozen=True, slots=True)
class Job:
    """A leaf that is wanted, and what to make it with."""

    working: WorkingSet
    key: HeldLeafKey
    host: Host
    server_not_after: datetime | None
    connection: str = ""
    """The id of the client's connection that it was first wanted for; for the log."""
    signed: x509.Certificate | None = field(default=None, repr=False)
    """The leaf, where it was signed elsewhere and is only to be recorded."""
    begun: datetime | None = None
    """When that was begun."""


type Outcome = KeptLeaf | Refusal | Superseded | StoreError
type Problem = Superseded | StoreError | None
type Begin = Callable[[], AbstractContextManager[Connection]]
"""What begins a transaction."""


@dataclass(slots=True)
class _Pace:
    """Whether a round may wait by now."""

    waits: bool = False


class IssuanceLog:
    """The store's part that grows with each leaf. ``lifetime`` is a new leaf's, ``clock`` tells aware UTC."""

    def __init__(
        self,
        store: Store,
        keyring: Keyring,
        lifetime: timedelta,
        clock: Callable[[], datetime],
        metrics: Metrics = NOT_COUNTED,
    ) -> None:
        self._store = store
        self._metrics = metrics
        self._keyring = keyring
        self._lifetime = lifetime
        self._clock = clock
        # The CAs that sign tenants' leaves, as the store had them at that entry of the change feed.
        self._current: dict[int, frozenset[int]] = {}
        self._current_as_of = -1

    def issue(self, jobs: Sequence[Job]) -> Iterator[Mapping[int, Outcome] | None]:
        """The outcome of each job, by its place: first of those that are in the store, then of the others.

        None comes before something that may take long. Raises StoreError where the store cannot be read.
        """
        pace = _Pace()
        found: dict[int, Outcome] = {}
        recorded = [place for place, job in enumerate(jobs) if self.may_be_recorded(job)]
        if recorded:
            found = yield from self._paced(pace, self._store.reading, partial(self._find, jobs, recorded))
            if found:
                yield found
        if not pace.waits and not all(
            job.working.signs_at_once for place, job in enumerate(jobs) if place not in found
        ):
            pace.waits = True
            yield None
        outcomes: dict[int, Outcome] = {}
        minted: dict[int, NewLeaf] = {}
        for place, job in enumerate(jobs):
            if place in found:
                continue
            try:
                minted[place] = self._mint(job)
            except (Refusal, Superseded) as error:
                outcomes[place] = error
        problems = yield from self._record_all(pace, list(minted.values()))
        for (place, row), problem in zip(minted.items(), problems, strict=True):
            if problem is None:
                jobs[place].key.hosts.add(row.host)
                self._metrics.minted(jobs[place].working.tenant, kind_of(jobs[place].working.signer))
            outcomes[place] = problem or KeptLeaf(row.certificate, row.not_after, row.issued_at, row.serial)
        yield outcomes

    def may_be_recorded(self, job: Job) -> bool:
        """Whether it is worth a look into the store."""
        # What clients are warned by is never found again: it is for one certificate of the server, which no row tells.
        return job.signed is None and not job.working.untrusted and job.key.hosts.may_have(job.host.text)

    def recorded(self, job: Job) -> Outcome | None:
        """The leaf that is in the store and will do. Waits for the store; raises StoreError."""
        return self._find([job], [0], self._store.reading).get(0)

    def still_valid(self, job: Job) -> KeptLeaf | None:
        """A leaf in the store that has not ended, though it is time for another. Waits; raises StoreError.

        It may be of a leaf key that makes no new ones any more.
        """
        working = job.working
        now = self._clock()
        limit = self.limit(working, job.server_not_after, now)
        with self._store.reading() as connection:
            for key in leaves.newest_keys(connection, working.tenant_id, working.ca_id, job.key.kind, LEAF_KEYS_BACK):
                found = leaves.newest(connection, working.tenant_id, working.ca_id, key.id, job.host.text)
                if found is not None and now < found.not_after <= limit:
                    return KeptLeaf(found.certificate, found.not_after, found.issued_at, for_want=key.id)
        return None

    async def signed_elsewhere(self, job: Job, signer: RemoteSigner) -> Job:
        """The job with its leaf signed, to be recorded. Raises Refusal."""
        now = self._clock()
        self.limit(job.working, job.server_not_after, now)
        if (why := signer.down) is not None:
            raise Refusal(Code.KEY_MANAGER_DOWN, f"no leaf for {job.host}: {why}")
        request = _request(job, now)
        began = time.perf_counter()
        try:
            twin = rehearsed(request, signer, now, self._lifetime)
            signature = await signer.signature(twin.tbs_certificate_bytes)
            leaf = completed(twin, signature, request)
        except (LintError, MintError, SigningError) as error:
            crowded = isinstance(error, SigningError) and error.crowded
            code = Code.KEY_MANAGER_BUSY if crowded else Code.SIGNING_FAILED
            raise Refusal(code, f"no leaf for {job.host}: {error}") from error
        self._metrics.signed(kind_of(signer), time.perf_counter() - began)
        return replace(job, signed=leaf, begun=now)

    def limit(self, working: WorkingSet, server_not_after: datetime | None, now: datetime) -> datetime:
        """When a leaf that is made now would end. Raises Refusal where the CA is not valid now."""
        try:
            return profile.validity(_server_end(server_not_after, now), working.validity, now, self._lifetime)[1]
        except profile.ProfileError as error:
            raise Refusal(Code.CA_EXPIRED, f"tenant {working.tenant}: {error}; activate another signing CA") from error

    def _paced[A](self, pace: _Pace, begin: Begin, work: Callable[[Begin], A]) -> Generator[None, None, A]:
        """Do something in a transaction that begins at once; only where that cannot be, in one of ``begin``."""
        if not pace.waits:
            try:
                return work(self._store.transaction_now)
            except (Busy, StoreError):  # a store that cannot be written may still be read
                pace.waits = True
                yield None
        return work(begin)

    def _find(self, jobs: Sequence[Job], places: Sequence[int], begin: Begin) -> dict[int, Outcome]:
        """Those, of the jobs at these places, that are in the store and will do."""
        with begin() as connection:
            stored = [(place, self._newest(connection, jobs[place])) for place in places]
        now = self._clock()
        found: dict[int, Outcome] = {}
        for place, leaf in stored:
            job = jobs[place]
            try:
                if leaf is not None and reuse.usable(leaf, self.limit(job.working, job.server_not_after, now), now):
                    found[place] = KeptLeaf(leaf.certificate, leaf.not_after, leaf.issued_at)
            except Refusal as refusal:
                found[place] = refusal
        return found

    def _newest(self, connection: Connection, job: Job) -> Leaf | None:
        return leaves.newest(connection, job.working.tenant_id, job.working.ca_id, job.key.id, job.host.text)

    def _mint(self, job: Job) -> NewLeaf:
        """Lint, sign. Raises Refusal, or Superseded."""
        working = job.working
        if not self._keyring.holds(working):
            raise Superseded
        now = self._clock()
        self.limit(working, job.server_not_after, now)  # says so where the CA has expired
        certificate = job.signed or self._sign(job, now)
        return NewLeaf(
            tenant_id=working.tenant_id,
            signing_ca_id=working.ca_id,
            leaf_key_id=job.key.id,
            host=job.host.text,
            serial=f"{certificate.serial_number:x}",
            not_before=certificate.not_valid_before_utc,
            not_after=certificate.not_valid_after_utc,
            certificate=certificate.public_bytes(Encoding.DER),
            issued_at=job.begun or now,
        )

    def _sign(self, job: Job, now: datetime) -> x509.Certificate:
        signer = job.working.signer
        assert not isinstance(signer, RemoteSigner)  # noqa: S101 - that is awaited before, where nobody is held up
        try:
            began = time.perf_counter()
            certificate = mint(_request(job, now), signer, now, self._lifetime)
        except (LintError, MintError, SigningError) as error:
            raise Refusal(Code.SIGNING_FAILED, f"no leaf for {job.host}: {error}") from error
        self._metrics.signed(kind_of(signer), time.perf_counter() - began)
        return certificate

    def _record_all(self, pace: _Pace, rows: Sequence[NewLeaf]) -> Generator[None, None, Sequence[Problem]]:
        """Why each was not recorded; None: it was."""
        if not rows:
            return ()
        problems = yield from self._paced(pace, self._store.transaction, partial(self._record, rows))
        if len(rows) == 1 or not isinstance(problems[0], Conflict):
            return problems
        # One of them broke a rule; the others are not to suffer for it.
        one_by_one: list[Problem] = []
        for row in rows:
            one_by_one += yield from self._paced(pace, self._store.transaction, partial(self._record, [row]))
        return one_by_one

    def _record(self, rows: Sequence[NewLeaf], begin: Begin) -> Sequence[Problem]:
        """The same, in one transaction."""
        try:
            with begin() as connection:
                self._refresh(connection)
                current = [self._is_current(connection, row) for row in rows]
                leaves.record(connection, [row for row, is_current in zip(rows, current, strict=True) if is_current])
        except StoreError as error:
            return [error] * len(rows)
        return [None if is_current else Superseded() for is_current in current]

    def _refresh(self, connection: Connection) -> None:
        # Whatever changes which CAs sign is announced in the same transaction, so what was read at the newest entry of
        # the feed still holds.
        latest = changes.latest(connection)
        if latest != self._current_as_of:
            self._current.clear()
            self._current_as_of = latest

    def _is_current(self, connection: Connection, row: NewLeaf) -> bool:
        if row.tenant_id not in self._current:
            self._current[row.tenant_id] = signing_cas.issuing(connection, row.tenant_id)
        return row.signing_ca_id in self._current[row.tenant_id]


def kind_of(signer: Signer | RemoteSigner) -> str:
    """For the metrics."""
    return "kmip" if isinstance(signer, RemoteSigner) else "local"


def _request(job: Job, now: datetime) -> profile.LeafRequest:
    working = job.working
    server_end = _server_end(job.server_not_after, now)
    return profile.LeafRequest(job.host, job.key.public_key, working.issuer, server_end, working.validity)


def _server_end(server_not_after: datetime | None, now: datetime) -> datetime | None:
    if server_not_after is None or server_not_after <= now + AS_GOOD_AS_EXPIRED:
        return None
    return server_not_after
