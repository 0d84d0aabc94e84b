"""The first owner: made with a link that works once, for a day, and only while there is no owner."""

from __future__ import annotations

from datetime import datetime, timedelta

from control import accounts, tokens
from control.actor import Actor
from control.authorisation import Role
from control.errors import Refused
from control.installation import Installation
from control.passwords import STANDARD, Hashing, check_new
from store import accounts as stored_accounts
from store import setup_link
from store.engine import Connection
from store.records import Account

LASTS = timedelta(days=1)


def link(inst: Installation, now: datetime) -> str | None:
    """The token of a new link, in place of an earlier one; None where there is an owner, and no link is to be had."""
    token = tokens.new(tokens.SETUP_LINK)
    with inst.changing_all() as connection:
        if stored_accounts.owners(connection):
            return None
        setup_link.save(connection, tokens.digest(token), now, now + LASTS)
        after = {"expires_at": (now + LASTS).isoformat()}
        inst.record_for_all(connection, "setup_link.create", "the first owner", None, after, now)
    return token


def is_open(inst: Installation, token: str, now: datetime) -> bool:
    """Whether the link works: for the page that asks for name and password."""
    with inst.reading_all() as connection:
        return _is_open(connection, token, now)


def redeem(
    inst: Installation, token: str, name: str, password: str, now: datetime, hashing: Hashing = STANDARD
) -> Account:
    """Make the first owner, for all tenants. The link works no more. Raises Refused, and then it still does."""
    accounts.check_name(name)
    if not is_open(inst, token, now):  # before the password is hashed: strangers come here, too
        raise _closed()
    hash = hashing.hash(check_new(password, name, inst.settings))
    mine = inst.acting(Actor(name, inst.actor.origin))
    with mine.changing_all() as connection:
        if not _is_open(connection, token, now):
            raise _closed()
        return accounts.add(mine, connection, name, hash, Role.OWNER, None, now, own=True)


def _is_open(connection: Connection, token: str, now: datetime) -> bool:
    return setup_link.there(connection, tokens.digest(token), now) and not stored_accounts.owners(connection)


def _closed() -> Refused:
    return Refused("this link has been used, has expired, or was replaced; restart the daemon for another one")
