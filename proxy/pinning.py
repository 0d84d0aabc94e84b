"""Clients that refuse our certificate for one host and take it for others: most likely they expect the host's own.

Such an app has the host's certificate or CA built in (it is *pinned*), so that nothing but a bypass lets it through. A
client that takes our certificate for no host at all does not trust our root, which is another matter: a refusal counts
only where the same client has taken, or then takes, a certificate of ours for another host.

What is found here is kept in the store (:class:`Recorder`), where an administrator is told of it. Only where the
operator says so does a rule come of it, for a time: then a client decides by its refusals what is not decrypted, for
others too. So whoever has an IPv6 network counts once, closing a connection counts for nothing, no rule is made for a
host that others take our certificate for, and there are few rules.
"""

from __future__ import annotations

import asyncio
import ipaddress
import json
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Literal

from cachetools import LRUCache

from config.settings import Bypass
from proxy.disclosure import NETWORK
from proxy.ledger import client_key
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
"""Of one client, or of one IPv6 network's."""
TAKING = 2048
"""Networks of which it is known what they have taken, a day long."""
TAKING_EACH = 32
"""Hosts of one network: the last ones. Nobody can have it forgotten what others take."""
TAKING_SECONDS = 86_400.0
TAKERS = 16
"""A host that so many networks take is not bypassed by itself, however many refuse it."""
MOST_LEARNED = 100
MOST_LEARNED_HOURLY = 5
"""Rules of a tenant that nobody has made: that stand, and that are made within an hour."""
RECORD_SECONDS = 5.0
LEARNER = "sallyport"
"""Who a rule is from that nobody has made."""
_LEARNED = "learned: "
"""How its reason begins."""
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
    """How often, how, and when last (seconds since 1970); and from how many networks the host was taken lately."""

    count: int
    how: How
    last: float
    takers: int = 0


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
        self._taking: LRUCache[tuple[str, bytes], dict[str, float]] = LRUCache(TAKING)
        """By tenant and network: hosts, and when our certificate for them was taken last; the latest at the end."""
        self._found: dict[Pair, Refusals] = {}
        self._each: Counter[tuple[str, bytes]] = Counter()

    def took(self, client: Client, host: str) -> None:
        """The client has taken our certificate for the host."""
        now = self._clock()
        known = self._clients.get(client)
        if known is None:
            known = self._clients[client] = _Taken()
        known.took(host, now)
        self._takes(client, host, now)
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
        if found:
            takers = self._takers({(pair.client.tenant, pair.host) for pair in found})
            for pair, refusals in found.items():
                refusals.takers = takers[pair.client.tenant, pair.host]
        return found

    def _takes(self, client: Client, host: str, now: float) -> None:
        network = client.tenant, _network(client.address)
        hosts = self._taking.get(network)
        if hosts is None:
            hosts = self._taking[network] = {}
        hosts.pop(host, None)
        hosts[host] = now
        if len(hosts) > TAKING_EACH:
            del hosts[next(iter(hosts))]

    def _takers(self, wanted: set[tuple[str, str]]) -> Counter[tuple[str, str]]:
        """How many networks have taken each of these hosts lately."""
        since = self._clock() - TAKING_SECONDS
        return Counter(
            (tenant, host)
            for (tenant, _), hosts in self._taking.items()
            for host, when in hosts.items()
            if when > since and (tenant, host) in wanted
        )

    def _add(self, pair: Pair, refusals: Refusals) -> None:
        if pair not in self._found:
            network = pair.client.tenant, _network(pair.client.address)
            if len(self._found) >= FOUND or self._each[network] >= FOUND_EACH:
                return
            self._each[network] += 1
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
            mine = {pair: one for pair, one in found.items() if pair.client.tenant == name}
            rows = _rows(mine)
            with self._store.transaction() as connection:
                if (tenant := tenants.by_name(connection, name)) is None:
                    continue
                refusals.add(connection, tenant.id, rows)
            if self._settings.learned_for is not None:
                takers = {pair.host: one.takers for pair, one in mine.items()}
                self._learn(tenant, takers, max(row.last_at for row in rows), self._settings.learned_for)

    def _learn(self, tenant: Tenant, takers: dict[str, int], now: datetime, seconds: float) -> None:
        """Bypass those of the hosts that enough clients refuse for the set time; then they are tried again.

        ``takers``: the hosts that were refused now, with from how many networks each is taken.
        """
        with self._store.reading() as connection:
            refused = refusals.by_alert(connection, tenant.id, now - refusals.AGE, self._settings.propose_after)
        wanted = {host: refused[host] for host, taken in takers.items() if taken < min(refused.get(host, 0), TAKERS)}
        if not wanted:
            return
        ends = now + timedelta(seconds=seconds)
        with self._store.transaction() as connection:
            made, left_out = _make_rules(connection, tenant, wanted, now, ends)
        for host in made:
            self._log.event(WARNING, "bypass learned", tenant=tenant.name, host=host, clients=wanted[host],
                            seconds=seconds)  # fmt: skip
        if left_out:
            why = f"at most {MOST_LEARNED} rules are learned, {MOST_LEARNED_HOURLY} in an hour"
            self._log.event(WARNING, "bypass not learned", tenant=tenant.name, hosts=left_out, reason=why)


