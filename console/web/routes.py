"""Every page."""

from __future__ import annotations

from fastapi import APIRouter

from console.web import (
    accounts,
    audit_log,
    bypass_rules,
    devices,
    error_settings,
    host_exceptions,
    kmip,
    me,
    nodes,
    overview,
    proxy_users,
    set_up,
    sign_in,
    signing_ca_forms,
    signing_cas,
    tenants,
    tokens,
    traffic,
    trusted_cas,
    trusted_new,
    wireguard,
)

router = APIRouter(include_in_schema=False)
_EACH = (
    set_up,
    sign_in,
    overview,
    traffic,
    nodes,
    me,
    accounts,
    audit_log,
    bypass_rules,
    devices,
    error_settings,
    host_exceptions,
    kmip,
    proxy_users,
    signing_ca_forms,
    signing_cas,
    tenants,
    tokens,
    trusted_new,
    wireguard,
    trusted_cas,
)
for _each in _EACH:
    router.include_router(_each.router)
