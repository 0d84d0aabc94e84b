"""Proxy users, who tell by name and password that their connections are the tenant's: add, list, passwd, delete."""

from __future__ import annotations

import secrets
from datetime import datetime

from config import passwords
from config.problems import shown
from control import audit_log
from control.errors import Missing, Refused, Taken
from control.installation import Installation
from control.names import storable
from store import proxy_users
from store.engine import Connection
from store.records import ChangeKind, ProxyUser, Tenant

NOUN = "proxy_user"
MOST_USERS = 10_000
"""Of one tenant: every change has them read again."""
GENERATED_BYTES = 18
"""Random ones, so 24 characters: as hard to guess as a key of 128 bits, and no hash that leaks helps."""


def generate() -> str:
    """A password that nobody has to choose."""
    return secrets.token_urlsafe(GENERATED_BYTES)


def add(inst: Installation, tenant: str, name: str, password: str, now: datetime) -> ProxyUser:
    """Let a user in, from the next connection on. Raises Refused for a name or a password that cannot be."""
    user = _name(name)
    hashed = _hashed(password)
    with inst.changing(tenant) as (connection, found):
        if proxy_users.by_name(connection, found.id, user) is not None:
            raise Taken(f"tenant {tenant} has a proxy user {user} already; see: sallyport proxy-user passwd {user}")
        made = proxy_users.add(connection, found.id, user, hashed, now, inst.actor.name)
        _record(inst, connection, found, "add", user, None, _told(made), now)
        if (count := proxy_users.count(connection, found.id)) > MOST_USERS:
            raise Refused(
                f"tenant {tenant} would have {count} proxy users; at most {MOST_USERS}, so put them into an htpasswd "
                "file (listeners[].authentication.htpasswd)"
            )
    return made


def set_password(inst: Installation, tenant: str, name: str, password: str, now: datetime) -> ProxyUser:
    """Give a user another password. The old one is worth nothing within a second, and its connections end.

    Raises Refused where there is no such user, and for a password that cannot be.
    """
    hashed = _hashed(password)
    with inst.changing(tenant) as (connection, found):
        before = _one(connection, found, name)
        proxy_users.set_hash(connection, before.id, hashed, now, inst.actor.name)
        after = _one(connection, found, name)
        _record(inst, connection, found, "passwd", before.name, _told(before), _told(after), now)
    return after


def delete(inst: Installation, tenant: str, name: str, now: datetime) -> ProxyUser:
    """Let a user in no more: within a second, and its connections end. Raises Refused where there is none."""
    with inst.changing(tenant) as (connection, found):
        before = _one(connection, found, name)
        proxy_users.remove(connection, before.id)
        _record(inst, connection, found, "delete", before.name, _told(before), None, now)
    return before


def listing(inst: Installation, tenant: str) -> list[ProxyUser]:
    """The tenant's users, by name."""
    with inst.reading(tenant) as (connection, found):
        return proxy_users.listing(connection, found.id)


def _record(
    inst: Installation, connection: Connection, tenant: Tenant, verb: str, user: str, before: object, after: object,
    now: datetime,
) -> None:  # fmt: skip
    inst.record(connection, tenant, ChangeKind.PROXY_USERS_CHANGED, f"{NOUN}.{verb}", user, before, after, now)


def _told(user: ProxyUser) -> dict[str, object]:
    """What the audit log has of it: never a hash."""
    return {"name": user.name, "changed_at": user.changed_at.isoformat()}


def _name(name: str) -> str:
    """As it is compared. Raises Refused for one that cannot be."""
    if not storable(name):
        raise Refused(f"{shown(name)} cannot name a proxy user; expected UTF-8")
    normal = passwords.normal(name)
    if (problem := passwords.name_problem(normal)) is not None:
        raise Refused(f"{shown(name)} cannot name a proxy user: {problem}")
    return normal


def _hashed(password: str) -> str:
    """Raises Refused for one that cannot be. The password is never repeated."""
    if (problem := passwords.password_problem(password)) is not None:
        raise Refused(problem)
    return passwords.make(password)


def _one(connection: Connection, tenant: Tenant, name: str) -> ProxyUser:
    normal = passwords.normal(name) if storable(name) else ""
    found = proxy_users.by_name(connection, tenant.id, normal)
    if found is None:
        became = audit_log.what_happened(connection, tenant, NOUN, normal)
        raise Missing(f"tenant {tenant.name} has no proxy user {shown(name)}{became}; see: sallyport proxy-user list")
    return found
