"""Bypass rules, the hosts for which a tenant's traffic is not decrypted: add, remove, list; what list files hold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from certs.bypass import PatternList, parse_rule
from certs.names import InvalidHost
from config.list_files import ListFileError, read
from config.problems import shown
from control import audit_log
from control.errors import Missing, Refused, Taken
from control.installation import Installation
from control.names import storable, visible
from store import bypass_rules
from store.engine import Connection
from store.records import BypassRule, ChangeKind, Tenant

NOUN = "bypass"
MOST_RULES = 10_000
"""Of one tenant. Every change has them read again, so more of them belong into a list file."""
LONGEST_REASON = 500


@dataclass(frozen=True, slots=True)
class ListFile:
    """A list file that counts for a tenant: how many rules it holds, or why it cannot be used."""

    path: str
    rules: int
    problem: str | None = None


def add(
    inst: Installation,
    tenant: str,
    patterns: Sequence[str],
    now: datetime,
    reason: str | None = None,
    expires_at: datetime | None = None,
) -> list[BypassRule]:
    """Decrypt no more, from the next connection on, what one of the patterns covers: all of them are saved, or none.

    ``expires_at``: from when on they no longer count. A rule that has expired is replaced. Raises Refused for a pattern
    that cannot be or is a rule already, a reason that cannot be, an end that is past, and too many rules.
    """
    rules = _parsed(patterns)
    why = _reason(reason)
    if expires_at is not None and expires_at <= now:
        raise Refused(f"{expires_at:%Y-%m-%d %H:%M} UTC is past; give an end that is to come, or none")
    added = []
    with inst.changing(tenant) as (connection, found):
        for rule in rules:
            before = bypass_rules.by_pattern(connection, found.id, rule)
            if before is not None:
                _replaceable(before, tenant, now)
                bypass_rules.remove(connection, before.id)
            made = bypass_rules.add(connection, found.id, rule, why, now, inst.actor.name, expires_at)
            added.append(made)
            old = None if before is None else _told(before)
            inst.record(connection, found, ChangeKind.BYPASS_RULE_ADDED, f"{NOUN}.add", rule, old, _told(made), now)
        if (count := bypass_rules.count(connection, found.id)) > MOST_RULES:
            raise Refused(
                f"tenant {tenant} would have {count} bypass rules; at most {MOST_RULES}, so put them into a list file "
                "(bypass.files)"
            )
    return added


def remove(inst: Installation, tenant: str, patterns: Sequence[str], now: datetime) -> list[BypassRule]:
    """Decrypt again, from the next connection on: all of these are removed, or none. Returns what they were.

    Raises Refused where there is no such rule.
    """
    removed = []
    with inst.changing(tenant) as (connection, found):
        for rule in _parsed(patterns):
            before = _one(connection, found, rule)
            bypass_rules.remove(connection, before.id)
            removed.append(before)
            inst.record(
                connection, found, ChangeKind.BYPASS_RULE_REMOVED, f"{NOUN}.remove", rule, _told(before), None, now
            )
    return removed


def listing(inst: Installation, tenant: str) -> list[BypassRule]:
    """The tenant's own rules, expired or not, by pattern."""
    with inst.reading(tenant) as (connection, found):
        return bypass_rules.listing(connection, found.id)


def expired(rule: BypassRule, now: datetime) -> bool:
    """Whether it no longer counts."""
    return rule.expires_at is not None and rule.expires_at <= now


def files(inst: Installation, tenant: str) -> list[ListFile]:
    """The list files that count for the tenant, read now. A daemon that runs may still use what it read before."""
    return [_examined(entry.file) for entry in inst.settings.bypass.files if entry.is_for(tenant)]


def _examined(path: str) -> ListFile:
    try:
        read_list = PatternList(read(path)[0])
    except ListFileError as error:
        return ListFile(path, 0, str(error))
    if read_list.problems:
        return ListFile(path, 0, "; ".join(read_list.complaints(path)))
    return ListFile(path, read_list.count)


def _parsed(patterns: Sequence[str]) -> tuple[str, ...]:
    """Each once, as they are compared. Raises Refused."""
    found: dict[str, None] = {}
    for text in patterns:
        try:
            found[parse_rule(text)] = None
        except InvalidHost as error:
            raise Refused(f"{shown(text)} is no bypass rule: {error}") from None
    return tuple(found)


def _reason(text: str | None) -> str | None:
    """Raises Refused for one that cannot be."""
    why = (text or "").strip()
    if len(why) > LONGEST_REASON or not storable(why) or not visible(why):
        raise Refused(f"the reason cannot be saved; expected up to {LONGEST_REASON} printable characters")
    return why or None


def _replaceable(rule: BypassRule, tenant: str, now: datetime) -> None:
    """Raise Refused for a rule that counts: one that ends must not become one that stays by a slip."""
    if not expired(rule, now):
        end = "" if rule.expires_at is None else f", until {rule.expires_at:%Y-%m-%d %H:%M} UTC"
        raise Taken(
            f"tenant {tenant} has the bypass rule {rule.pattern} already, since {rule.created_at:%Y-%m-%d}{end}; "
            "remove it first to change it"
        )


def _told(rule: BypassRule) -> dict[str, object]:
    """What the audit log has of it."""
    end = None if rule.expires_at is None else rule.expires_at.isoformat()
    return {"pattern": rule.pattern, "reason": rule.reason, "expires_at": end}


def _one(connection: Connection, tenant: Tenant, rule: str) -> BypassRule:
    found = bypass_rules.by_pattern(connection, tenant.id, rule)
    if found is None:
        became = audit_log.what_happened(connection, tenant, NOUN, rule)
        raise Missing(f"tenant {tenant.name} has no bypass rule {rule}{became}; see: sallyport bypass list")
    return found
