"""What the change feed says about signing CAs: read off the loop, acted on by the service."""

from __future__ import annotations

from dataclasses import dataclass

from store import changes, signing_cas
from store.engine import Store
from store.records import ChangeKind


@dataclass(frozen=True, slots=True)
class TenantNow:
    """A tenant that something changed about: its generation, and the CAs that sign its leaves (none: it is gone).

    ``activation``: the entry of its last activation among the news, 0 where there is none; ``forwarding``: that of the
    last change of who it is to its key managers.
    """

    tenant_id: int
    generation: int
    issuing: frozenset[int]
    activation: int
    forwarding: int = 0


@dataclass(frozen=True, slots=True)
class News:
    """Everything up to an entry of the feed."""

    latest: int
    tenants: tuple[TenantNow, ...]


def latest(store: Store) -> int:
    """The newest entry, to begin with. Raises StoreError."""
    with store.reading() as connection:
        return changes.latest(connection)


def read(store: Store, seen: int) -> News | None:
    """What came after the entry ``seen``; None where nothing did. Raises StoreError."""
    store.check_place()
    with store.reading() as connection:
        if changes.latest(connection) <= seen:
            return None
        entries = changes.since(connection, seen)
        activations = {each.tenant_id: each.id for each in entries if each.kind == ChangeKind.SIGNING_CA_ACTIVATED}
        forwarding = {each.tenant_id: each.id for each in entries if each.kind == ChangeKind.KMIP_FORWARDING_CHANGED}
        tenants = []
        for tenant_id, generation in {entry.tenant_id: entry.generation for entry in entries}.items():
            issuing = signing_cas.issuing(connection, tenant_id)
            activation, changed = activations.get(tenant_id, 0), forwarding.get(tenant_id, 0)
            tenants.append(TenantNow(tenant_id, generation, issuing, activation, changed))
    return News(entries[-1].id, tuple(tenants))
