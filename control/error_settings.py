"""Error settings: what a tenant does about which defect of a server's certificate."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from certs.verdict import COVERED_BY_UNTRUSTED, UNTRUSTED, Action, Defect, ErrorSettings
from control import untrusted_ca
from control.errors import Refused
from control.installation import Installation
from store import error_settings
from store.records import ChangeKind

ROWS = (*(defect.value for defect in Defect), UNTRUSTED)
AVAILABLE = (Action.BLOCK, Action.WARN, Action.ALLOW)
ONLY_BLOCK = {
    Defect.OWN_CA.value: "a server must never be vouched for by a key that signs our leaves",
    Defect.PROTOCOL.value: "a failed handshake leaves nothing to allow or to warn of",
}


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
        inherits = defect in COVERED_BY_UNTRUSTED and defect.value not in rows and UNTRUSTED in rows
        listed.append(
            ErrorRow(defect.value, settings.action_of(defect), defect.value in rows, UNTRUSTED if inherits else None)
        )
    return [*listed, ErrorRow(UNTRUSTED, settings.rows.get(UNTRUSTED, Action.BLOCK), UNTRUSTED in rows)]


def set_action(inst: Installation, tenant: str, row: str, action: str, now: datetime) -> None:
    """Set the row. Raises Refused for a row or an action that there is not, or not yet, or not for that row."""
    _check_row(row)
    chosen = _check_action(action)
    if row in ONLY_BLOCK and chosen is not Action.BLOCK:
        raise Refused(f"{row}: only block can be set: {ONLY_BLOCK[row]}")
    with inst.changing(tenant) as (connection, found):
        before = error_settings.rows(connection, found.id).get(row)
        if before == chosen.value:
            return
        if chosen is Action.WARN:
            untrusted_ca.ensure(inst, connection, found, now)
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
    if chosen not in AVAILABLE:
        raise Refused(f"the action {chosen.value} is not in this version; expected {available}")
    return chosen
