"""Every page."""

from __future__ import annotations

from fastapi import APIRouter

from console.web import (
    kmip,
    me,
    nodes,
    overview,
    set_up,
    sign_in,
    signing_ca_forms,
    signing_cas,
    traffic,
    trusted_cas,
    trusted_new,
)

router = APIRouter(include_in_schema=False)
_PAGES = (
    set_up,
    sign_in,
    overview,
    traffic,
    nodes,
    me,
    trusted_new,
    trusted_cas,
    signing_cas,
    signing_ca_forms,
    kmip,
)
for _each in _PAGES:
    router.include_router(_each.router)