def _make_rules(
    connection: Connection, tenant: Tenant, wanted: dict[str, int], now: datetime, ends: datetime
) -> tuple[list[str], int]:
    """A rule for each host, those with most clients first, as far as there may be any; and for how many there is none.

    Learned rules that have ended are taken out of the list. One that somebody made, and that counts, stays as it is.
    """
    author = bypass_rules.by_author(connection, tenant.id, LEARNER)
    learned = [rule for rule in author if (rule.reason or "").startswith(_LEARNED)]
    recent = sum(rule.created_at > now - timedelta(hours=1) for rule in learned)
    standing = sum(not _ended(rule, now) for rule in learned)
    room = min(MOST_LEARNED - standing, MOST_LEARNED_HOURLY - recent)
    made: dict[str, str] = {}
    left_out = 0
    for host, clients in sorted(wanted.items(), key=lambda item: (-item[1], item[0])):
        before = bypass_rules.by_pattern(connection, tenant.id, host)
        if before is not None and not _ended(before, now):
            continue
        if len(made) >= room:
            left_out += 1
            continue
        if before is not None:
            bypass_rules.remove(connection, before.id)
        made[host] = f"{_LEARNED}{clients} clients refuse our certificate for it"
        bypass_rules.add(connection, tenant.id, host, made[host], now, LEARNER, ends)
        refusals.forget(connection, tenant.id, host)
    if not made:
        return [], left_out
    for rule in learned:
        if _ended(rule, now) and rule.created_at <= now - timedelta(hours=1):  # the others count for the hour
            bypass_rules.remove(connection, rule.id)
    generation = changes.announce(connection, tenant.id, ChangeKind.BYPASS_RULE_ADDED, now)
    for host, reason in made.items():
        after = json.dumps({"pattern": host, "reason": reason, "expires_at": f"{ends:%Y-%m-%dT%H:%M:%SZ}"})
        audit_log.write(connection, tenant.id, tenant.name, now, LEARNER, "the data plane", "bypass_rule.add", host,
                        None, after, generation)  # fmt: skip
    return list(made), left_out


def _ended(rule: BypassRule, now: datetime) -> bool:
    return rule.expires_at is not None and rule.expires_at <= now


def _rows(found: dict[Pair, Refusals]) -> list[Refusal]:
    """As they are recorded: clients of one IPv6 network are one."""
    merged: dict[tuple[str, str], Refusals] = {}
    for pair, one in found.items():
        _merge(merged, (pair.host, _counted_as(pair.client.told)), replace(one))
    return [
        Refusal(host, client, one.count, one.how, at, at)
        for (host, client), one in merged.items()
        for at in [datetime.fromtimestamp(one.last, UTC)]
    ]


def _counted_as(told: str) -> str:
    """What may be told of a client, where that is an IPv6 address: its network.

    Whoever has one address there has them all (RFC 6177, section 2).
    """
    try:
        address = ipaddress.ip_address(told.partition("%")[0])
    except ValueError:
        return told  # a network already, or nothing
    if isinstance(address, ipaddress.IPv4Address) or address.ipv4_mapped is not None:
        return told
    return str(ipaddress.ip_network((address, NETWORK[address.version]), strict=False))


def _network(address: str) -> bytes:
    try:
        return client_key(address)
    except OSError:
        return address.encode()


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
