"""A tenant's working set as the data plane uses it: immutable, replaced whole, a generation number on it.

A session keeps the snapshot that it began with. :class:`Snapshots` follows the store's change feed; while the store
cannot be read, the last working set stays in use and the log says so.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from certs.bypass import BypassRules
from certs.decision import ErrorSettings
from certs.expiry import NEVER, Validity
from certs.scope import OwnCa, Rules, TrustByHost
from proxy.log import ERROR, INFO, WARNING, Log
from store import bypass_rules, changes, proxy_users, signing_cas, tenants, trusted_cas, working_set
from store.engine import Connection, Store, StoreError
from store.records import ChangeKind

POLL_SECONDS = 0.25
REST_SECONDS = 0.025
"""Between two looks at the least, however many are in a hurry."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Everything about a tenant that a connection needs to know."""

    tenant: str
    generation: int
    trust: TrustByHost
    errors: ErrorSettings
    own_keys: frozenset[bytes]
    """SPKI SHA-256 of every key that a signing CA of any tenant issues with."""
    signing_ca: int
    signing_ca_is_rsa: bool
    trusted: tuple[OwnCa, ...]
    """The tenant's own CAs as stored, to tell whether the trust must be built anew."""
    signing_ca_name: str = ""
    root: bytes = b""
    """The topmost certificate of the active signing CA's chain (DER): what devices have to trust."""
    signing_ca_validity: Validity = NEVER
    """When all of its chain is valid: a leaf verifies no longer than that."""
    trusted_validity: tuple[tuple[str, Validity], ...] = ()
    """The tenant's own CAs that are active: their names, and when each anchor is valid."""
    untrusted_ca: int | None = None
    """The CA that clients are warned by; None where there is none, and so nobody can be warned."""
    activation: int = 0
    """The generation that the last activation which was heard of made, be it of another CA or the same; 0: none was."""
    bypass: BypassRules = field(default_factory=BypassRules)
    """The tenant's own bypass rules, those that have expired too."""
    users: Mapping[str, str] = field(default_factory=dict, repr=False)
    """The tenant's proxy users: the hash of each one's password, by name."""
    serial: int = field(default_factory=itertools.count().__next__, compare=False)
    """Another working set has another number, whatever of it has changed."""

    @property
    def signing_ca_end(self) -> float:
        """When the active signing CA ends, in seconds since 1970."""
        return self.signing_ca_validity.ends.timestamp()

    def trusted_ca_of(self, certificate: x509.Certificate) -> str:
        """The name of the tenant's own CA that has this certificate in its chain; empty: none has."""
        encoded = certificate.public_bytes(Encoding.DER)
        named = zip(self.trusted_validity, self.trusted, strict=False)
        return next((name for (name, _), ca in named if encoded in ca.chain), "")

    def ca(self, untrusted: bool) -> int | None:
        """The CA that leaves are to be of: the active one, or the one that clients are warned by."""
        return self.untrusted_ca if untrusted else self.signing_ca


@dataclass(frozen=True, slots=True)
class _Read:
    """What the store says: up to which change, the working sets, and when the first change that is new was made."""

    seen: int
    snapshots: dict[str, Snapshot]
    made: datetime | None


