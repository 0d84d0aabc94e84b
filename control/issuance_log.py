"""The issuance log: every leaf that a tenant's signing CAs have signed, as the issuer recorded it before showing it."""

from __future__ import annotations

from control.errors import Missing
from control.installation import Installation
from store import leaves
from store.leaves import Wanted
from store.records import IssuedLeaf

__all__ = ["Wanted"]


def find(inst: Installation, wanted: Wanted, most: int) -> list[IssuedLeaf]:
    """The leaves that are wanted, the last recorded first."""
    with inst.store.reading() as connection:
        return leaves.issued(connection, most, wanted)


def show(inst: Installation, tenant: str, id: int) -> IssuedLeaf:
    """One of the tenant's leaves. Raises Missing where it has none of that id."""
    with inst.reading(tenant) as (connection, found):
        one = leaves.issued(connection, 1, Wanted(tenant_ids=(found.id,), id=id))
    if not one:
        raise Missing(f"tenant {tenant} has no leaf {id} in its issuance log")
    return one[0]
