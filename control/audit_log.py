"""The audit log: every change with who made it, when, from where, and what was before and after. No key material."""

from __future__ import annotations

import json
from datetime import datetime
from typing import TYPE_CHECKING

from certs.verdict import COVERED_BY_UNTRUSTED, UNTRUSTED
from control.actor import Actor
from control.errors import Outdated
from control.names import storable
from store import audit_log
from store.audit_log import Wanted
from store.engine import Connection
from store.records import AuditEntry, Tenant

if TYPE_CHECKING:
    from control.installation import Installation

__all__ = ["Wanted"]

MOST = 1000
MOST_TOLD = 3
"""Changes that a conflict tells of, the latest."""


def write(
    connection: Connection,
    actor: Actor,
    tenant: Tenant | None,
    action: str,
    subject: str,
    before: object,
    after: object,
    now: datetime,
) -> None:
    """Write what is done, in the transaction in which it is done.

    ``tenant`` is of the generation that it makes; None: it is of the installation as a whole.
    """
    id, name, generation = (None, None, None) if tenant is None else (tenant.id, tenant.name, tenant.generation)
    audit_log.write(
        connection, id, name, now, actor.name, actor.origin, action, subject, _text(before), _text(after), generation,
    )  # fmt: skip


def refuse_unseen(connection: Connection, tenant: Tenant, action: str, subject: str, seen: int) -> None:
    """Raise Outdated where what is to be changed was changed by others after the generation ``seen``.

    ``tenant`` is as it was when the transaction began: what the transaction does itself is of later generations.
    """
    if seen > tenant.generation:
        raise Outdated(f"{subject}: generation {seen} is not to come before {tenant.generation + 1}; look at it again")
    between = audit_log.between(connection, tenant.id, seen, tenant.generation)
    if len({entry.generation for entry in between}) < tenant.generation - seen:
        raise Outdated(f"{subject}: what was changed after generation {seen} is not all known; look at it again")
    if unseen := [entry for entry in between if _concerns(entry, action, subject)]:
        told = "; ".join(_in_words(entry, subject) for entry in unseen[-MOST_TOLD:])
        raise Outdated(f"{subject}: changed after generation {seen}, now {tenant.generation}: {told}; look at it again")


def _concerns(entry: AuditEntry, action: str, subject: str) -> bool:
    """Whether a change was of the same thing.

    Of signing CAs one is active, so any activation is of the same thing; the row ``untrusted`` is also of those it
    covers.
    """
    noun = action.partition(".")[0]
    if noun == "tenant":
        return True
    if entry.action.partition(".")[0] != noun:
        return False
    names = {entry.subject, *(_named(told) for told in (entry.before, entry.after))}
    if noun == "errors" and UNTRUSTED in (subject, entry.subject):
        return {subject, entry.subject} <= {UNTRUSTED, *COVERED_BY_UNTRUSTED}
    return subject in names or entry.action == action == "signing_ca.activate"


def _named(told: str | None) -> object:
    return json.loads(told).get("name") if told else None


def newest(inst: Installation, most: int = 50, tenant: str | None = None) -> list[AuditEntry]:
    """The latest entries, the newest first; of one tenant (which may be gone by now), or of all."""
    return find(inst, Wanted(tenant=tenant), min(most, MOST))


def find(inst: Installation, wanted: Wanted, most: int) -> list[AuditEntry]:
    """The latest entries that are wanted, the newest first."""
    with inst.store.reading() as connection:
        return audit_log.newest(connection, most, wanted)


def actions(inst: Installation, wanted: Wanted) -> list[str]:
    """Every action that there is a wanted entry of: for who chooses among them."""
    with inst.store.reading() as connection:
        return audit_log.actions(connection, wanted)


def what_happened(connection: Connection, tenant: Tenant, noun: str, name: str) -> str:
    """For who looks for something that is not there any more: what became of it, to be said behind that, or nothing."""
    entry = audit_log.last_about(connection, tenant.id, noun, name) if storable(name) else None
    if entry is None:
        return ""
    return f"; {_in_words(entry, name)}"


VERBS = {
    "activate": "activated", "add": "added", "complete": "completed", "create": "created", "deactivate": "deactivated",
    "delete": "deleted", "import": "imported", "limit": "limited to other hosts", "make": "made", "remove": "removed",
    "rename": "renamed", "request": "requested", "revoke": "revoked", "set": "set", "unset": "unset",
}  # fmt: skip


def _in_words(entry: AuditEntry, name: str) -> str:
    """``it was renamed to 'b' by …``; where the entry is of something else, its name stands for ``it``."""
    verb = VERBS.get(entry.action.partition(".")[2], "changed")
    what = "it" if entry.subject == name else repr(entry.subject)
    to = f" to {_named(entry.after)!r}" if verb == "renamed" else ""
    return f"{what} was {verb}{to} by {entry.actor} on {entry.at:%Y-%m-%d at %H:%M:%S} UTC"


def _text(value: object) -> str | None:
    return None if value is None else json.dumps(value, ensure_ascii=False, sort_keys=True)
