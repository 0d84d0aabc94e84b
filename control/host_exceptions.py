"""Exceptions to the error settings: what is done about one defect of some hosts, for a reason, for a while."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from certs.exceptions import expired
from certs.host_patterns import HostPattern, parse_pattern
from certs.names import InvalidHost
from certs.verdict import Action, Defect
from control import untrusted_ca
from control.ends import LAST
from control.error_settings import check_setting
from control.errors import Missing, Refused, Taken
from control.installation import Installation
from control.names import visible
from store import host_exceptions
from store.engine import Connection
from store.records import ChangeKind, HostException, Tenant

NOUN = "host_exception"
MOST = 1000
"""Exceptions of one tenant, expired ones included."""
LONGEST_REASON = 200
LONGEST_SHOWN = 80
"""Characters of what was written that a refusal repeats."""

_FINGERPRINT = re.compile(r"[0-9A-Fa-f]{2}(?::?[0-9A-Fa-f]{2}){31}")
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_MOMENT = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]+)?(?:[Zz]|[+-][0-9]{2}:[0-9]{2})"
)


@dataclass(frozen=True, slots=True)
class Wanted:
    """An exception as somebody writes it down.

    ``host``: a pattern. ``defect``: a defect's name, or ``untrusted``. ``fingerprint``: SHA-256, hexadecimal, of the
    certificate or key that it is for. ``expires``: a date, whose end in UTC is meant, or a time (RFC 3339).
    """

    host: str
    defect: str
    action: str
    reason: str
    fingerprint: str | None = None
    expires: str | None = None


@dataclass(frozen=True, slots=True)
class Listed:
    """An exception that is there, and whether it no longer counts."""

    exception: HostException
    expired: bool


def add(inst: Installation, tenant: str, wanted: Wanted, now: datetime) -> HostException:
    """Make an exception. One that has expired, for the same hosts, defect and fingerprint, gives way to it.

    Raises Refused for what cannot be excepted, and where there is such an exception already.
    """
    pattern = _pattern(wanted.host)
    action = check_setting(wanted.defect, wanted.action, for_host=True)
    _check_reach(pattern, wanted)
    fingerprint = None if wanted.fingerprint is None else _fingerprint(wanted.fingerprint)
    expires_at = None if wanted.expires is None else _end(wanted.expires, now)
    reason = _reason(wanted.reason)
    with inst.changing(tenant) as (connection, found):
        there = host_exceptions.listing(connection, found.id)
        before = _make_room(connection, found, there, (str(pattern), wanted.defect, fingerprint), now)
        if action is Action.WARN:
            untrusted_ca.ensure(inst, connection, found, now)
        added = host_exceptions.add(
            connection, found.id, str(pattern), wanted.defect, action.value, fingerprint, expires_at, reason, now,
            inst.actor.name,
        )  # fmt: skip
        inst.record(
            connection, found, ChangeKind.HOST_EXCEPTIONS_CHANGED, f"{NOUN}.add", added.pattern, before, _told(added),
            now,
        )  # fmt: skip
    return added


def listing(inst: Installation, tenant: str, now: datetime) -> list[Listed]:
    """The tenant's exceptions, by host and defect, those that have expired too."""
    with inst.reading(tenant) as (connection, found):
        return [Listed(each, expired(each.expires_at, now)) for each in host_exceptions.listing(connection, found.id)]


def remove(inst: Installation, tenant: str, which: str, now: datetime) -> HostException:
    """Take away the exception of that number. Raises Refused where there is none."""
    with inst.changing(tenant) as (connection, found):
        before = _one(connection, found, which)
        host_exceptions.delete(connection, before.id)
        inst.record(
            connection, found, ChangeKind.HOST_EXCEPTIONS_CHANGED, f"{NOUN}.remove", before.pattern, _told(before),
            None, now,
        )  # fmt: skip
    return before


