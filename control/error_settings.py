"""Error settings: what a tenant does about which defect of a server's certificate."""

from __future__ import annotations

from collections.abc import Mapping
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
_EVERY_ACTION = f"{', '.join(AVAILABLE[:-1])} or {AVAILABLE[-1]}"
ONLY = {
    Defect.OWN_CA.value: (
        (Action.BLOCK,), "only block can be set: a server must never be vouched for by a key that signs our leaves",
    ),
    Defect.PROTOCOL.value: (
        (Action.BLOCK, Action.BYPASS),
        "only block or bypass can be set: a failed handshake leaves nothing to allow or to warn of",
    ),
}  # fmt: skip
VERBS = ("errors.set", "errors.unset")
"""For the audit log: a row is set, or taken away."""


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


def change(inst: Installation, tenant: str, changes: Mapping[str, str | None], now: datetime) -> list[str]:
    """Set rows to actions, or take them away (None): all of them or none, each with its entry in the audit log.

    Returns the rows that are not as they were. Raises Refused for a row or an action that there is not, or not for
    that row.
    """
    wanted = {row: _checked(row, action) for row, action in changes.items()}
    with inst.changing(tenant) as (connection, found):
        if Action.WARN in wanted.values():
            untrusted_ca.ensure(inst, connection, found, now)
        before = error_settings.rows(connection, found.id)
        changed = [row for row, action in wanted.items() if before.get(row) != action]
        for row in changed:
            action, old = wanted[row], before.get(row)
            if action is None:
                error_settings.unset_row(connection, found.id, row)
            else:
                error_settings.set_row(connection, found.id, row, action.value, now)
            inst.record(connection, found, ChangeKind.ERROR_SETTINGS_CHANGED, VERBS[action is None], row, _row(old),
                        _row(action), now)  # fmt: skip
    return changed


def set_action(inst: Installation, tenant: str, row: str, action: str, now: datetime) -> None:
    """Set the row. Raises Refused for a row or an action that there is not, or not yet, or not for that row."""
    change(inst, tenant, {row: action}, now)


def unset(inst: Installation, tenant: str, row: str, now: datetime) -> bool:
    """Take the row away, so that its default counts. False where it was not set. Raises Refused for an unknown row."""
    return bool(change(inst, tenant, {row: None}, now))


def available(row: str) -> tuple[tuple[Action, ...], str]:
    """What can be set for a row of that name, the strictest first, and why nothing else can."""
    return ONLY.get(row, (AVAILABLE, ""))


def check_setting(row: str, action: str, for_host: bool = False) -> Action:
    """The action, where it can be set for that row; ``for_host``: by an exception for a host, which may lift own_ca.

    Raises Refused for a row or an action that there is not, or not yet, or not for that row.
    """
    _check_row(row)
    chosen = _check_action(action)
    lifted = for_host and row == Defect.OWN_CA
    possible, why = available(row)
    if chosen not in possible and not lifted:
        raise Refused(f"{row}: {why}")
    return chosen


def _checked(row: str, action: str | None) -> Action | None:
    if action is not None:
        return check_setting(row, action)
    _check_row(row)
    return None


def _row(action: str | None) -> dict[str, str] | None:
    return None if action is None else {"action": str(action)}


def _check_row(row: str) -> None:
    if row not in ROWS:
        raise Refused(f"{row!r} is no defect; expected one of {', '.join(ROWS)}")


def _check_action(action: str) -> Action:
    try:
        chosen = Action(action)
    except ValueError:
        raise Refused(f"{action!r} is no action; expected {_EVERY_ACTION}") from None
    return chosen
