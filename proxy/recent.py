"""Which servers were judged lately, and what they showed: gathered in a worker, and written into the store.

Who changes whom a tenant trusts, or what is done about a defect, can try it on them before it is saved
(``control.recent_traffic``). So what is kept is what it takes to judge again: the certificates as they came, and of
what nobody can find out again the outcome. It is no record of who went where: there is no client in it, a server that
is visited all day has one row, and of hosts of ``log.never_log`` there is none.

Clients choose which servers are visited, and which names they have. So one of them has half of a tenant's places at
most, whatever it does; the other half it cannot take from the others.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from cachetools import LRUCache
from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding

from certs.names import Host
from certs.scope import TrustByHost
from certs.verdict import COVERED_BY_UNTRUSTED, Action, Verdict
from certs.verify import Handshake
from proxy.figures import Figures, Gathered
from proxy.ledger import client_key
from proxy.log import WARNING, Log
from store import recent_servers, tenants, traffic_figures
from store.engine import Store, StoreError
from store.records import RecentServer

AGAIN_SECONDS = 600.0
"""A server of which all is as it was is not written down again for so long."""
KNOWN = 8192
"""Servers of which a worker knows what it has written down."""
CLIENTS = 4096
"""Whose shares are known."""
SHARE = 2
"""One client has no more than one in so many of a tenant's places, in a day."""
GATHERED = 1000
GATHERED_BYTES = 8 << 20
"""Servers, and bytes of their certificates, between two times of writing; beyond them nothing is gathered."""
RECORD_SECONDS = 5.0
TIDY_SECONDS = 600.0


@dataclass(frozen=True, slots=True)
class Server:
    """Whom a connection was for: the name that was checked, of which tenant."""

    tenant: str
    host: str
    port: int


@dataclass(frozen=True, slots=True)
class Judged:
    """What was made of a server, when (seconds since 1970). ``handshake``: None where it failed."""

    handshake: Handshake | None
    verdict: Verdict
    action: Action
    anchor: x509.Certificate | None
    at: float


@dataclass(slots=True)
class _Share:
    """What a client has had of a tenant's places since then."""

    since: float
    servers: int = 0
    octets: int = 0


