"""Accounts of console and REST API: role, tenants, password hash. What is in them is checked by who writes them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from store.engine import Connection
from store.records import Account
from store.tables import account_tenants, accounts, installation_key, tenants

COLUMNS: tuple[sa.ColumnElement[Any], ...] = (
    accounts.c.id,
    accounts.c.name,
    accounts.c.role,
    accounts.c.all_tenants,
    accounts.c.enabled,
    accounts.c.sealed_totp.is_not(None),
    accounts.c.password_given_at,
    accounts.c.created_at,
    accounts.c.changed_at,
    accounts.c.changed_by,
    accounts.c.signed_in_at,
)


def create(
    c: Connection,
    name: str,
    role: str,
    tenant_ids: Sequence[int] | None,
    password_hash: str,
    now: datetime,
    by: str,
    *,
    given_at: datetime | None = None,
) -> int:
    """Add an enabled account; returns its id. ``tenant_ids``: None for all. ``given_at``: when somebody else gave its
    password. Raises Conflict where the name is taken.
    """
    statement = sa.insert(accounts).values(
        name=name, role=role, all_tenants=tenant_ids is None, enabled=True, password_hash=password_hash,
        password_given_at=given_at, totp_step=0, created_at=now, changed_at=now, changed_by=by,
    )  # fmt: skip
    id: int = c.execute(statement.returning(accounts.c.id)).scalar_one()
    set_tenants(c, id, tenant_ids)
    return id


def set_tenants(c: Connection, id: int, tenant_ids: Sequence[int] | None) -> None:
    """Say for which tenants it is; None: for all."""
    c.execute(sa.update(accounts).where(accounts.c.id == id).values(all_tenants=tenant_ids is None))
    c.execute(sa.delete(account_tenants).where(account_tenants.c.account_id == id))
    if tenant_ids:
        c.execute(sa.insert(account_tenants), [{"account_id": id, "tenant_id": one} for one in tenant_ids])


def listing(c: Connection) -> list[Account]:
    """All accounts, by name."""
    return _accounts(c, sa.select(*COLUMNS).order_by(accounts.c.name))


def by_name(c: Connection, name: str) -> Account | None:
    """The account of that name."""
    return next(iter(_accounts(c, sa.select(*COLUMNS).where(accounts.c.name == name))), None)


def by_id(c: Connection, id: int) -> Account | None:
    """The account of that id."""
    return next(iter(_accounts(c, sa.select(*COLUMNS).where(accounts.c.id == id))), None)


def _accounts(c: Connection, statement: sa.Select[Any]) -> list[Account]:
    rows = c.execute(statement).all()
    names = tenant_names(c, account_tenants.c.account_id, [row[0] for row in rows])
    return [
        Account(id, name, role, None if for_all else names.get(id, ()), *more)
        for id, name, role, for_all, *more in rows
    ]


def tenant_names(c: Connection, owner: sa.Column[int], ids: Iterable[int]) -> dict[int, tuple[str, ...]]:
    """The names, in order, of the tenants that a table of pairs has for each of these; ``owner``: its other column."""
    statement = (
        sa.select(owner, tenants.c.name)
        .join(tenants, tenants.c.id == owner.table.c.tenant_id)
        .where(owner.in_(list(ids)))
        .order_by(tenants.c.name)
    )
    found: dict[int, tuple[str, ...]] = {}
    for id, name in c.execute(statement):
        found[id] = (*found.get(id, ()), name)
    return found


def password_hash(c: Connection, id: int) -> str:
    """The hash of the account's password. Raises KeyError where there is no such account."""
    found: str | None = c.execute(sa.select(accounts.c.password_hash).where(accounts.c.id == id)).scalar_one_or_none()
    if found is None:
        raise KeyError(f"there is no account {id}")
    return found


def rehash(c: Connection, id: int, old: str, new: str) -> None:
    """Another hash of the same password; where the password was changed meanwhile, nothing."""
    same = sa.and_(accounts.c.id == id, accounts.c.password_hash == old)
    c.execute(sa.update(accounts).where(same).values(password_hash=new))


def change(c: Connection, id: int, now: datetime, by: str, **values: object) -> None:
    """Change ``role``, ``enabled``, or ``password_hash`` with ``password_given_at``.

    Raises KeyError where there is no such account.
    """
    statement = sa.update(accounts).where(accounts.c.id == id).values(changed_at=now, changed_by=by, **values)
    if c.execute(statement).rowcount != 1:
        raise KeyError(f"there is no account {id}")


def signed_in(c: Connection, id: int, now: datetime) -> None:
    """Remember when somebody last signed in with it."""
    c.execute(sa.update(accounts).where(accounts.c.id == id).values(signed_in_at=now))


def delete(c: Connection, id: int) -> bool:
    """Delete it with its sessions and tokens. False where there is none."""
    return c.execute(sa.delete(accounts).where(accounts.c.id == id)).rowcount == 1


def owners(c: Connection) -> set[int]:
    """The ids of the enabled owners for all tenants: who can set everything right again."""
    statement = sa.select(accounts.c.id).where(accounts.c.role == "owner", accounts.c.all_tenants, accounts.c.enabled)
    return set(c.execute(statement).scalars())


def sealing_key(c: Connection) -> bytes | None:
    """The wrapped key that accounts' secrets are sealed with; None where none was needed yet."""
    found: bytes | None = c.execute(sa.select(installation_key.c.wrapped)).scalar_one_or_none()
    return found


def save_sealing_key(c: Connection, wrapped: bytes, now: datetime) -> None:
    """Save that key. Raises Conflict where there is one."""
    c.execute(sa.insert(installation_key).values(id=1, wrapped=wrapped, created_at=now))
