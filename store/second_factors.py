"""Accounts' second factors: sealed TOTP secrets, the time step that was used last, and hashed recovery codes."""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa

from store.engine import Connection
from store.records import SecondFactor
from store.tables import accounts, recovery_codes


def of(c: Connection, account_id: int) -> SecondFactor:
    """The account's. Raises KeyError where there is no such account."""
    columns = (accounts.c.sealed_totp, accounts.c.totp_step, accounts.c.sealed_new_totp)
    row = c.execute(sa.select(*columns).where(accounts.c.id == account_id)).one_or_none()
    if row is None:
        raise KeyError(f"there is no account {account_id}")
    return SecondFactor(*row)


def begin(c: Connection, account_id: int, sealed_new: bytes) -> None:
    """Save a secret that is still to be confirmed; an earlier one goes."""
    c.execute(sa.update(accounts).where(accounts.c.id == account_id).values(sealed_new_totp=sealed_new))


def confirm(c: Connection, account_id: int, sealed: bytes, step: int, codes: Sequence[bytes]) -> None:
    """The secret counts from now on; ``step`` is used. ``codes``: SHA-256 of the recovery codes, in place of others."""
    values = {"sealed_totp": sealed, "sealed_new_totp": None, "totp_step": step}
    c.execute(sa.update(accounts).where(accounts.c.id == account_id).values(values))
    c.execute(sa.delete(recovery_codes).where(recovery_codes.c.account_id == account_id))
    c.execute(sa.insert(recovery_codes), [{"account_id": account_id, "sha256": code} for code in codes])


def reset(c: Connection, account_id: int) -> None:
    """Take the second factor away, with what is to be confirmed and the recovery codes."""
    values = {"sealed_totp": None, "sealed_new_totp": None}
    c.execute(sa.update(accounts).where(accounts.c.id == account_id).values(values))
    c.execute(sa.delete(recovery_codes).where(recovery_codes.c.account_id == account_id))


def use_step(c: Connection, account_id: int, step: int) -> bool:
    """Take the code of a time step. False where that one or a later one was taken before (RFC 6238 5.2)."""
    unused = sa.and_(accounts.c.id == account_id, accounts.c.totp_step < step)
    return c.execute(sa.update(accounts).where(unused).values(totp_step=step)).rowcount == 1


def use_recovery_code(c: Connection, account_id: int, sha256: bytes) -> bool:
    """Take a recovery code: it is gone with that. False where there is no such one."""
    one = sa.and_(recovery_codes.c.account_id == account_id, recovery_codes.c.sha256 == sha256)
    return c.execute(sa.delete(recovery_codes).where(one)).rowcount == 1


def recovery_codes_left(c: Connection, account_id: int) -> int:
    """How many recovery codes are left."""
    statement = sa.select(sa.func.count()).select_from(recovery_codes)
    return c.execute(statement.where(recovery_codes.c.account_id == account_id)).scalar_one()