class RecentServers:
    """What one of so many workers gathers. ``clock`` tells seconds since 1970."""

    def __init__(self, clock: Callable[[], float], log: Log, workers: int = 1) -> None:
        self._clock = clock
        self._log = log
        self._most = max(1, recent_servers.MOST // SHARE // workers)
        self._most_octets = max(1, recent_servers.MOST_BYTES // SHARE // workers)
        self._known: LRUCache[Server, tuple[int, float]] = LRUCache(KNOWN)
        self._shares: LRUCache[tuple[str, bytes], _Share] = LRUCache(CLIENTS)
        self._gathered: dict[Server, Judged] = {}
        self._octets = 0

    def judged(
        self, tenant: str, client: str, host: Host, port: int, handshake: Handshake | None, verdict: Verdict,
        action: Action, trust: TrustByHost,
    ) -> None:  # fmt: skip
        """A server was judged for a client (its address), by whom the tenant trusts."""
        server, now = Server(tenant, host.text, port), self._clock()
        shown = () if handshake is None else handshake.encoded
        mark = hash((shown, verdict.defects, action))
        known = self._known.get(server)
        if known is not None and known[0] == mark and now - known[1] < AGAIN_SECONDS:
            return
        never = self._log.never
        if never is not None and never.covers(host.text):
            return
        octets = sum(map(len, shown))
        if octets > recent_servers.LARGEST:
            octets = 0  # they are not kept
        if len(self._gathered) >= GATHERED or self._octets + octets > GATHERED_BYTES:
            return
        if not self._in_share(tenant, client, known is None, 0 if known and known[0] == mark else octets, now):
            return
        self._gathered[server] = Judged(handshake, verdict, action, _anchor(host, verdict, trust), now)
        self._octets += octets
        self._known[server] = mark, now

    def gathered(self) -> dict[Server, Judged]:
        """What was gathered since this was last asked."""
        gathered, self._gathered, self._octets = self._gathered, {}, 0
        return gathered

    def _in_share(self, tenant: str, client: str, new: bool, octets: int, now: float) -> bool:
        """Whether the client may have that as well; if so it has."""
        key = tenant, client_key(client) if client else b""
        share = self._shares.get(key)
        if share is None or not 0 <= now - share.since < recent_servers.AGE.total_seconds():
            share = self._shares[key] = _Share(now)
        if share.servers + new > self._most or share.octets + octets > self._most_octets:
            return False
        share.servers += new
        share.octets += octets
        return True


class Recorder:
    """Writes into the store what was gathered, and takes out of it what is not to be kept any more.

    ``servers`` is None where nothing is to be remembered: then what there is goes. ``figures``: what else is gathered
    of the same servers (:mod:`proxy.figures`).
    """

    def __init__(
        self, servers: RecentServers | None, figures: Figures, store: Store, log: Log, clock: Callable[[], datetime]
    ) -> None:
        self._servers = servers
        self._figures = figures
        self._store = store
        self._log = log
        self._clock = clock

    async def follow(self) -> None:
        """Tidy up now and then, and write every few seconds; until cancelled. What cannot be written comes again."""
        tidied, loop = float("-inf"), asyncio.get_running_loop()
        while True:
            if loop.time() - tidied > TIDY_SECONDS:
                tidied = loop.time()
                await self._safely(self.tidy)
            await self.write_gathered()
            await asyncio.sleep(RECORD_SECONDS)

    async def write_gathered(self) -> None:
        """Write what has gathered; at the end of a worker too, so that only what a killed one had is lost."""
        servers = self._servers.gathered() if self._servers is not None else {}
        figures = self._figures.gathered()
        if (servers or figures) and not await self._safely(self.write, servers, figures):
            self._figures.again(figures)

    async def _safely[**P](self, work: Callable[P, None], *args: P.args, **kwargs: P.kwargs) -> bool:
        try:
            await asyncio.to_thread(work, *args, **kwargs)
        except StoreError as error:
            self._log.event(WARNING, "servers cannot be recorded", reason=str(error))
        except Exception as error:  # noqa: BLE001 - a fault of ours must not end it unseen
            self._log.event(WARNING, "servers cannot be recorded", reason=type(error).__name__)
        else:
            return True
        return False

    def tidy(self) -> None:
        """Forget what is too old, and what by the settings of now is not to be known. Raises StoreError.

        Of whatever tenant; workers with other settings, who drain, may be writing still.
        """
        never = self._log.never
        with self._store.transaction() as connection:
            recent_servers.forget_before(connection, self._clock() - recent_servers.AGE)
            traffic_figures.forget_before(connection, self._clock() - traffic_figures.AGE)
            if self._servers is None:
                recent_servers.forget_all(connection)
            elif never is not None:
                gone = [host for host in recent_servers.hosts(connection) if never.covers(host)]
                recent_servers.forget_hosts(connection, gone)
            if not self._figures.hosts:
                traffic_figures.forget_blocked(connection)
            elif never is not None:
                gone = [host for host in traffic_figures.blocked(connection) if never.covers(host)]
                traffic_figures.forget_blocked(connection, gone)

    def write(self, gathered: Mapping[Server, Judged], figures: Gathered) -> None:
        """Write it all down in one transaction. Raises StoreError."""
        rows: dict[str, list[RecentServer]] = {}
        for server, judged in gathered.items():
            rows.setdefault(server.tenant, []).append(_row(server, judged))
        verdicts, blocked = _by_tenant(figures.verdicts), _by_tenant(figures.blocked)
        with self._store.transaction() as connection:
            for name in rows.keys() | verdicts.keys() | blocked.keys():
                if (tenant := tenants.by_name(connection, name)) is None:
                    continue
                if name in rows:
                    recent_servers.add(connection, tenant.id, rows[name])
                traffic_figures.add_verdicts(connection, tenant.id, verdicts.get(name, {}))
                traffic_figures.add_blocked(connection, tenant.id, blocked.get(name, {}))


def _by_tenant(
    counts: Mapping[tuple[str, int, str, str], int],
) -> dict[str, dict[tuple[datetime, str, str], int]]:
    """The counts apart by tenant, with instants in place of seconds."""
    found: dict[str, dict[tuple[datetime, str, str], int]] = {}
    for (tenant, begins, what, more), count in counts.items():
        found.setdefault(tenant, {})[datetime.fromtimestamp(begins, UTC), what, more] = count
    return found


def _anchor(host: Host, verdict: Verdict, trust: TrustByHost) -> x509.Certificate | None:
    """In which the chain ends, where it ends in one."""
    if not verdict.chain or not COVERED_BY_UNTRUSTED.isdisjoint(verdict.defects):
        return None
    anchor = trust.at(host).store.anchor(verdict.chain[-1])
    return None if anchor is None else anchor.certificate


def _row(server: Server, judged: Judged) -> RecentServer:
    handshake, verdict = judged.handshake, judged.verdict
    shown = handshake is not None and verdict.leaf is not None
    # Of what could not be parsed there are no octets, and without them it would be another chain.
    whole = handshake.encoded if handshake is not None and shown and not handshake.unread else None
    added = _added(handshake, verdict) if handshake is not None and verdict.completed else ()
    return RecentServer(
        host=server.host,
        port=server.port,
        last_at=datetime.fromtimestamp(judged.at, UTC),
        shown=shown,
        anchor_sha256=None if judged.anchor is None else judged.anchor.fingerprint(SHA256()),
        defects=tuple(defect.value for defect in verdict.defects),
        action=judged.action.value,
        presented=whole,
        added=tuple(added),
    )


def _added(handshake: Handshake, verdict: Verdict) -> Iterable[bytes]:
    """The issuers by which the chain was completed: those below the anchor that the server did not send."""
    return (c.public_bytes(Encoding.DER) for c in verdict.chain[1:-1] if c not in handshake.presented)
