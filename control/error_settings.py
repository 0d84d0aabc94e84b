"""Error settings: what a tenant does about which defect of a server's certificate."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from certs.decision import ErrorSettings, Source
from certs.verdict import UNTRUSTED, Action, Defect
from control import untrusted_ca
from control.errors import Refused
from control.installation import Installation
from store import error_settings
from store.records import ChangeKind

ROWS = (*(defect.value for defect in Defect), UNTRUSTED)
AVAILABLE = tuple(Action)
ONLY = {
    Defect.OWN_CA.value: (
        (Action.BLOCK,), "only block can be set: a server must never be vouched for by a key that signs our leaves",
    ),
    Defect.PROTOCOL.value: (
        (Action.BLOCK, Action.BYPASS),
        "only block or bypass can be set: a failed handshake leaves nothing to allow or to warn of",
    ),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class ErrorRow:
    """One row: the action that counts, whether it is set here, and the row that it comes from where it is not."""

    row: str
    action: Action
    is_set: bool
    inherited_from: str | None = None


def show(inst: Installation, tenant: str) -> list[ErrorRow]:
    """Every defect in order, then ``untrusted``, each with the action that counts."""
    with inst.reading(tenant) as (connection, found):
        rows = error_settings.rows(connection, found.id)
    settings = ErrorSettings({row: Action(action) for row, action in rows.items()})
    listed = []
    for defect in Defect:
        reason = settings.for_every_host(defect)
        inherited = UNTRUSTED if reason.source is Source.MASTER else None
        listed.append(ErrorRow(defect.value, reason.action, defect.value in rows, inherited))
    return [*listed, ErrorRow(UNTRUSTED, settings.rows.get(UNTRUSTED, Action.BLOCK), UNTRUSTED in rows)]


def set_action(inst: Installation, tenant: str, row: str, action: str, now: datetime) -> None:
    """Set the row. Raises Refused for a row or an action that there is not, or not yet, or not for that row."""
    chosen = check_setting(row, action)
    with inst.changing(tenant) as (connection, found):
        if chosen is Action.WARN:
            untrusted_ca.ensure(inst, connection, found, now)
        before = error_settings.rows(connection, found.id).get(row)
        if before == chosen.value:
            return
        error_settings.set_row(connection, found.id, row, chosen.value, now)
        inst.record(connection, found, ChangeKind.ERROR_SETTINGS_CHANGED, "errors.set", row, _row(before),
                    _row(chosen.value), now)  # fmt: skip


def unset(inst: Installation, tenant: str, row: str, now: datetime) -> bool:
    """Take the row away, so that its default counts. False where it was not set. Raises Refused for an unknown row."""
    _check_row(row)
    with inst.changing(tenant) as (connection, found):
        before = error_settings.rows(connection, found.id).get(row)
        if not error_settings.unset_row(connection, found.id, row):
            return False
        inst.record(connection, found, ChangeKind.ERROR_SETTINGS_CHANGED, "errors.unset", row, _row(before), None, now)
        return True


def check_setting(row: str, action: str, for_host: bool = False) -> Action:
    """The action, where it can be set for that row; ``for_host``: by an exception for a host, which may lift own_ca.

    Raises Refused for a row or an action that there is not, or not yet, or not for that row.
    """
    _check_row(row)
    chosen = _check_action(action)
    lifted = for_host and row == Defect.OWN_CA
    possible, why = ONLY.get(row, (AVAILABLE, ""))
    if chosen not in possible and not lifted:
        raise Refused(f"{row}: {why}")
    return chosen


def _row(action: str | None) -> dict[str, str] | None:
    return None if action is None else {"action": action}


def _check_row(row: str) -> None:
    if row not in ROWS:
        raise Refused(f"{row!r} is no defect; expected one of {', '.join(ROWS)}")


def _check_action(action: str) -> Action:
    available = f"{', '.join(AVAILABLE[:-1])} or {AVAILABLE[-1]}"
    try:
        chosen = Action(action)
    except ValueError:
        raise Refused(f"{action!r} is no action; expected {available}") from None
    return chosen
