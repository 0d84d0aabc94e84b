"""Accounts of console and REST API: create, list, show, change, disable, enable, delete.

Whoever calls asks :func:`control.authorisation.may` first; the command line needs not, since it reads the store itself.
There is always an enabled owner for all tenants, once there was one: nobody else can set everything right again.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime

from control import guessing
from control.authorisation import Role
from control.errors import Missing, Refused, Taken
from control.guessing import Standing
from control.installation import Installation
from control.passwords import STANDARD, Hashing, check_new
from store import accounts, api_tokens, second_factors, sessions, setup_link
from store.engine import Conflict, Connection
from store.records import Account, ApiToken, Session

NAME = re.compile(r"[a-z0-9][a-z0-9._@+-]{0,63}")
NOUN = "admin"


@dataclass(frozen=True, slots=True)
class AccountDetails:
    """An account and what belongs to it."""

    account: Account
    recovery_codes: int
    sessions: tuple[Session, ...]
    """Those that go on, the one used last first."""
    tokens: tuple[ApiToken, ...]
    standing: Standing
    """With wrong guesses."""


def create(
    inst: Installation,
    name: str,
    password: str,
    role: Role,
    tenants: Sequence[str] | None,
    now: datetime,
    hashing: Hashing = STANDARD,
    *,
    own: bool = False,
) -> Account:
    """Create an account for these tenants, or (None) for all. Raises Refused.

    ``own``: the password is the person's own. Else somebody gives it, and it is to be changed (:mod:`control.due`).
    """
    check_name(name)
    with inst.reading_all() as connection:  # before the password is hashed, which takes long
        _refuse_taken(connection, name)
    hash = hashing.hash(check_new(password, name, inst.settings))
    with inst.changing_all() as connection:
        return add(inst, connection, name, hash, role, tenants, now, own=own)


def add(
    inst: Installation,
    connection: Connection,
    name: str,
    hash: str,
    role: Role,
    tenants: Sequence[str] | None,
    now: datetime,
    *,
    own: bool,
) -> Account:
    """Create it in a transaction that is open already. Raises Refused."""
    ids = tenant_ids(inst, connection, tenants)
    _refuse_taken(connection, name)
    try:
        given_at = None if own else now
        accounts.create(connection, name, role, ids, hash, now, inst.actor.name, given_at=given_at)
    except Conflict:  # a trial's connection looks at an older state
        raise _taken(name) from None
    if accounts.owners(connection):
        setup_link.clear(connection)  # the link is for the first owner alone
    made = named(connection, name)
    inst.record_for_all(connection, f"{NOUN}.create", name, None, told(made), now)
    return made


def listing(inst: Installation) -> list[Account]:
    """All accounts, by name."""
    with inst.reading_all() as connection:
        return accounts.listing(connection)


def standings(inst: Installation, now: datetime) -> dict[str, Standing]:
    """How each account stands with wrong guesses, by its name."""
    with inst.reading_all() as connection:
        return {one.name: guessing.standing(connection, one, now) for one in accounts.listing(connection)}


def there_is_an_owner(inst: Installation) -> bool:
    """Whether somebody can manage everything: there is an enabled owner for all tenants."""
    with inst.reading_all() as connection:
        return bool(accounts.owners(connection))


def show(inst: Installation, name: str, now: datetime) -> AccountDetails:
    """One account, its sessions and its tokens. Raises Refused where there is none."""
    from control.sessions import over

    with inst.reading_all() as connection:
        account = named(connection, name)
        return AccountDetails(
            account,
            second_factors.recovery_codes_left(connection, account.id),
            tuple(one for one in sessions.listing(connection, account.id) if not over(one, now)),
            tuple(one for one in api_tokens.listing(connection) if one.account_id == account.id),
            guessing.standing(connection, account, now),
        )


def set_password(
    inst: Installation,
    name: str,
    password: str,
    now: datetime,
    hashing: Hashing = STANDARD,
    but: int | None = None,
    *,
    own: bool = False,
) -> Account:
    """Give the account another password, end its sessions (``but``: all but the one of that id), and unlock it.

    ``own`` as in :func:`create`. Its API tokens stay: whoever fears for them revokes them. Raises Refused.
    """
    with inst.reading_all() as connection:
        named(connection, name)
    hash = hashing.hash(check_new(password, name, inst.settings))
    with inst.changing_all() as connection:
        account = named(connection, name)
        given_at = None if own else now
        by = inst.actor.name
        accounts.change(connection, account.id, now, by, password_hash=hash, password_given_at=given_at)
        ended = sessions.end_all(connection, account.id, but)
        guessing.unlock(connection, account)
        after = {"name": name, "sessions_ended": ended, "password_given_at": _moment(given_at)}
        inst.record_for_all(connection, f"{NOUN}.passwd", name, None, after, now)
        return named(connection, name)


def change_password(
    inst: Installation, name: str, password: str, now: datetime, hashing: Hashing = STANDARD, but: int | None = None
) -> Account:
    """:func:`set_password` by the person himself: it is his own from now on, and not one that he was given.

    Raises Refused.
    """
    with inst.reading_all() as connection:
        account = named(connection, name)
        given = accounts.password_hash(connection, account.id) if account.password_given_at is not None else None
    if given is not None and hashing.verify(given, password):
        raise Refused("this is the password that you were given, which somebody else knows; choose another one")
    return set_password(inst, name, password, now, hashing, but, own=True)


def change(
    inst: Installation,
    name: str,
    now: datetime,
    role: Role | None = None,
    tenants: Sequence[str] | None = None,
    *,
    all_tenants: bool = False,
) -> Account:
    """Give it that role, or have it be for these tenants or for all; what is not said stays.

    What it may do changes with its next request. Raises Refused for the last enabled owner for all tenants, who stays
    one.
    """
    with inst.changing_all() as connection, _keeping_an_owner(connection, name):
        account = named(connection, name)
        accounts.change(connection, account.id, now, inst.actor.name, role=role or account.role)
        if all_tenants or tenants is not None:
            ids = tenant_ids(inst, connection, None if all_tenants else tenants)
            accounts.set_tenants(connection, account.id, ids)
        made = named(connection, name)
        inst.record_for_all(connection, f"{NOUN}.change", name, told(account), told(made), now)
        return made


def disable(inst: Installation, name: str, now: datetime) -> Account:
    """Let nobody in with it any more: its sessions end, its tokens do not count. Refused for the last enabled owner."""
    with inst.changing_all() as connection, _keeping_an_owner(connection, name):
        account = named(connection, name)
        if not account.enabled:
            return account
        accounts.change(connection, account.id, now, inst.actor.name, enabled=False)
        sessions.end_all(connection, account.id)
        made = named(connection, name)
        inst.record_for_all(connection, f"{NOUN}.disable", name, told(account), told(made), now)
        return made


def enable(inst: Installation, name: str, now: datetime) -> Account:
    """Let it in again, and unlock it where too many guesses had locked it. Its tokens count again. Raises Refused."""
    with inst.changing_all() as connection:
        account = named(connection, name)
        unlocked = guessing.unlock(connection, account)
        if account.enabled and not unlocked:
            return account
        accounts.change(connection, account.id, now, inst.actor.name, enabled=True)
        made = named(connection, name)
        inst.record_for_all(
            connection,
            f"{NOUN}.enable",
            name,
            {**told(account), "locked": unlocked},
            {**told(made), "locked": False},
            now,
        )
        return made


def delete(inst: Installation, name: str, now: datetime) -> Account:
    """Delete it, with its sessions and tokens; returns what it was. Refused for the last enabled owner."""
    with inst.changing_all() as connection, _keeping_an_owner(connection, name):
        account = named(connection, name)
        guessing.unlock(connection, account)
        accounts.delete(connection, account.id)
        inst.record_for_all(connection, f"{NOUN}.delete", name, told(account), None, now)
        return account


def named(connection: Connection, name: str) -> Account:
    """The account of that name. Raises Refused where there is none."""
    found = accounts.by_name(connection, name) if NAME.fullmatch(name) else None
    if found is None:
        raise Missing(f"there is no account {name!r}; see: sallyport admin list")
    return found


def told(account: Account) -> dict[str, object]:
    """What the audit log has of it."""
    return {
        "name": account.name,
        "role": account.role,
        "tenants": None if account.tenants is None else list(account.tenants),
        "enabled": account.enabled,
        "second_factor": account.second_factor,
        "password_given_at": _moment(account.password_given_at),
    }


def check_name(name: str) -> None:
    """Raise Refused where an account cannot have that name."""
    if NAME.fullmatch(name) is None:
        raise Refused(
            f"{name[:80]!r} cannot name an account; expected 1 to 64 of a-z, 0-9 and . _ @ + -, "
            "beginning with a letter or digit"
        )


def tenant_ids(inst: Installation, connection: Connection, names: Sequence[str] | None) -> list[int] | None:
    """The ids of these tenants, each once; None for all. Raises Refused where there is none of a name, or no name."""
    if names is None:
        return None
    if not names:
        raise Refused("for no tenant at all there is nothing to do; name some, or none for all")
    return list(dict.fromkeys(inst.tenant_named(connection, name).id for name in names))


def _moment(at: datetime | None) -> str | None:
    return None if at is None else at.isoformat()


def _refuse_taken(connection: Connection, name: str) -> None:
    if accounts.by_name(connection, name) is not None:
        raise _taken(name)


def _taken(name: str) -> Refused:
    return Taken(f"there is an account {name} already; choose another name")


@contextmanager
def _keeping_an_owner(connection: Connection, name: str) -> Iterator[None]:
    """Raise Refused, and so undo what is done within, where that leaves no enabled owner for all tenants."""
    before = accounts.owners(connection)
    yield
    if before and not accounts.owners(connection):
        raise Refused(f"{name} is the last enabled owner for all tenants; make another one first")
