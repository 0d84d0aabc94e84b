"""Tenants."""

from __future__ import annotations

from typing import Any

from store.records import Tenant


def as_object(tenant: Tenant) -> dict[str, Any]:
    """The record for JSON."""
    return {"name": tenant.name, "generation": tenant.generation, "created_at": tenant.created_at}
