"""Connect to a server as the data plane would, and report what it would make of it. Nothing of a request is sent."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from datetime import datetime

from cryptography import x509
from OpenSSL import SSL

from certs.bypass import Matched
from certs.decision import ErrorSettings, Reason
from certs.exceptions import HostException
from certs.failures import defect_of_failure, wants_certificate
from certs.names import Host
from certs.origin import Origins, origins
from certs.trust import TrustStore, parse_common_store
from certs.verdict import COVERED_BY_UNTRUSTED, Action, Anchored, Verdict
from certs.verify import Handshake, handshake_of
from config.common_store import read_common_store
from config.settings import Settings
from proxy.admission import Egress, ResolveError, Resolver
from proxy.bypass_lists import BypassLists, matching
from proxy.judging import judge_for
from proxy.log import Log, never_logged
from proxy.parent import ParentError
from proxy.parents import Parents
from proxy.server_rules import server_rules
from proxy.showing import Showing
from proxy.snapshot import Snapshot, Snapshots
from proxy.tls_leg import LegError
from proxy.upstream import DialError, ServerLeg, verdict_on
from store import host_exceptions, tenants, trusted_cas
from store.engine import DATABASE_FILE, Store
from store.records import TrustedCa


@dataclass(frozen=True, slots=True)
class ProbeReport:
    """What a connection to the server came to. ``failure``: why there was nothing to judge."""

    host: Host
    port: int
    address: str | None
    verdict: Verdict
    action: Action
    tls_version: str | None
    cipher: str | None
    alpn: str | None
    failure: str | None
    asked: bool = False
    """The server asks for a client certificate."""
    bypass: Matched | None = None
    """The rule by which the host is not decrypted; the verdict is for information then."""
    elsewhere: tuple[tuple[str, str], ...] = ()
    """Trusted CAs of the tenant that would vouch for the server, but do not count here: their names, and why not."""
    reasons: tuple[Reason, ...] = ()
    """Which setting says what is done about each defect."""
    passed_over: tuple[tuple[HostException, str], ...] = ()
    """Exceptions for the host and one of the defects that do not count now, and why not."""
    authors: Mapping[int, str] = field(default_factory=dict)
    """Who made the exceptions that are named, by their numbers."""
    group: str | None = None
    """The key exchange."""
    anchor: str = ""
    """What the chain ends in: ``common store (certifi)``, ``trusted CA NAME``; empty: in nothing that is trusted."""
    parent: str | None = None
    """The parent proxy through which it is reached, and whose address ``address`` then is."""
    origins: Origins | None = None
    """Where the certificates of the chain are from; None: there are none."""


class _Waiter:
    """Owner of the server leg: waits for the end of its handshake."""

    def __init__(self, done: asyncio.Future[None]) -> None:
        self.errors: list[tuple[int, int]] = []
        self.asked = False
        self.showing: Showing | None = None
        self.stapled = b""
        self.done = done
        self.reasons: tuple[str, ...] = ()

    def _end(self, reasons: tuple[str, ...] = ()) -> None:
        if not self.done.done():
            self.reasons = reasons
            self.done.set_result(None)

    def may_be_shown(self, connection: SSL.Connection) -> bool | None:
        """As the data plane would show it."""
        assert self.showing is not None  # noqa: S101 - set before the handshake
        return self.showing(connection)

    def server_connected(self) -> None: ...
    def server_data(self, data: bytes) -> None: ...
    def server_writable(self, writable: bool) -> None: ...

    def server_established(self) -> None:
        self._end()

    def server_refused(self, error: LegError) -> None:
        self._end(error.reasons or ("handshake failure",))

    def server_ended(self, orderly: bool) -> None:
        self._end(("the server closed the connection during the handshake",))

    def server_lost(self, error: Exception | None) -> None:
        self._end(("the server closed the connection during the handshake",))


def probe(settings: Settings, tenant: str, host: Host, port: int, clock: Callable[[], datetime]) -> ProbeReport:
    """Connect, judge and report. Raises StoreError, StoreFileError (the common store), LookupError (no such tenant)."""
    return asyncio.run(_probe(settings, tenant, host, port, clock))


async def _probe(settings: Settings, tenant: str, host: Host, port: int, clock: Callable[[], datetime]) -> ProbeReport:
    with ExitStack() as closing:
        return await _reported(settings, tenant, host, port, clock, closing)


async def _reported(
    settings: Settings, tenant: str, host: Host, port: int, clock: Callable[[], datetime], closing: ExitStack
) -> ProbeReport:
    resolver = Resolver(settings.resolver.hosts, settings.limits.resolve_timeout, own=settings.onboarding.name)
    closing.callback(resolver.close)
    egress = Egress(settings.egress.allow, settings.egress.deny)
    thread = ThreadPoolExecutor(1, thread_name_prefix="judge")
    closing.callback(thread.shutdown, wait=False, cancel_futures=True)
    log = Log(2, "error", "probe", lambda: clock().timestamp(), never_logged(settings.log))
    parents = Parents(settings, resolver, egress, clock)
    monotonic = asyncio.get_running_loop().time
    judge = judge_for(settings, resolver, egress, thread, clock, monotonic, log, parents=parents)
    closing.callback(judge.close)
    if judge.revocation is not None:
        await judge.revocation.start()
    limits = settings.limits
    parent = parents.of(tenant, host)
    named = parent is not None and not host.is_ip
    blocked = ProbeReport(host, port, None, Verdict(), Action.BLOCK, None, None, None, None)
    blocked = replace(blocked, parent=None if parent is None else parent.address)
    try:
        addresses = () if named else await resolver.resolve(host, "")
    except ResolveError as error:
        return _failed(blocked, str(error))
    permitted = tuple(address for address in addresses if egress.permits(address))
    if not (permitted or named):
        return _failed(blocked, f"the egress rules do not permit {', '.join(addresses)}")
    with Store.open(settings.state_dir / DATABASE_FILE, create=False) as store:
        common = parse_common_store(read_common_store(settings.trust.common_store))
        rules = server_rules(settings.tls, tenant, settings.verification.revocation != "off")
        snapshots = Snapshots(store, common, [tenant], log, clock, rules={tenant: rules})
        snapshots.load()
        own, authors = _own(store, tenant)
    snapshot = snapshots.current.get(tenant)
    if snapshot is None:
        raise LookupError(f"there is no tenant {tenant}")
    lists = BypassLists([entry for entry in settings.bypass.files if entry.is_for(tenant)], log)
    lists.load()
    bypass = matching(snapshot.bypass, lists, tenant, (host,), clock)
    blocked = replace(blocked, bypass=bypass, authors=authors)
    loop = asyncio.get_running_loop()
    waiter = _Waiter(loop.create_future())
    leg = ServerLeg(waiter)
    try:
        _, address = await parents.dial(tenant, host, port, permitted, leg, limits.connect_timeout)
    except ParentError as error:
        return _failed(blocked, f"the parent proxy {error.parent}: {error}")
    except DialError as error:
        return _failed(blocked, str(error))
    try:
        waiter.showing = Showing(leg, waiter, host, snapshot, judge)
        leg.begin(snapshot.trust.at(host), host, [b"h2", b"http/1.1"])
        async with asyncio.timeout(limits.tls_timeout):
            await waiter.done
    except TimeoutError:
        return _failed(blocked, f"the server did not finish its TLS handshake within {limits.tls_timeout:g} s", address)
    finally:
        leg.close(True)
    assert leg.leg is not None  # noqa: S101 - begun above
    tls = leg.leg.tls
    if not leg.leg.established:
        verdict = waiter.showing.against or Verdict.of([defect_of_failure(waiter.reasons, waiter.asked)])
        found = replace(_failed(blocked, ", ".join(waiter.reasons), address), verdict=verdict, asked=waiter.asked)
        if verdict.chain:
            found = _traced(found, handshake_of(tls, waiter), snapshot, settings.trust.common_store)
        return _decided(found, snapshot.errors, clock())
    handshake = handshake_of(tls, waiter)
    made = judge.at_once(handshake, host, snapshot)
    verdict = made if made is not None else await judge.elsewhere(handshake, host, snapshot)
    if waiter.asked and snapshot.trust.at(host).tls.blocks_who_asks:
        verdict = verdict.also(wants_certificate())
    unanchored = not COVERED_BY_UNTRUSTED.isdisjoint(verdict.defects)
    report = replace(
        blocked,
        address=address,
        verdict=verdict,
        action=Action.BLOCK,
        tls_version=tls.get_protocol_version_name(),
        cipher=tls.get_cipher_name(),
        group=tls.get_group_name(),
        alpn=tls.get_alpn_proto_negotiated().decode("ascii", "replace") or None,
        asked=waiter.asked,
        elsewhere=_elsewhere(own, handshake, host, clock()) if unanchored else (),
    )
    report = _traced(report, handshake, snapshot, settings.trust.common_store)
    return _decided(report, snapshot.errors, clock())


def _traced(report: ProbeReport, handshake: Handshake, snapshot: Snapshot, common_store: str) -> ProbeReport:
    """The report with where the chain's certificates are from."""
    verdict, anchor = report.verdict, ""
    if verdict.anchored is Anchored.COMMON:
        anchor = f"{Anchored.COMMON} ({common_store})"
    elif verdict.anchored is Anchored.OWN:
        anchor = f"{Anchored.OWN} {snapshot.trusted_ca_of(verdict.chain[-1])}"
    trust = snapshot.trust.at(report.host).store
    return replace(report, anchor=anchor, origins=origins(verdict, handshake.presented, trust))