class Snapshots:
    """The snapshots of the tenants that this worker serves, kept up to date.

    ``patience`` is for how long, in seconds, they may be used while the store cannot be read. That is counted on a
    clock that nobody sets (``monotonic``): one that is wrong, or put right, must not end it early, nor never.
    """

    def __init__(
        self,
        store: Store,
        common: Sequence[x509.Certificate],
        names: Sequence[str],
        log: Log,
        clock: Callable[[], datetime],
        patience: float = math.inf,
        monotonic: Callable[[], float] = time.monotonic,
        rules: Mapping[str, Rules] | None = None,
    ) -> None:
        """``rules``: how TLS is spoken with servers, for each tenant."""
        self.store = store
        self.rules = rules or {}
        self.common = tuple(common)
        self.names = tuple(dict.fromkeys(names))
        self.log = log
        self.clock = clock
        self.current: dict[str, Snapshot] = {}
        self.seen = 0
        self.patience = patience
        self.monotonic = monotonic
        self.read_at = monotonic()
        """When the store was last found to say what is known here."""
        self._hurry = asyncio.Event()
        self.problem: str | None = None
        """Why the store cannot be read, while it cannot."""
        self.replaced: Callable[[float], None] = lambda seconds: None
        """Told after a change was acted on, with the seconds that have passed since it was made."""
        self.changed: Callable[[Snapshot | None, str], None] = lambda snapshot, name: None

    def load(self) -> None:
        """Read all of them now. Raises StoreError."""
        self._take(self._read())

    @property
    def age(self) -> float:
        """For how long, in seconds, nobody has known whether the working sets are still those of the store."""
        return self.monotonic() - self.read_at

    @property
    def outdated(self) -> bool:
        """The store could not be read for so long that nothing new may begin with these working sets."""
        return self.age > self.patience

    async def follow(self) -> None:
        """Look for changes four times a second, and where somebody is in a hurry, at once; until cancelled."""
        while True:
            await asyncio.sleep(REST_SECONDS)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._hurry.wait(), POLL_SECONDS - REST_SECONDS)
            self._hurry.clear()
            await self.look()

    def hurry(self) -> None:
        """Somebody has heard of a change that is not known here."""
        self._hurry.set()

    async def look(self) -> None:
        """Look once. A store that cannot be read is said once, and the last working sets stay in use."""
        began = self.monotonic()
        try:
            read = await asyncio.to_thread(self._read_if_changed)
        except StoreError as error:
            if self.problem is None:
                self.log.event(
                    ERROR, "store cannot be read", reason=str(error), effect="the last working set stays in use",
                    seconds=self.patience if math.isfinite(self.patience) else None,
                )  # fmt: skip
            self.problem = str(error)
            return
        if self.problem is not None:
            self.problem = None
            self.log.event(WARNING, "store can be read again")
        self.read_at = began
        if read is not None:
            self._take(read)

    def _read_if_changed(self) -> _Read | None:
        self.store.check_place()
        with self.store.reading() as connection:
            if changes.latest(connection) == self.seen:
                return None
        return self._read()

    def _read(self) -> _Read:
        snapshots = {}
        with self.store.reading() as connection:
            seen = changes.latest(connection)
            news = changes.since(connection, self.seen) if self.current else ()
            made = min((change.at for change in news), default=None)
            activations = {
                each.tenant_id: each.generation for each in news if each.kind == ChangeKind.SIGNING_CA_ACTIVATED
            }
            own_keys = signing_cas.issuing_keys(connection)
            for name in self.names:
                try:
                    snapshot = self._one(connection, name, own_keys, activations)
                except ValueError as error:
                    # What cannot be understood is not used: this tenant is not served, the others are.
                    self.log.event(ERROR, "working set cannot be read", tenant=name, reason=str(error))
                    continue
                if snapshot is not None:
                    snapshots[name] = snapshot
        return _Read(seen, snapshots, made)

    def _one(
        self, connection: Connection, name: str, own_keys: frozenset[bytes], activations: dict[int, int]
    ) -> Snapshot | None:
        """A tenant's working set; None: there is no such tenant. Raises ValueError for what cannot be understood."""
        tenant = tenants.by_name(connection, name)
        authority = signing_cas.active(connection, tenant.id) if tenant is not None else None
        if tenant is None or authority is None:
            return None
        own_cas = [ca for ca in trusted_cas.listing(connection, tenant.id) if ca.active]
        trusted = working_set.own_cas(own_cas)
        before = self.current.get(name)
        same = before if before is not None and before.trusted == trusted else None
        trust = same.trust if same is not None else TrustByHost(self.common, trusted, self.rules.get(name))
        bypass = BypassRules({rule.pattern: rule.expires_at for rule in bypass_rules.listing(connection, tenant.id)})
        issuing = x509.load_der_x509_certificate(authority.certificate)
        untrusted = signing_cas.untrusted(connection, tenant.id)
        # They may be many, and every change of them raises the generation; a tenant made anew under the name has
        # another CA, since ids are never used again.
        as_before = before is not None and before.generation == tenant.generation and before.signing_ca == authority.id
        users = before.users if before is not None and as_before else proxy_users.hashes(connection, tenant.id)
        return Snapshot(
            tenant=name,
            generation=tenant.generation,
            trust=trust,
            errors=working_set.errors(connection, tenant.id),
            own_keys=own_keys,
            signing_ca=authority.id,
            signing_ca_is_rsa=issuing.public_key_algorithm_oid.dotted_string == "1.2.840.113549.1.1.1",
            signing_ca_name=authority.name,
            root=authority.chain[-1],
            signing_ca_validity=_validity(authority.chain),
            trusted_validity=tuple((ca.name, _validity(ca.chain[-1:])) for ca in own_cas),
            trusted=trusted,
            untrusted_ca=None if untrusted is None else untrusted.id,
            activation=activations.get(tenant.id, before.activation if before is not None else 0),
            bypass=bypass,
            users=users,
        )

    def _take(self, read: _Read) -> None:
        snapshots = read.snapshots
        before, self.current, self.seen = self.current, snapshots, read.seen
        for name in self.names:
            old, new = before.get(name), snapshots.get(name)
            if old is not None and old == new:
                snapshots[name] = old
            else:
                self.changed(new, name)
                if old is not None or new is None:
                    self.log.event(
                        INFO, "working set replaced", tenant=name, generation=new.generation if new else None
                    )
        if read.made is not None:
            # Two processes of one machine have one clock, but it may have been put back meanwhile.
            self.replaced(max(0.0, (self.clock() - read.made).total_seconds()))


def _validity(chain: Sequence[bytes]) -> Validity:
    """When all of these certificates (DER) are valid. Raises ValueError where one cannot be parsed."""
    return Validity.of(x509.load_der_x509_certificate(der) for der in chain)
