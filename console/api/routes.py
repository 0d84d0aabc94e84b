"""Every route of the API, under one prefix."""

from __future__ import annotations

from fastapi import APIRouter

from console.api import (
    bypass_rules,
    error_settings,
    host_exceptions,
    kmip_forwarding,
    nodes,
    proxy_users,
    signing_cas,
    tenants,
    traffic,
    trusted_cas,
    wireguard,
)
from console.api.documentation import PROBLEMS

API = "/api/v1"

router = APIRouter(prefix=API, responses=PROBLEMS)
_EACH = (
    bypass_rules,
    error_settings,
    host_exceptions,
    kmip_forwarding,
    nodes,
    proxy_users,
    signing_cas,
    tenants,
    traffic,
    trusted_cas,
    wireguard,
)
for _each in _EACH:
    router.include_router(_each.router)
