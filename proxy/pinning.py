"""Clients that refuse our certificate for one host and take it for others: most likely they expect the host's own.

Such an app has the host's certificate or CA built in (it is *pinned*), so that nothing but a bypass lets it through. A
client that takes our certificate for no host at all does not trust our root, which is another matter: a refusal counts
only where the same client has taken, or then takes, a certificate of ours for another host.

What is found here is kept in the store (:class:`Recorder`), where an administrator is told of it. Only where the
operator says so does a rule come of it, for a time.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Literal

from cachetools import LRUCache

from config.settings import Bypass
from proxy.log import WARNING, Log
from store import audit_log, bypass_rules, changes, refusals, tenants
from store.engine import Connection, Store, StoreError
from store.records import BypassRule, ChangeKind, Refusal, Tenant

REMEMBERED_SECONDS = 3600.0
"""How long a client's taking and refusing belong together."""
CLIENTS = 4096
WAITING = 1024
"""Clients of which refusals wait for whether they take another host's certificate."""
WAITING_EACH = 8
"""Hosts of one such client."""
FOUND = 1000
"""Pairs of host and client between two times of recording; beyond them nothing new is found."""
FOUND_EACH = 50
"""Of one client."""
RECORD_SECONDS = 5.0
LEARNER = "sallyport"
"""Who a rule is from that nobody has made."""
REFUSING_ALERTS = ("unknown ca", "bad certificate", "certificate unknown", "unsupported certificate")
"""How the reasons end that OpenSSL gives for a client's alerts about our certificate (RFC 8446 6.2): 48, 42, 46, 43."""

How = Literal["alert", "closed"]


def refuses_certificate(reason: str) -> bool:
    """Whether OpenSSL's reason for a failed handshake is an alert by which a client refuses our certificate."""
    return "alert" in reason and reason.endswith(REFUSING_ALERTS)


@dataclass(frozen=True, slots=True)
class Client:
    """Whose connection it is. ``told`` is what may be kept of ``address``, after ``log.privacy``."""

    tenant: str
    address: str
    told: str


@dataclass(frozen=True, slots=True)
class Pair:
    """A host that a client refuses."""

    client: Client
    host: str


@dataclass(slots=True)
class Refusals:
    """How often, how, and when last (seconds since 1970)."""

    count: int
    how: How
    last: float


@dataclass(slots=True)
class _Taken:
    """What a client has taken lately: two hosts are enough to know of another than any one."""

    hosts: dict[str, float] = field(default_factory=dict)

    def took(self, host: str, now: float) -> None:
        self.hosts.pop(host, None)
        self.hosts[host] = now
        if len(self.hosts) > 2:
            del self.hosts[next(iter(self.hosts))]

    def took_another(self, host: str, now: float) -> bool:
        return any(name != host and now - when < REMEMBERED_SECONDS for name, when in self.hosts.items())

    def took_this(self, host: str, now: float) -> bool:
        return now - self.hosts.get(host, float("-inf")) < REMEMBERED_SECONDS


