"""Signing in: name and password, then the second factor where the account has one.

Nothing tells a name that nobody has from a wrong password or a disabled account: not the words, not the time, not the
limits on guessing. An account that has a second factor has its count of wrong guesses begin anew only after that.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from control import due, guessing, second_factor, sessions
from control.accounts import NAME
from control.actor import Actor
from control.errors import Refused
from control.guessing import Guess
from control.installation import Installation
from control.passwords import STANDARD, Hashing, prepared
from store import accounts
from store import sessions as stored_sessions
from store.engine import Connection
from store.records import Account, Session


class WrongCredentials(Refused):
    """Name, password or code are wrong; which, nobody is told."""


class PasswordOver(Refused):
    """The password is right, but somebody else gave it, and it was not changed in time. Told to nobody else."""


@dataclass(frozen=True, slots=True)
class Begun:
    """A session that has begun. ``session.awaits_code``: it is good for :func:`enter_code` alone."""

    token: str = field(repr=False)
    session: Session
    account: str


def sign_in(
    inst: Installation, name: str, password: str, source: str, now: datetime, hashing: Hashing = STANDARD
) -> Begun:
    """Begin a session. ``source``: the address that the request is from.

    Raises WrongCredentials; PasswordOver; TooManyGuesses without looking at the password.
    """
    account, guess, hash = _guess(inst, name.strip().lower(), source, now)
    right = hashing.verify(hash, password) and account is not None and account.enabled
    if account is None or hash is None or not right:
        _failed(inst, account, guess, now)
        raise WrongCredentials("name or password is wrong")
    _refuse_over(inst, account, guess, now)
    fresh = hashing.hash(prepared(password)) if hashing.outdated(hash) else None
    with inst.changing_all() as connection:
        account = _unchanged(connection, account, hash)
        if fresh is not None:
            accounts.rehash(connection, account.id, hash, fresh)
        if account.second_factor:
            guess.give_back(connection)
            return _begun(connection, account, source, now, awaits_code=True)
        guess.succeeded(connection)
        return _in(inst, connection, account, source, now)


def enter_code(inst: Installation, token: str, code: str, source: str, now: datetime) -> Begun:
    """Go on with the second factor: a code of the app, or a recovery code. The session gets another token with it.

    Raises WrongCredentials; TooManyGuesses; Refused where the session is over.
    """
    with inst.changing_all() as connection:
        _, account = _awaiting(connection, token, now)
        guess = guessing.take(connection, account, account.name, source, now)
    mine = inst.acting(Actor(account.name, inst.actor.origin))
    with inst.changing_all() as connection:
        session, account = _awaiting(connection, token, now)
        right = second_factor.take(mine, connection, account, code, now)
        if right:
            stored_sessions.end(connection, session.id)
            guess.succeeded(connection)
            return _in(inst, connection, account, source, now)
    _failed(inst, account, guess, now)
    raise WrongCredentials("the code is wrong, or was used before")


def reauthenticate(
    inst: Installation, token: str, password: str, source: str, now: datetime, hashing: Hashing = STANDARD
) -> None:
    """Make sure that it is still the same person, before what matters most: his password, his second factor.

    Raises WrongCredentials, PasswordOver, TooManyGuesses; Refused where the session is over.
    """
    found = sessions.find(inst, token, now)
    if found is None:
        raise _over()
    account, guess, hash = _guess(inst, found.account.name, source, now)
    if account is None or not hashing.verify(hash, password):
        _failed(inst, account, guess, now)
        raise WrongCredentials("the password is wrong")
    _refuse_over(inst, account, guess, now)
    with inst.changing_all() as connection:
        guess.give_back(connection)


def confirm_second_factor(
    inst: Installation, name: str, code: str, source: str, now: datetime, but: int | None = None
) -> tuple[str, ...]:
    """:func:`control.second_factor.confirm`, with its codes counted as guesses: with them come the recovery codes.

    Raises Refused; TooManyGuesses without looking at the code.
    """
    with inst.changing_all() as connection:
        account = accounts.by_name(connection, name)
        guess = guessing.take(connection, account, name, source, now)
    try:
        codes = second_factor.confirm(inst, name, code, now, but)
    except Refused:
        _failed(inst, account, guess, now)
        raise
    with inst.changing_all() as connection:
        guess.give_back(connection)
    return codes


def _guess(inst: Installation, name: str, source: str, now: datetime) -> tuple[Account | None, Guess, str | None]:
    """Count a guess at the account of that name, and have its hash; both None where there is no such account."""
    with inst.changing_all() as connection:
        account = accounts.by_name(connection, name) if NAME.fullmatch(name) else None
        guess = guessing.take(connection, account, name, source, now)
        return account, guess, None if account is None else accounts.password_hash(connection, account.id)


def _refuse_over(inst: Installation, account: Account, guess: Guess, now: datetime) -> None:
    """Raise PasswordOver where the password, which is right, was to be changed by now."""
    if not due.given_over(account, now):
        return
    with inst.changing_all() as connection:
        guess.give_back(connection)
    raise PasswordOver(
        f"this password was given to you, and was to be changed within {due.GIVEN_LASTS.days} days; have an owner give "
        "you another: sallyport admin passwd"
    )


def _unchanged(connection: Connection, account: Account, hash: str) -> Account:
    """The account as it is now. Raises WrongCredentials where it was changed while its password was looked at."""
    found = accounts.by_id(connection, account.id)
    if found is None or not found.enabled or accounts.password_hash(connection, found.id) != hash:
        raise WrongCredentials("name or password is wrong")
    return found


def _awaiting(connection: Connection, token: str, now: datetime) -> tuple[Session, Account]:
    found = sessions.awaiting(connection, token, now)
    if found is None:
        raise _over()
    return found


def _over() -> Refused:
    return Refused("the session is over; sign in again")


def _begun(connection: Connection, account: Account, source: str, now: datetime, *, awaits_code: bool) -> Begun:
    origin = Actor(account.name, source).origin  # printable, and not too long
    token, session = sessions.begin(connection, account, origin, now, awaits_code=awaits_code)
    return Begun(token, session, account.name)


def _in(inst: Installation, connection: Connection, account: Account, source: str, now: datetime) -> Begun:
    begun = _begun(connection, account, source, now, awaits_code=False)
    accounts.signed_in(connection, account.id, now)
    mine = inst.acting(Actor(account.name, inst.actor.origin))
    mine.record_for_all(connection, "session.begin", account.name, None, sessions.told(begun.session), now)
    return begun


def _failed(inst: Installation, account: Account | None, guess: Guess, now: datetime) -> None:
    """Tell the audit log where guessing has come to something; each single wrong guess is not a change."""
    if account is not None and guess.reached is not None:
        told = {"wrong_guesses": guess.reached, "source": guess.source}
        with inst.changing_all() as connection:
            inst.record_for_all(connection, "admin.guessed", account.name, None, told, now)
