"""Tenants: create, list, show, delete."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from control.built_in import new_tenant
from control.errors import Refused, Taken
from control.installation import Installation, root_file
from store import signing_cas, tenants, trusted_cas
from store.engine import Conflict
from store.records import ChangeKind, SigningCa, Tenant

NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")


@dataclass(frozen=True, slots=True)
class TenantDetails:
    """A tenant and what belongs to it."""

    tenant: Tenant
    signing_ca: SigningCa | None
    trusted_cas: int
    listeners: tuple[str, ...]


def create(inst: Installation, name: str, now: datetime, algorithm: Literal["ecdsa", "rsa"] | None = None) -> Tenant:
    """Create a tenant with a key and a built-in signing CA of its own.

    ``algorithm`` is the kind of that CA's keys; None: what the settings say. Raises Refused.
    """
    if NAME.fullmatch(name) is None:
        raise Refused(f"{name!r} cannot name a tenant; expected 1 to 63 of a-z, 0-9 and -, not beginning with -")
    with inst.store.reading() as connection:
        taken = tenants.by_name(connection, name) is not None
    if not taken:
        new = new_tenant(inst.provider, name, inst.name, now, algorithm or inst.settings.signing.built_in)
        try:
            with inst.store.transaction(durable=True) as connection:
                return new.save(connection, inst.actor, now)
        except Conflict:  # another process was faster
            pass
    raise Taken(f"there is a tenant {name} already; choose another name")


def listing(inst: Installation) -> list[Tenant]:
    """All tenants, by name."""
    with inst.store.reading() as connection:
        return tenants.listing(connection)


def show(inst: Installation, name: str) -> TenantDetails:
    """One tenant, its active signing CA, how many trusted CAs it has, and which listeners are its own."""
    with inst.reading(name) as (connection, tenant):
        return TenantDetails(
            tenant,
            signing_cas.active(connection, tenant.id),
            len(trusted_cas.listing(connection, tenant.id)),
            _listeners(inst, name),
        )


def delete(inst: Installation, name: str, now: datetime) -> tuple[str, ...]:
    """Delete the tenant and all that is its own. Its key goes with it, so no sealed copy of it opens ever again.

    Returns where copies of that key, wrapped with the master key, may still be.
    Raises Refused where there is none, or a listener of the configuration is its own.
    """
    with inst.changing(name) as (connection, tenant):
        if listeners := _listeners(inst, name):
            what = "listener" if len(listeners) == 1 else "listeners"
            raise Refused(
                f"tenant {name} is used by {what} {', '.join(listeners)}; take that out of the configuration first"
            )
        inst.record(connection, tenant, ChangeKind.TENANT_DELETED, "tenant.delete", name, {"name": name}, None, now)
        tenants.delete(connection, tenant.id)
    root_file(inst, name).unlink(missing_ok=True)
    return inst.wipe()


def _listeners(inst: Installation, tenant: str) -> tuple[str, ...]:
    return tuple(listener.name for listener in inst.settings.listeners if tenant in listener.tenants)
