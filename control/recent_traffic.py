"""What the last day's traffic says of settings: for how many hosts a trusted CA vouches, what a change would do."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256

from certs.decision import ErrorSettings
from certs.scope import OwnCa, TrustByHost
from certs.trust import parse_common_store
from config.common_store import read_common_store
from control.installation import Installation
from control.trial import NOT_REMEMBERED, Trial, WorkingSet, compare
from store import recent_servers, signing_cas, trusted_cas, working_set
from store.engine import Connection


@dataclass(frozen=True, slots=True)
class _Stored:
    """What of the settings counts, as they are in the store."""

    trusted: tuple[OwnCa, ...]
    errors: ErrorSettings
    own_keys: frozenset[bytes]


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


def _read(connection: Connection, tenant_id: int) -> _Stored:
    trusted = working_set.own_cas(trusted_cas.listing(connection, tenant_id))
    return _Stored(trusted, working_set.errors(connection, tenant_id), signing_cas.issuing_keys(connection))


def _fingerprint(der: bytes) -> bytes:
    return x509.load_der_x509_certificate(der).fingerprint(SHA256())
