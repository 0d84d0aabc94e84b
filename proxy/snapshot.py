"""A tenant's working set as the data plane uses it: immutable, replaced whole, a generation number on it.

A session keeps the snapshot that it began with. :class:`Snapshots` follows the store's change feed; while the store
cannot be read, the last working set stays in use and the log says so.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from cryptography import x509
from OpenSSL import SSL

from certs.trust import TrustStore, server_leg_context
from certs.verdict import Action, ErrorSettings
from proxy.log import ERROR, INFO, WARNING, Log
from store import changes, error_settings, signing_cas, tenants, trusted_cas
from store.engine import Connection, Store, StoreError

POLL_SECONDS = 0.25


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Everything about a tenant that a connection needs to know."""

    tenant: str
    generation: int
    trust: TrustStore
    server_context: SSL.Context
    errors: ErrorSettings
    own_keys: frozenset[bytes]
    """SPKI SHA-256 of every key that a signing CA of any tenant issues with."""
    signing_ca: int
    signing_ca_is_rsa: bool
    trusted: tuple[tuple[bytes, ...], ...]
    """The tenant's own CAs as stored, to tell whether the trust must be built anew."""
    serial: int = field(default_factory=itertools.count().__next__, compare=False)
    """Another working set has another number, whatever of it has changed."""


class Snapshots:
    """The snapshots of the tenants that this worker serves, kept up to date."""

    def __init__(
        self,
        store: Store,
        common: Sequence[x509.Certificate],
        names: Sequence[str],
        log: Log,
        clock: Callable[[], datetime],
    ) -> None:
        self.store = store
        self.common = tuple(common)
        self.names = tuple(dict.fromkeys(names))
        self.log = log
        self.clock = clock
        self.current: dict[str, Snapshot] = {}
        self.seen = 0
        self.failing = False
        self.changed: Callable[[Snapshot | None, str], None] = lambda snapshot, name: None

    def load(self) -> None:
        """Read all of them now. Raises StoreError."""
        seen, snapshots = self._read()
        self._take(seen, snapshots)

    async def follow(self) -> None:
        """Look for changes four times a second, until cancelled."""
        while True:
            await asyncio.sleep(POLL_SECONDS)
            try:
                read = await asyncio.to_thread(self._read_if_changed)
            except StoreError as error:
                if not self.failing:
                    self.log.event(
                        ERROR, "store cannot be read", reason=str(error), effect="the last working set stays in use"
                    )
                self.failing = True
                continue
            if self.failing:
                self.failing = False
                self.log.event(WARNING, "store can be read again")
            if read is not None:
                self._take(*read)

    def _read_if_changed(self) -> tuple[int, dict[str, Snapshot]] | None:
        with self.store.reading() as connection:
            if changes.latest(connection) == self.seen:
                return None
        return self._read()

    def _read(self) -> tuple[int, dict[str, Snapshot]]:
        snapshots = {}
        with self.store.reading() as connection:
            seen = changes.latest(connection)
            own_keys = signing_cas.issuing_keys(connection)
            for name in self.names:
                try:
                    snapshot = self._one(connection, name, own_keys)
                except ValueError as error:
                    # What cannot be understood is not used: this tenant is not served, the others are.
                    self.log.event(ERROR, "working set cannot be read", tenant=name, reason=str(error))
                    continue
                if snapshot is not None:
                    snapshots[name] = snapshot
        return seen, snapshots

    def _one(self, connection: Connection, name: str, own_keys: frozenset[bytes]) -> Snapshot | None:
        """A tenant's working set; None: there is no such tenant. Raises ValueError for what cannot be understood."""
        tenant = tenants.by_name(connection, name)
        authority = signing_cas.active(connection, tenant.id) if tenant is not None else None
        if tenant is None or authority is None:
            return None
        rows = {row: Action(action) for row, action in error_settings.rows(connection, tenant.id).items()}
        trusted = tuple(ca.chain for ca in trusted_cas.listing(connection, tenant.id) if ca.active)
        before = self.current.get(name)
        if before is not None and before.trusted == trusted:
            trust, context = before.trust, before.server_context
        else:
            own = [[x509.load_der_x509_certificate(der) for der in chain] for chain in trusted]
            trust = TrustStore(self.common, own)
            context = server_leg_context(trust)
        issuing = x509.load_der_x509_certificate(authority.certificate)
        return Snapshot(
            tenant=name,
            generation=tenant.generation,
            trust=trust,
            server_context=context,
            errors=ErrorSettings(rows),
            own_keys=own_keys,
            signing_ca=authority.id,
            signing_ca_is_rsa=issuing.public_key_algorithm_oid.dotted_string == "1.2.840.113549.1.1.1",
            trusted=trusted,
        )

    def _take(self, seen: int, snapshots: dict[str, Snapshot]) -> None:
        before, self.current, self.seen = self.current, snapshots, seen
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