class Pinning:
    """What one worker finds. ``clock`` tells seconds since 1970."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._clients: LRUCache[Client, _Taken] = LRUCache(CLIENTS)
        self._waiting: LRUCache[Client, dict[str, Refusals]] = LRUCache(WAITING)
        self._found: dict[Pair, Refusals] = {}
        self._each: Counter[Client] = Counter()

    def took(self, client: Client, host: str) -> None:
        """The client has taken our certificate for the host."""
        now = self._clock()
        known = self._clients.get(client)
        if known is None:
            known = self._clients[client] = _Taken()
        known.took(host, now)
        if self._waiting and (waiting := self._waiting.get(client)) is not None:
            for name in [name for name in waiting if name != host]:
                refusals = waiting.pop(name)
                if now - refusals.last < REMEMBERED_SECONDS:
                    self._add(Pair(client, name), refusals)
            if not waiting:
                del self._waiting[client]

    def refused(self, client: Client, host: str, how: How) -> None:
        """The client has refused it: by an alert, or by closing right behind it.

        Who closes a connection to a host whose certificate it has taken before has some other reason.
        """
        now = self._clock()
        known = self._clients.get(client)
        if how == "closed" and known is not None and known.took_this(host, now):
            return
        refusals = Refusals(1, how, now)
        if known is not None and known.took_another(host, now):
            self._add(Pair(client, host), refusals)
            return
        waiting = self._waiting.get(client)
        if waiting is None:
            waiting = self._waiting[client] = {}
        if host in waiting or len(waiting) < WAITING_EACH:
            _merge(waiting, host, refusals)

    def found(self) -> dict[Pair, Refusals]:
        """What was found since this was last asked."""
        found, self._found = self._found, {}
        self._each.clear()
        return found

    def _add(self, pair: Pair, refusals: Refusals) -> None:
        if pair not in self._found:
            if len(self._found) >= FOUND or self._each[pair.client] >= FOUND_EACH:
                return
            self._each[pair.client] += 1
        _merge(self._found, pair, refusals)


class Recorder:
    """Writes into the store what was found, so that it is known after a restart and from all workers together."""

    def __init__(self, pinning: Pinning, store: Store, log: Log, settings: Bypass) -> None:
        self._settings = settings
        self._pinning = pinning
        self._store = store
        self._log = log

    async def follow(self) -> None:
        """Write every few seconds, until cancelled. What cannot be written is lost: it will be found again."""
        while True:
            await asyncio.sleep(RECORD_SECONDS)
            if found := self._pinning.found():
                try:
                    await asyncio.to_thread(self.write, found)
                except StoreError as error:
                    self._log.event(WARNING, "refusals cannot be recorded", reason=str(error))
                except Exception as error:  # noqa: BLE001 - a fault of ours must not end it unseen
                    self._log.event(WARNING, "refusals cannot be recorded", reason=type(error).__name__)

    def write(self, found: dict[Pair, Refusals]) -> None:
        """Write them, those of one tenant in one transaction. Raises StoreError."""
        for name in {pair.client.tenant for pair in found}:
            rows = [_row(pair, one) for pair, one in found.items() if pair.client.tenant == name]
            with self._store.transaction() as connection:
                if (tenant := tenants.by_name(connection, name)) is not None:
                    refusals.add(connection, tenant.id, rows)
                    if self._settings.learned_for is not None:
                        for host in {row.host for row in rows}:
                            self._learn(connection, tenant, host, max(row.last_at for row in rows))

    def _learn(self, connection: Connection, tenant: Tenant, host: str, now: datetime) -> None:
        """Bypass the host for the set time where enough clients refuse it; then it is tried again, and found anew."""
        known = [one for one in refusals.listing(connection, tenant.id, now - refusals.AGE) if one.host == host]
        clients = len(refusals.counting(known))
        before = bypass_rules.by_pattern(connection, tenant.id, host)
        if clients < self._settings.propose_after or (before is not None and not _ended(before, now)):
            return
        if before is not None:
            bypass_rules.remove(connection, before.id)
        assert self._settings.learned_for is not None  # noqa: S101 - whoever calls has looked
        ends = now + timedelta(seconds=self._settings.learned_for)
        reason = f"learned: {clients} clients refuse our certificate for it"
        bypass_rules.add(connection, tenant.id, host, reason, now, LEARNER, ends)
        generation = changes.announce(connection, tenant.id, ChangeKind.BYPASS_RULE_ADDED, now)
        after = json.dumps({"pattern": host, "reason": reason, "expires_at": f"{ends:%Y-%m-%dT%H:%M:%SZ}"})
        audit_log.write(connection, tenant.id, tenant.name, now, LEARNER, "the data plane", "bypass_rule.add", host,
                        None, after, generation)  # fmt: skip
        refusals.forget(connection, tenant.id, host)
        self._log.event(WARNING, "bypass learned", tenant=tenant.name, host=host, clients=clients,
                        seconds=self._settings.learned_for)  # fmt: skip


def _ended(rule: BypassRule, now: datetime) -> bool:
    return rule.expires_at is not None and rule.expires_at <= now


def _row(pair: Pair, found: Refusals) -> Refusal:
    at = datetime.fromtimestamp(found.last, UTC)
    return Refusal(pair.host, pair.client.told, found.count, found.how, at, at)


def _merge[K](into: dict[K, Refusals], key: K, refusals: Refusals) -> None:
    """Add them up; an alert says more than a closed connection."""
    before = into.get(key)
    if before is None:
        into[key] = refusals
        return
    before.count += refusals.count
    before.last = max(before.last, refusals.last)
    if refusals.how == "alert":
        before.how = "alert"