def _make_room(
    connection: Connection,
    tenant: Tenant,
    there: Sequence[HostException],
    key: tuple[str, str, bytes | None],
    now: datetime,
) -> dict[str, object] | None:
    """Take away one that has expired and is to be made anew; what it was. Raises Refused where there is no room."""
    same = next((each for each in there if (each.pattern, each.defect, each.fingerprint) == key), None)
    if same is not None:
        if not expired(same.expires_at, now):
            raise Taken(
                f"{same.pattern}: exception {same.id} says what is done about its {same.defect} already "
                f"({same.action}{_until(same)}); remove it first: sallyport errors unexcept {same.id}"
            )
        host_exceptions.delete(connection, same.id)
        return _told(same)
    if len(there) >= MOST:
        over = sum(expired(each.expires_at, now) for each in there)
        raise Refused(
            f"tenant {tenant.name} has {len(there)} exceptions, {over} of them expired; at most {MOST}, so remove some "
            "(sallyport errors unexcept), or cover several hosts with *.NAME"
        )
    return None


def _pattern(text: str) -> HostPattern:
    try:
        return parse_pattern(text)
    except InvalidHost as error:
        raise Refused(f"{_shown(text)} is no host pattern: {error}") from None


def _check_reach(pattern: HostPattern, wanted: Wanted) -> None:
    """Raise Refused for an exception that is none, since it is for every host, and for one that covers too many."""
    if wanted.defect == Defect.OWN_CA and not pattern.exact:
        raise Refused(f"{wanted.defect}: only an exception for one host can lift it; name the host, without a star")
    if not pattern.name:
        raise Refused(
            "* is every host, so this is no exception; set what is done about it for all: "
            f"sallyport errors set {wanted.defect} {wanted.action}"
        )


def _fingerprint(text: str) -> bytes:
    if _FINGERPRINT.fullmatch(text) is None:
        raise Refused(
            f"{_shown(text)} is no SHA-256 fingerprint; expected the 64 hexadecimal digits, with or without colons, of "
            "the server's certificate or key, as sallyport probe shows them"
        )
    return bytes.fromhex(text.replace(":", ""))


def _end(text: str, now: datetime) -> datetime:
    try:
        if _DATE.fullmatch(text) is not None:
            end = datetime.combine(datetime.fromisoformat(text).date(), LAST, UTC)
        elif _MOMENT.fullmatch(text) is not None:
            end = datetime.fromisoformat(text.upper()).astimezone(UTC).replace(microsecond=0)
        else:
            raise Refused(
                f"{_shown(text)} is no date; expected one like 2027-01-31 (its end, in UTC), or a time with its zone "
                "like 2027-01-31T18:00:00Z or 2027-01-31T18:00:00+01:00"
            )
    except (ValueError, OverflowError) as error:
        raise Refused(f"{_shown(text)} is no date: {error}") from None
    if end <= now:
        raise Refused(f"{_shown(text)} is over already; expected when the exception is to end")
    return end


def _reason(text: str) -> str:
    reason = text.strip()
    if not 1 <= len(reason) <= LONGEST_REASON or not visible(reason):
        raise Refused(
            f"{_shown(text)} is no reason; expected why the exception is made, for whoever comes later: "
            f"1 to {LONGEST_REASON} printable characters"
        )
    return reason


def _one(connection: Connection, tenant: Tenant, which: str) -> HostException:
    there = host_exceptions.listing(connection, tenant.id)
    for each in there:
        if str(each.id) == which:
            return each
    if which.isascii() and which.isdigit():
        raise Missing(
            f"tenant {tenant.name} has no exception {which[:LONGEST_SHOWN]}; see: sallyport errors exceptions"
        )
    try:
        pattern = str(parse_pattern(which))
    except InvalidHost:
        pattern = ""
    of_it = ", ".join(f"{each.id} ({each.defect})" for each in there if each.pattern == pattern)
    raise Refused(
        f"{_shown(which)} is no number of an exception; "
        + (f"those for {pattern}: {of_it}" if of_it else "see: sallyport errors exceptions")
    )


def _told(exception: HostException) -> dict[str, object]:
    """What the audit log has of it."""
    return {
        "id": exception.id,
        "host": exception.pattern,
        "defect": exception.defect,
        "action": exception.action,
        "fingerprint": None if exception.fingerprint is None else exception.fingerprint.hex(),
        "expires_at": None if exception.expires_at is None else f"{exception.expires_at:%Y-%m-%dT%H:%M:%SZ}",
        "reason": exception.reason,
    }


def _until(exception: HostException) -> str:
    return "" if exception.expires_at is None else f" until {exception.expires_at:%Y-%m-%d %H:%M} UTC"


def _shown(text: str) -> str:
    return repr(text if len(text) <= LONGEST_SHOWN else f"{text[:LONGEST_SHOWN]}...")
