"""Sessions: somebody who has signed in. Begun by :mod:`control.sign_in`; here they are found, rotated and ended.

The token is in the browser's cookie alone; the store has its SHA-256. The CSRF token is derived from it, so it is one
per session, changes when the session's token does, and nobody who reads the store knows it.
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from control import accounts, due, tokens
from control.authorisation import Principal, Role
from control.due import Due
from control.errors import Missing, Refused
from control.installation import Installation
from store import accounts as stored_accounts
from store import sessions
from store.engine import Connection
from store.records import Account, Session

LASTS = timedelta(hours=12)
"""However much it is used (NIST SP 800-63B 4.2.3)."""
IDLE = timedelta(minutes=30)
"""Without a request."""
AWAITS = timedelta(minutes=5)
"""Until the second factor has to be there."""
USED_EVERY = timedelta(minutes=1)
"""How exactly the last use is known: not every request is to write."""
MOST = 50
"""Of one account; those used longest ago end. As many more may await the second factor, and end only one another:
who knows a password and nothing else must not be able to throw anybody out."""
CSRF_PURPOSE = b"sallyport csrf 1"


@dataclass(frozen=True, slots=True)
class SignedIn:
    """Somebody who is in: what he may do, and the CSRF token that his changes carry.

    ``due``: what he has to do first; until then he may do nothing else.
    """

    session: Session
    account: Account
    principal: Principal
    due: Due | None
    csrf: str = field(repr=False)


def over(session: Session, now: datetime) -> bool:
    """Whether it has ended by itself."""
    return session.expires_at <= now or session.used_at + IDLE <= now


def csrf(token: str) -> str:
    """The CSRF token of a session's token: HMAC-SHA-256, from which the token cannot be had back."""
    return hmac.new(token.encode("utf-8", "backslashreplace"), CSRF_PURPOSE, hashlib.sha256).hexdigest()


def is_csrf(token: str, given: str) -> bool:
    """Whether a request carries the CSRF token of its session."""
    return hmac.compare_digest(csrf(token).encode("ascii"), given.encode("utf-8", "backslashreplace"))


def principal_of(account: Account) -> Principal:
    """What somebody may do who is signed in with the account."""
    tenants = None if account.tenants is None else frozenset(account.tenants)
    return Principal(account.name, Role(account.role), tenants)


def begin(
    connection: Connection, account: Account, origin: str, now: datetime, *, awaits_code: bool
) -> tuple[str, Session]:
    """A new session, and its token: in a transaction in which somebody was found to be who he says."""
    token = tokens.new(tokens.SESSION)
    lasts = AWAITS if awaits_code else LASTS
    sessions.forget(connection, now, now - IDLE)
    made = sessions.add(connection, account.id, tokens.digest(token), origin, now, now + lasts, awaits_code=awaits_code)
    alike = [one for one in sessions.listing(connection, account.id) if one.awaits_code == awaits_code]
    for one in alike[MOST:]:
        sessions.end(connection, one.id)
    return token, made


def find(inst: Installation, token: str, now: datetime, *, used: bool = True) -> SignedIn | None:
    """Who has that token and is signed in; None where nobody is, or not to the end.

    ``used``: somebody does something with it, which puts off its end; what a page asks by itself does not.
    """
    if not token.startswith(tokens.SESSION):
        return None
    with inst.reading_all() as connection:
        found = _live(connection, token, now)
    if found is None or found[0].awaits_code:
        return None
    session, account = found
    if used and now - session.used_at >= USED_EVERY:
        with inst.store.transaction() as connection:
            sessions.used(connection, session.id, now)
    return SignedIn(session, account, principal_of(account), due.of(account, inst.settings), csrf(token))


def awaiting(connection: Connection, token: str, now: datetime) -> tuple[Session, Account] | None:
    """Whose second factor is awaited."""
    found = _live(connection, token, now)
    return found if found is not None and found[0].awaits_code else None


def rotate(inst: Installation, token: str, now: datetime) -> str:
    """A new token for the session: after what it may do has changed. The old one opens nothing any more.

    Raises Refused where there is no such session.
    """
    fresh = tokens.new(tokens.SESSION)
    with inst.changing_all() as connection:
        found = _live(connection, token, now)
        if found is None or found[0].awaits_code:
            raise Refused("the session is over; sign in again")
        sessions.rotate(connection, found[0].id, tokens.digest(fresh), now)
    return fresh


def listing(inst: Installation, account: str, now: datetime) -> list[Session]:
    """The account's that go on, the one used last first. Raises Refused where there is no such account."""
    with inst.reading_all() as connection:
        found = accounts.named(connection, account)
        return [one for one in sessions.listing(connection, found.id) if not over(one, now)]


def revoke(inst: Installation, account: str, id: int, now: datetime) -> None:
    """End one of the account's sessions. Raises Refused where there is none of that id."""
    with inst.changing_all() as connection:
        found = accounts.named(connection, account)
        one = next((each for each in sessions.listing(connection, found.id) if each.id == id), None)
        if one is None:
            raise Missing(f"account {account} has no session {id}; it may have ended")
        sessions.end(connection, id)
        inst.record_for_all(connection, "session.revoke", account, told(one), None, now)


def revoke_all(inst: Installation, account: str, now: datetime, but: int | None = None) -> int:
    """End the account's sessions, all or all but the one of that id; how many those were. Raises Refused."""
    with inst.changing_all() as connection:
        found = accounts.named(connection, account)
        ended = sessions.end_all(connection, found.id, but)
        if ended:
            inst.record_for_all(connection, "session.revoke_all", account, {"sessions": ended}, None, now)
        return ended


def sign_out(inst: Installation, token: str, now: datetime) -> None:
    """End the session of that token. Where there is none, there is nothing to do."""
    with inst.changing_all() as connection:
        found = _live(connection, token, now)
        if found is not None:
            session, account = found
            sessions.end(connection, session.id)
            inst.record_for_all(connection, "session.end", account.name, told(session), None, now)


def told(session: Session) -> dict[str, object]:
    """What the audit log has of it."""
    return {"id": session.id, "origin": session.origin, "expires_at": session.expires_at.isoformat()}


def _live(connection: Connection, token: str, now: datetime) -> tuple[Session, Account] | None:
    session = sessions.by_sha256(connection, tokens.digest(token))
    if session is None or over(session, now):
        return None
    account = stored_accounts.by_id(connection, session.account_id)
    return None if account is None or not account.enabled else (session, account)
