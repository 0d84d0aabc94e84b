"""Every route of the API, under one prefix."""

from __future__ import annotations

from fastapi import APIRouter

from console.api import (
    accounts,
    audit_log,
    bypass_rules,
    error_settings,
    host_exceptions,
    issuance_log,
    kmip_forwarding,
    me,
    nodes,
    proxy_users,
    signing_cas,
    tenants,
    tokens,
    traffic,
    trusted_cas,
    wireguard,
)
from console.api.documentation import PROBLEMS

API = "/api/v1"

router = APIRouter(prefix=API, responses=PROBLEMS)
_EACH = (
    accounts,
    audit_log,
    bypass_rules,
    error_settings,
    host_exceptions,
    issuance_log,
    kmip_forwarding,
    me,
    nodes,
    proxy_users,
    signing_cas,
    tenants,
    tokens,
    traffic,
    trusted_cas,
    wireguard,
)
for _each in _EACH:
    router.include_router(_each.router)
