"""Proxy users."""

from __future__ import annotations

from typing import Any

from store.records import ProxyUser


def as_object(user: ProxyUser) -> dict[str, Any]:
    """The record for JSON."""
    return {
        "name": user.name,
        "created_at": user.created_at,
        "changed_at": user.changed_at,
        "changed_by": user.changed_by,
    }
