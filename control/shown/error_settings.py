"""Error settings and the exceptions to them."""

from __future__ import annotations

from typing import Any

from control.error_settings import ErrorRow
from store.records import HostException


def as_object(one: ErrorRow) -> dict[str, Any]:
    """A row for JSON. ``from``: the row whose action counts where it is not set."""
    return {"row": one.row, "action": one.action.value, "set": one.is_set, "from": one.inherited_from}


def exception_as_object(exception: HostException, expired: bool) -> dict[str, Any]:
    """An exception for JSON."""
    return {
        "id": exception.id,
        "host": exception.pattern,
        "defect": exception.defect,
        "action": exception.action,
        "fingerprint": None if exception.fingerprint is None else exception.fingerprint.hex(),
        "expires_at": exception.expires_at,
        "expired": expired,
        "reason": exception.reason,
        "created_at": exception.created_at,
        "created_by": exception.created_by,
    }