def _decided(report: ProbeReport, errors: ErrorSettings, moment: datetime) -> ProbeReport:
    """The report with what is done about the verdict, and why."""
    verdict, host = report.verdict, report.host
    decision = errors.decide(verdict, host, moment)
    passed_over = {
        each.id: (each, why)
        for defect in verdict.defects
        for each, why in errors.exceptions.passed_over(host, defect, verdict.leaf, moment)
    }
    return replace(report, action=decision.action, reasons=decision.reasons, passed_over=tuple(passed_over.values()))


def _own(store: Store, tenant: str) -> tuple[list[TrustedCa], dict[int, str]]:
    """The tenant's own CAs, and who made its exceptions."""
    with store.reading() as connection:
        found = tenants.by_name(connection, tenant)
        if found is None:
            return [], {}
        authors = {made.id: made.created_by for made in host_exceptions.listing(connection, found.id)}
        return trusted_cas.listing(connection, found.id), authors


def _elsewhere(own: list[TrustedCa], handshake: Handshake, host: Host, moment: datetime) -> tuple[tuple[str, str], ...]:
    """Those of a tenant's own CAs under which there would be a path."""
    # What OpenSSL found missing is what it was not given.
    alone = replace(handshake, errors=())
    found = []
    for ca in (each for each in own if each.hosts or not each.active):
        trust = TrustStore((), [[x509.load_der_x509_certificate(der) for der in ca.chain]])
        verdict, _ = verdict_on(alone, host, trust, frozenset(), moment)
        if COVERED_BY_UNTRUSTED.isdisjoint(verdict.defects):
            found.append((ca.name, f"it counts for {', '.join(ca.hosts)}" if ca.active else "it is not active"))
    return tuple(found)


def _failed(report: ProbeReport, why: str, address: str | None = None) -> ProbeReport:
    return replace(report, address=address, failure=why)
