"""What the last day's traffic says of settings: for how many hosts a trusted CA vouches, what a change would do,
and what a host showed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256

from certs.decision import ErrorSettings
from certs.exceptions import key_fingerprint
from certs.names import InvalidHost, parse_host
from certs.scope import OwnCa, TrustByHost
from certs.trust import parse_common_store
from config.common_store import read_common_store
from control.installation import Installation
from control.trial import NOT_REMEMBERED, Trial, WorkingSet, compare
from store import recent_servers, signing_cas, trusted_cas, working_set
from store.engine import Connection
from store.records import RecentServer


@dataclass(frozen=True, slots=True)
class _Stored:
    """What of the settings counts, as they are in the store."""

    trusted: tuple[OwnCa, ...]
    errors: ErrorSettings
    own_keys: frozenset[bytes]


@dataclass(frozen=True, slots=True)
class Seen:
    """A server as it was last looked at; ``last_at``: to ten minutes. ``leaf``: its own certificate."""

    host: str
    port: int
    last_at: datetime
    defects: tuple[str, ...]
    leaf: x509.Certificate

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the certificate, hexadecimal."""
        return self.leaf.fingerprint(SHA256()).hex()

    @property
    def key_fingerprint(self) -> str | None:
        """SHA-256 of its key (SubjectPublicKeyInfo), hexadecimal; None where it cannot be found."""
        found = key_fingerprint(self.leaf)
        return None if found is None else found.hex()


def hosts_by_ca(inst: Installation, tenant: str, now: datetime) -> dict[str, tuple[str, ...]] | None:
    """For each trusted CA, by its name, the hosts whose chains ended in its anchor within the last day, in order.

    A host counts once, whatever its ports and defects. One for which there was also a path to another anchor counts for
    the one in which its chain ended. None where it is not remembered which servers are judged. Raises Refused.
    """
    with inst.reading(tenant) as (connection, found):
        stored = trusted_cas.listing(connection, found.id)
        hosts = recent_servers.hosts_by_anchor(connection, found.id, now - recent_servers.AGE)
    if not inst.settings.verification.remember_servers:
        return None
    return {ca.name: tuple(hosts.get(_fingerprint(ca.chain[-1]), ())) for ca in stored}


def hosts_by_anchor(inst: Installation, tenant: str, now: datetime) -> dict[bytes, tuple[str, ...]] | None:
    """The same by the SHA-256 of anchors, whoever trusts them: for who has the trusted CAs already."""
    with inst.reading(tenant) as (connection, found):
        hosts = recent_servers.hosts_by_anchor(connection, found.id, now - recent_servers.AGE)
    if not inst.settings.verification.remember_servers:
        return None
    return {anchor: tuple(names) for anchor, names in hosts.items()}


def last_seen(inst: Installation, tenant: str, host: str, now: datetime) -> list[Seen]:
    """What a host showed within the last day, on each of its ports, the latest first. Nothing for what is no host.

    What was not kept, or cannot be read, is left out. Raises Refused for an unknown tenant.
    """
    try:
        name = parse_host(host.strip()).text
    except InvalidHost:
        return []
    with inst.reading(tenant) as (connection, found):
        servers = recent_servers.listing(connection, found.id, now - recent_servers.AGE, name)
    return [
        Seen(one.host, one.port, one.last_at, one.defects, leaf)
        for one in sorted(servers, key=lambda one: one.last_at, reverse=True)
        if (leaf := _leaf(one)) is not None
    ]


def try_change[T](
    inst: Installation, tenant: str, change: Callable[[Installation], T], now: datetime
) -> tuple[T, Trial]:
    """What a change would do to the servers that were judged within the last day; nothing is saved.

    ``change`` is the use case that would make it, with the installation that it is to use: it is done as it would be,
    seen, and undone. What it returned comes back too. Raises what it raises, and Refused; StoreFileError where the
    common store cannot be read.
    """
    with inst.trying() as trial, trial.reading(tenant) as (connection, found):
        before = _read(connection, found.id)
        result = change(trial)
        after = _read(connection, found.id)
    # Behind it: while something is tried, nobody else can write.
    with inst.reading(tenant) as (connection, found):
        servers = recent_servers.listing(connection, found.id, now - recent_servers.AGE)
    verification = inst.settings.verification
    if not verification.remember_servers:
        return result, Trial(0, remarks=(NOT_REMEMBERED,))
    common = parse_common_store(read_common_store(inst.settings.trust.common_store))
    trust = TrustByHost(common, before.trusted)
    changed = trust if after.trusted == before.trusted else TrustByHost(common, after.trusted)
    present = WorkingSet(trust, before.errors, before.own_keys)
    return result, compare(servers, present, WorkingSet(changed, after.errors, after.own_keys), verification, now)


def _leaf(server: RecentServer) -> x509.Certificate | None:
    """The server's own certificate; None where it was not kept or cannot be read."""
    if not server.shown or not server.presented:
        return None
    try:
        return x509.load_der_x509_certificate(server.presented[0])
    except ValueError:
        return None


def _read(connection: Connection, tenant_id: int) -> _Stored:
    trusted = working_set.own_cas(trusted_cas.listing(connection, tenant_id))
    return _Stored(trusted, working_set.errors(connection, tenant_id), signing_cas.issuing_keys(connection))


def _fingerprint(der: bytes) -> bytes:
    return x509.load_der_x509_certificate(der).fingerprint(SHA256())
